"""Data to try the package on: simulations whose truth is known, readers of tissue, speech and film, downloads."""

from omib_spatial.datasets._clips import BrokenClipsError
from omib_spatial.datasets._cremad import cremad
from omib_spatial.datasets._fetch import fetch
from omib_spatial.datasets._gencode import gene_positions
from omib_spatial.datasets._her2st import her2st
from omib_spatial.datasets._mob import mob
from omib_spatial.datasets._modalities import TwoModalities, two_modalities
from omib_spatial.datasets._mosi import mosi
from omib_spatial.datasets._multimodal import Multimodal, Split
from omib_spatial.datasets._pom import pom
from omib_spatial.datasets._tissue import simulate_tissue

__all__ = [
    "BrokenClipsError",
    "Multimodal",
    "Split",
    "TwoModalities",
    "cremad",
    "fetch",
    "gene_positions",
    "her2st",
    "mob",
    "mosi",
    "pom",
    "simulate_tissue",
    "two_modalities",
]
