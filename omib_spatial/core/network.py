"""What the training asks of a network: samples in, codes, branches, losses out."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from omib_spatial.core.fusion import Fusion
from omib_spatial.core.task import Task


class Batch(NamedTuple):
    """N samples.

    Attributes
    ----------
    inputs
        By modality, in the network's order, whatever its encoder takes, holding **only** the samples that have the
        modality, in order; one that no sample has may be left out.
    present
        (N, M) bool, columns in the network's order of modalities; every row has at least one True.
    target
        What the task needs, first axis N; None for one-class.
    counts
        How many samples have each modality. None: ``present`` is asked, and the host waits for a GPU's answer.

    Examples
    --------
    >>> from omib_spatial.core import Batch
    >>> have = torch.tensor([[True, True], [True, False]])  # the second sample lacks the image
    >>> batch = Batch({"gene": torch.zeros(2, 5), "image": torch.zeros(1, 3)}, have)
    >>> {name: len(values) for name, values in batch.inputs.items()}
    {'gene': 2, 'image': 1}
    """

    inputs: dict[str, Any]
    present: Tensor
    target: Tensor | None = None
    counts: dict[str, int] | None = None


class WarmUp(NamedTuple):
    """One pass of Algorithm 1 over N samples.

    Attributes
    ----------
    codes
        z_i by modality, (N, d_i), zero where the modality is missing.
    branches
        Outputs of the task-relevance branches on noise, (N, out).

    Examples
    --------
    >>> from omib_spatial.core import OMIB, Batch, Classification
    >>> from omib_spatial.encoders import MLP
    >>> network = OMIB({"a": MLP(4, 8), "b": MLP(6, 8)}, Classification(2), latent_dim=16)
    >>> batch = Batch({"a": torch.randn(5, 4), "b": torch.randn(5, 6)}, torch.ones(5, 2, dtype=torch.bool))
    >>> {name: tuple(out.shape) for name, out in network.warm_up(batch).branches.items()}
    {'a': (5, 2), 'b': (5, 2)}
    """

    codes: dict[str, Tensor]
    branches: dict[str, Tensor]


class Losses(NamedTuple):
    """The objective and its parts, scalars; ``r`` has no gradient."""

    total: Tensor
    task: Tensor
    kl: dict[str, Tensor]
    branches: dict[str, Tensor]
    r: dict[str, Tensor]


class Network(nn.Module, ABC):
    """Encoders, a fusion, a head: what `OMIBTraining` trains, `OMIB` or another (`omib_bench.fusions`).

    Attributes
    ----------
    encoders
        By modality, in order.
    task, fusion, head
        What is predicted, how codes are fused, and the fused code's head.
    latent_dim
        k, the width of xi.

    Examples
    --------
    >>> from omib_spatial.core import OMIB, Network, Regression
    >>> from omib_spatial.encoders import MLP
    >>> network = OMIB({"gene": MLP(20, 8), "image": MLP(12, 8)}, Regression(3), latent_dim=16)
    >>> isinstance(network, Network), network.modalities
    (True, ['gene', 'image'])
    """

    encoders: nn.ModuleDict
    task: Task
    fusion: Fusion
    head: nn.Module
    latent_dim: int

    @property
    def modalities(self) -> list[str]:
        """Names of the modalities, in order."""
        return list(self.encoders)

    def encode(self, batch: Batch) -> dict[str, Tensor]:
        """``z_i = Enc_i(v_i)``, equation (2): (N, d_i) for every modality, zero where it is missing.

        Raises
        ------
        TypeError, ValueError
            The batch is of other modalities, or of these in another order, or ``present`` does not fit.
        """
        check_batch(self.modalities, batch)
        here = dict(zip(self.modalities, batch.present.T, strict=True))
        counts = batch.counts or {name: int(mask.sum()) for name, mask in here.items()}
        return {
            name: _encode(encoder, batch.inputs.get(name), here[name], counts[name])
            for name, encoder in self.encoders.items()
        }

    @abstractmethod
    def warm_up(self, batch: Batch) -> WarmUp:
        """Outputs of every modality before anything is fused."""

    @abstractmethod
    def forward(self, batch: Batch) -> Any:
        """Encode, fuse, predict: an `OMIBOutput`, or what has its attributes."""

    @abstractmethod
    def objective(self, output: Any, batch: Batch, beta: float, *, adaptive: bool = True) -> Losses:
        """What is minimised after `warm_up` or `forward` in training mode; ``beta`` weighs the compression.

        Parameters
        ----------
        output, batch
            What one of these made, and the batch it came from.
        beta
            Weight of the compression.
        adaptive
            As in `OMIB.objective`; without effect in a network that has no r.
        """


def check_batch(modalities: list[str], batch: Batch) -> None:
    """Raise where a batch is not one of ``modalities`` in this order: columns of ``present`` have no names."""
    given = list(batch.inputs)
    if given != [name for name in modalities if name in batch.inputs]:
        raise ValueError(
            f"The inputs are {given}, and the network's modalities {modalities}: give these, in this order, which is "
            "that of the columns of present, too."
        )
    if batch.present.dtype != torch.bool:
        raise TypeError(f"present is {batch.present.dtype}: it is bool, as by present.bool().")
    if batch.present.ndim != 2 or batch.present.shape[1] != len(modalities):
        raise ValueError(f"present has shape {tuple(batch.present.shape)}: a column per modality of {modalities}.")
    for name, here in zip(modalities, batch.present.T, strict=True):
        if name not in batch.inputs and (batch.counts or {}).get(name, int(here.sum())):
            raise ValueError(f"present says that samples have {name!r}, and the inputs lack it.")


def _encode(encoder: nn.Module, value: Any, here: Tensor, count: int) -> Tensor:
    """Codes of all N samples from the input of the ``count`` that are ``here`` (N,)."""
    width = int(encoder.out_features)  # type: ignore[arg-type]
    if count == 0:
        like = next(encoder.parameters(), torch.empty(0))
        return torch.zeros(len(here), width, dtype=like.dtype, device=here.device)
    z = encoder(value)
    if z.shape != (count, width):
        raise ValueError(
            f"{type(encoder).__name__} returned codes of shape {tuple(z.shape)} where {(count, width)} is needed: "
            "one row for each sample that has the modality, and out_features columns."
        )
    if count == len(here):
        return z
    # By position, not by the rows that are here: looking these up makes the host wait for a GPU.
    place = (here.cumsum(0) - 1).clamp(min=0)
    return torch.where(here.unsqueeze(1), z.index_select(0, place), z.new_zeros(()))


def widths(encoders: Mapping[str, nn.Module]) -> dict[str, int]:
    """Width of each modality's code.

    Raises
    ------
    TypeError
        If an encoder does not say it.
    ValueError
        If there is none.
    """
    if not encoders:
        raise ValueError("A network needs an encoder of one modality at least.")
    return {name: _out_features(name, encoder) for name, encoder in encoders.items()}


def _out_features(name: str, encoder: nn.Module) -> int:
    width = getattr(encoder, "out_features", None)
    if not isinstance(width, int):
        raise TypeError(f"The encoder of '{name}' needs an integer attribute out_features, the width of its codes.")
    return width
