"""OGM-GE: concatenation, with the gradients of the modality that is ahead held back."""

import math
from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn

from omib_bench.fusions._rival import FusionNet, FusionOutput
from omib_bench.fusions.gates import Concat
from omib_spatial.core.network import Batch

ALPHA = 0.8
"""Strength of the modulation; the paper chooses it by data set."""


def modulation(scores: Mapping[str, Tensor], alpha: float = ALPHA) -> dict[str, Tensor]:
    """Coefficient of each modality's gradients: ``k_i = 1 - tanh(alpha rho_i)`` where ``rho_i > 1``, else 1.

    ``rho_i`` is the score of modality i over the mean score of the others, which for two modalities is the ratio in the
    paper; more than two are ours.

    Parameters
    ----------
    scores
        Logarithm of each modality's score, scalars.
    alpha
        Strength, not negative.
    """
    found = {}
    for name, own in scores.items():
        others = torch.stack([value for other, value in scores.items() if other != name])
        rho = (own - (others.logsumexp(0) - math.log(len(others)))).exp()
        found[name] = torch.where(rho > 1.0, 1.0 - torch.tanh(alpha * rho), torch.ones_like(rho))
    return found


class OGMGE(Concat):
    """On-the-fly gradient modulation with generalisation enhancement (Peng, Wei, Deng, Wang & Hu, CVPR 2022).

    The fusion is concatenation. In every step each modality is scored by the mean probability that it alone gives to
    the truth; the gradients of the encoder that is ahead are multiplied by `modulation`, and Gaussian noise with the
    spread of the gradient is added to those of all encoders.

    Open in the paper, or different here: its classifier is linear, so that a modality's part of the logits is ``W_i
    z_i + b / M``; our head is a perceptron on ``xi = sum_i W_i z_i + b``, and is given ``W_i z_i + b / M``. Tasks
    without classes have ``exp(-loss)`` in place of the probability. The covariance of the noise is that of the
    stochastic gradient; one standard deviation per parameter tensor stands for it. All epochs are modulated.
    """

    def __init__(self, code_dims: Mapping[str, int], latent_dim: int) -> None:
        super().__init__(code_dims, latent_dim)
        self.widths = list(code_dims.values())
        self.coefficients: dict[str, Tensor] = {}

    def attach(self, encoders: nn.ModuleDict) -> None:
        """Modulate every gradient of an encoder as soon as it is complete."""
        for name, encoder in encoders.items():
            for parameter in encoder.parameters():
                if parameter.requires_grad:
                    parameter.register_post_accumulate_grad_hook(partial(self.modulate, name))

    def modulate(self, name: str, parameter: Tensor) -> None:
        """``g <- k_i g + eps``, ``eps ~ N(0, std(g)^2)``."""
        if parameter.grad is not None and name in self.coefficients:
            noise = torch.randn_like(parameter.grad) * parameter.grad.std(correction=0)
            parameter.grad.mul_(self.coefficients[name]).add_(noise)

    @torch.no_grad()
    def judge(self, output: FusionOutput, batch: Batch, network: FusionNet) -> dict[str, Tensor]:
        """Set the coefficients of the step; nothing is added to the loss."""
        alone, scores = self.alone(output.codes), {}
        for (name, xi), here in zip(alone.items(), batch.present.T, strict=True):
            if here.any():
                loss = network.task.loss(network.head(xi), batch.target)[here]
                scores[name] = (-loss).logsumexp(0) - math.log(len(loss))
        self.coefficients = modulation(scores) if len(scores) > 1 else {}
        return {}

    def alone(self, codes: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """``W_i z_i + b / M`` (N, k) of each modality."""
        parts = zip(self.names, self.out.weight.split(self.widths, 1), strict=True)
        return {name: codes[name] @ weight.T + self.out.bias / len(self.names) for name, weight in parts}
