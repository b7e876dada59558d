"""The paper: OMIB, equation by equation, on tensors alone."""

from omib_spatial.core.fusion import Concatenation, Fusion, OptimalFusion
from omib_spatial.core.information import Bounds, Mine, beta_bounds, gaussian_kl, relevance
from omib_spatial.core.model import OMIB, Batch, OMIBOutput, WarmUp
from omib_spatial.core.task import Classification, OneClass, Regression, Task
from omib_spatial.core.training import OMIBTraining

__all__ = [
    "OMIB",
    "Batch",
    "Bounds",
    "Classification",
    "Concatenation",
    "Fusion",
    "Mine",
    "OMIBOutput",
    "OMIBTraining",
    "OneClass",
    "OptimalFusion",
    "Regression",
    "Task",
    "WarmUp",
    "beta_bounds",
    "gaussian_kl",
    "relevance",
]
