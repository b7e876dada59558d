"""The paper: OMIB, equation by equation, on tensors alone."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from omib_spatial.core.config import ABLATIONS, Config
from omib_spatial.core.fusion import Concatenation, Fusion, OptimalFusion
from omib_spatial.core.information import Bounds, Mine, beta_bounds, gaussian_kl, relevance
from omib_spatial.core.model import OMIB, OMIBOutput
from omib_spatial.core.network import Batch, Network, WarmUp
from omib_spatial.core.samples import Samples, Sequences, sample_loader
from omib_spatial.core.task import Classification, OneClass, Regression, Task

if TYPE_CHECKING:
    from omib_spatial.core.loop import predict, train
    from omib_spatial.core.training import OMIBTraining

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


_TRAINS = {"OMIBTraining": "training", "predict": "loop", "train": "loop"}


def __getattr__(name: str) -> Any:
    """Import what trains on its first use: Lightning takes seconds to load, and scoring does without."""
    if name in _TRAINS:
        return getattr(import_module(f"omib_spatial.core.{_TRAINS[name]}"), name)
    raise AttributeError(f"module 'omib_spatial.core' has no attribute '{name}'")
