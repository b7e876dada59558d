"""Encoder of histology patches."""

from typing import ClassVar

from torch import Tensor, nn


class ResNet(nn.Module):
    """ResNet on RGB patches (He et al. 2016), built from a configuration: no download, no torchvision.

    Parameters
    ----------
    size
        ``"resnet18"`` is the paper's encoder. ``"small"`` has one block per stage and a quarter of the
        channels, about a thirtieth of the arithmetic, for machines without a GPU.
    out_features
        d, the width of the code; the pooled features are mapped to it linearly.
    """

    SIZES: ClassVar[dict[str, tuple[list[int], int]]] = {
        "resnet18": ([64, 128, 256, 512], 2),
        "small": ([16, 32, 64, 128], 1),
    }
    """Channels of the stages, and blocks per stage."""

    def __init__(self, size: str = "resnet18", out_features: int = 256) -> None:
        super().__init__()
        from transformers import ResNetConfig, ResNetModel

        if size not in self.SIZES:
            raise ValueError(f"size is one of {sorted(self.SIZES)}, not {size!r}.")
        self.out_features = out_features
        channels, blocks = self.SIZES[size]
        config = ResNetConfig(
            layer_type="basic", embedding_size=channels[0], hidden_sizes=channels, depths=[blocks] * len(channels)
        )
        self.backbone = ResNetModel(config)
        self.project = nn.Linear(channels[-1], out_features)

    def forward(self, patches: Tensor) -> Tensor:
        """(n, 3, H, W) float patches, scaled to about unit variance, to (n, out_features)."""
        return self.project(self.backbone(patches).pooler_output.flatten(1))
