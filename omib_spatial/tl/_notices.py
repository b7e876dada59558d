"""What a user would want to know, said once: inputs that nobody reads, and slices that lack a modality."""

import warnings
from collections.abc import Collection

import numpy as np

from omib_spatial.modalities import Spots
from omib_spatial.slides import Tissue
from omib_spatial.slides.slides import named
from omib_spatial.slides.unused import unused_features, unused_images


def warn_of_unused(tissue: Tissue, modalities: Collection[str], key_added: str) -> None:
    """Warn, in one warning, of images and features that are there and are not used.

    Parameters
    ----------
    tissue
        That is read.
    modalities
        Names of those that are used; they were not chosen by the user.
    key_added
        Prefix of results.
    """
    found = [*unused_images(tissue), *unused_features(tissue, modalities, key_added)]
    if found:
        warnings.warn(f"Not used: {'; '.join(found)}.", UserWarning, stacklevel=4)


def warn_of_unused_images(tissue: Tissue) -> None:
    """Warn, in one warning, of images that are there and that no slice has under ``image_key``."""
    if found := unused_images(tissue):
        warnings.warn(f"Not used: {'; '.join(found)}.", UserWarning, stacklevel=4)


def warn_of_missing(tissue: Tissue, spots: Spots) -> None:
    """Warn, in one warning, of slices without any spot that has a modality which the model has.

    Parameters
    ----------
    tissue, spots
        That are scored.
    """
    n_slices = len(tissue.libraries)
    found = []
    for name, prepared in spots.prepared.items():
        there = np.bincount(tissue.codes, prepared.present, n_slices) > 0
        if there.all():
            continue
        lacking = "this slice" if n_slices == 1 else f"slices {named(np.array(tissue.libraries)[~there])}"
        found.append(f"{lacking} without {name!r}")
    if found:
        warnings.warn(
            f"Scored on less than the model knows: {'; '.join(found)}. Scores of slices that were judged by different "
            "modalities compare only in part.",
            UserWarning,
            stacklevel=4,
        )
