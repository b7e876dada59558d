"""One modality in, codes out. Every encoder has ``out_features``, the width of its codes."""

from omib_spatial.encoders.clip import FrameResNet, SpectrogramResNet
from omib_spatial.encoders.graph import GCN, GraphInput, SparseRows
from omib_spatial.encoders.image import ResNet
from omib_spatial.encoders.sequence import Conv1D
from omib_spatial.encoders.tabular import MLP, GatedLinear
from omib_spatial.encoders.text import Bert

__all__ = [
    "GCN",
    "MLP",
    "Bert",
    "Conv1D",
    "FrameResNet",
    "GatedLinear",
    "GraphInput",
    "ResNet",
    "SparseRows",
    "SpectrogramResNet",
]
