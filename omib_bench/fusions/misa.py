"""MISA: what modalities share and what each has alone, in spaces of their own."""

from collections.abc import Mapping
from itertools import combinations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from omib_bench.fusions._rival import Rival
from omib_spatial.core.fusion import Fused

MOMENTS = 5
"""K, the highest central moment that is compared."""
SIMILARITY, DIFFERENCE, RECONSTRUCTION = 1.0, 0.3, 1.0
"""Weights of the three losses: those of the authors for CMU-MOSI; the paper chooses them by data set."""


def central_moment_discrepancy(x: Tensor, y: Tensor, moments: int = MOMENTS) -> Tensor:
    """CMD_K of samples in [0, 1] (Zellinger et al., ICLR 2017), MISA's similarity loss between two modalities.

    ``|E x - E y| + sum_{m=2}^K |C_m(x) - C_m(y)|``, C_m the central moments per column, norms Euclidean; the interval
    has length 1.

    Parameters
    ----------
    x, y
        (n, k) and (m, k).
    moments
        K.
    """
    distance = (x.mean(0) - y.mean(0)).norm()
    x, y = x - x.mean(0), y - y.mean(0)
    for order in range(2, moments + 1):
        distance = distance + (x.pow(order).mean(0) - y.pow(order).mean(0)).norm()
    return distance


def overlap(x: Tensor, y: Tensor) -> Tensor:
    """MISA's soft orthogonality, ``|X^T Y|_F^2``, of rows (n, k) brought to zero column means and unit length.

    Divided by n^2, so that its weight does not depend on the size of the batch: in [0, 1].
    """
    x, y = (F.normalize(part - part.mean(0), dim=1) for part in (x, y))
    return (x.T @ y / len(x)).square().sum()


class MISA(Rival):
    """Modality-invariant and -specific representations (Hazarika, Zimmermann & Poria, ACM Multimedia 2020).

    ``u_i = LayerNorm(W_i z_i)`` is mapped to a shared code by one network for all modalities and to a private code by
    its own, both in (0, 1); 2M tokens attend to each other (one transformer layer) and are mapped to xi. Added to the
    task's loss: the central moment discrepancy between the shared codes (mean over pairs), the overlap of shared with
    private and of private with private codes, and the mean squared error of ``u_i`` rebuilt from the sum of its two
    codes.

    The paper gives the squared norm of the overlap without normalisation and tunes the weights; heads of the
    transformer are not a divisor of every k: here the largest of 4, 2, 1 that is. Batch statistics are those of
    samples that have the modality.
    """

    def __init__(self, code_dims: Mapping[str, int], latent_dim: int) -> None:
        super().__init__()
        k = latent_dim
        self.project = nn.ModuleDict(
            {name: nn.Sequential(nn.Linear(d, k), nn.ReLU(), nn.LayerNorm(k)) for name, d in code_dims.items()}
        )
        self.shared = nn.Sequential(nn.Linear(k, k), nn.Sigmoid())
        self.private = nn.ModuleDict({name: nn.Sequential(nn.Linear(k, k), nn.Sigmoid()) for name in code_dims})
        self.decode = nn.ModuleDict({name: nn.Linear(k, k) for name in code_dims})
        heads = next(n for n in (4, 2, 1) if k % n == 0)
        self.attend = nn.TransformerEncoderLayer(k, heads, 2 * k, dropout=0.0, batch_first=True)
        self.out = nn.Linear(2 * len(code_dims) * k, k)

    def forward(self, codes: Mapping[str, Tensor], present: Tensor) -> Fused:
        """Fuse ``codes`` ({name: (N, d)}) to xi (N, k); the losses are there in training."""
        projected = {name: layer(codes[name]) for name, layer in self.project.items()}
        shared = {name: self.shared(u) for name, u in projected.items()}
        private = {name: layer(projected[name]) for name, layer in self.private.items()}
        tokens = torch.stack([*shared.values(), *private.values()], 1)
        here = torch.cat([present, present], 1)
        attended = self.attend(tokens * here.unsqueeze(-1), src_key_padding_mask=~here)
        xi = self.out((attended * here.unsqueeze(-1)).flatten(1))
        return Fused(xi, {}, {}, self.losses(projected, shared, private, present) if self.training else {})

    def losses(
        self,
        projected: Mapping[str, Tensor],
        shared: Mapping[str, Tensor],
        private: Mapping[str, Tensor],
        present: Tensor,
    ) -> dict[str, Tensor]:
        """The three losses, weighted.

        Parameters
        ----------
        projected
            u_i by modality, (N, k).
        shared, private
            Its two codes by modality, (N, k) in (0, 1).
        present
            Which modalities each sample has, (N, M) bool.

        Returns
        -------
        ``similarity``, ``difference`` and ``reconstruction``, scalars.
        """
        has, zero = dict(zip(projected, present.T, strict=True)), next(iter(shared.values())).new_zeros(())
        pairs = list(combinations(projected, 2))
        alike = [
            central_moment_discrepancy(shared[a][has[a]], shared[b][has[b]])
            for a, b in pairs
            if has[a].any() and has[b].any()
        ]
        different = [overlap(shared[n][rows], private[n][rows]) for n, rows in has.items() if rows.any()]
        both = {(a, b): has[a] & has[b] for a, b in pairs}
        different += [overlap(private[a][rows], private[b][rows]) for (a, b), rows in both.items() if rows.any()]
        rebuilt = {name: layer(shared[name] + private[name]) for name, layer in self.decode.items()}
        errors = [F.mse_loss(rebuilt[n][rows], projected[n][rows]) for n, rows in has.items() if rows.any()]
        return {
            "similarity": SIMILARITY * sum(alike, zero) / max(len(pairs), 1),
            "difference": DIFFERENCE * sum(different, zero),
            "reconstruction": RECONSTRUCTION * sum(errors, zero) / len(projected),
        }
