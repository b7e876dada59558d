"""Encoder of histology patches."""

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

    SIZES = {
        "resnet18": {"embedding_size": 64, "hidden_sizes": [64, 128, 256, 512], "depths": [2, 2, 2, 2]},
        "small": {"embedding_size": 16, "hidden_sizes": [16, 32, 64, 128], "depths": [1, 1, 1, 1]},
    }

    def __init__(self, size: str = "resnet18", out_features: int = 256) -> None:
        super().__init__()
        from transformers import ResNetConfig, ResNetModel

        if size not in self.SIZES:
            raise ValueError(f"size is one of {sorted(self.SIZES)}, not {size!r}.")
        self.out_features = out_features
        config = ResNetConfig(layer_type="basic", **self.SIZES[size])
        self.backbone = ResNetModel(config)
        self.project = nn.Linear(config.hidden_sizes[-1], out_features)

    def forward(self, patches: Tensor) -> Tensor:
        """(n, 3, H, W) float patches, scaled to about unit variance, to (n, out_features)."""
        return self.project(self.backbone(patches).pooler_output.flatten(1))
