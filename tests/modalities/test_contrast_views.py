"""One slide's genome profiles, expression, signatures and image, against dense twins."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from omib_spatial.modalities import contrast_views as module
from omib_spatial.modalities.contrast_views import (
    HOPS,
    OFTEN,
    PLACED_OFTEN,
    autosomal_genes,
    slide_views,
)
from omib_spatial.modalities.signatures import DIVIDING, PROLIFERATION
from omib_spatial.slides import Layout, Tissue
from omib_spatial.slides.gene_positions import positions

SLIDES = Layout(library_key="slide")


@pytest.fixture(scope="module")
def pair(planted) -> ad.AnnData:
    """Two slides whose spots are interleaved."""
    both = ad.concat({"a": planted(share=0.0, seed=1), "b": planted()}, label="slide", index_unique="-", merge="same")
    return both[np.random.default_rng(0).permutation(both.n_obs)].copy()


def test_views_equal_their_dense_twin(planted):
    adata = planted(side=12, n_genes=600)
    tissue = Tissue(adata)
    counts = adata.X.toarray().astype(float)
    depth = counts.sum(1)
    loops = tissue.graph.toarray() + np.eye(144)
    around = np.linalg.matrix_power(loops / loops.sum(1, keepdims=True), HOPS)
    logs = np.log1p(around @ (counts / depth[:, None] * np.median(depth)))
    seen = (counts > 0).mean(0)
    found = next(slide_views(tissue, np.arange(144), [DIVIDING]))

    table = positions(adata.var).table
    order = np.lexsort((table["start"].to_numpy(), table["chromosome"].astype(int)))
    order = order[seen[order] > PLACED_OFTEN]
    genes = (logs[:, order] - np.median(logs[:, order], 0)) / (logs[:, order].std(0) + 0.1)
    np.testing.assert_allclose(found.genes, genes.clip(-3, 3), atol=1e-4)
    np.testing.assert_array_equal(found.chromosome, table["chromosome"].astype(int).to_numpy()[order])

    often = logs[:, seen > OFTEN]
    often = often[:, np.argsort(-often.var(0))]
    np.testing.assert_allclose(found.expression, (often - often.mean(0)) / (often.std(0) + 0.05), atol=1e-4)

    ((weight, signature),) = found.signatures
    members = adata.var_names.get_indexer([gene for gene in PROLIFERATION if gene in adata.var_names])
    own = logs[:, members]
    assert weight == 1 and len(members) > 10
    np.testing.assert_allclose(signature, (own - own.mean(0)) / (own.std(0) + 0.1), atol=1e-4)


def test_only_the_most_variable_genes_are_in_the_view_of_expression(planted, monkeypatch):
    monkeypatch.setattr(module, "VARIABLE", 70)
    tissue = Tissue(planted(side=12, n_genes=600))
    some = next(slide_views(tissue, np.arange(144), [{}]))
    monkeypatch.undo()
    whole = next(slide_views(tissue, np.arange(144), [{}]))
    assert some.expression.shape == (144, 70) and not some.signatures
    np.testing.assert_array_equal(some.expression, whole.expression[:, :70])


def test_views_of_a_slide_are_those_that_it_has_alone(planted, pair):
    on_b = np.flatnonzero(pair.obs["slide"] == "b")
    among, alone = (
        next(slide_views(Tissue(adata, SLIDES), rows, [DIVIDING]))
        for adata, rows in ((pair, on_b), (pair[on_b].copy(), np.arange(len(on_b))))
    )
    np.testing.assert_array_equal(among.chromosome, alone.chromosome)
    np.testing.assert_allclose(among.genes, alone.genes, atol=1e-6)
    np.testing.assert_allclose(among.expression, alone.expression, atol=1e-6)


def test_genes_are_autosomal_and_in_genome_order_in_any_spelling():
    columns = {"chrom": ["chr10", "2", "X", "2", None, "MT", "GL000", "chr2"], "start": [5, 9, 1, 3, 1, 1, 1, 4]}
    adata = ad.AnnData(np.ones((3, 8), np.float32), var=pd.DataFrame(columns, index=[f"g{i}" for i in range(8)]))
    adata.var["end"] = adata.var["start"] + 1
    found, chromosome = autosomal_genes(Tissue(adata), np.ones(8, bool))
    assert found.tolist() == [3, 7, 1, 0] and chromosome.tolist() == [2, 2, 2, 10]
    kept = np.arange(8) != 7
    assert autosomal_genes(Tissue(adata), kept)[0].tolist() == [3, 1, 0]
    adata.var = adata.var[[]]
    assert [len(part) for part in autosomal_genes(Tissue(adata), kept)] == [0, 0]


def test_statistics_of_the_image_are_averaged_over_neighbours_that_have_one(planted):
    tissue = Tissue(planted(side=12, n_genes=600))
    rng = np.random.default_rng(0)
    shown = rng.normal(size=(144, 3)).astype(np.float32)
    shown[:20] = np.nan
    loops = tissue.graph.toarray() + np.eye(144)
    around = np.linalg.matrix_power(loops / loops.sum(1, keepdims=True), HOPS) * (np.arange(144) >= 20)
    weight = around.sum(1, keepdims=True)
    expected = around @ np.nan_to_num(shown) / np.maximum(weight, 1e-12)
    expected[weight[:, 0] == 0] = shown[20:].mean(0)
    found = next(slide_views(tissue, np.arange(144), [{}], shown)).image
    np.testing.assert_allclose(found, (expected - expected.mean(0)) / expected.std(0), atol=1e-5)


def test_an_image_of_few_spots_or_of_one_value_is_no_view(planted):
    tissue = Tissue(planted(side=12, n_genes=600))
    rows, few, flat = np.arange(144), np.ones((144, 3), np.float32), np.ones((144, 3), np.float32)
    few[rows % 5 > 1] = np.nan
    assert next(slide_views(tissue, rows, [{}], few)).image is None
    assert next(slide_views(tissue, rows, [{}], flat)).image is None
    assert next(slide_views(tissue, rows, [{}], np.full((144, 3), np.nan))).image is None
    assert next(slide_views(tissue, rows, [{}])).image is None
