"""Experiments that say how good the package is, each with its numbers as records."""

from omib_spatial.benchmarks import demo, detectors, fusions, her2st, histology, planted, robustness, scale, sim
from omib_spatial.benchmarks._records import Record, read_json, table, tables, write_json

__all__ = [
    "Record",
    "demo",
    "detectors",
    "fusions",
    "her2st",
    "histology",
    "planted",
    "read_json",
    "robustness",
    "scale",
    "sim",
    "table",
    "tables",
    "write_json",
]
