"""A bottleneck whose codes are also made to agree, by mutual information between modalities."""

from collections.abc import Mapping
from itertools import combinations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from omib_bench.fusions._rival import Rival, compressed, stacked
from omib_spatial.core.fusion import Flatten, Fused, VariationalHead

ALIGNMENT = 0.1
"""Weight of the agreement between modalities; tuned by data set in the paper, one value here."""
TEMPERATURE = 0.1


def info_nce(x: Tensor, y: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Minus the bound of van den Oord et al. (2018) on mutual information, up to ``ln n``, of paired rows (n, k).

    Cross-entropy of finding each row's partner among all, in both directions, by cosine over ``temperature``.
    """
    scores = F.normalize(x, dim=1) @ F.normalize(y, dim=1).T / temperature
    partner = torch.arange(len(x), device=x.device)
    return 0.5 * (F.cross_entropy(scores, partner) + F.cross_entropy(scores.T, partner))


class MMIBZhang(Rival):
    """Multimodal information bottleneck for sentiment (Zhang, Zhang, Xiang & Wu, CCEAI 2022), after its abstract.

    A bottleneck per modality, ``xi = W [zeta_1, ..., zeta_M] + b``. Mutual information between the codes of every pair
    of modalities is maximised, that of each code with its own input is minimised: ``-log q(y|xi) + beta sum_i KL_i -
    lambda sum_{i<j} I(zeta_i; zeta_j)``. **Only the abstract could be read**: which estimators the paper uses is open.
    Here it is InfoNCE for the pairs, the KL to N(0, I) for the inputs.
    """

    def __init__(self, code_dims: Mapping[str, int], latent_dim: int) -> None:
        super().__init__()
        self.encoder = nn.ModuleDict({name: VariationalHead(d, latent_dim) for name, d in code_dims.items()})
        self.mix = Flatten(latent_dim, len(code_dims))

    def forward(self, codes: Mapping[str, Tensor], present: Tensor) -> Fused:
        """Fuse ``codes`` ({name: (N, d)}) to xi (N, k); the loss is there in training."""
        zetas, kl = compressed(self.encoder, codes, present)
        xi = self.mix(stacked(zetas, present), present)
        return Fused(xi, kl, {}, {"alignment": self.alignment(zetas, present)} if self.training else {})

    def alignment(self, zetas: Mapping[str, Tensor], present: Tensor) -> Tensor:
        """Mean `info_nce` of all pairs of codes (N, k), weighted; a pair that fewer than two samples have adds 0."""
        has = dict(zip(zetas, present.T, strict=True))
        pairs = list(combinations(zetas, 2))
        both = {(a, b): has[a] & has[b] for a, b in pairs}
        found = [info_nce(zetas[a][rows], zetas[b][rows]) for (a, b), rows in both.items() if rows.sum() > 1]
        zero = next(iter(zetas.values())).new_zeros(())
        return ALIGNMENT * sum(found, zero) / max(len(pairs), 1)
