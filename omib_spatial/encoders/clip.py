"""Encoders of what a clip sounds and looks like."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from omib_spatial.encoders.image import IMAGENET, ResNet


class SpectrogramResNet(nn.Module):
    """ResNet on log-magnitude spectrograms as pictures of one channel, the paper's encoder of sound.

    Parameters
    ----------
    size
        ``"resnet18"`` (the paper's) or ``"small"``, see `ResNet`.
    out_features
        d, the width of the code.

    Examples
    --------
    >>> from omib_spatial.encoders import SpectrogramResNet
    >>> tuple(SpectrogramResNet("small", 64)(torch.randn(2, 129, 80)).shape)
    (2, 64)
    """

    def __init__(self, size: str = "resnet18", out_features: int = 512) -> None:
        super().__init__()
        self.out_features = out_features
        self.network = ResNet(size, out_features, in_channels=1)

    def forward(self, spectrograms: Tensor) -> Tensor:
        """(n, frequencies, times) to (n, out_features)."""
        return self.network(spectrograms.float().unsqueeze(1))


class FrameResNet(nn.Module):
    """ResNet on each frame of a clip, then the mean of the frames' codes: the paper's encoder of faces.

    Parameters
    ----------
    size
        ``"resnet18"`` (the paper's) or ``"small"``, see `ResNet`.
    out_features
        d, the width of the code.
    augment
        In training show a random part of each clip's frames, 8 to 100 % of their area, and mirror every other clip, as
        OGM-GE does (Peng et al. 2022). All frames of a clip show the same part.

    Examples
    --------
    >>> from omib_spatial.encoders import FrameResNet
    >>> tuple(FrameResNet("small", 64)(torch.zeros(2, 3, 3, 64, 64, dtype=torch.uint8)).shape)
    (2, 64)
    """

    def __init__(self, size: str = "resnet18", out_features: int = 512, *, augment: bool = True) -> None:
        super().__init__()
        self.out_features, self.augment = out_features, augment
        self.network = ResNet(size, out_features)
        for name, values in zip(("mean", "spread"), IMAGENET, strict=True):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)

    def forward(self, frames: Tensor) -> Tensor:
        """(n, frames, 3, height, width) uint8 to (n, out_features)."""
        n = len(frames)
        pixels = (frames.flatten(0, 1).float() / 255 - self.get_buffer("mean")) / self.get_buffer("spread")
        if self.training and self.augment:
            pixels = _random_part(pixels, n)
        return self.network(pixels).unflatten(0, (n, -1)).mean(1)


def _random_part(pixels: Tensor, n: int) -> Tensor:
    """Resize a random part of every clip's frames to the frames' own size, and mirror half of the clips.

    Parameters
    ----------
    pixels
        (n * frames, 3, height, width), the frames of a clip one after the other.
    n
        Clips.
    """
    area = torch.empty(n, device=pixels.device).uniform_(0.08, 1.0)
    # Width over height of the part, log-uniform between 3/4 and 4/3; neither side exceeds the frame's.
    ratio = torch.empty_like(area).uniform_(-1, 1).mul_(torch.tensor(4 / 3).log()).exp()
    width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    x, y = (torch.empty_like(area).uniform_(-1, 1) * (1 - side) for side in (width, height))
    mirrored = torch.where(torch.rand_like(area) < 0.5, -1.0, 1.0)
    zero = torch.zeros_like(area)
    place = torch.stack([torch.stack([width * mirrored, zero, x], 1), torch.stack([zero, height, y], 1)], 1)
    grid = F.affine_grid(place.repeat_interleave(len(pixels) // n, 0), list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, align_corners=False, padding_mode="border")
