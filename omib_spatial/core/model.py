"""OMIB: encoders, branches and fusion in one module, and the objective over them."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from omib_spatial._deprecation import renamed_arguments
from omib_spatial.core.branch import TaskRelevanceBranch
from omib_spatial.core.distributed import summed
from omib_spatial.core.fusion import Concatenation, Fusion, OptimalFusion
from omib_spatial.core.information import relevance
from omib_spatial.core.network import Batch, Losses, Network, WarmUp, widths
from omib_spatial.core.task import Task


class OMIBOutput(NamedTuple):
    """One forward pass over N samples.

    Attributes
    ----------
    codes
        z_i by modality, (N, d_i), zero where the modality is missing.
    branches
        Outputs of the task-relevance branches (N, out); empty at inference.
    xi
        Fused code (N, k).
    prediction
        Output of the fused head (N, out).
    kl
        Compression term of each modality, (N,) nats, 0 where it is missing.

    Examples
    --------
    >>> from omib_spatial.core import OMIB, Batch, Classification
    >>> from omib_spatial.encoders import MLP
    >>> network = OMIB({"a": MLP(4, 8), "b": MLP(6, 8)}, Classification(2), latent_dim=16).eval()
    >>> output = network(Batch({"a": torch.randn(5, 4), "b": torch.randn(5, 6)}, torch.ones(5, 2, dtype=torch.bool)))
    >>> tuple(output.xi.shape), tuple(output.prediction.shape), tuple(output.kl["b"].shape)
    ((5, 16), (5, 2), (5,))
    """

    codes: dict[str, Tensor]
    branches: dict[str, Tensor]
    xi: Tensor
    prediction: Tensor
    kl: dict[str, Tensor]


class OMIB(Network):
    """Optimal multimodal information bottleneck (Wu et al., ICML 2025) over any number of modalities.

    Parameters
    ----------
    encoders
        Encoder of each modality by name. An encoder is a module with an integer attribute ``out_features`` that
        maps its input to codes (n, out_features), n being the samples that have the modality. The order matters in
        one place: r compares every later modality with the first.
    task
        What is to be predicted: `Classification`, `Regression` or `OneClass`.
    latent_dim
        k, the width of the noise, of zeta and of xi.
    n_heads
        Attention heads.
    cross_attention
        False concatenates the variational codes instead (ablation).
    bottleneck
        False removes the OMF block: codes are concatenated, nothing is compressed (ablation).
    fusion
        Your own fusion in place of the OMF block: it gives xi and, if it compresses, the KL of each modality.

    Examples
    --------
    >>> from omib_spatial import OMIB
    >>> from omib_spatial.core import Batch, Classification
    >>> from omib_spatial.encoders import MLP
    >>> model = OMIB({"sound": MLP(40), "face": MLP(60)}, Classification(6)).eval()
    >>> batch = Batch({"sound": torch.randn(8, 40), "face": torch.randn(8, 60)}, torch.ones(8, 2, dtype=torch.bool))
    >>> model(batch).xi.shape
    torch.Size([8, 256])
    """

    @renamed_arguments(heads="n_heads")
    def __init__(
        self,
        encoders: Mapping[str, nn.Module],
        task: Task,
        *,
        latent_dim: int = 256,
        n_heads: int = 4,
        cross_attention: bool = True,
        bottleneck: bool = True,
        fusion: Fusion | None = None,
    ) -> None:
        super().__init__()
        code_dims = widths(encoders)
        self.latent_dim = latent_dim
        self.task = task
        self.encoders = nn.ModuleDict(encoders)
        self.branches = nn.ModuleDict(
            {name: TaskRelevanceBranch(task.head(d + latent_dim)) for name, d in code_dims.items()}
        )
        if fusion is None and bottleneck:
            fusion = OptimalFusion(code_dims, latent_dim, n_heads=n_heads, cross_attention=cross_attention)
        self.fusion = fusion or Concatenation(code_dims, latent_dim)
        self.head = task.head(latent_dim)

    def warm_up(self, batch: Batch) -> WarmUp:
        """Algorithm 1, equations (2) and (3): encoders and branches alone, with noise where xi will be."""
        codes = self.encode(batch)
        branches = {
            name: self.branches[name](z, z.new_empty(len(z), self.latent_dim).normal_()) for name, z in codes.items()
        }
        return WarmUp(codes, branches)

    def forward(self, batch: Batch) -> OMIBOutput:
        """Algorithm 2: encode (2), fuse (5) to (7), predict (8); the branches see xi (9) and are off at inference."""
        codes = self.encode(batch)  # equation (2)
        xi, kl, views, losses = self.fusion(codes, batch.present)
        if views or losses:
            raise ValueError(f"{type(self.fusion).__name__} has losses of its own, for which OMIB has no place.")
        # yhat_i = Dec_i([z_i, xi]), equation (9).
        branches = {name: self.branches[name](z, xi) for name, z in codes.items()} if self.training else {}
        prediction = self.head(xi)  # yhat = dDec(xi), equation (8)
        return OMIBOutput(codes, branches, xi, prediction, kl)

    def objective(self, output: WarmUp | OMIBOutput, batch: Batch, beta: float, *, adaptive: bool = True) -> Losses:
        """``L_OMF + sum_i L_TRB_i``, equation (10) and the branches' losses, equation (4).

        ``L_OMF = E[-log q(y|xi)] + beta (KL_1 + sum_{j>=2} r_{j-1} KL_j)``. After `warm_up` only the branches' losses
        are there. Terms of a missing modality are zero; every mean is over all N samples.

        Parameters
        ----------
        output, batch
            A forward pass in training mode and the batch it came from.
        beta
            Weight of the compression.
        adaptive
            False holds every r at 1 (ablation).
        """
        if not output.branches:
            raise ValueError("The objective needs the branches, which are off at inference: call model.train() first.")
        present = dict(zip(self.modalities, batch.present.T, strict=True))
        # L_TRB of every modality, equation (4).
        branches = {
            name: (self.task.loss(p, batch.target) * present[name]).mean() for name, p in output.branches.items()
        }
        total = torch.stack(list(branches.values())).sum()
        if isinstance(output, WarmUp):
            return Losses(total, total.new_zeros(()), {}, branches, {})
        task = self.task.loss(output.prediction, batch.target).mean()
        r = self.relevance(output, batch) if adaptive else dict.fromkeys(output.kl, task.new_ones(()))
        kl = {name: per_sample.mean() for name, per_sample in output.kl.items()}
        # KL_1 + sum_{j>=2} r_{j-1} KL_j; with the task and beta, L_OMF of equation (10).
        compression = sum((r[name] * kl[name] for name in kl), task.new_zeros(()))
        return Losses(total + task + beta * compression, task, kl, branches, r)

    @torch.no_grad()
    def relevance(self, output: OMIBOutput, batch: Batch) -> dict[str, Tensor]:
        """Weight r of each modality's KL, equation (11): 1 for the first. Means are over samples that have both."""
        divergence = {name: self.task.divergence(p, output.prediction) for name, p in output.branches.items()}
        first, *others = self.modalities
        has = dict(zip(self.modalities, batch.present.T, strict=True))
        r = {first: output.prediction.new_ones(())}
        for name in others:
            both = (has[first] & has[name]).to(output.prediction.dtype)
            r[name] = relevance(*summed(torch.stack([(divergence[n] * both).sum() for n in (name, first)])))
        return r
