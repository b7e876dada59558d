"""Encoder of feature vectors."""

from torch import Tensor, nn


class MLP(nn.Module):
    """Two-layer perceptron with GELU, the paper's encoder for vectors.

    Parameters
    ----------
    in_features
        Width of the input (n, in_features).
    out_features
        d, the width of the code (n, out_features); the hidden layer has the same width.
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
