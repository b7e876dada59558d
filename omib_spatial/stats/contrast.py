"""The two kinds of tissue on one slide, told apart without labels and without another slide."""

from dataclasses import dataclass, field

import numpy as np

from omib_spatial.stats.contiguity import contiguity
from omib_spatial.stats.replicas import SlideViews, TrainedView, replica
from omib_spatial.stats.self_training import otsu, standard

REPLICAS = 25
"""Times that all is done again with half of the evidence."""
MIN_REFERENCE = 40
"""Reference spots at least: a model needs so many, some of them to calibrate its score."""
MIN_SPOTS = 130
"""Spots of a slide below which nothing is said."""
SURE = 4
"""One spot in so many of the healthy side is taken for the reference, the surest ones."""
MIN_GENES = 200
"""Genes with a place in the genome, below which nothing is said."""
MIN_CHROMOSOMES = 4
"""Chromosomes with such genes, below which a half of them has no contrast."""
MIN_EXPRESSED = 50
"""Genes in the view of expression, below which nothing is said."""
AGREEMENT = 0.9
"""Mean correlation of replicas from which on a slide has an answer. Healthy tissue reaches .88, very rarely .92, and
planted clones that were told wrongly .77 (docs/trials.md, docs/reference.md)."""


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
    attempt
        Which of several sets of signatures this is by, from 0.
    """

    reference: np.ndarray
    score: np.ndarray
    agreement: float
    reason: str
    contiguity: tuple[float, float] = field(default=(np.nan, np.nan))
    attempt: int = 0

    @property
    def healthy_side(self) -> np.ndarray:
        """Spots on the healthy side of the split in two, (n,) bool; none if the slide has no answer."""
        return self.score <= otsu(self.score) if self.answered else self.reference

    @property
    def answered(self) -> bool:
        """Whether there is a reference."""
        return bool(self.reference.any())


def slide_contrast(views: SlideViews, *, mostly_healthy: bool = False, seed: int = 0) -> SlideContrast:
    """Mark the spots of one slide that are healthy with confidence, or say that this cannot be told.

    Two views of the slide, its genome profiles and its expression, are each divided in two by self-training that starts
    from the same orientation: where signatures are high. This is repeated with random halves of the chromosomes and
    genes. There is an answer if expression is contiguous along the genome beyond chance, as in a clone, and if the
    repetitions agree. The H&E, where there is one, is divided in the same way. It has no voice in whether there is an
    answer. In the evidence each view counts as much as it agrees with the others.

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
            "no signature has enough of its genes here, and nobody says that most of the slide is healthy "
            "(mostly_healthy=True of omib_spatial.pp.find_reference)"
        )
        return silent(len(views.genes), why)
    rng = np.random.default_rng(seed)
    clone = contiguity(views.genes, views.chromosome, rng)
    trained = [replica(views, rng) for _ in range(REPLICAS)]
    return conclude(np.stack([[view.score for view in each] for each in trained]), clone)


def trained_replicas(views: SlideViews, seed: int = 0) -> list[list[TrainedView]]:
    """What the repetitions of `slide_contrast` have learned: of each, its views."""
    rng = np.random.default_rng(seed)
    contiguity(views.genes, views.chromosome, rng)
    return [replica(views, rng) for _ in range(REPLICAS)]


def _lack(views: SlideViews) -> str | None:
    """What there is too little of to tell anything; None if there is enough."""
    (n, placed), n_chromosomes = views.genes.shape, len(np.unique(views.chromosome))
    if n < MIN_SPOTS:
        return f"{n} spots are too few to be divided, {MIN_SPOTS} are needed"
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


def conclude(replicas: np.ndarray, clone: tuple[float, float]) -> SlideContrast:
    """From what replicas say to what was found.

    Parameters
    ----------
    replicas
        Of genome, expression and, if there is one, the image, (replicas, views, n).
    clone
        As `omib_spatial.stats.contiguity.contiguity` gives it.
    """
    # The image is the same in all replicas, which would agree for that reason.
    agreement = mean_correlation(replicas[:, :2].sum(1))
    weights, scale = view_weights(replicas)
    score = standard(scale @ replicas.mean(0))
    n_low = int((score <= otsu(score)).sum())
    order = np.argsort(score, kind="stable")
    reference = np.zeros(len(score), bool)
    # The lower part of the lower side: what lies near the split may be either.
    reference[order[: max(MIN_REFERENCE, n_low // SURE)]] = True
    said = f"replicas agree {agreement:.2f}, contiguity {clone[0]:.1f} against {clone[1]:.1f} by chance"
    said += f", weight of the image {weights[2]:.2f}" if len(weights) > 2 else ""
    if clone[0] <= clone[1]:
        said, reference = f"cannot tell: no sign of a clone ({said}).", np.zeros(len(score), bool)
    elif not agreement >= AGREEMENT:
        said, reference = f"cannot tell which side is healthy ({said}).", np.zeros(len(score), bool)
    elif n_low < MIN_REFERENCE:
        said = f"cannot tell: {n_low} spots are on the healthy side, {MIN_REFERENCE} are needed ({said})."
        reference = np.zeros(len(score), bool)
    else:
        said = f"{reference.sum()} of {len(score)} spots taken as healthy, {len(score) - n_low} look abnormal ({said})."
    return SlideContrast(reference, score, agreement, said, clone)


def view_weights(replicas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How much each view counts in the evidence.

    Parameters
    ----------
    replicas
        (replicas, views, n).

    Returns
    -------
    weights
        By `agreement_weights`, (views,).
    scale
        Of the mean of each view over replicas in the evidence, which has standard deviation 1, (views,).
    """
    spread = replicas.mean(0).std(1) + 1e-9
    views = np.stack([standard(view) for view in replicas.mean(0)])
    weights = agreement_weights(views)
    return weights, weights / spread / ((weights @ views).std() + 1e-9)


def agreement_weights(views: np.ndarray) -> np.ndarray:
    """Weight of each view: its correlation with the sum of the others, 0 if that is negative.

    What errs independently of the others agrees with them as far as it is right (Parisi et al. 2014, "Ranking and
    combining multiple predictors without labeled data"). So an image that knows nothing of a clone counts little. Two
    views count alike.

    Parameters
    ----------
    views
        Each with mean 0 and standard deviation 1, (views, n).

    Returns
    -------
    (views,), with sum 1.
    """
    others = [standard(views.sum(0) - view) for view in views]
    weights = np.maximum((views * others).mean(1), 0)
    return weights / weights.sum() if weights.any() else np.full(len(views), 1 / len(views))


def mean_correlation(answers: np.ndarray) -> float:
    """Mean correlation between any two rows of ``answers`` (replicas, n)."""
    correlation = np.corrcoef(answers)
    return float(correlation[np.triu_indices(len(correlation), 1)].mean())
