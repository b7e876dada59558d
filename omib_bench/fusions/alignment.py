"""Bottlenecks whose codes are also made to agree, by mutual information between modalities."""

from abc import abstractmethod
from collections.abc import Mapping
from itertools import combinations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from omib_bench.fusions._rival import Rival, compressed, stacked
from omib_spatial.core.fusion import Flatten, Fused, VariationalHead
from omib_spatial.core.task import perceptron

ALIGNMENT = 0.1
"""Weight of the agreement between modalities; tuned by data set in both papers, one value here."""
TEMPERATURE = 0.1


def info_nce(x: Tensor, y: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Minus the bound of van den Oord et al. (2018) on mutual information, up to ``ln n``, of paired rows (n, k).

    Cross-entropy of finding each row's partner among all, in both directions, by cosine over ``temperature``.
    """
    scores = F.normalize(x, dim=1) @ F.normalize(y, dim=1).T / temperature
    partner = torch.arange(len(x), device=x.device)
    return 0.5 * (F.cross_entropy(scores, partner) + F.cross_entropy(scores.T, partner))


class Aligned(Rival):
    """A bottleneck per modality, ``xi = W [zeta_1, ..., zeta_M] + b``, and an agreement loss for every pair."""

    def __init__(self, code_dims: Mapping[str, int], latent_dim: int) -> None:
        super().__init__()
        self.encoder = nn.ModuleDict({name: VariationalHead(d, latent_dim) for name, d in code_dims.items()})
        self.mix = Flatten(latent_dim, len(code_dims))

    @abstractmethod
    def agreement(self, pair: tuple[str, str], x: Tensor, y: Tensor) -> Tensor:
        """What falls as codes (n, k) of the same samples say more about each other; a scalar."""

    def forward(self, codes: Mapping[str, Tensor], present: Tensor) -> Fused:
        """Fuse ``codes`` ({name: (N, d)}) to xi (N, k); the losses are there in training."""
        zetas, kl = compressed(self.encoder, codes, present)
        xi = self.mix(stacked(zetas, present), present)
        return Fused(xi, kl, {}, self.losses(codes, zetas, xi, present) if self.training else {})

    def losses(
        self, codes: Mapping[str, Tensor], zetas: Mapping[str, Tensor], xi: Tensor, present: Tensor
    ) -> dict[str, Tensor]:
        """Mean agreement loss of all pairs that at least two samples have.

        Parameters
        ----------
        codes
            z_i by modality, (N, d_i).
        zetas
            Variational codes by modality, (N, k).
        xi
            Fused code, (N, k).
        present
            Which modalities each sample has, (N, M) bool.

        Returns
        -------
        ``alignment``, a scalar, weighted already; a pair that fewer samples have counts as 0.
        """
        has = dict(zip(zetas, present.T, strict=True))
        pairs = list(combinations(zetas, 2))
        both = {(a, b): has[a] & has[b] for a, b in pairs}
        found = [
            self.agreement(pair, zetas[pair[0]][rows], zetas[pair[1]][rows])
            for pair, rows in both.items()
            if rows.sum() > 1
        ]
        return {"alignment": ALIGNMENT * sum(found, xi.new_zeros(())) / max(len(pairs), 1)}


class MMIBZhang(Aligned):
    """Multimodal information bottleneck for sentiment (Zhang, Zhang, Xiang & Wu, CCEAI 2022).

    Mutual information between the codes of every pair of modalities is maximised, that of each code with its own
    input is minimised: ``-log q(y|xi) + beta sum_i KL_i - lambda sum_{i<j} I(zeta_i; zeta_j)``. Only the abstract
    could be read: which estimators the paper uses is open. Here it is InfoNCE for the pairs, the KL to N(0, I) for
    the inputs.
    """

    def agreement(self, pair: tuple[str, str], x: Tensor, y: Tensor) -> Tensor:
        """`info_nce`."""
        return info_nce(x, y)


class MMIBCui(Aligned):
    """Multimodal representation learning with information bottleneck (Cui et al., arXiv 2304.02328, TASLP 2024).

    Refinement regulariser: the KL of each modality's code, and a reconstruction. Alignment regulariser: a
    discriminator tells codes of the same sample from codes of different ones, and the codes help it (a contrastive
    bound on their mutual information). The paper has text and image, which attend to each other in the encoder (left
    out: encoders are shared here). What exactly is rebuilt could not be verified; here every modality's code is, from
    xi, by squared error.
    """

    def __init__(self, code_dims: Mapping[str, int], latent_dim: int) -> None:
        super().__init__(code_dims, latent_dim)
        names = [self.name(*pair) for pair in combinations(code_dims, 2)]
        self.discriminate = nn.ModuleDict({n: perceptron([2 * latent_dim, latent_dim, 1], nn.GELU) for n in names})
        self.decode = nn.ModuleDict({name: nn.Linear(latent_dim, d) for name, d in code_dims.items()})

    @staticmethod
    def name(a: str, b: str) -> str:
        """Of a pair of modalities."""
        return f"{a} and {b}"

    def agreement(self, pair: tuple[str, str], x: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy of true pairs against pairs with the next sample's partner."""
        judge = self.discriminate[self.name(*pair)]
        true, false = (judge(torch.cat([x, other], 1)) for other in (y, y.roll(1, 0)))
        return F.softplus(-true).mean() + F.softplus(false).mean()

    def losses(
        self, codes: Mapping[str, Tensor], zetas: Mapping[str, Tensor], xi: Tensor, present: Tensor
    ) -> dict[str, Tensor]:
        """Alignment, and the error of rebuilding the codes of the modalities that are there.

        Parameters
        ----------
        codes, zetas, xi, present
            As in `Aligned.losses`.

        Returns
        -------
        ``alignment`` and ``reconstruction``, scalars, weighted already.
        """
        has = dict(zip(zetas, present.T, strict=True))
        # The codes are what is to be rebuilt, so they get no gradient: they could be made trivial otherwise.
        errors = [
            F.mse_loss(layer(xi[has[name]]), codes[name][has[name]].detach())
            for name, layer in self.decode.items()
            if has[name].any()
        ]
        found = super().losses(codes, zetas, xi, present)
        return found | {"reconstruction": ALIGNMENT * sum(errors, xi.new_zeros(())) / len(self.decode)}
