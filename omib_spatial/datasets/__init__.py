"""Data to try the package on: simulations whose truth is known, readers of annotated tissue, and downloads."""

from omib_spatial.datasets._fetch import fetch
from omib_spatial.datasets._gencode import gene_positions
from omib_spatial.datasets._her2st import her2st
from omib_spatial.datasets._mob import mob
from omib_spatial.datasets._modalities import TwoModalities, two_modalities
from omib_spatial.datasets._tissue import simulate_tissue

__all__ = ["TwoModalities", "fetch", "gene_positions", "her2st", "mob", "simulate_tissue", "two_modalities"]
