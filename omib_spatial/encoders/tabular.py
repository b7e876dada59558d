"""Encoders of feature vectors."""

import torch
from torch import Tensor, nn


class MLP(nn.Module):
    """Two-layer perceptron with GELU, the paper's encoder for vectors.

    Parameters
    ----------
    in_features
        Width of the input (n, in_features).
    out_features
        d, the width of the code (n, out_features); the hidden layer has the same width.

    Examples
    --------
    >>> from omib_spatial.encoders import MLP
    >>> tuple(MLP(40, 64)(torch.randn(8, 40)).shape)
    (8, 64)
    """

    def __init__(self, in_features: int, out_features: int = 256) -> None:
        super().__init__()
        self.out_features = out_features
        self.layers = nn.Sequential(
            nn.Linear(in_features, out_features), nn.GELU(), nn.Linear(out_features, out_features)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(n, in_features) to (n, out_features)."""
        return self.layers(x)


class GatedLinear(nn.Module):
    """``z = W (g * x) + b``: a linear code that can leave inputs out altogether.

    Every input has a gain g, 1 at first. Weight decay on g and W together is a group lasso on the inputs (Hoff 2017,
    Computational Statistics & Data Analysis 115): the smallest ``(g_j^2 + |W_j|^2) / 2`` for a given product is its
    norm ``|g_j W_j|``, so an input that says nothing about the task is removed, not only made small. For vectors with
    many superfluous entries and few samples, where `MLP` learns the training set by heart.

    Parameters
    ----------
    in_features
        Width of the input (n, in_features).
    out_features
        d, the width of the code (n, out_features).

    Examples
    --------
    >>> from omib_spatial.encoders import GatedLinear
    >>> encoder = GatedLinear(40, 64)
    >>> tuple(encoder(torch.randn(8, 40)).shape), len(encoder.gain)
    ((8, 64), 40)
    """

    def __init__(self, in_features: int, out_features: int = 256) -> None:
        super().__init__()
        self.out_features = out_features
        self.gain = nn.Parameter(torch.ones(in_features))
        self.linear = nn.Linear(in_features, out_features)

    def forward(self, x: Tensor) -> Tensor:
        """(n, in_features) to (n, out_features)."""
        return self.linear(x * self.gain)
