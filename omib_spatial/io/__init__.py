"""Handing results to other programs, and taking a pathologist's annotation back."""

from omib_spatial.io._annotations import annotate
from omib_spatial.io._loupe import to_loupe
from omib_spatial.io._qupath import to_qupath
from omib_spatial.io._spatialdata import to_spatialdata

__all__ = ["annotate", "to_loupe", "to_qupath", "to_spatialdata"]
