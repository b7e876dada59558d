"""The fitted model: what it learned of healthy tissue, and how it judges a spot."""

from omib_spatial.detector.model import AnomalyModel, load
from omib_spatial.detector.objective import OBJECTIVES, Objective

__all__ = ["OBJECTIVES", "AnomalyModel", "Objective", "load"]
