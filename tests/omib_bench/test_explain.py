import numpy as np
import pytest

from omib_bench import explain
from omib_bench._records import Record


@pytest.fixture(scope="module")
def planted(kinds):
    adata, model = kinds()
    adata.obs["section"] = adata.obs["library_id"].astype(str)
    return adata, model


def test_random_genes_take_places_of_their_class():
    classes = np.repeat([0, 1, 2], 30)
    order = explain.matched(classes, np.random.default_rng(0))
    np.testing.assert_array_equal(classes[order], classes)
    assert sorted(order) == list(range(90)) and (order != np.arange(90)).mean() > 0.8


def test_a_removed_gene_no_longer_tells_spots_apart(planted):
    adata, model = planted
    deletion = explain.Deletion(adata, model)
    columns = adata.var_names.get_indexer(adata.uns["planted"]["1"])
    counts, disc = deletion.without({"slide3": columns}), (adata.obs["kind"] == 1).to_numpy()
    own = (adata.obs["section"] == "slide3").to_numpy()
    np.testing.assert_array_equal(counts[~own], deletion.counts[~own])
    rest = np.setdiff1d(np.arange(adata.n_vars), columns)
    np.testing.assert_array_equal(counts[:, rest], deletion.counts[:, rest])
    share = counts[:, columns].sum(1) / deletion.depth
    assert share[own & disc].mean() == pytest.approx(share[own & ~disc].mean(), rel=0.15)
    before = deletion.counts[:, columns].sum(1) / deletion.depth
    assert before[own & disc].mean() > 1.5 * before[own & ~disc].mean()
    whole = deletion.gaps({})
    np.testing.assert_allclose(deletion.gaps({"slide4": columns})["slide3"], whole["slide3"], atol=1e-3)


def test_planted_genes_leave_less_of_the_score_than_random_ones(planted, monkeypatch):
    adata, model = planted
    monkeypatch.setattr(explain, "STEPS", (6, 24))
    monkeypatch.setattr(explain, "DRAWS", 1)
    records = list(explain.measure(adata[adata.obs["section"] == "slide3"].copy(), model, 0))
    area = {r.method: r.value for r in records if r.metric == "area"}
    assert area[explain.OURS] < area[explain.RANDOM] - 0.2
    assert {r.metric for r in records} >= {"left 6", "left 24", "genes", "rank", "contribution", "removed"}


def test_the_report_has_a_table_of_each():
    rows = [("A1", explain.OURS, explain.SETTING, "area", 0.4), ("A1", explain.OURS, explain.SETTING, "left 10", 0.9)]
    rows += [("A1", explain.OURS, "ERBB2", "rank", 7.0), ("A1", explain.OURS, explain.SETTING, "genes", 90.0)]
    rows += [("A1", explain.OURS, "gene", "contribution", 1.5), ("A1", explain.OURS, "gene", "removed", 1.25)]
    records = [Record("explain", d, m, s, 0, metric, value) for d, m, s, metric, value in rows]
    text = explain.report(records)
    assert len(text.split("\n\n")) == 4
    assert all(part in text for part in ("0.900", "0.400", "ERBB2", " 90", "gene removed", "1.25"))
