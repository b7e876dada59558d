"""Every number that scores, p-values and calls are set by, with its reason. Stored in the model."""

from dataclasses import dataclass


@dataclass(frozen=True)
class CalibrationSettings:
    """Settings of the calibration: what turns distances into scores, p-values and calls.

    A model keeps the settings that it was fitted with, so that a later version of the package scores with it alike.

    Attributes
    ----------
    held_out_fraction
        Share of the reference that a second training does without, to say how high healthy tissue of a new slide
        scores, where there is one donor. A fifth, as in five-fold cross-validation.
    min_slices
        Reference slices from which on whole slices are held out, not blocks of each: of four, one is a quarter.
    n_blocks
        Compact blocks that a slice's reference is cut into where blocks are held out.
    donor_folds
        Groups of donors at most that distances are learned without, one after the other, as in ten-fold
        cross-validation.
    max_distance_spots
        Reference spots that a distance is learned from at most: it is done in float64, with copies.
    min_spots
        Spots that a combination of modalities needs at least: held out to be scored, on a slide to say something of it.
    pooling_hops
        Rings of neighbours that distances are averaged over: what is abnormal in a tissue is seldom one spot.
    crossed_hops
        The same where the image is judged by what it shows beyond what expression predicts: it then shows where a focus
        ends, and less blur is needed. The modality whose anomalies are clonal keeps ``pooling_hops``. 1 was chosen on
        simulated tissue (docs/fusion.md).
    pooled_spots
        Spots that count as one independent spot, since distances are averaged over neighbours. None lets it follow
        from the graph (`omib_spatial.stats.smooth.independent_share`): 13.7 inside a hexagonal grid, 18.2 inside a
        square one. Models of format 2 had 19.
    between_slice_sd
        How much slides differ in mean log distance and in the logarithm of its spread, counted as one slide's evidence
        beside those of the reference. About what the donors of her2st show (docs/trials.md).
    spread_prior_weight
        How much what healthy slides show of the spread counts, beside what the slide itself shows. 2 was chosen on
        healthy tissue of her2st with planted clones, by the AUROC pooled over slides (docs/trials.md).
    verdict_level
        Share of healthy slides that may be found abnormal. It was .05 until healthy slides were left out of their
        summaries, too; at .1, .08 of healthy simulated slides are found abnormal (docs/trials.md).
    tail_power
        Power by which the verdict looks at the distances that lie farthest above a slide's own median
        (`omib_spatial.stats.slide_test.spread`), so that a small focus counts; None for the standard deviation of log
        distances, as in models of before. 4 was chosen on simulated tissue (docs/trials.md).
    min_transfer
        Share of the image's variance within healthy slides that expression must predict on donors who were left out,
        for either to be judged by what the other predicts of it. It is .32 to .37 on simulated tissue, .07 in the
        olfactory bulb, and .00 between the patients of her2st, where it would cost (docs/fusion.md).
    min_ordered
        Spots of a slide from which on they are put in the order that their genome profiles show inside the slide
        (`omib_spatial.stats.ordering.SlideOrder`), if its two sides differ as a clone does; None for never. As many as
        it takes to divide a slide without a reference.
    n_quantiles
        Quantiles that stand for the spots of a slide when its null is estimated, for speed.
    min_log_spread
        Least spread of log distances: of equal values nothing can be learned.
    min_relative_distance
        Least distance, in units of the reference's, of which the logarithm is taken.

    Examples
    --------
    >>> from omib_spatial.stats.settings import CalibrationSettings
    >>> CalibrationSettings(pooling_hops=1).pooling_hops, model.calibration.pooling_hops
    (1, 2)
    """

    held_out_fraction: float = 0.2
    min_slices: int = 4
    n_blocks: int = 10
    donor_folds: int = 10
    max_distance_spots: int = 50_000
    min_spots: int = 10
    pooling_hops: int = 2
    crossed_hops: int = 1
    pooled_spots: float | None = None
    between_slice_sd: tuple[float, float] = (0.3, 0.4)
    spread_prior_weight: float = 2.0
    verdict_level: float = 0.1
    tail_power: float | None = 4.0
    min_transfer: float = 0.02
    min_ordered: int | None = 130
    n_quantiles: int = 512
    min_log_spread: float = 1e-3
    min_relative_distance: float = 1e-3
