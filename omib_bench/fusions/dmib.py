"""DMIB: a deterministic bottleneck that must predict what its input predicts, as its authors released it."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from omib_bench.fusions._rival import JOINT, FusionNet, FusionOutput, Rival, stacked
from omib_spatial.core.fusion import Fused
from omib_spatial.core.network import Batch

DROPOUT = 0.5
SUFFICIENCY, ALONE = 500.0, 1000.0
"""Weights of the divergence and of the modalities' own predictions; that of xi and that of v weigh 1.

They make sense under an optimiser that ignores the scale of a gradient, as Adam does, which the authors use: there the
encoders follow the modalities' own predictions a thousand times more than xi's, and xi's network imitates v's
prediction 500 times more than it looks at the target. Under plain SGD they multiply the rate by as much.
"""


class DMIB(Rival):
    """Dynamic multimodal information bottleneck (Fang et al., WACV 2024), as in the authors' released code.

    ``h_i = dropout(ReLU(W_i s_i))``, ``s_i`` the modality's code scaled to [0, 1]; ``v`` is all ``h_i`` side by side;
    ``xi = U ReLU(T v)`` has v's width. Nothing is drawn, gated or weighed by a confidence, and no prior is there: the
    bottleneck is deterministic. Three kinds of heads: on xi (the prediction), on v, and on every ``h_i``. Loss: that of
    xi + that of v + 500 KL(v's prediction, detached, || xi's) + 1000 times the sum of those of the ``h_i``.

    Different here: the authors scale measured features by their range; codes that are still being learned have none,
    so that a sigmoid scales them; ``h_i`` has width k, not 500; the heads are the task's. Rate, decay and schedule are
    those of all rivals. Left out is the random dropping of whole modalities of their variant for prognosis.
    """

    def __init__(self, code_dims: Mapping[str, int], latent_dim: int) -> None:
        super().__init__()
        self.joint_dim = latent_dim * len(code_dims)
        self.project = nn.ModuleDict(
            {
                name: nn.Sequential(nn.Sigmoid(), nn.Linear(d, latent_dim), nn.ReLU(), nn.Dropout(DROPOUT))
                for name, d in code_dims.items()
            }
        )
        self.bottleneck = nn.Sequential(
            nn.Linear(self.joint_dim, self.joint_dim), nn.ReLU(), nn.Linear(self.joint_dim, self.joint_dim)
        )

    def views(self) -> tuple[str, ...]:
        """Every modality, and v."""
        return (*self.project, JOINT)

    def width(self, view: str | None, latent_dim: int) -> int:
        """K of a modality's code; M k of v and of xi."""
        return self.joint_dim if view is None or view == JOINT else latent_dim

    def weight(self, view: str) -> float:
        """1 of v, `ALONE` of a modality."""
        return 1.0 if view == JOINT else ALONE

    def forward(self, codes: Mapping[str, Tensor], present: Tensor) -> Fused:
        """Fuse ``codes`` ({name: (N, d)}) to xi (N, M k); nothing is compressed by a prior."""
        views: dict[str, Tensor] = {name: layer(codes[name]) for name, layer in self.project.items()}
        v = stacked(views, present).flatten(1)
        return Fused(self.bottleneck(v), {}, views | {JOINT: v})

    def judge(self, output: FusionOutput, batch: Batch, network: FusionNet) -> dict[str, Tensor]:
        """The divergence of v's prediction, which gets no gradient from it, to xi's."""
        lost = network.task.divergence(output.branches[JOINT].detach(), output.prediction)
        return {"sufficiency": SUFFICIENCY * torch.mean(lost)}
