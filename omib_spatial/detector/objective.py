"""What the fused code is trained for, and in which space a score is a distance."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from omib_spatial.core import Batch, Classification, Config, Network, OMIBOutput, OneClass, Regression, Task
from omib_spatial.stats.distance import Distance


class Given(NamedTuple):
    """A part of the evidence: what a modality shows beyond what another one predicts of it.

    Attributes
    ----------
    modality, given
        Names of the two.
    """

    modality: str
    given: str


Part = str | Given | None
"""A part of the evidence on a spot: a modality by name, one given another, or None for what all show together."""
FUSED: Part = None


def modality_of(part: Part) -> str | None:
    """Name of the modality that a part is of; None of the fused code."""
    return part.modality if isinstance(part, Given) else part


class Objective(ABC):
    """One way to learn what is healthy.

    Examples
    --------
    >>> from omib_spatial.detector import OBJECTIVES
    >>> {name: objective.needs_labels for name, objective in OBJECTIVES.items()}
    {'reconstruction': False, 'summaries': False, 'svdd': False, 'classification': True}
    """

    name: ClassVar[str]
    config: ClassVar[Config]
    """Settings of network and training where the user gives none."""
    needs_target: ClassVar[bool]
    """Whether the modalities' summaries are needed, to train on or as evidence."""
    needs_labels: ClassVar[bool] = False
    """Whether the network is trained on labelled spots, healthy and other."""
    judges_summaries: ClassVar[bool] = False
    """Whether a modality's part of the evidence is its summary, which is then learned again without a donor, too, where
    that donor's spots show how healthy tissue of a new donor looks."""
    crosses: ClassVar[bool] = False
    """Whether modalities are judged by what others predict of them, where the reference shows that these can."""

    @abstractmethod
    def task(self, n_targets: int, class_weights: Sequence[float]) -> Task:
        """The task of the network; ``n_targets`` is the width of all summaries together.

        ``class_weights`` has one weight per class of the labels, and is empty without labels.
        """

    def network(self, encoders: Mapping[str, nn.Module], task: Task, config: Config) -> Network:
        """A fresh network of ``encoders`` for ``task``: OMIB."""
        return config.network(encoders, task)

    @abstractmethod
    def evidence(self, task: Task, output: OMIBOutput, batch: Batch, widths: Mapping[str, int]) -> dict[Part, Tensor]:
        """Parts (N, p_i) from which a spot is judged, ``FUSED`` first, NaN where one rests on a missing modality.

        Parameters
        ----------
        task
            Of the network.
        output, batch
            What the network made of which batch.
        widths
            Columns of each modality's summary, in order.
        """

    @abstractmethod
    def distance(self, part: Part, values: np.ndarray, noise: np.ndarray) -> Distance:
        """Distance from the reference, learned from a part's ``values`` (n, p) and ``noise`` (n,) in training."""


class Reconstruction(Objective):
    """Explain every modality's summary through the bottleneck; judge the code, and each modality by itself.

    The target is the `omib_spatial.modalities.Summary` of all modalities, so every branch must say what it can about
    the others as well. A spot is anomalous if what its modalities show together is, which the code xi says, or if what
    one of them shows is: its summary. Each of these is a Mahalanobis distance that knows how noisy the spot is.
    """

    name = "reconstruction"
    config = Config(latent_dim=64, learning_rate=1e-3, max_epochs=20, warmup_epochs=5)
    needs_target = True
    judges_summaries = True
    crosses = True

    def task(self, n_targets: int, class_weights: Sequence[float]) -> Task:
        """Regression of the summaries."""
        return Regression(n_targets, hidden=(256,))

    def evidence(self, task: Task, output: OMIBOutput, batch: Batch, widths: Mapping[str, int]) -> dict[Part, Tensor]:
        """The code (N, k), and each modality's summary (N, q_i).

        Parameters
        ----------
        task, output, batch, widths
            As in `Objective.evidence`.
        """
        summaries = cast(Tensor, batch.target).split(list(widths.values()), 1)
        return {FUSED: output.xi, **dict(zip(widths, summaries, strict=True))}

    def distance(self, part: Part, values: np.ndarray, noise: np.ndarray) -> Distance:
        """Mahalanobis, given the noise; a summary's columns are principal axes already."""
        return Distance.fit(values, noise, rotate=part is FUSED)


class Summaries(Reconstruction):
    """The same training; judge each modality's summary, and not the code.

    For a reference that was found on the slides: the code has learned whatever was taken for healthy, tumour included.
    """

    name = "summaries"
    crosses = False

    def evidence(self, task: Task, output: OMIBOutput, batch: Batch, widths: Mapping[str, int]) -> dict[Part, Tensor]:
        """Each modality's summary (N, q_i).

        Parameters
        ----------
        task, output, batch, widths
            As in `Objective.evidence`.
        """
        return {name: part for name, part in super().evidence(task, output, batch, widths).items() if name is not FUSED}


class Supervised(Summaries):
    """Tell annotated classes apart through the bottleneck; judge each modality's summary against healthy tissue.

    The code is no evidence: it has learned what tells these classes apart, and little of what else is unlike healthy.
    """

    name = "classification"
    needs_labels = True

    def task(self, n_targets: int, class_weights: Sequence[float]) -> Task:
        """Classification, with heads as small as annotated spots are few."""
        weight = torch.tensor(class_weights, dtype=torch.float32)
        return Classification(len(class_weights), hidden=(64,), weight=weight)


class SVDD(Objective):
    """The paper's: everything healthy is pulled to one centre, and the distance to it is the score."""

    name = "svdd"
    config = Config(latent_dim=256, learning_rate=1e-4, weight_decay=0.1, max_epochs=30, warmup_epochs=10)
    needs_target = False

    def task(self, n_targets: int, class_weights: Sequence[float]) -> Task:
        """One-class."""
        return OneClass()

    def evidence(self, task: Task, output: OMIBOutput, batch: Batch, widths: Mapping[str, int]) -> dict[Part, Tensor]:
        """Offset from the centre (N, out).

        Parameters
        ----------
        task, output, batch, widths
            As in `Objective.evidence`.
        """
        return {FUSED: output.prediction - cast(OneClass, task).center}

    def distance(self, part: Part, values: np.ndarray, noise: np.ndarray) -> Distance:
        """Length of the offset."""
        return Distance.euclidean(values.shape[1])


OBJECTIVES: dict[str, Objective] = {o.name: o for o in (Reconstruction(), Summaries(), SVDD(), Supervised())}


def choose_objective(objective: str | Objective | None, labels_key: str | None) -> Objective:
    """The objective: the one asked for, or what the labels, or none, call for."""
    if objective is None:
        objective = "reconstruction" if labels_key is None else "classification"
    if isinstance(objective, str):
        if objective not in OBJECTIVES:
            raise ValueError(f"objective is one of {sorted(OBJECTIVES)}, not {objective!r}.")
        objective = OBJECTIVES[objective]
    if not isinstance(objective, Objective):
        raise TypeError(f"objective is {objective!r}: it is one of {sorted(OBJECTIVES)}, or an Objective of your own.")
    if type(objective) is not type(OBJECTIVES.get(objective.name, objective)):
        raise ValueError(f"The package has an objective {objective.name!r}: give your own one another name.")
    if objective.needs_labels and labels_key is None:
        raise ValueError(
            f"objective={objective.name!r} learns from annotated spots: pass labels_key= their obs column."
        )
    if labels_key is not None and not objective.needs_labels:
        raise ValueError(f"objective={objective.name!r} learns without labels: leave out objective= or labels_key=.")
    return objective
