"""Experiments that say how good the package is, each with its numbers as records."""

from omib_spatial.benchmarks import demo, detectors, fusions, her2st, histology, scale, sim
from omib_spatial.benchmarks._records import Record, read_json, table, tables, write_json

__all__ = [
    "Record",
    "demo",
    "detectors",
    "fusions",
    "her2st",
    "histology",
    "read_json",
    "scale",
    "sim",
    "table",
    "tables",
    "write_json",
]
