import math
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from omib_bench import Record, her2st
from omib_bench._bootstrap import ALL
from omib_bench.calls import QUESTIONS
from omib_spatial import tl

METRICS = {
    "auroc", "average_precision", "prevalence", "f1_oracle", "f1_call", "recall_call", "false_discoveries",
    "depth_correlation", "called", "distinct"
}  # fmt: skip
SECTIONS = ["A1", "A2", "B1", "C1"]
PICTURED = ["A1", "B1"]


@pytest.fixture(scope="module")
def result(folder) -> tuple[list[Record], list[str], list]:
    """Records, lines and training data of a short run with two seeds."""
    lines: list[str] = []
    seen: list = []
    fit = tl.fit

    def spy(adata, **options):
        seen.append((adata, options))
        return fit(adata, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tl, "fit", spy)
        options = {"max_epochs": 2, "warmup_epochs": 1, "beta": 0.01, "settings": ["gene", "gene+image"]}
        records = her2st.run(folder, seeds=2, say=lines.append, **options)
    return records, lines, seen


def test_every_section_is_measured_for_every_setting_and_seed(result):
    records, _, _ = result
    ours = [r for r in records if r.method == "omib reconstruction" and r.dataset != ALL]
    found = {(r.dataset, r.setting, r.seed): set() for r in ours}
    for r in ours:
        found[r.dataset, r.setting, r.seed].add(r.metric)
    wanted = [(s, setting, seed) for s in SECTIONS for seed in (0, 1) for setting in ("gene", "gene+image")]
    assert set(found) == set(wanted) and all(metrics == METRICS for metrics in found.values())
    asked = [f"omib reconstruction, {asked}" for asked in QUESTIONS]
    assert {r.method for r in records} == {"omib reconstruction", *asked, her2st.DEPTH}
    assert all(math.isfinite(r.value) for r in records) and len(set(records)) == len(records)


def test_the_held_out_patient_and_anomalies_are_not_learned_from(result):
    _, lines, seen = result
    # One fit per patient and seed, not per section.
    assert len(seen) == 2 * 3 + 2 * 3 == len(lines) - 1
    held_out = []
    for train, options in seen:
        missing = {"A", "B", "C"} - set(train.obs["patient"])
        assert len(missing) == 1 and options["library_key"] == "section"
        held_out += missing
        reference = train.obs[options["reference_key"]]
        assert (reference == (train.obs["anomaly"] == 0)).all() and not reference.all()
    assert held_out == list("AABBCC") + list("AABBCC")
    assert [options["modalities"] for _, options in seen] == [["gene"]] * 6 + [["gene", "image"]] * 6


def test_supervised_learns_the_others_labels_and_measures_the_probability(folder, monkeypatch):
    seen, score = [], tl.score
    monkeypatch.setattr(tl, "score", lambda target, model: (score(target, model), seen.append((target, model)))[0])
    monkeypatch.setattr(her2st, "call_records", lambda *args: [])
    options = {"max_epochs": 2, "warmup_epochs": 1, "beta": 0.01, "say": lambda line: None}
    records = her2st.run(folder, settings=["gene"], supervised=True, **options)
    methods = "omib classification", "omib classification, anomaly score"
    ours, by_score = ({(r.dataset, r.metric): r.value for r in records if r.method == name} for name in methods)
    assert {metric for section, metric in ours if section != ALL} == METRICS
    assert len(seen) == 3
    for target, model in seen:
        assert model.classes == ["healthy", "tumour"]
        tumour = target.obsm["omib_probability"][:, 1]
        for section in set(target.obs["section"]):
            rows = (target.obs["section"] == section).to_numpy()
            truth, depth = target.obs["anomaly"].to_numpy()[rows], np.asarray(target.X.sum(1))[rows, 0]
            found = her2st.measure(truth, tumour[rows], tumour[rows] > 0.5, depth)
            assert found["auroc"] == ours[section, "auroc"] and found["called"] == ours[section, "called"]
            found = her2st.measure(truth, target.obs["omib_score"].to_numpy()[rows], tumour[rows] > 0.5, depth)
            assert found["auroc"] == by_score[section, "auroc"] != ours[section, "auroc"]


def test_seeds_differ_and_every_spot_has_its_own_score(result):
    records, _, _ = result
    auroc = {(r.dataset, r.setting, r.seed): r.value for r in records if r.metric == "average_precision"}
    assert any(auroc[s, "gene", 0] != auroc[s, "gene", 1] for s in SECTIONS)
    # Spots that have the same neighbours, themselves included, are averaged to the same score.
    assert all(r.value > 0.8 for r in records if r.metric == "distinct")


def test_prevalence_and_depth_are_those_of_the_labels(result, folder):
    from omib_spatial.datasets import her2st as read

    adata = read(folder, images=False)
    for r in result[0]:
        if r.metric == "prevalence":
            labels = adata.obs["anomaly"][adata.obs["section"] == r.dataset]
            assert r.value == pytest.approx((labels == 1).sum() / (labels >= 0).sum())
    assert {r.dataset for r in result[0] if r.method == her2st.DEPTH} == set(SECTIONS)


def test_last_line_says_what_was_done(result):
    assert result[1][-1].startswith("her2st: 4 sections of 3 patients") and "12 fits, 2 seeds" in result[1][-1]


def test_the_image_needs_another_patient_who_has_one(folder, tmp_path):
    for path in folder.iterdir():
        if path.name != "B1.jpg":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    options = {"max_epochs": 2, "beta": 0.01, "say": lambda line: None}
    records = her2st.run(tmp_path, settings=["gene+image"], **options)
    ours = {r.dataset for r in records if r.method != her2st.DEPTH and r.dataset != ALL}
    assert ours == {"B1", "C1"}
    # With the image alone there is nothing to measure on sections that have none.
    assert {r.method for r in her2st.run(tmp_path, settings=["image"], **options)} == {her2st.DEPTH}


def test_simple_detectors_run_on_the_same_folds(folder, monkeypatch):
    monkeypatch.setattr(her2st.detectors, "pyod_detectors", dict)
    lines: list[str] = []
    records = her2st.run(folder, settings=[], simple=True, seeds=2, say=lines.append)
    found = {(r.method, r.setting) for r in records if r.dataset == "A2" and r.metric == "auroc"}
    expression = [f"expression, PCA-{width}, {hops} hops" for width in (10, 30) for hops in (0, 1, 2)]
    genome = [f"genome windows, PCA-40, {hops} hops" for hops in (1, 2)]
    wanted = {(m, s) for m in ("Mahalanobis", "kNN", "GMM") for s in expression + genome}
    wanted |= {(her2st.detectors.LABELS, s) for s in expression if "30" in s}
    assert found == wanted | {(her2st.DEPTH, s) for s in (her2st.DEPTH, "raw", "1 hops", "2 hops")}
    coloured = {r.dataset for r in records if r.setting == "patch colour" and r.metric == "auroc"}
    assert coloured == set(PICTURED)
    seeds = {(r.method, r.seed) for r in records if r.setting == expression[0]}
    assert seeds == {("Mahalanobis", 0), ("kNN", 0), ("GMM", 0), ("GMM", 1)}
    means = {(r.method, r.setting, r.seed): r.value for r in records if r.metric == "mean_auroc"}
    auroc = [r.value for r in records if (r.method, r.setting, r.metric) == ("kNN", genome[0], "auroc")]
    assert means["kNN", genome[0], 0] == pytest.approx(np.mean(auroc)) and len(auroc) == 4
    assert her2st.report(records).splitlines()[-1].startswith("logistic regression, with labels")


def test_one_patient_is_not_enough(folder, tmp_path):
    (tmp_path / "A1.h5ad").write_bytes((folder / "A1.h5ad").read_bytes())
    with pytest.raises(ValueError, match=r"\['A'\] only: at least two"):
        her2st.run(tmp_path)


def test_measure_by_hand():
    truth = np.array([1, 1, 0, 0, 0, -1])
    score = np.array([5.0, 2, 3, 1, 0, 9])
    called = np.array([True, False, True, True, False, True])
    found = her2st.measure(truth, score, called, np.array([6, 5, 4, 3, 2, 1]))
    assert found.keys() == METRICS
    assert found["auroc"] == pytest.approx(5 / 6)
    assert found["average_precision"] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert found["prevalence"] == pytest.approx(2 / 5)
    assert found["f1_oracle"] == pytest.approx(0.5)  # of the two highest, 5 and 3, one is right
    assert found["f1_call"] == pytest.approx(2 / 5)
    assert (found["false_discoveries"], found["recall_call"]) == pytest.approx((2 / 3, 1 / 2))
    assert found["called"] == pytest.approx(2 / 3) and found["distinct"] == 1
    assert found["depth_correlation"] == pytest.approx(spearmanr(score, [6, 5, 4, 3, 2, 1])[0])


def test_a_collapsed_detector_shows():
    truth = np.array([1, 0, 1, 0])
    found = her2st.measure(truth, np.ones(4), np.zeros(4, bool), np.arange(4))
    assert found["distinct"] == 0.25 and found["auroc"] == 0.5 and found["f1_call"] == 0
    assert math.isnan(found["depth_correlation"]) and found["recall_call"] == found["false_discoveries"] == 0


def test_spots_without_a_score_are_left_out_and_show_in_distinct():
    score = np.array([np.nan, 1.0, 2.0, np.nan])
    found = her2st.measure(np.array([0, 0, 1, 1]), score, np.zeros(4, bool), np.arange(4))
    assert found["auroc"] == 1 and found["prevalence"] == 0.5 and found["distinct"] == 0.5
    nothing = her2st.measure(np.array([0, 1]), np.full(2, np.nan), np.zeros(2, bool), np.arange(2))
    assert (
        all(math.isnan(nothing[name]) for name in METRICS - {"called", "distinct", "false_discoveries"})
        and nothing["distinct"] == 0
    )


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 9))
def test_only_ranks_of_labelled_spots_count(seed, n_anomalies):
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.repeat([1, 0, -1], [n_anomalies, 10, 5]))
    score, called, depth = rng.normal(size=truth.size), rng.random(truth.size) < 0.5, rng.random(truth.size)
    ranked = [name for name in METRICS if name not in ("depth_correlation", "called", "distinct")]
    other = np.where(truth < 0, rng.normal(size=truth.size), np.exp(score))
    found, again = (her2st.measure(truth, s, called, depth) for s in (score, other))
    assert all(found[name] == pytest.approx(again[name]) for name in ranked)
    assert her2st.measure(truth, -score, called, depth)["auroc"] == pytest.approx(1 - found["auroc"])
    perfect = her2st.measure(truth, truth + rng.random(truth.size) / 2, truth == 1, depth)
    ones = ("auroc", "average_precision", "f1_oracle", "f1_call", "recall_call")
    assert all(perfect[name] == pytest.approx(1) for name in ones) and perfect["false_discoveries"] == 0


REAL = Path(os.environ.get("OMIB_DATA", Path(__file__).parents[2] / "../shared/data")) / "her2st"


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no her2st sections at {REAL}: set OMIB_DATA")
def test_depth_on_the_real_sections_is_the_known_confounder():
    records = her2st.run(REAL, settings=())
    auroc = {r.dataset: r.value for r in records if r.metric == "auroc"}
    # The figures that the simple detectors' script prints.
    assert np.mean(list(auroc.values())) == pytest.approx(0.805, abs=5e-4)
    assert auroc["E1"] == pytest.approx(0.432, abs=5e-4)
