"""Preprocessing. The model owns its own; here is what helps before a fit."""

from omib_spatial.pp._check import check
from omib_spatial.pp._files import prepare_files
from omib_spatial.pp._find_reference import find_reference

__all__ = ["check", "find_reference", "prepare_files"]
