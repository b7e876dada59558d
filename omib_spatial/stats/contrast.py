"""The two kinds of tissue on one slide, told apart without labels and without another slide."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.utils.extmath import randomized_svd

from omib_spatial.stats.contiguity import contiguity, profiles

GENOME_AXES, EXPRESSION_AXES = 8, 20
"""Principal axes of each view, as the modalities genome and gene have them."""
REPLICAS = 25
"""Times that all is done again with half of the evidence."""
ROUNDS = 5
"""Rounds of self-training."""
MIN_REFERENCE = 65
"""Reference spots at least: of fewer, a fifth held out is not enough to calibrate a score."""
MIN_GENES = 200
"""Genes with a place in the genome, below which nothing is said."""
MIN_CHROMOSOMES = 4
"""Chromosomes with such genes, below which a half of them has no contrast."""
MIN_EXPRESSED = 50
"""Genes in the view of expression, below which nothing is said."""
AGREEMENT = 0.9
"""Mean correlation of replicas from which on a slide has an answer. Healthy tissue reaches at most .88, and planted
clones that were told wrongly .77 (docs/trials.md)."""


@dataclass(frozen=True)
class SlideViews:
    """One slide as seen in several ways, all averaged over neighbouring spots.

    Attributes
    ----------
    genes
        Scaled log expression of genes in genome order, (n, genes).
    chromosome
        Of each of these genes, (genes,).
    expression
        Scaled log expression of the most variable genes, (n, p).
    signatures
        Weight of each signature, and scaled log expression of its genes, (n, q).
    """

    genes: np.ndarray
    chromosome: np.ndarray
    expression: np.ndarray
    signatures: Sequence[tuple[float, np.ndarray]]


@dataclass(frozen=True)
class SlideContrast:
    """What was found on one slide.

    Attributes
    ----------
    reference
        Spots that are healthy with confidence, (n,) bool; none if the slide has no answer.
    score
        Evidence that a spot is abnormal, (n,), higher is more so; NaN if nothing could be computed.
    agreement
        Mean correlation between answers that rest on different halves of chromosomes and genes, in [-1, 1].
    reason
        What was found, or why it cannot be told, in words.
    contiguity
        Of expression along the genome, and the largest that permuted genes reached.
    """

    reference: np.ndarray
    score: np.ndarray
    agreement: float
    reason: str
    contiguity: tuple[float, float] = field(default=(np.nan, np.nan))

    @property
    def answered(self) -> bool:
        """Whether there is a reference."""
        return bool(self.reference.any())


def slide_contrast(views: SlideViews, *, mostly_healthy: bool = False, seed: int = 0) -> SlideContrast:
    """Mark the spots of one slide that are healthy with confidence, or say that this cannot be told.

    Two views of the slide, its genome profiles and its expression, are each divided in two by self-training that starts
    from the same orientation: where signatures are high. This is repeated with random halves of the chromosomes and
    genes. There is an answer if expression is contiguous along the genome beyond chance, as in a clone, and if the
    repetitions agree.

    Parameters
    ----------
    views
        Of the slide.
    mostly_healthy
        Declares that most of the slide is healthy: where there are no signatures, what deviates from the slide's median
        profile is then abnormal. Nothing in expression tells a clone of a fifth of the spots from a fifth of healthy
        spots in a clone.
    seed
        Of the halves.
    """
    if (lack := _lack(views)) is not None:
        return silent(len(views.genes), lack)
    if not views.signatures and not mostly_healthy:
        why = (
            "no signature has enough of its genes here, and nothing but mostly_healthy=True says which side is healthy"
        )
        return silent(len(views.genes), why)
    rng = np.random.default_rng(seed)
    clone = contiguity(views.genes, views.chromosome, rng)
    return conclude(np.stack([replica(views, rng) for _ in range(REPLICAS)]), clone)


def _lack(views: SlideViews) -> str | None:
    """What there is too little of to tell anything; None if there is enough."""
    (n, placed), n_chromosomes = views.genes.shape, len(np.unique(views.chromosome))
    if n < 2 * MIN_REFERENCE:
        return f"{n} spots are too few to be divided, {2 * MIN_REFERENCE} are needed"
    if placed < MIN_GENES:
        return f"{placed} genes have a place in the genome, {MIN_GENES} are needed"
    if n_chromosomes < MIN_CHROMOSOMES:
        return f"genes lie on {n_chromosomes} chromosomes, {MIN_CHROMOSOMES} are needed"
    if (expressed := views.expression.shape[1]) < MIN_EXPRESSED:
        return f"{expressed} genes are seen often enough, {MIN_EXPRESSED} are needed"
    if min(np.ptp(values, axis=0).max() for values in (views.genes, views.expression)) < 1e-6:
        return "all spots are alike"
    return None


def silent(n: int, why: str) -> SlideContrast:
    """No answer on ``n`` spots, and why."""
    return SlideContrast(np.zeros(n, bool), np.full(n, np.nan), np.nan, f"cannot tell: {why}.")


def conclude(answers: np.ndarray, clone: tuple[float, float]) -> SlideContrast:
    """From the answers of replicas to what was found.

    Parameters
    ----------
    answers
        (replicas, n).
    clone
        As `omib_spatial.stats.contiguity.contiguity` gives it.
    """
    score, agreement = standard(answers.mean(0)), mean_correlation(answers)
    low = score <= otsu(score)
    order = np.argsort(score, kind="stable")
    reference = np.zeros(len(score), bool)
    # Half of the lower side: what lies near the split may be either.
    reference[order[: max(MIN_REFERENCE, int(low.sum()) // 2)]] = True
    said = f"replicas agree {agreement:.2f}, contiguity {clone[0]:.1f} against {clone[1]:.1f} by chance"
    if clone[0] <= clone[1]:
        said, reference = f"cannot tell: no sign of a clone ({said}).", np.zeros(len(score), bool)
    elif not agreement >= AGREEMENT:
        said, reference = f"cannot tell which side is healthy ({said}).", np.zeros(len(score), bool)
    else:
        said = f"{reference.sum()} of {len(score)} spots taken as healthy, {(~low).sum()} look abnormal ({said})."
    return SlideContrast(reference, score, agreement, said, clone)


def replica(views: SlideViews, rng: np.random.Generator) -> np.ndarray:
    """Evidence from a random half of chromosomes and genes, and a bootstrap of the signatures' genes, (n,)."""
    numbers = np.unique(views.chromosome)
    own = np.isin(views.chromosome, rng.choice(numbers, -(-len(numbers) // 2), replace=False))
    genome = components(profiles(views.genes[:, own], views.chromosome[own]), GENOME_AXES)
    expression = components(views.expression[:, rng.random(views.expression.shape[1]) < 0.5], EXPRESSION_AXES)
    start = orientation(views.signatures, rng) if views.signatures else deviation(views.genes, views.chromosome)
    basis = genome / np.maximum(np.linalg.norm(genome, axis=0), 1e-12)
    start = basis @ (basis.T @ (start - start.mean()))
    return self_train(genome, start, gaussian_odds) + self_train(expression, start, logistic_odds)


def components(values: np.ndarray, n: int) -> np.ndarray:
    """(n_obs, n) principal components, in units of the first one's standard deviation."""
    left, scale, _ = randomized_svd(values - values.mean(0), min(n, *values.shape), random_state=0)
    found = left * scale
    return found / (found[:, 0].std() + 1e-9)


def orientation(signatures: Sequence[tuple[float, np.ndarray]], rng: np.random.Generator) -> np.ndarray:
    """Weighted sum of signatures, each the mean of a bootstrap of its genes, (n,)."""
    parts = [w * standard(v[:, rng.integers(0, v.shape[1], v.shape[1])].mean(1)) for w, v in signatures]
    return np.sum(parts, axis=0)


def deviation(genes: np.ndarray, chromosome: np.ndarray) -> np.ndarray:
    """Squared deviation of each spot's profile from the slide's median profile, free of noise, (n,).

    Profiles of the odd and of the even genes have independent counting noise, so that their product has none: the
    square of a single profile would rank spots by how few counts they have.

    Parameters
    ----------
    genes, chromosome
        As of `SlideViews`.
    """
    halves = [profiles(genes[:, first::2], chromosome[first::2]) for first in (0, 1)]
    width = min(half.shape[1] for half in halves)
    one, other = (half[:, :width] - np.median(half[:, :width], 0) for half in halves)
    return (one * other).mean(1)


def self_train(
    values: np.ndarray, start: np.ndarray, odds: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
) -> np.ndarray:
    """Teach a classifier the outer halves of both sides of a split, let it score all spots, and repeat.

    Parameters
    ----------
    values
        What it sees of the spots, (n, p).
    start
        Score that the first split is made of, (n,).
    odds
        From values and two masks, of the high and of the low side, to a new score.

    Returns
    -------
    Score, (n,), with mean 0 and standard deviation 1.
    """
    score = standard(start)
    for _ in range(ROUNDS):
        cut = otsu(score)
        low = score <= np.median(score[score <= cut])
        high = score >= np.median(score[score > cut])
        score = standard(odds(values, high, low))
    return score


def gaussian_odds(values: np.ndarray, high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """Log odds of two Gaussians, each with its own covariance: subclones spread where healthy tissue does not.

    Tails are drawn in by a signed logarithm: squares of a few far spots would decide the next split alone.
    """
    odds = log_density(values, high) - log_density(values, low)
    return np.sign(odds) * np.log1p(np.abs(odds))


def log_density(values: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Log density (n,) of the Gaussian of ``members`` (n,), its covariance shrunk to a sphere, more if they are few."""
    own, p = values[members], values.shape[1]
    covariance = np.atleast_2d(np.cov(own.T, bias=True))
    shrink = 0.1 if len(own) >= 4 * p else min(1.0, max(0.1, p / len(own)))
    sphere = (shrink * np.trace(covariance) / p + 1e-3) * np.eye(p)
    root = np.linalg.cholesky((1 - shrink) * covariance + sphere)
    return -0.5 * np.square(np.linalg.solve(root, (values - own.mean(0)).T)).sum(0) - np.log(np.diag(root)).sum()


def logistic_odds(values: np.ndarray, high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """Log odds by ridge-penalised logistic regression."""
    some = high | low
    model = LogisticRegression(C=0.05, max_iter=300, class_weight="balanced").fit(values[some], high[some])
    return model.decision_function(values)


def otsu(values: np.ndarray) -> float:
    """Threshold (Otsu 1979) between two groups of ``values`` (n,) with the largest variance between groups.

    Exact: over all splits, not over the bins of a histogram.
    """
    ordered = np.sort(values)
    n = np.arange(1, len(ordered))
    total = np.cumsum(ordered)
    gap = total[:-1] / n - (total[-1] - total[:-1]) / (len(ordered) - n)
    best = int(np.argmax(n * (len(ordered) - n) * gap**2))
    return float((ordered[best] + ordered[best + 1]) / 2)


def mean_correlation(answers: np.ndarray) -> float:
    """Mean correlation between any two rows of ``answers`` (replicas, n)."""
    correlation = np.corrcoef(answers)
    return float(correlation[np.triu_indices(len(correlation), 1)].mean())


def standard(values: np.ndarray) -> np.ndarray:
    """Mean 0, standard deviation 1."""
    return (values - values.mean()) / (values.std() + 1e-9)
