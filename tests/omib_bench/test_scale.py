import json

import numpy as np
import pytest
import torch
from torch import Tensor

from omib_bench import Record, _scale_steps, scale
from omib_spatial.detector.training import build_network
from omib_spatial.encoders.graph import SparseRows
from omib_spatial.modalities import gene
from omib_spatial.slides import tissue
from omib_spatial.slides.graph import spatial_graph

CHILD = {"seconds_per_epoch", "seconds_score", "spots_per_second_score", "peak_rss_bytes", "anndata_bytes"}


@pytest.mark.parametrize("power", [0.5, 1.0, 1.7])
def test_slope_is_the_exponent_of_a_power_law(power):
    sizes = [10, 100, 5000]
    assert scale.slope(sizes, [3 * n**power for n in sizes]) == pytest.approx(power)


def test_run_measures_each_size_in_a_process_of_its_own(monkeypatch):
    calls = []

    def child(step, **arguments):
        calls.append((step, arguments))
        n = arguments.get("n_spots") or int(arguments["path"].rpartition("/")[2].removesuffix(".h5ad"))
        if step == "simulate":
            open(arguments["path"], "w").close()
            return {}
        return {
            "seconds_per_epoch": n * 2.0,
            "seconds_score": n**1.5,
            "spots_per_second_score": 1.0,
            "peak_rss_bytes": 1,
        }

    monkeypatch.setattr(scale, "_child", child)
    records = scale.run(sizes=[100, 1000], n_genes=60, ratios=False, seed=3)
    assert [step for step, _ in calls] == ["simulate", "measure"] * 2
    found = {(row.dataset, row.metric): row.value for row in records}
    assert found["all sizes", "slope_epoch"] == pytest.approx(1.0)
    assert found["all sizes", "slope_score"] == pytest.approx(1.5)
    assert found["1000", "seconds_per_epoch"] == 2000
    assert {row.seed for row in records} == {3}


def test_a_process_gives_its_last_line_or_says_why_it_failed():
    assert scale._python("print('chatter'); print(7)") == "7"
    with pytest.raises(RuntimeError, match="because"):
        scale._python("raise ValueError('because')")


def test_steps_simulate_and_measure(tmp_path, capsys):
    path = str(tmp_path / "tissue.h5ad")
    _scale_steps.main("simulate", json.dumps({"path": path, "n_spots": 300, "n_genes": 60, "seed": 0}))
    assert json.loads(capsys.readouterr().out) == {}
    _scale_steps.main("measure", json.dumps({"path": path, "seed": 0}))
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found.keys() >= CHILD
    assert all(np.isfinite(value) and value > 0 for value in found.values())
    assert found["peak_rss_bytes"] > found["anndata_bytes"] > 300 * 64 * 4


def test_ratios_take_turns_and_compare_medians(monkeypatch):
    order = []
    ours, floor = iter([9, 3, 3, 30, 3, 3]), iter([9, 2, 2, 2, 2, 0.1])

    def take(name, values):
        return lambda: order.append(name) or next(values)

    assert _scale_steps.ratio(take("ours", ours), take("floor", floor)) == 1.5
    assert order == ["ours", "floor"] * 6


def test_both_sides_of_the_ratios_do_the_work(monkeypatch):
    # Genes of so small a slice are those that many spots have.
    monkeypatch.setattr(gene, "FILLED", 0.5)
    fitted = _scale_steps.Fitted(_scale_steps.tissue(300, 60, 0), ["gene", _scale_steps.IMAGE], 0)
    before = {name: p.clone() for name, p in fitted.model.network.named_parameters()}
    assert fitted.epoch() > 0
    middle = {name: p.clone() for name, p in fitted.trained.network.named_parameters()}
    ready = fitted.ready()
    assert fitted.bare_epoch(ready) > 0
    torch.manual_seed(0)
    fresh = dict(build_network(fitted.model.modalities, fitted.model.summaries, {}, fitted.settings).named_parameters())
    for name, p in fitted.model.network.named_parameters():
        assert not middle[name].equal(fresh[name]) and not p.equal(before[name])
    for batches in ready:
        assert sum(len(batch.present) for batch in batches) == 300
        dense = [_scale_steps.with_dense_features(batch) for batch in batches]
        assert all(isinstance(batch.inputs["gene"].features, SparseRows) for batch in batches)
        assert all(isinstance(batch.inputs["gene"].features, Tensor) for batch in dense)

    built = []
    monkeypatch.setattr(tissue, "spatial_graph", lambda *a, **k: built.append(1) or spatial_graph(*a, **k))
    for n in (1, 2):
        fitted.score()
        assert len(built) == n


def test_import_is_measured():
    assert 0 < scale.import_seconds() < 60


def test_figure_is_drawn(tmp_path):
    metrics = ("seconds_per_epoch", "seconds_score", "peak_rss_bytes")
    records = [Record("scale", str(n), "omib", "", 0, m, float(n)) for n in (100, 1000) for m in metrics]
    scale.draw(records, tmp_path / "scale.png")
    assert (tmp_path / "scale.png").stat().st_size > 5000
