"""What an AnnData holds that nobody would read: said in words, so that nothing is lost in silence."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from anndata import AnnData

from omib_spatial._keys import IMAGE_FEATURES, IMAGES, SPATIAL
from omib_spatial.slides.images import best_image, image_source
from omib_spatial.slides.slides import named, slide_entries
from omib_spatial.slides.tissue import Tissue

_DERIVED = ("X_pca", "X_umap", "X_tsne", "X_diffmap", "X_draw_graph", "X_scvi", "X_harmony", "X_lsi", "X_phate")
"""How ``obsm`` keys begin, in small letters or not, of what is made of the counts themselves."""


def unused_images(tissue: Tissue) -> list[str]:
    """Sentences about images that are there and that no slice has under ``image_key``."""
    adata, key = tissue.adata, tissue.layout.image_key
    entries = slide_entries(adata)
    keys = {name: best_image(entries.get(name, {}), key) for name in tissue.libraries}
    without = [name for name in tissue.libraries if image_source(entries.get(name, {}), keys[name]) is None]
    if not without:
        return []
    found = []
    # Where no slice has an image, `check_images` has warned of these already.
    told = len(without) == len(tissue.libraries) and any(
        best_image(entry, key) in _images(entry) for entry in entries.values()
    )
    strangers = (
        [] if told else [name for name, entry in entries.items() if name not in tissue.libraries and _images(entry)]
    )
    if strangers:
        found.append(
            f"uns['spatial'] has images of {named(strangers)}, but slices are named {named(tissue.libraries)}: rename "
            "the entries, or pass library_key= the obs column with their names"
        )
    for name in without:
        if others := _images(entries.get(name, {})):
            found.append(f"slice {name!r} has images {named(others)}, not {key!r}: pass image_key={others[0]!r}")
    found += [
        f"{where} is a bare array: an image belongs at uns['spatial'][slice]['images'][{key or 'hires'!r}], with "
        f"uns['spatial'][slice]['scalefactors']"
        for where in _bare_images(adata)
    ]
    return found


def _images(entry: Mapping[str, Any]) -> list[str]:
    images = entry.get(IMAGES, {})
    return list(images) if isinstance(images, Mapping) else []


def _bare_images(adata: AnnData) -> list[str]:
    """Where an array lies that has the shape of a picture, and no name that anybody would look for."""
    spatial = adata.uns.get(SPATIAL, {})
    places = {f"uns[{key!r}]": value for key, value in adata.uns.items()}
    if isinstance(spatial, Mapping):
        places |= {f"uns['spatial'][{name!r}]": value for name, value in spatial.items()}
        places |= {
            f"uns['spatial'][{name!r}]['images']": entry.get(IMAGES)
            for name, entry in spatial.items()
            if isinstance(entry, Mapping)
        }
    return [where for where, value in places.items() if _is_picture(value)]


def _is_picture(value: Any) -> bool:
    shape: tuple[int, ...] = getattr(value, "shape", ())
    return len(shape) == 3 and shape[2] in (3, 4) and min(shape[:2]) > 1


def unused_features(tissue: Tissue, modalities: Collection[str], key_added: str) -> list[str]:
    """Sentences about ready features in ``obsm`` that no modality reads.

    Parameters
    ----------
    tissue
        That is read.
    modalities
        Names of those that are used.
    key_added
        Prefix of results, which are no features.
    """
    uns = tissue.adata.uns
    runs = {key_added, *(key for key, value in uns.items() if isinstance(value, Mapping) and "history" in value)}
    found = []
    for key, value in tissue.adata.obsm.items():
        known = key in {*modalities, tissue.layout.spatial_key, SPATIAL, IMAGE_FEATURES}
        if known or key.casefold().startswith(tuple(name.casefold() for name in _DERIVED)):
            continue
        if key.startswith(tuple(start for run in runs for start in (f"X_{run}", f"{run}_"))):
            continue
        shape: tuple[int, ...] = getattr(value, "shape", ())
        numeric = np.issubdtype(getattr(value, "dtype", np.dtype(float)), np.number)
        if len(shape) == 2 and shape[1] > 2 and numeric:
            chosen = [*modalities, key]
            found.append(f"obsm[{key!r}] ({shape[1]} columns) is no modality unless named: modalities={chosen}")
    return found
