"""DMIB: features and modalities are weighed sample by sample, then compressed without losing what predicts."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from omib_bench.fusions._rival import JOINT, FusionNet, FusionOutput, Rival, stacked
from omib_spatial.core.fusion import Flatten, Fused, VariationalHead
from omib_spatial.core.information import gaussian_kl
from omib_spatial.core.model import Batch

SPARSITY, SUFFICIENCY = 0.1, 1.0
"""Weights of the gates' L1 norm and of the sufficiency loss; tuned by data set in the paper."""


class DMIB(Rival):
    """Dynamic multimodal information bottleneck (Fang et al., WACV 2024, arXiv 2311.01066).

    Features are gated, ``f_i = sigmoid(G_i z_i)`` with an L1 penalty, and modalities are weighed by a confidence,
    ``h_i = ReLU(P_i (f_i * z_i))``, ``c_i = sigmoid(C_i h_i)``; the fused ``v = W [c_1 h_1, ..., c_M h_M] + b``
    passes a bottleneck to xi. The sufficiency loss ``KL(p(y|v) || p(y|xi))`` keeps the bottleneck from dropping what
    v knew.

    Only abstract and method outline could be verified. Gates and confidences follow the dynamics that the paper
    builds on (Han et al., CVPR 2022): c_i is trained towards the probability that the modality alone gives to the
    truth. For tasks without classes that probability is ``q(y|h_i)`` up to its largest value, ``exp(-loss)``, ours.
    """

    def __init__(self, code_dims: Mapping[str, int], latent_dim: int) -> None:
        super().__init__()
        k = latent_dim
        self.gate = nn.ModuleDict({name: nn.Linear(d, d) for name, d in code_dims.items()})
        self.project = nn.ModuleDict({name: nn.Sequential(nn.Linear(d, k), nn.ReLU()) for name, d in code_dims.items()})
        self.confidence = nn.ModuleDict({name: nn.Sequential(nn.Linear(k, 1), nn.Sigmoid()) for name in code_dims})
        self.mix = Flatten(k, len(code_dims))
        self.joint = VariationalHead(k, k)

    def views(self) -> tuple[str, ...]:
        """Every modality, and v."""
        return (*self.gate, JOINT)

    def weigh(self, codes: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Gates f_i (N, d_i) and gated codes h_i (N, k)."""
        gates = {name: layer(codes[name]).sigmoid() for name, layer in self.gate.items()}
        return gates, {name: layer(gates[name] * codes[name]) for name, layer in self.project.items()}

    def forward(self, codes: Mapping[str, Tensor], present: Tensor) -> Fused:
        """Fuse ``codes`` ({name: (N, d)}) to xi (N, k); in training xi is drawn and the losses are there."""
        gates, views = self.weigh(codes)
        weighed = {name: self.confidence[name](h) * h for name, h in views.items()}
        v = self.mix(stacked(weighed, present), present)
        posterior = self.joint(v)
        xi = posterior.sample() if self.training else posterior.mu
        kl = {JOINT: gaussian_kl(*posterior)}
        if not self.training:
            return Fused(xi, kl, views | {JOINT: v})
        opened = [(f.mean(1) * here).mean() for f, here in zip(gates.values(), present.T, strict=True)]
        return Fused(xi, kl, views | {JOINT: v}, {"sparsity": SPARSITY * torch.stack(opened).sum()})

    def judge(self, output: FusionOutput, batch: Batch, network: FusionNet) -> dict[str, Tensor]:
        """Confidence against what each modality's own prediction deserves, and the sufficiency loss."""
        here, errors = network.presence(batch), []
        for name, layer in self.confidence.items():
            deserved = (-network.task.loss(output.branches[name], batch.target)).exp().detach()
            error = F.mse_loss(layer(output.fused.views[name]).squeeze(1), deserved, reduction="none")
            errors.append((error * here[name]).mean())
        # v teaches xi, not the other way round.
        lost = network.task.divergence(output.branches[JOINT].detach(), output.prediction).mean()
        return {"confidence": torch.stack(errors).sum(), "sufficiency": SUFFICIENCY * lost}
