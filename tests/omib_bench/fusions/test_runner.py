from dataclasses import replace

import numpy as np
import pytest
import torch

from omib_bench import Record
from omib_bench.fusions import RIVALS, chosen, draw, report, run, simulated
from omib_bench.fusions._runner import PAPER, fit, make, n_parameters
from omib_spatial.core import OMIB

SMALL = {"n_train": 400, "n_test": 300, "shared": 20, "superfluous": 5}
SOME = {name: RIVALS[name] for name in ("Concat", "LMIB")}


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    monkeypatch.setattr("omib_bench.datasets._modalities.CASES", {"I": (30, 10)})


@pytest.fixture(scope="module")
def lines():
    return []


def test_every_method_is_trained_on_every_seed_and_measured_alike(lines):
    records = run(simulated(**SMALL), SOME, seeds=2, say=lines.append, max_epochs=6)
    measured = [r for r in records if r.setting != PAPER]
    for method in ("OMIB", *SOME):
        for metric in ("accuracy", "f1", "parameters", "seconds"):
            assert len([r for r in measured if (r.method, r.metric) == (method, metric)]) == 2
    assert {r.metric for r in measured if r.method == "linear"} == {"accuracy"}
    assert [r for r in records if r.setting == PAPER] == [
        Record("fusions", "SIM-I", "OMIB", PAPER, 0, "accuracy", 0.892)
    ]
    assert len(lines) == 8 and "SIM-I, seed 0, OMIB: accuracy" in lines[1]


def test_report_shows_mean_and_spread_and_the_papers_number_once():
    records = [
        Record("fusions", "X", method, "", seed, metric, value + seed / 10)
        for method, value in (("linear", 0.5), ("OMIB", 0.6))
        for seed in range(2)
        for metric in ("accuracy",)
    ]
    records += [Record("fusions", "X", "OMIB", "", seed, "parameters", 1234.0) for seed in range(2)]
    records.append(Record("fusions", "X", "OMIB", PAPER, 0, "accuracy", 0.892))
    head, linear, ours = report(records).splitlines()
    assert head.split("  ")[0] == "method" and "paper's accuracy" in head
    assert "0.550 ± 0.071" in linear and linear.split()[-1] == "-"
    assert "0.650 ± 0.071" in ours and "0.892" in ours and "1234 ± 0" in ours


def test_same_seed_same_scores_and_another_seed_others():
    fold, config = simulated(**SMALL).fold(0), replace(simulated().config, max_epochs=6)
    first, again, other = (fit(fold, RIVALS["MMIBZhang"], config, seed) for seed in (0, 0, 1))
    assert first["accuracy"] == again["accuracy"] and first["parameters"] == again["parameters"]
    before = fit(fold, None, config, 0)
    assert before["accuracy"] == fit(fold, None, config, 0)["accuracy"]
    assert (first["accuracy"], first["f1"]) != (other["accuracy"], other["f1"])


def test_all_methods_share_encoders_and_heads():
    fold, config = simulated(**SMALL).fold(0), simulated().config
    ours, theirs = make(fold, None, config), make(fold, RIVALS["Concat"], config)
    assert isinstance(ours, OMIB) and not isinstance(theirs, OMIB)
    for part in ("encoders", "head"):
        shapes = [[p.shape for p in getattr(net, part).parameters()] for net in (ours, theirs)]
        assert shapes[0] == shapes[1]
    assert n_parameters(theirs) == sum(p.numel() for p in theirs.parameters())


def test_networks_never_see_the_targets_they_are_measured_on():
    fold = simulated(**SMALL).fold(0)
    assert fold.test.target is None and len(fold.train) == 400
    assert fold.measure(np.eye(2)[np.zeros(300, int)])["accuracy"] == pytest.approx(0.5, abs=0.15)


def test_validation_data_are_those_of_no_reported_seed():
    one, other = (simulated(part=part, **SMALL).fold(0) for part in ("test", "valid"))
    assert not torch.equal(one.train.inputs["x1"], other.train.inputs["x1"])


def test_methods_are_chosen_by_name():
    assert chosen(None) == (True, RIVALS)
    assert chosen("MISA, OMIB") == (True, {"MISA": RIVALS["MISA"]})
    assert chosen("EMIB")[0] is False
    with pytest.raises(KeyError, match="no method .*'Misa'.*; there are OMIB, Concat"):
        chosen("Misa")
    names = "OMIB Concat BiGated FiLM MISA DeepIB MMIBCui MMIBZhang DMIB EMIB LMIB CMIB OGMGE"
    assert ["OMIB", *RIVALS] == names.split()


def test_figure_is_drawn(tmp_path):
    records = [
        Record("fusions", "X", method, "", seed, "accuracy", 0.5 + seed / 10)
        for method in ("linear", "OMIB", "MISA")
        for seed in range(2)
    ]
    draw([*records, Record("fusions", "X", "OMIB", PAPER, 0, "accuracy", 0.9)], tmp_path / "f.png")
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")
