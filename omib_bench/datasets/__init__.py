"""Data of the paper that is no tissue: simulations whose truth is known, speech and film."""

from omib_bench.datasets._clips import BrokenClipsError
from omib_bench.datasets._cremad import cremad
from omib_bench.datasets._modalities import TwoModalities, two_modalities
from omib_bench.datasets._mosi import mosi
from omib_bench.datasets._multimodal import Multimodal, Split
from omib_bench.datasets._pom import pom

__all__ = [
    "BrokenClipsError",
    "Multimodal",
    "Split",
    "TwoModalities",
    "cremad",
    "mosi",
    "pom",
    "two_modalities",
]
