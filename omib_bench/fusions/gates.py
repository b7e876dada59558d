"""Fusions without a loss of their own: concatenation, gates, and feature-wise modulation."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from omib_bench.fusions._rival import Rival, stacked
from omib_spatial.core.fusion import Concatenation, Fused


class Concat(Concatenation, Rival):
    """``xi = W [z_1, ..., z_M] + b``; a missing modality is zero."""


class BiGated(Rival):
    """Gates of one modality on the other (Kiela, Grave, Joulin & Mikolov, AAAI 2018, "bilinear-gated").

    The paper lets a sigmoid of one modality gate a linear map of the other, and leaves open which gates which; it has
    two modalities. Here every modality is gated by the others, and all are added: ``xi = W sum_j (V_j z_j) * mean_{i
    != j} sigmoid(U_i z_i)``, so that nothing depends on the order of the modalities. One that stands alone passes
    through an open gate.
    """

    def __init__(self, code_dims: Mapping[str, int], latent_dim: int) -> None:
        super().__init__()
        self.gate = nn.ModuleDict({name: nn.Linear(d, latent_dim) for name, d in code_dims.items()})
        self.value = nn.ModuleDict({name: nn.Linear(d, latent_dim) for name, d in code_dims.items()})
        self.out = nn.Linear(latent_dim, latent_dim)

    def gates(self, codes: Mapping[str, Tensor], present: Tensor) -> Tensor:
        """What the others let through of each modality, (N, M, k) in [0, 1]."""
        opened = stacked({name: gate(codes[name]).sigmoid() for name, gate in self.gate.items()}, present)
        others = (present.sum(1, keepdim=True) - present.long()).unsqueeze(-1)
        total = opened.sum(1, keepdim=True) - opened
        return torch.where(others > 0, total / others.clamp(min=1), 1.0).clamp(0.0, 1.0)

    def forward(self, codes: Mapping[str, Tensor], present: Tensor) -> Fused:
        """Fuse ``codes`` ({name: (N, d)}) to xi (N, k)."""
        values = stacked({name: value(codes[name]) for name, value in self.value.items()}, present)
        return Fused(self.out((values * self.gates(codes, present)).sum(1)), {})


class FiLM(Rival):
    """Feature-wise linear modulation (Perez et al., AAAI 2018), ``FiLM(F | gamma, beta) = gamma * F + beta``.

    The first modality conditions, ``(gamma, beta) = f(z_1)`` with ``gamma = 1 + delta``; the others are modulated and
    added: ``xi = W (gamma * sum_{j >= 2} V_j z_j + beta)``. Which modality conditions in a symmetric pair, and what
    to do with more than two, the paper leaves open. Where the first is missing, nothing is modulated.
    """

    def __init__(self, code_dims: Mapping[str, int], latent_dim: int) -> None:
        super().__init__()
        self.first, *others = code_dims
        self.condition = nn.Linear(code_dims[self.first], 2 * latent_dim)
        self.value = nn.ModuleDict({name: nn.Linear(code_dims[name], latent_dim) for name in others})
        self.out = nn.Linear(latent_dim, latent_dim)

    def forward(self, codes: Mapping[str, Tensor], present: Tensor) -> Fused:
        """Fuse ``codes`` ({name: (N, d)}) to xi (N, k)."""
        delta, beta = (self.condition(codes[self.first]) * present[:, :1]).chunk(2, 1)
        pairs = zip(self.value.items(), present.T[1:], strict=True)
        total = sum((value(codes[name]) * here.unsqueeze(1) for (name, value), here in pairs), torch.zeros_like(beta))
        return Fused(self.out((1.0 + delta) * total + beta), {})
