import numpy as np
import pandas as pd
import pytest

from omib_bench import clones, read_json
from omib_bench._records import Record
from omib_bench.clones import FIRST, SECOND, halved_region, judged
from omib_spatial.cli import app


def table(**calls: dict[str, str]) -> pd.DataFrame:
    arms = ["1q", "3p", "8q", "13q", "16q", "17q", "20q"]
    rows = [(f"clone {i}", arm, given.get(arm, "none")) for i, given in enumerate(calls.values()) for arm in arms]
    return pd.DataFrame(rows, columns=["clone", "arm", "call"])


GAINS = {"1q": "gain", "16q": "loss", "8q": "gain", "13q": "loss"}
OTHERS = {"1q": "gain", "16q": "loss", "17q": "gain", "3p": "loss"}


def test_all_right_and_all_wrong():
    clone = np.repeat([0, 1], 10)
    groups = pd.Series(np.repeat(["clone 1", "clone 0"], 10))
    right = judged(table(a=OTHERS, b=GAINS), groups, clone, [FIRST, SECOND])
    assert right == {"clones_right": 1, "arms_found": 1, "false_arms": 0, "rand": 1}
    swapped = judged(table(a=GAINS, b=OTHERS), groups, clone, [FIRST, SECOND])
    assert (swapped["arms_found"], swapped["false_arms"]) == (0.5, 0.5)
    turned = {"1q": "loss", "20q": "gain"}
    wrong = judged(table(a=turned), pd.Series(["clone 0"] * 20), clone * 0, [FIRST])
    assert (wrong["arms_found"], wrong["false_arms"], wrong["clones_right"]) == (0, 1, 1)


def test_one_clone_in_place_of_two_may_have_the_arms_of_both():
    found = judged(table(a=GAINS | OTHERS), pd.Series(["clone 0"] * 20), np.repeat([0, 1], 10), [FIRST, SECOND])
    assert found == {"clones_right": 0, "arms_found": 1, "false_arms": 0, "rand": 0}


def test_nothing_planted_has_no_arms_to_find():
    found = judged(table(a={}), pd.Series(["clone 0"] * 5), np.zeros(5, int), [{}])
    assert np.isnan(found["arms_found"]) and found["false_arms"] == 0 and found["clones_right"] == 1


def test_regions_are_compact_and_halved():
    xy = np.argwhere(np.ones((12, 12))).astype(float)
    region, side = halved_region(xy, 40, np.random.default_rng(0))
    assert len(set(region)) == 40 and abs(side.sum() - 20) <= 4
    middle = min(range(len(xy)), key=lambda i: np.linalg.norm(xy[region] - xy[i], axis=1).max())
    assert np.linalg.norm(xy[region] - xy[middle], axis=1).max() < 8
    apart = xy[region][side == 1].mean(0) - xy[region][side == 0].mean(0)
    along = xy[region] @ apart
    assert along[side == 1].min() > along[side == 0].max() - 1e-9


@pytest.fixture
def few(planted, monkeypatch):
    adata = planted(n_genes=2500, side=16, share=0.2)
    adata.obs["anomaly"] = adata.obs.pop("clone").astype(int)
    adata.obs["section"] = pd.Categorical(["S1"] * adata.n_obs)
    monkeypatch.setattr(clones, "her2st", lambda folder: adata)
    return adata


def test_runs_and_reports(few, tmp_path):
    from typer.testing import CliRunner

    path = tmp_path / "r.json"
    result = CliRunner().invoke(app, ["bench", "clones", "--data", "here", "--seeds", "1", "--out", str(path)])
    assert result.exit_code == 0, result.output
    records = read_json(path)
    assert {r.setting for r in records} == {"none", "one", "two", "tumour"}
    assert all(word in result.output for word in ("clones_right", "false_arms", "pvalue_adjusted", "S1"))
    value = {(r.setting, r.metric): r.value for r in records}
    assert value["none", "false_arms"] == 0 and value["tumour", "clones"] == 1 and value["tumour", "arms"] >= 1


def test_sections_with_little_healthy_tissue_have_tumours_alone():
    records = [Record("clones", "A1", "clones", "tumour", 0, "clones", 1.0)]
    assert "A1" in clones.report(records)
