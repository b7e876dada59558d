"""Experiments that say how good omib_spatial is, each with its numbers as records.

It depends on the package, and the package works without it.
"""

from importlib import import_module
from typing import Any

_RECORDS = ("Record", "read_json", "table", "tables", "write_json")
_EXPERIMENTS = (
    "alone",
    "clones",
    "cohort",
    "demo",
    "detectors",
    "embedding",
    "explain",
    "fusions",
    "her2st",
    "histology",
    "modalities",
    "neighbours",
    "paper_tissue",
    "planted",
    "rehearsal",
    "robustness",
    "scale",
    "sim",
)

__all__ = [*_RECORDS, *_EXPERIMENTS]


def __getattr__(name: str) -> Any:
    """Import an experiment, or what its numbers are kept in, on its first use: the command line must be quick."""
    if name in _RECORDS:
        return getattr(import_module("omib_bench._records"), name)
    if name in _EXPERIMENTS:
        return import_module(f"omib_bench.{name}")
    raise AttributeError(f"module 'omib_bench' has no attribute '{name}'")
