"""From AnnData to batches: validation, what a model learns of its inputs, graphs, patches, tiles."""

from omib_spatial.data.batches import Spots, Target, spatial_tiles, spread, tile_loader
from omib_spatial.data.gene import Gene
from omib_spatial.data.genome import Genome
from omib_spatial.data.image import Image
from omib_spatial.data.matrix import Matrix
from omib_spatial.data.modality import Layout, Modality, Prepared
from omib_spatial.data.summary import Summary

KINDS: dict[str, type[Modality]] = {"Gene": Gene, "Genome": Genome, "Image": Image, "Matrix": Matrix}
"""Modalities that a saved model can be built from, by class name."""

__all__ = [
    "KINDS",
    "Gene",
    "Genome",
    "Image",
    "Layout",
    "Matrix",
    "Modality",
    "Prepared",
    "Spots",
    "Summary",
    "Target",
    "spatial_tiles",
    "spread",
    "tile_loader",
]
