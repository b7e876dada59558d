"""Encoders of histology patches that are trained from scratch."""

from typing import ClassVar

import torch
from torch import Tensor, nn

IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
"""Mean and standard deviation of red, green and blue in ImageNet, by which pixels are scaled by convention."""


class ResNet(nn.Module):
    """ResNet on RGB patches (He et al. 2016), built from a configuration: no download, no torchvision.

    Parameters
    ----------
    size
        ``"resnet18"`` is the paper's encoder. ``"small"`` has one block per stage and a quarter of the
        channels, about a thirtieth of the arithmetic, for machines without a GPU.
    out_features
        d, the width of the code; the pooled features are mapped to it linearly.
    in_channels
        3 for each scale of the patch.

    Examples
    --------
    >>> from omib_spatial.encoders import ResNet
    >>> tuple(ResNet("small", 64)(torch.randn(4, 3, 32, 32)).shape)
    (4, 64)
    """

    SIZES: ClassVar[dict[str, tuple[list[int], int]]] = {
        "resnet18": ([64, 128, 256, 512], 2),
        "small": ([16, 32, 64, 128], 1),
    }
    """Channels of the stages, and blocks per stage."""

    def __init__(self, size: str = "resnet18", out_features: int = 256, in_channels: int = 3) -> None:
        super().__init__()
        from transformers import ResNetConfig, ResNetModel

        if size not in self.SIZES:
            raise ValueError(f"size is one of {sorted(self.SIZES)}, not {size!r}.")
        self.out_features = out_features
        channels, blocks = self.SIZES[size]
        config = ResNetConfig(
            num_channels=in_channels,
            layer_type="basic",
            embedding_size=channels[0],
            hidden_sizes=channels,
            depths=[blocks] * len(channels),
        )
        self.backbone = ResNetModel(config)
        self.project = nn.Linear(channels[-1], out_features)

    def forward(self, patches: Tensor) -> Tensor:
        """(n, in_channels, H, W) float patches, scaled to about unit variance, to (n, out_features)."""
        return self.project(self.backbone(patches).pooler_output.flatten(1))


class StainJitter(nn.Module):
    """Vary the amount of each stain in training (Tellez et al. 2018, HED-light); the identity in inference.

    Every patch gets its own factors: amounts of haematoxylin, eosin and a residual are multiplied by
    ``1 + N(0, strength^2)``.

    Parameters
    ----------
    strength
        Standard deviation of the factors.
    vectors
        Optical density of haematoxylin and eosin in red, green and blue, (2, 3).
    glass
        Colour without tissue in [0, 1], (3,).
    mean, scale
        How the channels of the patches that come in were scaled, (channels,).
    """

    def __init__(self, strength: float, vectors: Tensor, glass: Tensor, mean: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.strength = strength
        residual = torch.linalg.cross(vectors[0], vectors[1])
        stains = torch.cat([vectors, (residual / residual.norm())[None]])
        # What the model stores of its modality rebuilds these, so they are no part of the weights.
        for name, value in {"stains": stains, "glass": glass, "mean": mean, "deviation": scale}.items():
            self.register_buffer(name, value.float(), persistent=False)

    def forward(self, patches: Tensor) -> Tensor:
        """(n, 3 per scale, H, W) scaled patches to the same."""
        if not self.training or self.strength == 0:
            return patches
        stains, glass, mean, deviation = (self.get_buffer(key) for key in ("stains", "glass", "mean", "deviation"))
        glass, mean, deviation = (values[:, None, None] for values in (glass, mean, deviation))
        light = (patches * deviation + mean).unflatten(1, (-1, 3)) / glass
        density = -light.clamp(min=1 / 255).log()
        factors = 1 + self.strength * torch.randn(len(patches), 3, device=patches.device)
        # Scaling each amount is linear in the optical density of the three channels.
        mix = torch.linalg.inv(stains) @ (factors[:, :, None] * stains)
        density = torch.einsum("nschw,ncd->nsdhw", density, mix)
        light = ((-density).exp() * glass).clamp(0, 1)
        return (light.flatten(1, 2) - mean) / deviation
