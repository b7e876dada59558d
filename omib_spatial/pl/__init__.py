"""Plots: where the anomalies are, what they look like, and how training went. Read-only, and without torch."""

from omib_spatial.pl._anomaly_map import anomaly_map
from omib_spatial.pl._contributions import contributions
from omib_spatial.pl._explain import modalities, top_genes
from omib_spatial.pl._genome import genome
from omib_spatial.pl._patch_contributions import patch_contributions
from omib_spatial.pl._patches import patches
from omib_spatial.pl._reference import reference
from omib_spatial.pl._regions import regions
from omib_spatial.pl._training import training

__all__ = [
    "anomaly_map",
    "contributions",
    "genome",
    "modalities",
    "patch_contributions",
    "patches",
    "reference",
    "regions",
    "top_genes",
    "training",
]
