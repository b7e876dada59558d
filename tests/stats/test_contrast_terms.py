"""The evidence of a slide divided among genes and statistics, against the evidence itself."""

import numpy as np
import pytest

from omib_spatial.stats.contiguity import gene_slopes, profiles
from omib_spatial.stats.contrast import slide_contrast, trained_replicas
from omib_spatial.stats.contrast_terms import contrast_terms
from omib_spatial.stats.replicas import SlideViews

ABNORMAL = np.arange(200) < 70


@pytest.fixture(scope="module")
def divided():
    """Chromosomes 2, 4 and 7, expression, and the third statistic of the image differ in the first spots."""
    rng = np.random.default_rng(0)
    chromosome, one = np.repeat(np.arange(10), 60), ABNORMAL[:, None]
    genes = rng.normal(size=(200, 600)) + 0.8 * one * (np.isin(chromosome, [2, 7]) - 1.0 * (chromosome == 4))
    expression = rng.normal(size=(200, 120)) + 0.8 * one * rng.normal(size=120)
    image = rng.normal(size=(200, 6)) + 1.5 * one * (np.arange(6) == 2)
    whole = SlideViews(genes, chromosome, expression, [(1.0, rng.normal(size=(200, 12)) + one)], image)
    healthy = (~ABNORMAL) / (~ABNORMAL).sum()
    return whole, slide_contrast(whole), contrast_terms(whole, trained_replicas(whole), healthy)


def test_views_sum_to_the_evidence_up_to_a_constant(divided):
    _, found, parts = divided
    rest = found.score - sum(part.value for part in parts)
    assert len(parts) == 3 and np.ptp(rest) < 1e-6


def test_features_sum_to_their_view(divided):
    _, _, parts = divided
    rows = np.array([0, 5, 150, 199])
    for part in parts:
        np.testing.assert_allclose(part.terms(rows).sum(1), part.value[rows], atol=1e-8)


def test_what_was_planted_makes_up_the_most(divided):
    whole, _, (genome, _, image) = divided
    gene = genome.terms(np.flatnonzero(ABNORMAL)).mean(0)
    planted = np.isin(whole.chromosome, [2, 4, 7])
    assert gene[planted].mean() > 5 * abs(gene[~planted].mean())
    assert image.terms(np.flatnonzero(ABNORMAL)).mean(0).argmax() == 2


def test_the_mean_spot_of_the_origin_has_nothing(divided):
    whole, _, parts = divided
    for part, features in zip(parts, (whole.genes, whole.expression, whole.image), strict=True):
        np.testing.assert_allclose(part.change(np.arange(200))[~ABNORMAL].mean(0), 0, atol=1e-9)
        np.testing.assert_allclose(part.change(np.arange(3)), features[:3] - features[~ABNORMAL].mean(0))


def test_slopes_of_genes_are_the_adjoint_of_profiles():
    rng = np.random.default_rng(0)
    chromosome = np.repeat([1, 2, 3], [120, 7, 40])
    genes = rng.normal(size=(30, 167))
    found = profiles(genes, chromosome)
    slopes = rng.normal(size=found.shape)
    back = gene_slopes(slopes, chromosome)
    np.testing.assert_allclose((back * (genes - genes.mean(0))).sum(1), (slopes * found).sum(1), atol=1e-9)
