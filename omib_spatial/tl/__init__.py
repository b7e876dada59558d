"""Tools: fit a model of healthy tissue, and score any slide with it; then calls, regions."""

from omib_spatial.detector import OBJECTIVES, AnomalyModel, load
from omib_spatial.tl._call import Question, call
from omib_spatial.tl._clones import clones
from omib_spatial.tl._cross_fit import cross_fit
from omib_spatial.tl._explain import explain
from omib_spatial.tl._files import score_files
from omib_spatial.tl._fit import fit
from omib_spatial.tl._patch_contributions import patch_contributions
from omib_spatial.tl._regions import regions
from omib_spatial.tl._score import score
from omib_spatial.tl._subtypes import subtypes
from omib_spatial.tl._summarise import summarise

__all__ = [
    "OBJECTIVES",
    "AnomalyModel",
    "Question",
    "call",
    "clones",
    "cross_fit",
    "explain",
    "fit",
    "load",
    "patch_contributions",
    "regions",
    "score",
    "score_files",
    "subtypes",
    "summarise",
]
