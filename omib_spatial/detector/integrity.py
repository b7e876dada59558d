"""Whether what a model folder holds can be a model: shapes, types, finite numbers and signs, before any is used."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from omib_spatial._checked import Share, checked_value
from omib_spatial.detector.distances import Combination
from omib_spatial.detector.evidence import TrainedNetwork
from omib_spatial.detector.objective import OBJECTIVES, Given, Part
from omib_spatial.modalities import Summary
from omib_spatial.modalities.learned import check_learned
from omib_spatial.stats.distance import Distance
from omib_spatial.stats.score import ScoreCalibration
from omib_spatial.stats.shift import ReferenceInterval
from omib_spatial.stats.stacking import Stacking

_FINITE = ("network.", "modality.", "summary.", "distance.")
"""Prefixes of tensors without NaN or infinity; scores and intervals have places for both."""


def check_tensors(tensors: Mapping[str, Tensor]) -> None:
    """Raise ValueError for a number that is none.

    Parameters
    ----------
    tensors
        All of a model, by name.
    """
    for name, value in tensors.items():
        if name.startswith(_FINITE) and value.is_floating_point() and not torch.isfinite(value).all():
            raise ValueError(f"{name} holds NaN or infinity")


def check_same_layout(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], own_encoders: Collection[str]) -> None:
    """Raise ValueError unless stored weights have the names, shapes and types of the network's.

    Parameters
    ----------
    found, wanted
        State of the network as stored and as built.
    own_encoders
        Modalities whose encoders the user gave, who may have given another one.
    """
    odd = [
        *(f"{name} is missing" for name in wanted if name not in found),
        *(f"{name} belongs to no part of it" for name in found if name not in wanted),
        *(
            f"{name} is {_layout(found[name])} in place of {_layout(value)}"
            for name, value in wanted.items()
            if name in found and _layout(found[name]) != _layout(value)
        ),
    ]
    if odd:
        hint = (
            f", or the encoder given for {sorted(own_encoders)} is another one than in the fit" if own_encoders else ""
        )
        raise ValueError(f"of its network's weights, {odd[0]}{hint}")


def check_fields(
    trained: TrainedNetwork,
    all_distances: Mapping[Combination, Mapping[Part, Distance]],
    scores: Mapping[Combination, ScoreCalibration],
    intervals: Mapping[str, ReferenceInterval],
    stacking: Stacking | None,
) -> None:
    """Raise ValueError where the numbers of a model cannot be what they stand for.

    Parameters
    ----------
    trained, all_distances, scores, intervals, stacking
        As of `omib_spatial.detector.AnomalyModel`, whose ``distances`` are all distances.
    """
    for name, modality in trained.modalities.items():
        try:
            check_learned(modality)
        except (TypeError, ValueError) as error:
            raise ValueError(f"of the modality {name!r}, {str(error).rstrip('.')}") from error
    for name, summary in trained.summaries.items():
        _check_summary(f"the summary of {name!r}", summary)
    own = type(OBJECTIVES.get(trained.objective.name)) is not type(trained.objective)
    for combination, distances in all_distances.items():
        for part, distance in distances.items():
            whole = " given ".join(part) if isinstance(part, Given) else part or "the fused code"
            words = f"the distance of {whole!r} in {' + '.join(combination)}"
            _check_distance(words, distance)
            # Of a user's own objective nobody knows the parts.
            if not own and part is not None:
                names = list(part) if isinstance(part, Given) else [part]
                _require(set(names) <= set(combination), f"{words} is of no modality there")
                widths = [trained.summaries[name].width for name in names]
                _require(distance.axes.shape == (sum(widths), widths[0]), f"{words} is of another width")
    for combination, score in scores.items():
        words = f"the score of {' + '.join(combination)}"
        _require(combination in all_distances, f"{words} has no distances")
        _check_score(words, score, len(all_distances[combination]))
    for name, interval in intervals.items():
        _require(name in trained.modalities, f"an interval is of {name!r}, which is no modality of it")
        _check_interval(f"the interval of {name!r}", interval, len(trained.modalities[name].statistics))
    if stacking is not None:
        _check_stacking("the stacking", stacking, len(trained.classes))


def check_params(params: Mapping[str, Any], modalities: Collection[str]) -> None:
    """Raise KeyError, TypeError or ValueError where what a run is told by cannot be.

    Parameters
    ----------
    params
        As of `omib_spatial.detector.AnomalyModel`.
    modalities
        Names of its modalities.
    """
    checked_value("fdr", params["fdr"], Share)
    _require(params["modalities"] == list(modalities), f"its modalities are said to be {params['modalities']!r}")
    _require(isinstance(params["reference_key"], str), f"reference_key is {params['reference_key']!r}")


def _check_summary(words: str, summary: Summary) -> None:
    p = len(summary.mean)
    shapes = summary.mean.shape == summary.scale.shape == (p,) and summary.axes.ndim == 2 and len(summary.axes) == p
    _require(shapes, f"{words} has parts that do not fit together")
    kinds = {part.dtype for part in (summary.mean, summary.scale, summary.axes)}
    _require(kinds == {torch.float32}, f"{words} has parts that are not of type float32")
    _require(bool((summary.scale > 0).all()), f"{words} has a scale that is not positive")


def _check_distance(words: str, distance: Distance) -> None:
    _check_numbers(words, vars(distance))
    p, k = distance.mean.shape[-1], distance.variance.shape[-1]
    shapes = {"mean": (2, p), "axes": (p, k), "variance": (2, k), "span": (2,)}
    _check_shapes(words, vars(distance), shapes)
    _require((distance.variance >= 0).all(), f"{words} has a variance below 0")
    _require((np.square(distance.axes).sum(0) > 0).all(), f"{words} has an axis without length")
    _require(distance.span[0] <= distance.span[1], f"{words} has a span that ends before it begins")


def _check_score(words: str, score: ScoreCalibration, parts: int) -> None:
    _check_numbers(words, vars(score))
    shapes = {"location": (parts,), "spread": (parts,), "slides": (len(score.slides), 5)}
    _check_shapes(words, vars(score), shapes)
    _require(np.isfinite(score.location).all() and (score.location >= 0).all(), f"{words} has a mean distance below 0")
    _require(np.isfinite(score.spread).all() and (score.spread > 0).all(), f"{words} has a spread that is not positive")
    held = score.calibration
    sound = held.ndim == 1 and len(held) > 0 and np.isfinite(held).all() and (np.diff(held) >= 0).all()
    _require(sound, f"{words} has no sorted scores of healthy spots")
    # The clonal spread may be unknown (NaN), and how many spots a slide is worth without limit.
    location, sd, spread, clonal, worth = score.slides.T
    known = np.isfinite((location, sd, spread)).all() and (np.minimum(sd, spread) >= 0).all()
    sound = len(score.slides) > 0 and known and not (np.isinf(clonal).any() or (clonal < 0).any()) and (worth > 0).all()
    _require(sound, f"{words} has healthy slides with values that cannot be")


def _check_interval(words: str, interval: ReferenceInterval, n_statistics: int) -> None:
    _check_numbers(words, vars(interval))
    shape = (n_statistics,)
    _check_shapes(words, vars(interval), dict.fromkeys(("location", "spread", "low", "high"), shape))
    sound = np.isfinite(interval.location).all() and np.isfinite(interval.spread).all() and (interval.spread > 0).all()
    _require(sound, f"{words} has a spread that is not positive, or no location")
    within = (interval.low <= interval.location) & (interval.location <= interval.high)
    _require(within.all(), f"{words} has limits that are the wrong way round")
    _require(interval.profile.ndim == 1 and not np.isinf(interval.profile).any(), f"{words} has an infinite profile")


def _check_stacking(words: str, stacking: Stacking, n_classes: int) -> None:
    _require(stacking.healthy.shape == (n_classes,) and stacking.healthy.dtype == bool, f"{words} has other classes")
    numbers = {name: value for name, value in vars(stacking).items() if name != "healthy"}
    _check_numbers(words, numbers)
    n = (len(stacking.weight),)
    _check_shapes(words, numbers, {"location": n, "spread": n, "weight": n, "line": (2,)})
    sound = np.isfinite(stacking.weight).all() and (stacking.weight >= 0).all() and np.isfinite(stacking.line).all()
    _require(sound and not (stacking.spread <= 0).any(), f"{words} has weights or spreads that cannot be")


def _check_numbers(words: str, arrays: Mapping[str, np.ndarray]) -> None:
    for name, value in arrays.items():
        _require(value.dtype in (np.float32, np.float64), f"{words} has a {name} of type {value.dtype}")


def _check_shapes(words: str, arrays: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]) -> None:
    for name, shape in shapes.items():
        _require(arrays[name].shape == shape, f"{words} has a {name} of shape {arrays[name].shape} in place of {shape}")


def _require(truth: bool | np.bool_, words: str) -> None:
    if not truth:
        raise ValueError(words)


def _layout(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} of {str(tensor.dtype).removeprefix('torch.')}"
