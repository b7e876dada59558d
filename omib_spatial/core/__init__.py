"""The paper: OMIB, equation by equation, on tensors alone."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from omib_spatial.core.config import ABLATIONS, Config
from omib_spatial.core.fusion import Concatenation, Fusion, OptimalFusion
from omib_spatial.core.information import Bounds, Mine, beta_bounds, gaussian_kl, relevance
from omib_spatial.core.model import OMIB, Batch, Network, OMIBOutput, WarmUp
from omib_spatial.core.samples import Samples, Sequences, sample_loader
from omib_spatial.core.task import Classification, OneClass, Regression, Task

if TYPE_CHECKING:
    from omib_spatial.core.training import OMIBTraining, predict, train

__all__ = [
    "ABLATIONS",
    "OMIB",
    "Batch",
    "Bounds",
    "Classification",
    "Concatenation",
    "Config",
    "Fusion",
    "Mine",
    "Network",
    "OMIBOutput",
    "OMIBTraining",
    "OneClass",
    "OptimalFusion",
    "Regression",
    "Samples",
    "Sequences",
    "Task",
    "WarmUp",
    "beta_bounds",
    "gaussian_kl",
    "predict",
    "relevance",
    "sample_loader",
    "train",
]


def __getattr__(name: str) -> Any:
    """Import what trains on its first use: Lightning takes seconds to load, and scoring does without."""
    if name in {"OMIBTraining", "predict", "train"}:
        return getattr(import_module("omib_spatial.core.training"), name)
    raise AttributeError(f"module 'omib_spatial.core' has no attribute '{name}'")
