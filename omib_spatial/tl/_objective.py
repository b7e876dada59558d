"""What the fused code is trained for, and in which space a score is a distance."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from omib_spatial.core.model import OMIB, Batch, Network, OMIBOutput
from omib_spatial.core.task import Classification, OneClass, Regression, Task
from omib_spatial.tl._surprise import Distance

FUSED = "code"
"""Name of the part of the evidence that is the fused code."""


class Objective(ABC):
    """One way to learn what is healthy."""

    name: ClassVar[str]
    defaults: ClassVar[dict[str, Any]]
    """Settings of `omib_spatial.tl.fit` where the user gives none."""
    needs_target: ClassVar[bool]
    """Whether the modalities' summaries are needed, to train on or as evidence."""
    needs_labels: ClassVar[bool] = False
    """Whether the network is trained on labelled spots, healthy and other."""

    @abstractmethod
    def task(self, n_targets: int, params: Mapping[str, Any]) -> Task:
        """The task of the network; ``n_targets`` is the width of all summaries together, ``params`` are the fit's."""

    def network(self, encoders: Mapping[str, nn.Module], task: Task, latent_dim: int) -> Network:
        """A fresh network of ``encoders`` for ``task``: OMIB."""
        return OMIB(encoders, task, latent_dim=latent_dim)

    @abstractmethod
    def evidence(self, task: Task, output: OMIBOutput, batch: Batch, widths: Mapping[str, int]) -> dict[str, Tensor]:
        """Parts (N, p_i) from which a spot is judged, NaN where one rests on a missing modality.

        ``widths`` are the columns of each modality's summary, in order.
        """

    @abstractmethod
    def distance(self, part: str, values: np.ndarray, noise: np.ndarray) -> Distance:
        """Distance from the reference, learned from a part's ``values`` (n, p) and ``noise`` (n,) in training."""


class Reconstruction(Objective):
    """Explain every modality's summary through the bottleneck; judge the code, and each modality by itself.

    The target is the `omib_spatial.data.Summary` of all modalities, so every branch must say what it can about the
    others as well. A spot is surprising if what its modalities show together is, which the code xi says, or if what
    one of them shows is: its summary. Each of these is a Mahalanobis distance that knows how noisy the spot is.
    """

    name = "reconstruction"
    defaults = {"latent_dim": 64, "learning_rate": 1e-3, "weight_decay": 0.0, "max_epochs": 20, "warmup_epochs": 5}
    needs_target = True

    def task(self, n_targets: int, params: Mapping[str, Any]) -> Task:
        """Regression of the summaries."""
        return Regression(n_targets, hidden=(256,))

    def evidence(self, task: Task, output: OMIBOutput, batch: Batch, widths: Mapping[str, int]) -> dict[str, Tensor]:
        """The code (N, k), and each modality's summary (N, q_i)."""
        summaries = cast(Tensor, batch.target).split(list(widths.values()), 1)
        return {FUSED: output.xi, **dict(zip(widths, summaries, strict=True))}

    def distance(self, part: str, values: np.ndarray, noise: np.ndarray) -> Distance:
        """Mahalanobis, given the noise; a summary's columns are principal axes already."""
        return Distance.fit(values, noise, rotate=part == FUSED)


class Supervised(Reconstruction):
    """Tell annotated classes apart through the bottleneck; judge each modality's summary against healthy tissue.

    The code is no evidence: it has learned what tells these classes apart, and little of what else is unlike healthy.
    """

    name = "classification"
    defaults = Reconstruction.defaults
    needs_labels = True

    def task(self, n_targets: int, params: Mapping[str, Any]) -> Task:
        """Classification, with heads as small as annotated spots are few."""
        weight = torch.tensor(params["class_weights"], dtype=torch.float32)
        return Classification(len(params["classes"]), hidden=(64,), weight=weight)

    def evidence(self, task: Task, output: OMIBOutput, batch: Batch, widths: Mapping[str, int]) -> dict[str, Tensor]:
        """Each modality's summary (N, q_i)."""
        return {name: part for name, part in super().evidence(task, output, batch, widths).items() if name != FUSED}


class SVDD(Objective):
    """The paper's: everything healthy is pulled to one centre, and the distance to it is the score."""

    name = "svdd"
    defaults = {"latent_dim": 256, "learning_rate": 1e-4, "weight_decay": 0.1, "max_epochs": 30, "warmup_epochs": 10}
    needs_target = False

    def task(self, n_targets: int, params: Mapping[str, Any]) -> Task:
        """One-class."""
        return OneClass()

    def evidence(self, task: Task, output: OMIBOutput, batch: Batch, widths: Mapping[str, int]) -> dict[str, Tensor]:
        """Offset from the centre (N, out)."""
        return {"center": output.prediction - cast(OneClass, task).center}

    def distance(self, part: str, values: np.ndarray, noise: np.ndarray) -> Distance:
        """Length of the offset."""
        return Distance.euclidean(values.shape[1])


OBJECTIVES: dict[str, Objective] = {o.name: o for o in (Reconstruction(), SVDD(), Supervised())}


def choose_objective(objective: str | None, labels_key: str | None) -> str:
    """The objective by name: the one asked for, or what the labels, or none, call for."""
    if objective is None:
        objective = "reconstruction" if labels_key is None else "classification"
    if objective not in OBJECTIVES:
        raise ValueError(f"objective is one of {sorted(OBJECTIVES)}, not {objective!r}.")
    if OBJECTIVES[objective].needs_labels and labels_key is None:
        raise ValueError(f"objective={objective!r} learns from annotated spots: pass labels_key= their obs column.")
    if labels_key is not None and not OBJECTIVES[objective].needs_labels:
        raise ValueError(f"objective={objective!r} learns without labels: leave out objective= or labels_key=.")
    return objective
