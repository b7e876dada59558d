"""Models of format 3, whose scores counted from the reference and not from each slide's own border."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from omib_spatial.stats.score import healthy_scores
from omib_spatial.stats.settings import CalibrationSettings

WORTH = 15.0
"""Spots that count as an independent one: about what two rings of neighbours are on any grid."""


def from_format_3(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The same model in format 4: distances as they were, scores on today's scale.

    Held-out spots stand for one healthy slide, since it was not kept which slide they were on. How far a slide's
    spread is known from its spots, and how the clonal modality spread, was not kept either: the former counts as exact,
    and the latter says nothing.

    Parameters
    ----------
    tensors, config
        As the folder holds them.
    """
    kept = {name: value for name, value in config["calibration"].items() if name != "credible"}  # never read
    stored: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in kept.items()}
    settings = CalibrationSettings(**{"min_ordered": None, "tail_power": None} | stored)
    new = dict(tensors)
    for i in range(len(config["scores"])):
        location, spread, scores, slides = (
            tensors[f"score.{i}.{name}"].numpy() for name in ("location", "spread", "calibration", "slides")
        )
        total = scores * spread[-1] + location[-1]
        logs = np.log(np.maximum(1 + total / (location[:-1] / spread[:-1]).sum(), settings.min_relative_distance))
        whole = np.column_stack([slides, np.full(len(slides), np.nan), np.full(len(slides), np.inf)])
        held_out = np.array([[logs.mean(), logs.std(), np.nan, len(logs) / WORTH]])
        # The spread that verdicts rest on is a column of its own today.
        others = np.insert(np.concatenate([held_out, whole]), 2, np.nan, axis=1)
        values = {
            "location": location[:-1],
            "spread": spread[:-1],
            "calibration": healthy_scores([logs], others, settings),
            "slides": whole,
        }
        new |= {f"score.{i}.{name}": torch.from_numpy(np.asarray(value)) for name, value in values.items()}
    return new, {**config, "format": 4}
