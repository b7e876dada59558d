"""Information bottlenecks on the modalities' codes, on the fused code, or on both."""

from collections.abc import Mapping

from torch import Tensor, nn

from omib_bench.fusions._rival import JOINT, Rival, compressed, stacked
from omib_spatial.core.fusion import Concatenation, Flatten, Fused, OptimalFusion, VariationalHead
from omib_spatial.core.information import gaussian_kl


class DeepIB(OptimalFusion, Rival):
    """Deep multi-view information bottleneck (Wang, Boudreau, Luo, Tan & Zhou, SDM 2019).

    Every view has a bottleneck, one code follows from all of them: ``max I(xi; y) - sum_i beta_i I(zeta_i; v_i)``,
    with ``zeta_i ~ N(mu_i, sigma_i^2)`` and ``xi = W [zeta_1, ..., zeta_M] + b``: OMIB without cross-attention, r and
    branches. The OMIB paper's "deep IB" is read as this one; the single bottleneck of Alemi et al. (ICLR 2017) on the
    concatenation is `EMIB`. One beta for all views is ours.
    """

    def __init__(self, code_dims: Mapping[str, int], latent_dim: int) -> None:
        super().__init__(code_dims, latent_dim, cross_attention=False)


class EMIB(Rival):
    """Early-fusion multimodal information bottleneck (Mai, Zeng & Hu, IEEE Transactions on Multimedia 25, 2023).

    One bottleneck on the fused code: ``h = W [z_1, ..., z_M] + b``, ``xi ~ N(mu(h), sigma(h)^2)``, loss
    ``-log q(y|xi) + beta KL(N(mu, sigma^2) || N(0, I))``. Any fusion may make h; it is concatenation here.
    """

    def __init__(self, code_dims: Mapping[str, int], latent_dim: int) -> None:
        super().__init__()
        self.join = Concatenation(code_dims, latent_dim)
        self.joint = VariationalHead(latent_dim, latent_dim)

    def forward(self, codes: Mapping[str, Tensor], present: Tensor) -> Fused:
        """Fuse ``codes`` ({name: (N, d)}) to xi (N, k); in training xi is drawn."""
        posterior = self.joint(self.join(codes, present).xi)
        return Fused(posterior.sample() if self.training else posterior.mu, {JOINT: gaussian_kl(*posterior)})


class LMIB(Rival):
    """Late-fusion multimodal information bottleneck (Mai, Zeng & Hu, IEEE Transactions on Multimedia 25, 2023).

    A bottleneck on every modality's code, each of which predicts the target by itself; then ``xi = W [zeta_1, ...,
    zeta_M] + b``, which is not compressed again. Loss ``-log q(y|xi) + sum_i (-log q_i(y|zeta_i) + beta KL_i)``.
    """

    def __init__(self, code_dims: Mapping[str, int], latent_dim: int) -> None:
        super().__init__()
        self.encoder = nn.ModuleDict({name: VariationalHead(d, latent_dim) for name, d in code_dims.items()})
        self.mix = Flatten(latent_dim, len(code_dims))

    def views(self) -> tuple[str, ...]:
        """Every modality."""
        return tuple(self.encoder)

    def forward(self, codes: Mapping[str, Tensor], present: Tensor) -> Fused:
        """Fuse ``codes`` ({name: (N, d)}) to xi (N, k)."""
        zetas, kl = compressed(self.encoder, codes, present)
        return Fused(self.mix(stacked(zetas, present), present), kl, zetas)


class CMIB(LMIB):
    """Complete multimodal information bottleneck (Mai, Zeng & Hu, IEEE Transactions on Multimedia 25, 2023).

    `LMIB`, and `EMIB`'s bottleneck on the fused code.
    """

    def __init__(self, code_dims: Mapping[str, int], latent_dim: int) -> None:
        super().__init__(code_dims, latent_dim)
        self.joint = VariationalHead(latent_dim, latent_dim)

    def forward(self, codes: Mapping[str, Tensor], present: Tensor) -> Fused:
        """Fuse ``codes`` ({name: (N, d)}) to xi (N, k)."""
        late = super().forward(codes, present)
        posterior = self.joint(late.xi)
        xi = posterior.sample() if self.training else posterior.mu
        return Fused(xi, late.kl | {JOINT: gaussian_kl(*posterior)}, late.views)
