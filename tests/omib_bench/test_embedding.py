"""The embedding's measures on points whose answer is known, and one run on small sections."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse
from typer.testing import CliRunner

from omib_bench import embedding, read_json
from omib_bench.embedding import SPATIAL_GRAPH, clusters, measure, mixing
from omib_spatial.cli import app


@pytest.fixture
def points() -> tuple[AnnData, np.ndarray]:
    """Two sections of three kinds of spots each, far apart; the last spot of each section has no label."""
    rng = np.random.default_rng(0)
    kind = np.tile(np.repeat(["a", "b", "c"], 20), 2)
    centre = {"a": (0, 0), "b": (30, 0), "c": (0, 30)}
    values = np.array([centre[k] for k in kind]) + rng.normal(size=(120, 2))
    obs = pd.DataFrame({"label": kind, "section": np.repeat(["S1", "S2"], 60)}, index=[f"s{i}" for i in range(120)])
    obs.loc[["s59", "s119"], "label"] = "undetermined"
    return AnnData(np.ones((120, 1), np.float32), obs=obs), values


def found(adata: AnnData, values: np.ndarray) -> dict[tuple[str, str], float]:
    graph = sparse.csr_matrix((adata.n_obs, adata.n_obs))
    return {(r.dataset, r.metric): r.value for r in measure(adata, graph, values, "x", 0)}


def test_clear_kinds_are_found_transferred_and_mixed(points):
    adata, values = points
    value = found(adata, values)
    for section in ("S1", "S2"):
        assert value[section, "ari"] == value[section, "nmi"] == value[section, "transfer"] == 1
        assert 0.8 < value[section, "mixing"] < 1.2


def test_sections_that_lie_apart_do_not_mix(points):
    adata, values = points
    apart = values + 1000 * (adata.obs["section"] == "S2").to_numpy()[:, None]
    value = found(adata, apart)
    assert value["S1", "mixing"] == 0 and value["S1", "ari"] == 1
    assert value["S1", "transfer"] < 0.7


def test_kinds_that_the_embedding_does_not_know_are_not_found(points):
    adata, values = points
    value = found(adata, np.random.default_rng(1).permutation(values))
    assert abs(value["S1", "ari"]) < 0.15 and value["S1", "transfer"] < 0.6


def test_spots_without_a_code_are_left_out(points):
    adata, values = points
    values[:5] = np.nan
    assert found(adata, values)["S1", "ari"] == 1


def test_mixing_by_hand():
    values = np.zeros((40, 1))
    values[::2] = 5  # Every other spot is of the other section, and far away.
    section = np.tile(["B", "A"], 20)
    assert mixing(values, section, "A") == 0
    assert mixing(np.arange(40.0)[:, None], section, "A") == pytest.approx(16 / 15, abs=0.1)


def test_the_spatial_graph_decides_where_values_do_not():
    values = np.random.default_rng(0).normal(size=(80, 2))
    block = np.kron(np.eye(2), np.ones((40, 40))) - np.eye(80)
    cluster = clusters(values, 2, 0, sparse.csr_matrix(100 * block))
    assert len(set(cluster[:40])) == len(set(cluster[40:])) == 1 and cluster[0] != cluster[40]


def test_runs_and_reports(folder, tmp_path, monkeypatch):
    read = embedding.read

    def labelled(path):
        adata, patients = read(path)
        adata.obs["label"] = np.where(adata.obs["anomaly"] == 1, "invasive cancer", "connective tissue")
        return adata, patients

    monkeypatch.setattr(embedding, "read", labelled)
    path = tmp_path / "e.json"
    args = ["bench", "embedding", "--data", str(folder), "--seeds", "1", "--no-scvi", "--max-epochs", "6"]
    result = CliRunner().invoke(app, [*args, "--out", str(path)])
    assert result.exit_code == 0, result.output
    records = read_json(path)
    assert {r.method for r in records} >= {embedding.OURS, "PCA", *SPATIAL_GRAPH}
    assert {r.dataset for r in records if r.metric == "ari"} == {"A1", "A2", "B1", "C1"}
    assert {r.dataset for r in records if r.metric == "transfer"} == {"A1", "A2"}
    assert "scVI" not in {r.method for r in records} and "X_omib" in result.output
