import numpy as np
import pytest

from omib_spatial.modalities import Genome
from omib_spatial.modalities.clone_evidence import called_spots, centred, gene_covariates, gene_weights, mean_expression
from omib_spatial.slides import Layout, Tissue
from omib_spatial.slides.gene_positions import arm_names
from omib_spatial.stats.clones import FOLDS
from omib_spatial.stats.contiguity import windows


@pytest.fixture(scope="module")
def tissue(planted) -> Tissue:
    return Tissue(planted(side=14, n_genes=1500))


@pytest.fixture(scope="module")
def called(tissue) -> np.ndarray:
    return tissue.adata.obs["clone"].to_numpy()


@pytest.fixture(scope="module")
def genome(tissue, called) -> Genome:
    genome = Genome()
    genome.fit(tissue, ~called)
    return genome


@pytest.fixture(scope="module")
def spots(tissue, called):
    return called_spots(tissue, called, {0: np.flatnonzero(~called)})


def test_counts_are_those_of_the_modalitys_genes(tissue, called, genome, spots):
    columns = tissue.adata.var_names.get_indexer(genome.genes)
    counts = tissue.adata.X.toarray()
    np.testing.assert_array_equal(spots.counts.toarray(), counts[called][:, columns])
    np.testing.assert_array_equal(spots.healthy[0], counts[~called][:, columns].sum(0))
    np.testing.assert_array_equal(spots.depth, counts[called].sum(1))
    assert spots.healthy_depth == counts[~called].sum()
    np.testing.assert_array_equal(spots.arm, arm_names(tissue.gene_positions)[columns])


def test_profiles_are_the_weighted_means_of_scaled_genes_less_those_of_healthy_tissue(tissue, called, genome, spots):
    """Brute force, window by window."""
    rows = genome.prepare(tissue)
    own = rows.masked(called).scaled(np.flatnonzero(called))
    usual = rows.masked(~called).scaled(np.flatnonzero(~called)).mean(0)
    mean = np.expm1(genome.mean.numpy().astype(float))
    slope = mean / (1 + mean) / genome.scale.numpy()
    members = windows(spots.arm, genome.window, genome.step).toarray() > 0
    for fold, profile in zip((-1, *range(FOLDS)), (spots.profile, *spots.without), strict=True):
        kept = spots.fold != fold
        brute, gain = [], []
        for window in members.T:
            genes = window & kept
            size = np.sqrt(np.square(slope[genes]).sum())
            brute.append(((own - usual)[:, genes] @ slope[genes]) / size if genes.any() else np.zeros(len(own)))
            gain.append(size)
        # Least squares on what all genes have in common.
        common = np.linalg.lstsq(np.array(gain)[:, None], np.array(brute))[0][0]
        np.testing.assert_allclose(profile, np.stack(brute, 1) - np.outer(common, gain), atol=1e-3)


def test_genes_of_a_fold_have_no_part_in_the_profile_without_it(tissue, called, spots):
    changed = tissue.adata.copy()
    counts = changed.X.toarray()
    genes = Genome()
    genes.fit(tissue, ~called)
    columns = changed.var_names.get_indexer(np.asarray(genes.genes)[spots.fold == 1])
    own = np.ix_(called, columns)
    # Depth stays.
    counts[own] = np.random.default_rng(0).permuted(counts[own], axis=1)
    changed.X = type(tissue.adata.X)(counts)
    other = called_spots(Tissue(changed), called, {0: np.flatnonzero(~called)})
    np.testing.assert_allclose(other.without[1], spots.without[1], atol=1e-5)
    assert np.abs(other.without[0] - spots.without[0]).max() > 1e-2


def test_a_gain_of_all_genes_is_weighed_best_against_noise_and_is_no_profile(genome, spots):
    weights, gain = gene_weights(genome, spots.arm, np.ones(len(spots.arm), bool))
    mean = np.expm1(genome.mean.numpy().astype(float))
    moved = 0.1 * mean / (1 + mean) / genome.scale.numpy()
    np.testing.assert_allclose(moved @ weights, 0.1 * gain, rtol=1e-5)
    np.testing.assert_allclose(np.square(weights.toarray()).sum(0), 1, rtol=1e-5)
    np.testing.assert_allclose(centred((moved @ weights)[None], gain), 0, atol=1e-9)


def test_mean_expression_is_that_of_all_pieces(tissue, called, genome, monkeypatch):
    rows, some = genome.prepare(tissue), np.flatnonzero(~called)
    whole = rows.scaled(some).mean(0)
    monkeypatch.setattr("omib_spatial.modalities.genome_rows.CHUNK_VALUES", 5000)
    np.testing.assert_allclose(mean_expression(rows, some), whole, atol=1e-6)


def test_covariates_are_length_and_density(genome):
    length, density = gene_covariates(genome)
    np.testing.assert_allclose(np.exp(length), np.maximum(genome.end.numpy() - genome.start.numpy(), 1))
    start, chromosomes = genome.start.numpy(), np.asarray(genome.chromosomes)
    i = np.flatnonzero(chromosomes == "2")[30]
    np.testing.assert_allclose(np.exp(density[i]), 20 / (start[i + 10] - start[i - 10] + 1))
    assert np.isfinite(density).all()


def test_tissue_without_places_is_refused(tissue, called):
    adata = tissue.adata.copy()
    adata.var_names = [f"x{i}" for i in range(adata.n_vars)]
    with pytest.raises(KeyError, match="chromosome"):
        called_spots(Tissue(adata), called, {0: np.flatnonzero(~called)})


def test_slices_that_share_healthy_tissue_share_its_noise(tissue, called, spots):
    """It is counted once: as of one slice."""
    adata = tissue.adata.copy()
    adata.obs["slide"] = np.where(np.arange(adata.n_obs) % 2, "a", "b")
    healthy = np.flatnonzero(~called)
    shared = called_spots(Tissue(adata, Layout(library_key="slide")), called, {0: healthy, 1: healthy.copy()})
    assert shared.healthy.shape[0] == 1 and not shared.reference.any()
    np.testing.assert_array_equal(shared.healthy, spots.healthy)
    apart = called_spots(Tissue(adata, Layout(library_key="slide")), called, {0: healthy[::2], 1: healthy[1::2]})
    np.testing.assert_array_equal(apart.reference, np.arange(adata.n_obs)[called] % 2 == 0)
    np.testing.assert_array_equal(apart.healthy.sum(0), spots.healthy[0])
