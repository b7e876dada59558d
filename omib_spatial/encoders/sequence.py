"""Encoders of padded sequences."""

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from omib_spatial.core import Sequences


class Conv1D(nn.Module):
    """Convolutions over time, then the mean over the steps there are: the paper's encoder of audio and vision features.

    The paper names it "Conv1D" and says no more. Here two convolutions with GELU follow each other; what lies beyond a
    sequence's end is zero for each of them, so a code does not depend on how long the padding is. Every step is
    normalised over its channels, which, unlike a batch's statistics, no padding enters.

    Parameters
    ----------
    in_features
        p, features per step.
    out_features
        d, the width of the code.
    channels
        Of both convolutions.
    kernel_size
        Steps that each of them sees, odd.

    Raises
    ------
    ValueError
        If ``kernel_size`` is even.

    Examples
    --------
    >>> from omib_spatial.core import Sequences
    >>> from omib_spatial.encoders import Conv1D
    >>> tuple(Conv1D(43, 64)(Sequences(torch.randn(4, 20, 43), torch.tensor([20, 5, 9, 1]))).shape)
    (4, 64)
    """

    def __init__(self, in_features: int, out_features: int = 512, channels: int = 64, kernel_size: int = 3) -> None:
        super().__init__()
        if kernel_size % 2 == 0:
            raise ValueError(
                f"kernel_size is odd, so that a step lies in the middle of what it sees, not {kernel_size}."
            )
        self.out_features = out_features
        widths = [in_features, channels, channels]
        self.convolutions = nn.ModuleList(
            nn.Conv1d(a, b, kernel_size, padding="same") for a, b in zip(widths[:-1], widths[1:], strict=True)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in widths[1:])
        self.project = nn.Linear(channels, out_features)

    def forward(self, sequences: "Sequences") -> Tensor:
        """Encode n sequences (n, T, in_features) to codes (n, out_features)."""
        mask = sequences.mask.unsqueeze(-1)
        x = sequences.values.masked_fill(~mask, 0.0)
        for convolve, norm in zip(self.convolutions, self.norms, strict=True):
            x = F.gelu(norm(convolve(x.transpose(1, 2)).transpose(1, 2))).masked_fill(~mask, 0.0)
        return self.project(x.sum(1) / sequences.lengths[:, None])
