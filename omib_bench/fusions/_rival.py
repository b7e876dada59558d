"""A fusion with losses of its own, and the network that trains it like any other."""

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from omib_spatial.core.fusion import Fused, Fusion, Gaussian
from omib_spatial.core.information import gaussian_kl
from omib_spatial.core.network import Batch, Losses, Network, WarmUp, widths
from omib_spatial.core.task import Task

JOINT = "joint"
"""Name of a code, or of a compression term, that belongs to all modalities together."""


class FusionOutput(NamedTuple):
    """One forward pass over N samples of a `FusionNet`.

    Attributes
    ----------
    codes
        z_i by modality, (N, d_i), zero where the modality is missing.
    branches
        Predictions from the fusion's views (N, out); empty at inference.
    xi, prediction, kl
        As in `omib_spatial.core.OMIBOutput`.
    fused
        All that the fusion returned.
    """

    codes: dict[str, Tensor]
    branches: dict[str, Tensor]
    xi: Tensor
    prediction: Tensor
    kl: dict[str, Tensor]
    fused: Fused


class Rival(Fusion):
    """A published fusion of codes (N, d_i) into xi (N, k), or of the width that its paper has.

    A rival is built from ``code_dims``, the width of each modality's code, and ``latent_dim``, k. What its paper adds
    to the loss of the task it returns as `omib_spatial.core.fusion.Fused`: ``kl`` is weighted by the training's beta,
    ``views`` predict the target, ``losses`` are added. A modality that a sample lacks has no influence on any of it.
    """

    least: ClassVar[int] = 1
    """Number of modalities without which there is nothing to fuse."""

    def views(self) -> tuple[str, ...]:
        """Names of the views that `forward` returns, each the name of a modality or `JOINT`."""
        return ()

    def width(self, view: str | None, latent_dim: int) -> int:
        """Width of a view or, for None, of xi: k unless the paper has another."""
        return latent_dim

    def weight(self, view: str) -> float:
        """What the loss of a view's prediction is multiplied with."""
        return 1.0

    def judge(self, output: FusionOutput, batch: Batch, network: "FusionNet") -> dict[str, Tensor]:
        """Further losses, scalars, that follow from predictions; called once in every training step."""
        return {}

    def attach(self, encoders: nn.ModuleDict) -> None:
        """Take hold of the encoders, if the method does something to them; called once."""


class FusionNet(Network):
    """The encoders, the head and the task of an `omib_spatial.OMIB`, around another fusion.

    There are no task-relevance branches and there is no r: train it with ``warmup_epochs=0``.

    Parameters
    ----------
    encoders, task, latent_dim
        As for `omib_spatial.OMIB`.
    fusion
        The rival, of the encoders' widths and ``latent_dim``.
    """

    def __init__(self, encoders: Mapping[str, nn.Module], task: Task, fusion: Rival, *, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim, self.task = fusion.width(None, latent_dim), task
        self.encoders = nn.ModuleDict(encoders)
        self.fusion: Rival = fusion
        self.head = task.head(self.latent_dim)
        self.heads = nn.ModuleDict({name: task.head(fusion.width(name, latent_dim)) for name in fusion.views()})
        fusion.attach(self.encoders)

    def warm_up(self, batch: Batch) -> WarmUp:
        """What `omib_spatial.core.OMIBTraining` takes the one-class centre from: there being no branch, the head."""
        output = self(batch)
        return WarmUp(output.codes, dict.fromkeys(self.modalities, output.prediction))

    def forward(self, batch: Batch) -> FusionOutput:
        """Encode, fuse, predict; from the views only in training."""
        codes = self.encode(batch)
        fused = self.fusion(codes, batch.present)
        branches = {name: head(fused.views[name]) for name, head in self.heads.items()} if self.training else {}
        return FusionOutput(codes, branches, fused.xi, self.head(fused.xi), fused.kl, fused)

    def objective(self, output: FusionOutput, batch: Batch, beta: float, *, adaptive: bool = True) -> Losses:
        """``E[-log q(y|xi)] + beta sum KL`` + the losses of the views + what else the rival's paper adds.

        Every mean is over all N samples; terms of a missing modality are zero.

        Parameters
        ----------
        output, batch
            A forward pass in training mode and the batch it came from.
        beta
            Weight of the compression.
        adaptive
            OMIB's alone: without effect here.
        """
        task = self.task.loss(output.prediction, batch.target).mean()
        here = self.presence(batch)
        branches = {
            name: self.fusion.weight(name) * (self.task.loss(p, batch.target) * here[name]).mean()
            for name, p in output.branches.items()
        }
        kl = {name: per_sample.mean() for name, per_sample in output.kl.items()}
        extra = output.fused.losses | self.fusion.judge(output, batch, self)
        zero = task.new_zeros(())
        total = task + beta * sum(kl.values(), zero) + sum(branches.values(), zero) + sum(extra.values(), zero)
        return Losses(total, task, kl, branches, {})

    def presence(self, batch: Batch) -> dict[str, Tensor]:
        """Which samples (N,) have each modality; all have their `JOINT` code."""
        columns = dict(zip(self.modalities, batch.present.T, strict=True))
        return columns | {JOINT: torch.ones_like(batch.present[:, 0])}


def build(rival: type[Rival], encoders: Mapping[str, nn.Module], task: Task, latent_dim: int) -> FusionNet:
    """A fresh network of ``encoders`` for ``task`` around a fresh ``rival``.

    Parameters
    ----------
    rival
        Class of the fusion.
    encoders, task, latent_dim
        As for `omib_spatial.OMIB`.
    """
    return FusionNet(encoders, task, rival(widths(encoders), latent_dim), latent_dim=latent_dim)


def stacked(codes: Mapping[str, Tensor], present: Tensor) -> Tensor:
    """Codes of the same width k as tokens (N, M, k), zero where the modality is missing."""
    return torch.stack(list(codes.values()), 1) * present.unsqueeze(-1)


def compressed(
    heads: nn.ModuleDict, codes: Mapping[str, Tensor], present: Tensor
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Variational code (N, k) of each modality, drawn in training, the mean at inference; and its KL (N,) in nats."""
    posteriors: dict[str, Gaussian] = {name: head(codes[name]) for name, head in heads.items()}
    zetas = {name: p.sample() if heads.training else p.mu for name, p in posteriors.items()}
    kl = {name: gaussian_kl(*p) * here for (name, p), here in zip(posteriors.items(), present.T, strict=True)}
    return zetas, kl
