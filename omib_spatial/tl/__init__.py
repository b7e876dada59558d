"""Tools: fit a model of healthy tissue, and score any slide with it."""

from omib_spatial.tl._files import score_files
from omib_spatial.tl._fit import fit
from omib_spatial.tl._model import AnomalyModel
from omib_spatial.tl._objective import OBJECTIVES
from omib_spatial.tl._score import score
from omib_spatial.tl._storage import load

__all__ = ["OBJECTIVES", "AnomalyModel", "fit", "load", "score", "score_files"]
