"""Data to try the package on: simulations whose truth is known, and readers of annotated tissue."""

from omib_spatial.datasets._her2st import her2st
from omib_spatial.datasets._modalities import TwoModalities, two_modalities
from omib_spatial.datasets._tissue import simulate_tissue

__all__ = ["TwoModalities", "her2st", "simulate_tissue", "two_modalities"]
