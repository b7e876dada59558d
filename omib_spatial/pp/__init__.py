"""Preprocessing. The model owns its own; here is what helps before a fit."""

from omib_spatial.pp._check import check
from omib_spatial.pp._files import prepare_files

__all__ = ["check", "prepare_files"]
