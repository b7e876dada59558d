"""The optimal multimodal fusion block: variational heads and a cross-attention network."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from omib_spatial.core.information import gaussian_kl


class Gaussian(NamedTuple):
    """A diagonal Gaussian: mean and standard deviation, each (N, k)."""

    mu: Tensor
    sigma: Tensor

    def sample(self) -> Tensor:
        """``zeta = mu + sigma * eps`` with ``eps ~ N(0, I)``: the reparametrised draw, equation (6)."""
        return self.mu + self.sigma * torch.randn_like(self.mu)


class Fused(NamedTuple):
    """What a fusion returns.

    Attributes
    ----------
    xi
        Fused code (N, k).
    kl
        Compression term (N,) of each modality in nats, 0 where the modality is missing; empty where a fusion does not
        compress.
    views
        Further codes (N, k) that must each predict the target through a head of their own.
    losses
        Scalars that are to be minimised too, weighted already; empty at inference.
    """

    xi: Tensor
    kl: dict[str, Tensor]
    views: dict[str, Tensor] = {}
    losses: dict[str, Tensor] = {}


class Fusion(nn.Module, ABC):
    """Codes of M modalities in, one fused code out.

    Examples
    --------
    >>> from omib_spatial.core import Concatenation, Fusion, OptimalFusion
    >>> isinstance(OptimalFusion({"a": 8, "b": 8}, 16), Fusion), isinstance(Concatenation({"a": 8, "b": 8}, 16), Fusion)
    (True, True)
    """

    @abstractmethod
    def forward(self, codes: Mapping[str, Tensor], present: Tensor) -> Fused:
        """Fuse ``codes`` ({name: (N, d)}); ``present`` (N, M) says which modality each sample has."""


class VariationalHead(nn.Module):
    """``(mu, sigma) = VAE(z)``, equation (5): a two-layer perceptron with two heads, (N, d) to two times (N, k).

    The paper writes a covariance Sigma, and does not say whether it is diagonal; here it is.
    """

    def __init__(self, code_dim: int, latent_dim: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(code_dim, latent_dim), nn.GELU())
        self.mu = nn.Linear(latent_dim, latent_dim)
        self.sigma = nn.Linear(latent_dim, latent_dim)

    def forward(self, z: Tensor) -> Gaussian:
        """Posterior of one modality given its code."""
        hidden = self.trunk(z)
        return Gaussian(self.mu(hidden), F.softplus(self.sigma(hidden)) + 1e-6)


class CrossAttention(nn.Module):
    """``xi = CAN(zeta_1, ..., zeta_M)``, equation (7): attention over one token per modality, flattened, back to k.

    The paper's text concatenates the codes to one token, for which attention is the identity; its stated cost
    O(N M^2) is that of M tokens, which is what is built here. A missing modality is masked as key and zeroed as
    token. The tokens are added to what they attend to, so that a modality never loses its own code.
    """

    def __init__(self, latent_dim: int, n_modalities: int, n_heads: int) -> None:
        super().__init__()
        if latent_dim % n_heads:
            raise ValueError(
                f"latent_dim={latent_dim} cannot be divided among n_heads={n_heads}: choose a divisor of it."
            )
        self.attention = nn.MultiheadAttention(latent_dim, n_heads, batch_first=True)
        self.out = nn.Linear(n_modalities * latent_dim, latent_dim)

    def forward(self, tokens: Tensor, present: Tensor) -> Tensor:
        """(N, M, k) tokens and their (N, M) presence to the fused (N, k)."""
        attended, _ = self.attention(tokens, tokens, tokens, key_padding_mask=~present, need_weights=False)
        return self.out(((tokens + attended) * present.unsqueeze(-1)).flatten(1))


class Flatten(nn.Module):
    """The ablation of cross-attention: concatenate the tokens and map them back to k."""

    def __init__(self, latent_dim: int, n_modalities: int) -> None:
        super().__init__()
        self.out = nn.Linear(n_modalities * latent_dim, latent_dim)

    def forward(self, tokens: Tensor, present: Tensor) -> Tensor:
        """(N, M, k) tokens and their (N, M) presence to the fused (N, k)."""
        return self.out((tokens * present.unsqueeze(-1)).flatten(1))


class OptimalFusion(Fusion):
    """The OMF block, equations (5) to (7): a variational code per modality, then cross-attention.

    In training the codes are drawn; at inference ``zeta = mu``, so that equal inputs give equal scores.

    Parameters
    ----------
    code_dims
        Width of each modality's code, in the order of the modalities.
    latent_dim
        k, the width of zeta and xi.
    n_heads
        Attention heads (not stated in the paper); must divide ``latent_dim``.
    cross_attention
        False replaces attention by concatenation (an ablation).

    Raises
    ------
    ValueError
        If ``n_heads`` does not divide ``latent_dim``.

    Examples
    --------
    >>> from omib_spatial.core import OptimalFusion
    >>> fusion = OptimalFusion({"gene": 8, "image": 6}, latent_dim=16).eval()
    >>> codes = {"gene": torch.randn(5, 8), "image": torch.randn(5, 6)}
    >>> tuple(fusion(codes, torch.ones(5, 2, dtype=torch.bool)).xi.shape)
    (5, 16)
    """

    def __init__(
        self, code_dims: Mapping[str, int], latent_dim: int, *, n_heads: int = 4, cross_attention: bool = True
    ) -> None:
        super().__init__()
        self.heads = nn.ModuleDict({name: VariationalHead(d, latent_dim) for name, d in code_dims.items()})
        n = len(code_dims)
        self.mix = CrossAttention(latent_dim, n, n_heads) if cross_attention else Flatten(latent_dim, n)

    def forward(self, codes: Mapping[str, Tensor], present: Tensor) -> Fused:
        """Fuse ``codes`` ({name: (N, d)}) to xi (N, k) and the KL of each modality (N,)."""
        posteriors: dict[str, Gaussian] = {name: head(codes[name]) for name, head in self.heads.items()}
        zetas = [p.sample() if self.training else p.mu for p in posteriors.values()]
        xi = self.mix(torch.stack(zetas, 1), present)
        kl = {name: gaussian_kl(*p) * here for (name, p), here in zip(posteriors.items(), present.T, strict=True)}
        return Fused(xi, kl)


class Concatenation(Fusion):
    """No OMF block at all: the codes are concatenated and mapped to k (an ablation, and the simplest rival).

    Examples
    --------
    >>> from omib_spatial.core import Concatenation
    >>> fusion = Concatenation({"gene": 8, "image": 6}, latent_dim=16)
    >>> codes = {"gene": torch.randn(5, 8), "image": torch.randn(5, 6)}
    >>> tuple(fusion(codes, torch.ones(5, 2, dtype=torch.bool)).xi.shape)
    (5, 16)
    """

    def __init__(self, code_dims: Mapping[str, int], latent_dim: int) -> None:
        super().__init__()
        self.names = list(code_dims)
        self.out = nn.Linear(sum(code_dims.values()), latent_dim)

    def forward(self, codes: Mapping[str, Tensor], present: Tensor) -> Fused:
        """Fuse ``codes`` ({name: (N, d)}), missing ones as zeros, to xi (N, k); nothing is compressed."""
        parts = [codes[name] * here.unsqueeze(-1) for name, here in zip(self.names, present.T, strict=True)]
        return Fused(self.out(torch.cat(parts, 1)), {})
