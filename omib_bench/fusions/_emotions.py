"""CREMA-D as an experiment: sound and face of actors, six emotions."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from omib_bench.datasets import Multimodal, Split, cremad
from omib_bench.fusions._experiments import TEST, Experiment, Fold
from omib_bench.fusions._linear import classes, linear_classes
from omib_bench.fusions._printed import CREMAD
from omib_spatial.core import Classification, Config
from omib_spatial.encoders import FrameResNet, SpectrogramResNet

PAPER = Config(
    latent_dim=256,
    beta=1e-3,
    max_epochs=100,
    warmup_epochs=10,
    batch_size=64,
    optimizer="sgd",
    learning_rate=1e-3,
    weight_decay=1e-4,
    schedule="step",
)
"""The paper's: SGD, a tenth of the rate every 70 epochs; length, k and beta are not stated and ours."""
CELLS = 14
"""Rows and columns of the picture that the linear model sees."""


def emotions(folder: str | Path, *, part: str = TEST, size: str = "resnet18", **options: Any) -> Experiment:
    """CREMA-D on the official split; a random tenth of its training clips is the validation part.

    Parameters
    ----------
    folder, options
        As for `omib_spatial.datasets.cremad`.
    part
        Measure on the ``"test"`` or, to choose settings, on the ``"valid"`` part. The test trains on all other clips.
    size
        Of both encoders, as for `omib_spatial.encoders.FrameResNet`.
    """
    data = cremad(folder, **options)
    given = np.asarray(data.part)
    train, test = np.flatnonzero(given == "train"), np.flatnonzero(given == "test")

    def fold(seed: int) -> Fold:
        shuffled = np.random.default_rng(seed).permutation(train)
        rows = Split(np.sort(shuffled[len(train) // 10 :]), np.sort(shuffled[: len(train) // 10]), test)
        other = getattr(rows, part)

        def encoders() -> dict[str, nn.Module]:
            made = {"audio": SpectrogramResNet(size), "video": FrameResNet(size)}
            return {name: made[name] for name in data.inputs}

        return Fold(
            data.samples(train if part == TEST else rows.train),
            data.samples(other),
            encoders,
            lambda: Classification(len(data.classes)),
            partial(classes, data.target[other]),
            lambda: linear_classes(_pooled(data), data.target, rows, other),
        )

    return Experiment("CREMA-D", fold, PAPER, CREMAD)


def _pooled(data: Multimodal) -> np.ndarray:
    """Mean and spread over time of every frequency, and the mean picture, coarse; standardised."""
    sound, film = np.asarray(data.inputs["audio"]), data.inputs["video"]
    pictures = np.stack([_coarse(np.asarray(clip, np.float32).mean(0)) for clip in film])
    x = np.hstack([sound.mean(2), sound.std(2), pictures])
    return (x - x.mean(0)) / (x.std(0) + 1e-6)


def _coarse(picture: np.ndarray) -> np.ndarray:
    """(3, height, width) to means of `CELLS` times `CELLS` parts, flat."""
    _, height, width = picture.shape
    cells = picture[:, : height // CELLS * CELLS, : width // CELLS * CELLS]
    return cells.reshape(3, CELLS, height // CELLS, CELLS, width // CELLS).mean((2, 4)).ravel()
