"""What a model learns of its inputs, and how spots become batches."""

from omib_spatial.modalities.base import Modality, Prepared
from omib_spatial.modalities.batches import Spots, Target, spread, tile_loader
from omib_spatial.modalities.catalog import KINDS, NAMED, check_input, choose_modalities, slice_groups
from omib_spatial.modalities.contrast import Contrast
from omib_spatial.modalities.gene import Gene
from omib_spatial.modalities.genome import Genome
from omib_spatial.modalities.image import Image
from omib_spatial.modalities.obsm_features import ObsmFeatures
from omib_spatial.modalities.summary import Summary

__all__ = [
    "KINDS",
    "NAMED",
    "Contrast",
    "Gene",
    "Genome",
    "Image",
    "Modality",
    "ObsmFeatures",
    "Prepared",
    "Spots",
    "Summary",
    "Target",
    "check_input",
    "choose_modalities",
    "slice_groups",
    "spread",
    "tile_loader",
]
