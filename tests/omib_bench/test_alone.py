"""Sections each by itself: what is recorded of one that tells, and of one that does not."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from omib_bench import Record, alone, read_json
from omib_bench import her2st as left_out
from omib_spatial import tl
from omib_spatial.cli import app
from omib_spatial.datasets import her2st

DATA = Path(os.environ.get("OMIB_DATA", Path(__file__).parents[2] / "../shared/data")) / "her2st"
SIMPLE = {
    "total counts",
    "signature",
    "first genome axis, sign of the signature",
    "Isolation Forest on expression",
    "Gaussian mixture, smaller part",
}
MEASURED = {"auroc", "purity", "reference", "agreement", "evidence", "recall_call", "false_discoveries"}


@pytest.fixture(scope="module")
def sections(planted, tmp_path_factory) -> Path:
    """A1 has a clone, of which some spots have no label; B1 is of one tissue."""
    folder = tmp_path_factory.mktemp("sections")
    for name, adata in {"A1": planted(), "B1": planted(share=0.0, seed=1)}.items():
        adata.obs_names = [f"{name}_{i}" for i in range(adata.n_obs)]
        adata.obs["anomaly"] = np.where(np.arange(adata.n_obs) % 7 == 0, -1, adata.obs.pop("clone").astype(int))
        adata.obs["patient"] = name[0]
        adata.uns["spatial"] = {name: {"scalefactors": {"tissue_hires_scalef": 1.0, "spot_diameter_fullres": 60.0}}}
        adata.write_h5ad(folder / f"{name}.h5ad")
    return folder


@pytest.fixture(scope="module")
def result(sections) -> tuple[list[Record], list[str], list]:
    """Records, lines, and what was fitted with which options."""
    lines, seen, fit = [], [], tl.fit

    def spy(adata, **options):
        before = adata.copy()
        try:
            return fit(adata, **options)
        finally:
            seen.append((before, adata, options))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("omib_spatial.stats.contrast.REPLICAS", 8)
        patch.setattr(tl, "fit", spy)
        records = alone.run(sections, seeds=2, say=lines.append, max_epochs=2)
    return records, lines, seen


def values(records: list[Record], **wanted: object) -> list[float]:
    return [r.value for r in records if all(getattr(r, name) == value for name, value in wanted.items())]


def test_a_section_is_fitted_by_itself_and_told_nothing(result):
    _, lines, seen = result
    assert len(seen) == len(lines) == 4
    for number, (before, _, options) in enumerate(seen):
        assert before.obs["section"].unique().tolist() == [["A1", "B1"][number // 2]]
        assert options == {"seed": number % 2, "enable_progress_bar": False, "max_epochs": 2}
        assert "omib_reference" not in before.obs and before.uns["spatial"] == {}


def test_what_is_recorded_is_what_was_written(result):
    records, lines, seen = result
    for seed, (_, adata, _) in enumerate(seen[:2]):
        known = (adata.obs["anomaly"] >= 0).to_numpy()
        truth = adata.obs["anomaly"].to_numpy()
        marked = adata.obs["omib_reference"].to_numpy()

        def recorded(metric: str, seed: int = seed) -> float:
            (value,) = values(records, dataset="A1", method="omib", seed=seed, metric=metric)
            return value

        assert recorded("auroc") == roc_auc_score(truth[known] == 1, adata.obs["omib_score"][known])
        assert recorded("evidence") == roc_auc_score(truth[known] == 1, adata.obs["omib_reference_score"][known])
        assert recorded("purity") == (truth[marked & known] == 0).mean() == 1
        assert recorded("reference") == marked.mean()
        assert recorded("agreement") == adata.uns["omib_reference"]["agreement"][0] >= 0.9
        assert recorded("auroc") > 0.9
        assert lines[seed].startswith(f"A1, seed {seed}: auroc {recorded('auroc'):.3f}, purity 1.000, agreement 0.9")
    metrics = {r.metric for r in records if r.dataset == "A1" and r.method == "omib"}
    assert metrics >= MEASURED


def test_a_section_that_does_not_tell_has_no_score(result):
    records, lines, _ = result
    ours = [r for r in records if r.dataset == "B1" and r.method == "omib"]
    assert [(r.metric, r.seed) for r in ours] == [("auroc", 0), ("auroc", 1)]
    assert all(math.isnan(r.value) for r in ours) and lines[2].startswith("B1, seed 0: auroc nan")


def test_simple_detectors_are_measured_once(result, sections):
    records = [r for r in result[0] if r.method != "omib"]
    assert {r.method for r in records} == SIMPLE and {r.metric for r in records} == {"auroc"}
    assert len(records) == 2 * len(SIMPLE) and {r.seed for r in records} == {0}
    # One kind of label alone has no AUROC.
    assert all(math.isnan(r.value) == (r.dataset == "B1") for r in records)
    adata = her2st(sections, sections=["A1"])
    known = (adata.obs["anomaly"] >= 0).to_numpy()
    depth = np.asarray(adata.X.sum(1)).ravel()
    (found,) = values(records, dataset="A1", method="total counts")
    assert found == roc_auc_score(adata.obs["anomaly"][known] == 1, depth[known])
    assert values(records, dataset="A1", method="signature")[0] > 0.8
    assert values(records, dataset="A1", method="first genome axis, sign of the signature")[0] > 0.8


def test_labels_are_only_measured_with(sections, result, tmp_path):
    """Other labels, the same scores."""
    own = alone.alone(her2st(sections), "A1")
    own.obs["anomaly"] = -own.obs["anomaly"].clip(lower=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("omib_spatial.stats.contrast.REPLICAS", 8)
        tl.fit(own, seed=0, max_epochs=2, enable_progress_bar=False)
    np.testing.assert_array_equal(own.obs["omib_score"], result[2][0][1].obs["omib_score"])


def test_a_section_keeps_its_own_image_and_no_empty_entry(folder):
    adata = her2st(folder)
    pictured, bare = alone.alone(adata, "A1"), alone.alone(adata, "C1")
    assert list(pictured.uns["spatial"]) == ["A1"] and bare.uns["spatial"] == {}
    assert pictured.n_obs == bare.n_obs == 80 and not pictured.is_view
    assert {"A1", "B1"} <= set(adata.uns["spatial"])


def test_the_report_has_ours_by_section_and_everyone(result):
    text = alone.report(result[0])
    blocks = text.split("\n\n")
    assert len(blocks) == 2 + len(SIMPLE)
    assert all(metric in blocks[0] for metric in MEASURED)
    # Where a section has no answer, there is no mean either.
    (mean,) = [line.split() for line in blocks[0].splitlines() if line.startswith("mean")]
    assert set(mean[1:]) == {"-"}
    assert "total counts" in text and "Isolation Forest on expression" in text


def invoke(*arguments: object):
    from typer.testing import CliRunner

    return CliRunner().invoke(app, ["bench", "her2st", *map(str, arguments)])


def test_the_command_runs_it_and_keeps_the_records(sections, result, monkeypatch, tmp_path):
    asked = {}
    monkeypatch.setattr(alone, "run", lambda data, **options: asked.update(options, data=data) or result[0])
    out = tmp_path / "alone.json"
    done = invoke("--alone", "--data", sections, "--seeds", 3, "--max-epochs", 2, "--out", out)
    assert done.exit_code == 0, done.output
    assert (asked["data"], asked["seeds"], asked["max_epochs"]) == (sections, 3, 2)
    assert alone.report(result[0]) in done.output
    kept = read_json(out)
    assert [r[:-1] for r in kept] == [r[:-1] for r in result[0]]


@pytest.mark.parametrize("other", [["--robustness"], ["--supervised"], ["--detectors", "all"]])
def test_the_command_refuses_what_does_not_go_together(sections, monkeypatch, other):
    for module in (alone, left_out):
        monkeypatch.setattr(module, "run", lambda *_, **__: pytest.fail("was run"))
    done = invoke("--alone", "--data", sections, *other)
    assert done.exit_code != 0 and "experiment of its own" in done.output


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no her2st sections at {DATA}: set OMIB_DATA")
def test_what_a_script_would_try_on_real_sections():
    adata = her2st(DATA, sections=["B1", "B4"], images=False)
    found = {name: dict(alone.simple(alone.alone(adata, name))) for name in ("B1", "B4")}
    assert all(set(each) == SIMPLE for each in found.values())
    assert found["B4"]["signature"] > 0.8 and found["B4"]["first genome axis, sign of the signature"] > 0.8
