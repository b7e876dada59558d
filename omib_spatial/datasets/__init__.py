"""Tissue to try the package on: a simulation whose truth is known, readers, downloads."""

from importlib import import_module
from typing import Any

from omib_spatial.datasets._cellxgene import cellxgene
from omib_spatial.datasets._fetch import fetch
from omib_spatial.datasets._gencode import gene_positions
from omib_spatial.datasets._her2st import her2st
from omib_spatial.datasets._mob import mob
from omib_spatial.datasets._tissue import simulate_tissue

_BENCH = (
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
)
"""Speech, film and simulations of the paper, and archives of tissue, which the benchmarks keep."""

__all__ = [*_BENCH, "cellxgene", "fetch", "gene_positions", "her2st", "mob", "simulate_tissue"]


def __getattr__(name: str) -> Any:
    """Import what the benchmarks keep on its first use."""
    if name in _BENCH:
        return getattr(import_module("omib_bench.datasets"), name)
    raise AttributeError(f"module 'omib_spatial.datasets' has no attribute '{name}'")
