"""What the fused code is trained for, and in which space a score is a distance."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from omib_spatial.core.model import Batch, OMIBOutput
from omib_spatial.core.task import OneClass, Regression, Task


class Objective(ABC):
    """One way to learn what is healthy. Class attributes are the defaults of `omib_spatial.tl.fit` for it."""

    name: ClassVar[str]
    defaults: ClassVar[dict[str, Any]]
    gaussian: ClassVar[bool]
    """Whether the representation is compared with a Gaussian of the reference, or is a distance already."""
    needs_target: ClassVar[bool]

    @abstractmethod
    def task(self, n_targets: int) -> Task:
        """The task of the network; ``n_targets`` is the width of all summaries together."""

    @abstractmethod
    def represent(self, task: Task, output: OMIBOutput, batch: Batch) -> Tensor:
        """(N, p), what the score is computed from; NaN where it rests on a missing modality."""


@dataclass(frozen=True)
class Reconstruction(Objective):
    """Explain every modality's summary through the bottleneck; score the code and what it leaves unexplained.

    The target is the `omib_spatial.data.summary.Summary` of all modalities, so every branch must say what it can about
    the others as well. A spot is surprising if its code xi is (Hotelling's T^2 of process monitoring), or if its
    summary is not what healthy tissue with this code looks like (the residual, process monitoring's Q), or if the two do
    not go together: one Gaussian over ``[xi, y - yhat]`` measures all three.
    """

    name = "reconstruction"
    defaults = {"latent_dim": 64, "learning_rate": 1e-3, "weight_decay": 0.0, "max_epochs": 20, "warmup_epochs": 5}
    gaussian = True
    needs_target = True

    def task(self, n_targets: int) -> Task:
        """Regression of the summaries."""
        return Regression(n_targets, hidden=(256,))

    def represent(self, task: Task, output: OMIBOutput, batch: Batch) -> Tensor:
        """``[xi, y - yhat]`` (N, k + q)."""
        return torch.cat([output.xi, batch.target - output.prediction], 1)  # type: ignore[list-item, operator]


@dataclass(frozen=True)
class SVDD(Objective):
    """The paper's: everything healthy is pulled to one centre, and the distance to it is the score."""

    name = "svdd"
    defaults = {"latent_dim": 256, "learning_rate": 1e-4, "weight_decay": 0.1, "max_epochs": 30, "warmup_epochs": 10}
    gaussian = False
    needs_target = False

    def task(self, n_targets: int) -> Task:
        """One-class."""
        return OneClass()

    def represent(self, task: Task, output: OMIBOutput, batch: Batch) -> Tensor:
        """Distance to the centre (N, 1)."""
        return task.predict(output.prediction).unsqueeze(1)  # type: ignore[arg-type]


OBJECTIVES: dict[str, Objective] = {o.name: o for o in (Reconstruction(), SVDD())}
