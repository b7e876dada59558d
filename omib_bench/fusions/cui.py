"""MMIB-Cui: variational tokens whose mean and variance attend separately, fused in two steps of cross-attention."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from omib_bench.fusions._rival import Rival
from omib_spatial.core.fusion import Fused
from omib_spatial.core.task import perceptron

TOKENS = 4
"""Tokens that a code is cut into; ours, since encoders give one code here and words or patches there."""


class AttentionBlock(nn.Module):
    """Query plus what it attends to, layer norm, linear, layer norm: (N, T, k) and (N, S, k) to (N, T, k)."""

    def __init__(self, k: int) -> None:
        super().__init__()
        n_heads = next(n for n in (4, 2, 1) if k % n == 0)
        self.attention = nn.MultiheadAttention(k, n_heads, batch_first=True)
        self.rest = nn.Sequential(nn.LayerNorm(k), nn.Linear(k, k), nn.LayerNorm(k))

    def forward(self, query: Tensor, keys: Tensor, present: Tensor) -> Tensor:
        """Attend to ``keys`` (N, S, k) that are ``present`` (N, S); a sample without any keeps its query."""
        some = present.any(1)
        hidden = ~(present | ~some.unsqueeze(1))  # no row may be masked as a whole
        attended, _ = self.attention(query, keys, keys, key_padding_mask=hidden, need_weights=False)
        return self.rest(query + torch.where(some[:, None, None], attended, 0.0))


def mean_kl(mu: Tensor, log_variance: Tensor) -> Tensor:
    """KL divergence of diagonal Gaussians (N, T, k) from the standard normal, averaged over T and k, (N,) in nats."""
    return 0.5 * (mu.square() + log_variance.exp() - 1.0 - log_variance).mean((1, 2))


class MMIBCui(Rival):
    """Multimodal representation learning with information bottleneck (Cui et al., TASLP 2024), as released.

    Of every modality's tokens, one self-attention block gives the mean and another one the log variance of a Gaussian;
    tokens are drawn from it in training, and are its mean at inference. Two steps of cross-attention fuse them: ``O =
    attention(image, text)``, ``F = attention(text, O)``, the query first. A discriminator is given first tokens of text
    and image, and tells those of one sample from those with the images rolled by one within the batch. Loss: the task's
    + the discriminator's cross-entropy + the KL of every modality, averaged over tokens and features, each with weight
    1: the training's beta has no part in it. Nothing is rebuilt.

    Different here: there tokens are words and patches, here a linear map cuts a code into `TOKENS` of width k, and the
    first token of F is xi. The first modality stands for the text; more than two are ours: the tokens of all others
    stand for the image, and each has a discriminator of its own, averaged. Both steps are the same block as above, so
    that a modality that is missing as query or as key leaves the other as it is.
    """

    least = 2

    def __init__(self, code_dims: Mapping[str, int], latent_dim: int) -> None:
        super().__init__()
        if len(code_dims) < self.least:
            raise ValueError(f"MMIBCui lets modalities attend to each other: give two or more, not {list(code_dims)}.")
        self.k = latent_dim
        self.text, *self.images = code_dims
        self.cut = nn.ModuleDict({name: nn.Linear(d, TOKENS * latent_dim) for name, d in code_dims.items()})
        self.mu = nn.ModuleDict({name: AttentionBlock(latent_dim) for name in code_dims})
        self.log_variance = nn.ModuleDict({name: AttentionBlock(latent_dim) for name in code_dims})
        self.image_to_text = AttentionBlock(latent_dim)
        self.text_to_both = AttentionBlock(latent_dim)
        self.discriminate = nn.ModuleDict(
            {name: perceptron([2 * latent_dim, latent_dim, 1], nn.GELU) for name in self.images}
        )

    def posterior(self, name: str, code: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of a modality's tokens, (N, T, k) each, from its ``code`` (N, d)."""
        tokens = self.cut[name](code).unflatten(1, (TOKENS, self.k))
        every = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        return self.mu[name](tokens, tokens, every), self.log_variance[name](tokens, tokens, every)

    def forward(self, codes: Mapping[str, Tensor], present: Tensor) -> Fused:
        """Fuse ``codes`` ({name: (N, d)}) to xi (N, k); the losses are there in training."""
        has = dict(zip(self.cut, present.T, strict=True))
        posteriors = {name: self.posterior(name, codes[name]) for name in self.cut}
        if not self.training:
            return Fused(self.fuse({name: mu for name, (mu, _) in posteriors.items()}, has), {})
        tokens = {n: mu + (0.5 * log).exp() * torch.randn_like(mu) for n, (mu, log) in posteriors.items()}
        compression = sum((mean_kl(*posteriors[name]) * here).mean() for name, here in has.items())
        losses = {"compression": torch.as_tensor(compression), "alignment": self.alignment(tokens, has)}
        return Fused(self.fuse(tokens, has), {}, {}, losses)

    def fuse(self, tokens: Mapping[str, Tensor], has: Mapping[str, Tensor]) -> Tensor:
        """The two steps: tokens (N, T, k) by modality and who has it (N,) to xi (N, k)."""
        here = {name: mask.unsqueeze(1).expand(-1, TOKENS) for name, mask in has.items()}
        text = tokens[self.text] * has[self.text][:, None, None]
        image = torch.cat([tokens[name] * has[name][:, None, None] for name in self.images], 1)
        imaged = torch.cat([here[name] for name in self.images], 1)
        both = self.image_to_text(image, text, here[self.text])
        return self.text_to_both(text, both, imaged)[:, 0]

    def alignment(self, tokens: Mapping[str, Tensor], has: Mapping[str, Tensor]) -> Tensor:
        """Cross-entropy of the discriminators, mean over them; one whose pair fewer than two samples have adds 0."""
        total = tokens[self.text].new_zeros(())
        for name, judge in self.discriminate.items():
            both = has[self.text] & has[name]
            if both.sum() > 1:
                text, image = tokens[self.text][both, 0], tokens[name][both, 0]
                true, false = (judge(torch.cat([text, other], 1)) for other in (image, image.roll(1, 0)))
                total = total + F.softplus(-true).mean() + F.softplus(false).mean()
        return total / len(self.discriminate)
