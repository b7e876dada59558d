"""Preprocessing. The model owns its own; here is what helps before a fit."""

from omib_spatial.pp._check import check

__all__ = ["check"]
