"""One modality in, codes out. Every encoder has ``out_features``, the width of its codes."""

from omib_spatial.encoders.graph import GCN, GraphInput
from omib_spatial.encoders.image import ResNet
from omib_spatial.encoders.tabular import MLP, GatedLinear

__all__ = ["GCN", "MLP", "GatedLinear", "GraphInput", "ResNet"]
