"""Data of the paper and of its rivals: simulations whose truth is known, speech and film, archives of tissue."""

from omib_bench.datasets._clips import BrokenClipsError
from omib_bench.datasets._cremad import cremad
from omib_bench.datasets._modalities import TwoModalities, two_modalities
from omib_bench.datasets._mosi import mosi
from omib_bench.datasets._multimodal import Multimodal, Split
from omib_bench.datasets._pom import pom
from omib_bench.datasets._stands import stands_pdac, stands_rcc

__all__ = [
    "BrokenClipsError",
    "Multimodal",
    "Split",
    "TwoModalities",
    "cremad",
    "mosi",
    "pom",
    "stands_pdac",
    "stands_rcc",
    "two_modalities",
]
