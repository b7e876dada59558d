"""The two kinds of tissue on one slide, against closed forms and planted halves."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from omib_spatial.stats import replicas as module
from omib_spatial.stats.contiguity import profiles
from omib_spatial.stats.contrast import (
    AGREEMENT,
    MIN_CHROMOSOMES,
    MIN_EXPRESSED,
    MIN_GENES,
    MIN_REFERENCE,
    MIN_SPOTS,
    SURE,
    agreement_weights,
    conclude,
    mean_correlation,
    slide_contrast,
)
from omib_spatial.stats.replicas import SlideViews, components, deviation, leading_vectors, orientation
from omib_spatial.stats.self_training import standard

CLONE = (5.0, 2.0)
"""Contiguity of a clone."""


def views(n: int = 200, share: float = 0.35, seed: int = 0, gain: float = 0.8, signed: bool = True) -> SlideViews:
    """Spots of which the first have gained two chromosomes of ten, have another expression, and divide."""
    rng = np.random.default_rng(seed)
    chromosome = np.repeat(np.arange(10), 60)
    abnormal = np.arange(n) < share * n
    genes = rng.normal(size=(n, 600))
    genes[np.ix_(abnormal, np.isin(chromosome, [2, 7]))] += gain
    genes[np.ix_(abnormal, np.isin(chromosome, [4]))] -= gain
    expression = rng.normal(size=(n, 120)) + np.outer(abnormal, rng.normal(size=120)) * gain
    signature = rng.normal(size=(n, 12)) + abnormal[:, None]
    return SlideViews(genes, chromosome, expression, [(1.0, signature)] if signed else [])


def is_abnormal(found, share: float = 0.35) -> np.ndarray:
    return np.arange(len(found.score)) < share * len(found.score)


# Parts.


def test_components_are_those_of_the_decomposition_in_units_of_the_first():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(100, 30)) * np.geomspace(20, 0.1, 30) + 4
    found, axes = components(values, 5)
    left, scale, _ = np.linalg.svd(values - values.mean(0), full_matrices=False)
    expected = left[:, :5] * scale[:5]
    np.testing.assert_allclose(np.abs(found), np.abs(expected / expected[:, 0].std()), atol=1e-8)
    assert found[:, 0].std() == pytest.approx(1)
    np.testing.assert_allclose((values - values.mean(0)) @ axes, found, atol=1e-8)
    assert components(values[:, :3], 8)[0].shape == (100, 3) and components(values[:4], 8)[0].shape == (4, 4)


@pytest.mark.parametrize("shape", [(130, 500), (500, 130)])
def test_beyond_the_rank_there_is_nothing(shape):
    rng = np.random.default_rng(0)
    low = rng.normal(size=(shape[0], 3)) @ rng.normal(size=(3, shape[1]))
    found, axes = components(low, 20)
    assert found.shape == (shape[0], 20) and (np.abs(found[:, 3:]) < 1e-9).all()
    assert (np.linalg.norm(found[:, :3], axis=0) > 1).all()
    order = rng.permutation(shape[0])
    np.testing.assert_allclose(np.abs(components(low[order], 20)[0]), np.abs(found[order]), atol=1e-9)
    nothing, _ = components(np.ones(shape), 8)
    assert not nothing.any()


@pytest.mark.parametrize("shape", [(40, 200), (200, 40), (30, 30)])
@pytest.mark.parametrize("n", [3, 20, 60])
def test_leading_vectors_are_those_of_all_of_them(shape, n):
    """By Lanczos where few of many are asked for, and at once where they are not."""
    values = np.random.default_rng(0).normal(size=shape)
    product = values @ values.T
    expected = np.linalg.eigh(product)[1][:, ::-1][:, : min(n, np.linalg.matrix_rank(product))]
    found = leading_vectors(product, n)
    assert found.shape == (shape[0], min(n, shape[0]))
    np.testing.assert_allclose(np.abs((found[:, : expected.shape[1]] * expected).sum(0)), 1, atol=1e-8)


def test_orientation_is_a_weighted_sum_of_signatures_of_one_gene():
    """A bootstrap of one gene is that gene."""
    one, other = np.random.default_rng(0).normal(size=(2, 50, 1))
    found = orientation([(2.0, one), (-0.5, other)], np.random.default_rng(1))
    np.testing.assert_allclose(found, 2 * standard(one[:, 0]) - 0.5 * standard(other[:, 0]))


def test_orientation_draws_genes_with_replacement():
    values = np.random.default_rng(0).normal(size=(50, 6))
    rng, again = np.random.default_rng(1), np.random.default_rng(1)
    drawn = again.integers(0, 6, 6)
    np.testing.assert_allclose(orientation([(1.0, values)], rng), standard(values[:, drawn].mean(1)))
    assert len(set(drawn)) < 6
    mean = np.mean([orientation([(1.0, values)], rng) for _ in range(400)], 0)
    assert np.corrcoef(mean, values.mean(1))[0, 1] > 0.99


def test_deviation_has_no_part_of_the_counting_noise():
    """Of noise whose spread differs tenfold between spots, the expectation is 0; of a clone it is not."""
    rng = np.random.default_rng(0)
    chromosome = np.repeat(np.arange(10), 60)
    spread = np.where(np.arange(300) % 2, 0.3, 3.0)[:, None]
    found = np.mean([deviation(spread * rng.normal(size=(300, 600)), chromosome) for _ in range(20)], 0)
    noise = np.square(3.0) / 30
    assert abs(found.mean()) < 0.02 * noise and np.abs(found[1::2]).max() < 0.02 * noise
    arm = np.outer(np.arange(300) < 60, np.isin(chromosome, [3])) * 2.0
    moved = deviation(arm + 0.3 * rng.normal(size=(300, 600)), chromosome)
    assert moved[:60].min() > moved[60:].max()
    # Windows of the arm move by 1.8 and all others by -.2, for spots are centred.
    assert moved[:60].mean() == pytest.approx((1.8**2 + 9 * 0.2**2) / 10, rel=0.1)


def test_both_halves_of_the_genes_have_the_same_windows():
    """Chromosomes of an odd number of genes: each by itself, less its last gene, gives the same windows."""
    rng = np.random.default_rng(0)
    chromosome = np.repeat(["1", "2", "3"], [241, 241, 240])
    genes = rng.normal(size=(50, 722))
    even = np.r_[0:240, 241:481, 482:722]
    np.testing.assert_array_equal(deviation(genes, chromosome), deviation(genes[:, even], chromosome[even]))
    # A gain of chromosome 2 that both halves show in the same windows: all that they say together is above 0.
    gained = 3.0 * np.outer(np.arange(50) < 10, chromosome == "2")
    assert deviation(genes + gained, chromosome)[:10].min() > 0.5 > deviation(genes + gained, chromosome)[10:].max()


@settings(max_examples=50)
@given(rows=st.integers(2, 6), n=st.integers(3, 20), seed=st.integers(0, 99))
def test_mean_correlation_is_over_all_pairs(rows, n, seed):
    answers = np.random.default_rng(seed).normal(size=(rows, n))
    pairs = [np.corrcoef(answers[i], answers[j])[0, 1] for i in range(rows) for j in range(i)]
    assert mean_correlation(answers) == pytest.approx(np.mean(pairs))
    assert mean_correlation(np.tile(answers[:1], (rows, 1)) * np.arange(1, rows + 1)[:, None]) == pytest.approx(1)


# What follows from the replicas.


def answers(n: int = 300, share: float = 0.4, spread: float = 0.05, rows: int = 10) -> np.ndarray:
    """Replicas, both views of which agree: the first spots are high."""
    rng = np.random.default_rng(0)
    truth = np.where(np.arange(n) < share * n, 3.0, -3.0) + rng.uniform(-1.5, 1.5, n)
    return truth + spread * rng.normal(size=(rows, 1, n)).repeat(2, 1)


def test_the_reference_is_the_surest_part_of_the_lower_side():
    found = conclude(answers(), CLONE)
    assert found.answered and found.agreement > 0.99 and found.contiguity == CLONE
    assert found.reference.sum() == 180 // SURE and not found.reference[:120].any()
    assert found.score[found.reference].max() <= np.sort(found.score)[180 // SURE - 1]
    assert found.score.mean() == pytest.approx(0) and found.score.std() == pytest.approx(1)
    assert "45 of 300 spots taken as healthy, 120 look abnormal" in found.reason
    assert "contiguity 5.0 against 2.0 by chance" in found.reason


def test_the_reference_has_a_least_size():
    found = conclude(answers(n=150, share=0.6), CLONE)
    assert found.reference.sum() == MIN_REFERENCE > 150 * 0.4 / SURE


def test_a_healthy_side_that_is_too_small_gives_no_reference():
    found = conclude(answers(n=140, share=120 / 140), CLONE)
    assert not found.answered and "20 spots are on the healthy side, 40 are needed" in found.reason
    just = conclude(answers(n=160, share=0.75), CLONE)
    assert just.reference.sum() == MIN_REFERENCE and not just.reference[:120].any()


def test_equal_scores_are_no_reason_for_more_reference():
    found = conclude(np.sign(answers(spread=0.0)), CLONE)
    assert found.reference.sum() == 45 and not found.reference[:120].any()


@pytest.mark.parametrize("clone", [(2.0, 2.0), (1.9, 2.0)])
def test_without_contiguity_there_is_no_reference_however_well_replicas_agree(clone):
    found = conclude(answers(), clone)
    assert not found.answered and not found.reference.any()
    assert found.reason.startswith("cannot tell: no sign of a clone (replicas agree 1.00")
    assert np.isfinite(found.score).all()


def test_replicas_that_disagree_have_no_reference():
    found = conclude(answers(spread=3.0), CLONE)
    assert 0 < found.agreement < AGREEMENT and not found.answered
    assert found.reason.startswith("cannot tell which side is healthy")
    nearly = conclude(answers(spread=0.9), CLONE)
    assert nearly.agreement > AGREEMENT and nearly.answered


def test_replicas_that_say_nothing_are_no_answer():
    with np.errstate(invalid="ignore", divide="ignore"):
        assert not conclude(np.zeros((5, 2, 200)), CLONE).answered


# What the image adds.


def scaled_views(*correlations: float, n: int = 4000, seed: int = 0) -> np.ndarray:
    """Views of one truth that err independently, each with this correlation to it."""
    rng = np.random.default_rng(seed)
    truth = standard(rng.normal(size=n))
    return np.stack([standard(r * truth + np.sqrt(1 - r**2) * rng.normal(size=n)) for r in correlations])


def test_a_view_weighs_as_much_as_it_is_right():
    weights = agreement_weights(scaled_views(0.9, 0.9, 0.3))
    # Of independent errors, the correlation with the others' sum is r times a factor that hardly differs.
    assert weights.sum() == pytest.approx(1) and weights[0] == pytest.approx(weights[1], abs=0.02)
    assert 0.15 < weights[2] / weights[0] < 0.55


def test_a_view_that_knows_nothing_or_the_contrary_has_no_weight():
    nothing = agreement_weights(scaled_views(0.9, 0.9, 0.0))
    assert nothing[2] < 0.05
    views_ = scaled_views(0.9, 0.9, 0.5)
    views_[2] *= -1
    assert agreement_weights(views_)[2] == 0


@given(st.floats(-0.99, 0.99), st.integers(0, 20))
@settings(max_examples=30)
def test_two_views_weigh_alike_whatever_they_say(r, seed):
    np.testing.assert_allclose(agreement_weights(scaled_views(1.0, r, n=50, seed=seed)), 0.5)


def test_an_image_has_no_voice_in_whether_there_is_an_answer():
    both = answers(spread=3.0)
    loud = np.broadcast_to(answers()[0, 0], (len(both), 1, both.shape[2]))
    without, with_image = conclude(both, CLONE), conclude(np.concatenate([both, loud], 1), CLONE)
    assert with_image.agreement == without.agreement and not with_image.answered
    assert "weight of the image 0." in with_image.reason and "image" not in without.reason


def test_an_image_that_shows_the_clone_helps_where_genes_are_weak():
    weak = views(gain=0.1, seed=2)
    abnormal = np.arange(200) < 70
    shown = np.random.default_rng(1).normal(size=(200, 6)) + 1.5 * abnormal[:, None]
    alone, together = slide_contrast(weak), slide_contrast(cut(weak, image=shown))
    assert together.agreement == alone.agreement
    assert roc_auc_score(abnormal, together.score) > roc_auc_score(abnormal, alone.score) + 0.02


def test_an_image_that_shows_something_else_costs_little(told):
    other = np.random.default_rng(1).permutation(200) < 70
    shown = np.random.default_rng(2).normal(size=(200, 6)) + 1.5 * other[:, None]
    found = slide_contrast(cut(views(), image=shown))
    assert found.answered and roc_auc_score(is_abnormal(found), found.score) > 0.97
    assert not is_abnormal(found)[found.reference].any()


# One slide.


@pytest.fixture(scope="module")
def told():
    return slide_contrast(views())


def test_a_planted_half_is_found_the_right_way_round(told):
    abnormal = is_abnormal(told)
    assert told.answered and told.agreement > AGREEMENT and told.contiguity[0] > told.contiguity[1]
    assert roc_auc_score(abnormal, told.score) > 0.98
    assert not abnormal[told.reference].any()


def test_signatures_orient_and_their_weights_sign_turns_the_answer(told):
    given_views = views()
    (weight, genes) = given_views.signatures[0]
    turned = SlideViews(given_views.genes, given_views.chromosome, given_views.expression, [(-weight, genes)])
    found = slide_contrast(turned)
    assert found.answered and np.corrcoef(found.score, told.score)[0, 1] < -0.8
    assert is_abnormal(found)[found.reference].all()


def test_signatures_are_no_part_of_the_evidence(told):
    """Another signature that points the same way ends at the same answer."""
    other = views()
    rng = np.random.default_rng(9)
    signature = rng.normal(size=(200, 30)) + 0.5 * (np.arange(200) < 70)[:, None]
    found = slide_contrast(SlideViews(other.genes, other.chromosome, other.expression, [(3.0, signature)]))
    assert np.corrcoef(found.score, told.score)[0, 1] > 0.97
    assert (found.reference & told.reference).sum() > 0.8 * told.reference.sum()


def test_without_signatures_nothing_is_said_unless_most_is_healthy(told):
    silent = slide_contrast(views(signed=False))
    assert (
        not silent.answered and np.isnan(silent.score).all() and "no signature has enough of its genes" in silent.reason
    )
    found = slide_contrast(views(signed=False), mostly_healthy=True)
    assert found.answered and np.corrcoef(found.score, told.score)[0, 1] > 0.95


def test_what_is_declared_is_believed():
    """The same slide, most of it abnormal and declared healthy, ends reversed: the documented price."""
    found = slide_contrast(views(share=0.75, signed=False), mostly_healthy=True)
    assert found.answered and roc_auc_score(is_abnormal(found, 0.75), found.score) < 0.1


@pytest.mark.parametrize("seed", range(3))
def test_one_kind_of_tissue_has_no_answer(seed):
    found = slide_contrast(views(gain=0.0, seed=seed))
    assert not found.answered and found.reason.startswith("cannot tell") and found.agreement < AGREEMENT
    assert found.score.shape == (200,)


def test_the_seed_decides_and_nothing_else(told):
    again, other = slide_contrast(views()), slide_contrast(views(), seed=1)
    np.testing.assert_array_equal(again.score, told.score)
    np.testing.assert_array_equal(again.reference, told.reference)
    assert again.reason == told.reason
    assert not np.array_equal(other.score, told.score) and np.corrcoef(other.score, told.score)[0, 1] > 0.98


def test_order_of_spots_does_not_matter(told):
    order, whole = np.random.default_rng(0).permutation(200), views()
    (weight, signature) = whole.signatures[0]
    mixed = SlideViews(whole.genes[order], whole.chromosome, whole.expression[order], [(weight, signature[order])])
    found = slide_contrast(mixed)
    np.testing.assert_allclose(found.score, told.score[order], atol=0.05)
    assert (found.reference == told.reference[order]).mean() > 0.99


def test_half_of_the_chromosomes_and_of_the_genes_make_a_replica():
    whole = views()
    genome, expression = module.replica(whole, np.random.default_rng(0))
    assert len(np.unique(genome.chromosome)) == 5 and genome.seen.sum() == 300 and 40 < expression.seen.sum() < 80
    np.testing.assert_array_equal(whole.chromosome[genome.seen], genome.chromosome)
    along = profiles(whole.genes[:, genome.seen], genome.chromosome)
    np.testing.assert_allclose(along @ genome.axes, genome.values, atol=1e-9)
    own = whole.expression[:, expression.seen]
    np.testing.assert_allclose((own - own.mean(0)) @ expression.axes, expression.values, atol=1e-9)


def cut(whole: SlideViews, **parts) -> SlideViews:
    return SlideViews(**({name: getattr(whole, name) for name in SlideViews.__dataclass_fields__} | parts))


def poor(kind: str) -> tuple[SlideViews, str]:
    whole, few = views(), views(n=MIN_SPOTS - 1)
    genes = whole.genes
    return {
        "spots": (few, f"{MIN_SPOTS - 1} spots are too few"),
        "genes": (
            cut(whole, genes=genes[:, : MIN_GENES - 1], chromosome=np.arange(MIN_GENES - 1) % 22),
            f"{MIN_GENES - 1} genes have a place",
        ),
        "chromosomes": (cut(whole, chromosome=np.sort(np.arange(600) % 3)), f"3 chromosomes, {MIN_CHROMOSOMES}"),
        "expression": (
            cut(whole, expression=whole.expression[:, : MIN_EXPRESSED - 1]),
            f"{MIN_EXPRESSED - 1} genes are seen often enough",
        ),
        "no expression": (cut(whole, expression=whole.expression[:, :0]), "0 genes are seen often enough"),
        "constant genes": (cut(whole, genes=np.full_like(genes, 0.3)), "all spots are alike"),
        "constant expression": (cut(whole, expression=np.zeros_like(whole.expression)), "all spots are alike"),
    }[kind]


@pytest.mark.parametrize(
    "kind",
    ["spots", "genes", "chromosomes", "expression", "no expression", "constant genes", "constant expression"],
)
@pytest.mark.parametrize("mostly_healthy", [False, True])
def test_a_slide_that_holds_too_little_says_so(kind, mostly_healthy):
    poorer, says = poor(kind)
    found = slide_contrast(poorer, mostly_healthy=mostly_healthy)
    assert not found.answered and says in found.reason and found.reason.startswith("cannot tell: ")
    assert found.score.shape == (len(poorer.genes),) and np.isnan(found.score).all() and np.isnan(found.agreement)


def test_few_chromosomes_and_few_genes_are_enough():
    whole = views()
    some = np.isin(whole.chromosome, [0, 2, 4, 7])
    smaller = cut(
        whole,
        genes=whole.genes[:, some],
        chromosome=whole.chromosome[some],
        expression=whole.expression[:, :MIN_EXPRESSED],
    )
    found = slide_contrast(smaller)
    assert np.isfinite(found.score).all() and np.isfinite(found.agreement)
