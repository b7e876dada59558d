"""Bad input gets a clear error before any training, and the AnnData stays as it was.

Every message names the key, the first few rows, and the next step to take.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.spatial import cKDTree

from omib_spatial._keys import IMAGES, SPATIAL, scale_key
from omib_spatial._warn import warn
from omib_spatial.slides.slides import SlideImage, coordinates, library_codes, named, slide_entries, slide_image

_BARCODE = r"([ACGT]{12,}|s_\d{3}um_\d+_\d+|cellid_\d+)(?:-(\d+))?"
"""A barcode of Visium, of a bin or of a cell, whatever stands around it, and the number of its slide."""
_REPEATED = 0.05
"""Share of spots that another slide must explain."""
_AMONG = 0.2
"""Share of a second slide's spots next to those of the first, from which on slides lie on top of each other."""


def require_anndata(adata: AnnData) -> None:
    """Raise TypeError where ``adata`` is something else, ValueError where it is empty or ambiguous."""
    if not isinstance(adata, AnnData):
        read = ", as anndata.read_h5ad reads it" if isinstance(adata, str | Path) else ""
        raise TypeError(f"adata is {type(adata).__name__}: pass an AnnData{read}.")
    if isinstance(adata.obs_names, pd.MultiIndex):
        raise TypeError("obs_names is of several levels: set it to one name of each spot, as text.")
    for name, table in (("obs", adata.obs), ("var", adata.var)):
        if isinstance(table, pd.DataFrame) and not table.columns.is_unique:
            twice = named(table.columns[table.columns.duplicated()].unique())
            raise ValueError(f"{name} has several columns of one name ({twice}): rename or drop them.")
    if adata.n_obs == 0 or adata.n_vars == 0:
        raise ValueError(f"adata has {adata.n_obs} spots and {adata.n_vars} genes: there is nothing to look at.")


def refuse_view(adata: AnnData) -> None:
    """Raise ValueError on a view, as what is written to one never reaches its parent, and as `require_anndata`."""
    require_anndata(adata)
    if adata.is_view:
        raise ValueError("adata is a view of another AnnData, results would not reach it: pass adata.copy() instead.")


def load_tables(adata: AnnData) -> None:
    """Read ``obs`` and ``var`` of a lazily read AnnData into memory; counts stay where they are."""
    if not isinstance(adata.obs, pd.DataFrame):
        adata.obs = adata.obs.to_memory()
    if not isinstance(adata.var, pd.DataFrame):
        adata.var = adata.var.to_memory()


def require_column(adata: AnnData, key: str | None, argument: str) -> None:
    """Raise KeyError if ``obs`` has no column ``key``, which was given as ``argument``; None is no column."""
    if key is not None and key not in adata.obs:
        raise KeyError(f"obs[{key!r}] does not exist: pass {argument}= one of {list(adata.obs)}, or None.")


def check_coordinates(adata: AnnData, spatial_key: str = SPATIAL, library_key: str | None = None) -> None:
    """Check that each spot has finite coordinates that no other spot of its slice has.

    Raises
    ------
    KeyError, TypeError, ValueError
        As :func:`coordinates` and :func:`library_codes`; ValueError also where spots of one slice coincide, two
        slides lie on top of each other in one slice, or most spots are alone on theirs.

    Warns
    -----
    UserWarning
        One slice holds two slides that lie beside each other.
    """
    xy = coordinates(adata, spatial_key)
    codes, names = library_codes(adata, library_key)
    sizes = np.bincount(codes, minlength=len(names))
    if len(names) > 1 and (alone := int((sizes == 1).sum())) > adata.n_obs / 2:
        raise ValueError(
            f"obs[{library_key!r}] puts {alone} of {adata.n_obs} spots on a slice of their own: pass library_key= the "
            "column that tells slices apart, or None for one slice."
        )
    twice = pd.DataFrame(xy).assign(library=codes).duplicated(keep=False).to_numpy()
    if twice.any():
        advice = "drop the copies" if library_key is not None else "drop the copies, or separate slices by library_key="
        raise ValueError(
            f"obsm[{spatial_key!r}] puts several spots of one slice at one place: {named(adata.obs_names, twice)}; "
            f"{advice}."
        )
    for code, name in enumerate(names):
        rows = np.flatnonzero(codes == code)
        check_one_slide(adata, rows, xy[rows], name)


def check_one_slide(adata: AnnData, rows: np.ndarray, xy: np.ndarray, name: str) -> None:
    """Check that the spots ``rows`` of slice ``name``, at ``xy`` (len(rows), >= 2), are of one slide.

    A barcode and a place of the array are there once on a slide. Pieces of tissue that lie apart are no evidence.

    Raises
    ------
    ValueError
        They are of two slides, whose spots lie among each other.

    Warns
    -----
    UserWarning
        They are of two slides, which lie beside each other.
    """
    barcodes = adata.obs_names[rows].astype(str).to_series().str.extract(_BARCODE)
    of_name = [barcodes[0]] if barcodes[0].notna().any() else []
    grid = adata.obs.iloc[rows][["array_row", "array_col"]] if {"array_row", "array_col"} <= set(adata.obs) else None
    of_grid = [] if grid is None else [grid["array_row"].astype(str) + "x" + grid["array_col"].astype(str)]
    for kind, keys in (("barcodes", of_name), ("places of the array", of_grid)):
        for key in keys:
            nth = np.where(key.notna(), key.groupby(key.to_numpy()).cumcount(), 0)
            if (nth > 0).sum() >= max(_REPEATED * len(rows), 2):
                _refuse_two_slides(xy[:, :2], nth > 0, f"{(nth > 0).sum()} {kind} are there twice", name)
                return
    suffixes = pd.factorize(barcodes[1])[0]
    counts = np.bincount(suffixes[suffixes >= 0])
    if len(counts) > 1 and np.sort(counts)[-2] >= max(_REPEATED * len(rows), 2):
        endings = named(pd.unique(barcodes[1].dropna()))
        _refuse_two_slides(xy[:, :2], suffixes > 0, f"barcodes end in {endings}", name)


def _refuse_two_slides(xy: np.ndarray, second: np.ndarray, evidence: str, name: str) -> None:
    tree = cKDTree(xy[~second])
    spacing = np.median(tree.query(xy[~second], 2)[0][:, 1])
    among = float((tree.query(xy[second])[0] <= spacing).mean())
    message = (
        f"Slice {name!r} looks like several slides put together ({evidence}): pass library_key= the obs column that "
        "tells them apart; anndata.concat(..., label='library_id', uns_merge='unique') makes one and keeps images."
    )
    if among > _AMONG:
        raise ValueError(f"{message} {among:.0%} of the second slide's spots lie among those of the first.")
    warn(message)


def check_images(
    adata: AnnData,
    *,
    library_key: str | None,
    image_key: str | None = "hires",
    spatial_key: str = SPATIAL,
    required: bool,
) -> dict[str, SlideImage]:
    """Check images, their scale factors, and that the spots lie on them.

    A spot's centre may be at most half a spot diameter off the image.

    Parameters
    ----------
    adata
        Spots by genes.
    library_key
        ``obs`` column that separates slices.
    image_key
        Which of the images of a slice; None takes the best that is there.
    spatial_key
        ``obsm`` key of the coordinates.
    required
        Whether it is an error if no slice has an image.

    Returns
    -------
    Image of each slice that has one by name, in the order of :func:`library_codes`.

    Raises
    ------
    KeyError, TypeError, ValueError
        As :func:`slide_image`, :func:`coordinates` and :func:`library_codes`; KeyError also if an image is required
        and there is none, ValueError if spots are off their image.
    """
    codes, names = library_codes(adata, library_key)
    slides = {code: image for code, name in enumerate(names) if (image := slide_image(adata, name, image_key))}
    if not slides:
        _no_image(adata, names, image_key, required)
        return {}
    xy = coordinates(adata, spatial_key)
    for code, image in slides.items():
        rows = np.flatnonzero(codes == code)
        off = image.outside(xy[rows])
        if off.any():
            spots = named(adata.obs_names[rows], off)
            swapped = not image.outside(xy[rows][:, 1::-1]).any()
            raise ValueError(_off_image(image, names[code], spatial_key, spots, swapped))
    return {names[code]: image for code, image in slides.items()}


def _no_image(adata: AnnData, names: list[str], image_key: str | None, required: bool) -> None:
    """Raise where an image is required; warn where one is there under a name that no spot has."""
    held = {name: entry.get(IMAGES, {}) for name, entry in slide_entries(adata).items()}
    available = {name: list(images) if isinstance(images, Mapping) else [] for name, images in held.items()}
    wanted = "" if image_key is None else f"[{image_key!r}]"
    message = f"No slice of {names} has uns['spatial'][slice]['images']{wanted}; images there: {available}"
    if required:
        raise KeyError(f"{message}. Add it, pass image_key=, or rename slices so that library_key= matches.")
    if any(image_key in images or (image_key is None and images) for images in available.values()):
        warn(f"{message}. They are not used: library_key= matches none.")


def _off_image(image: SlideImage, name: str, spatial_key: str, spots: str, swapped: bool) -> str:
    height, width = image.pixels.shape[:2]
    hint = (
        f"They would fit with the columns swapped: obsm[{spatial_key!r}] must be (x, y), not (row, column)."
        if swapped
        else f"Check {scale_key(image.key)} (now {image.scale:g}), or that coordinates are (x, y) in "
        "full-resolution pixels."
    )
    return (
        f"obsm[{spatial_key!r}] puts spots off image {image.key!r} of slice {name!r}, whose extent in full-resolution "
        f"pixels is {width / image.scale:.6g} x {height / image.scale:.6g} (x, y): {spots}. {hint}"
    )


def reference_mask(
    adata: AnnData, reference_key: str | None, healthy: np.ndarray | None = None, *, minimum: int = 40
) -> np.ndarray:
    """Which spots are healthy reference, (n_obs,) bool: if ``reference_key`` is None, ``healthy`` ones or else all.

    Parameters
    ----------
    adata
        Spots by genes.
    reference_key
        Boolean ``obs`` column that marks the reference.
    healthy
        Spots whose label is healthy, (n_obs,) bool; None without labels.
    minimum
        Reference spots that there must be.

    Raises
    ------
    KeyError
        ``obs[reference_key]`` does not exist.
    TypeError
        The column is not boolean, or has missing values.
    ValueError
        Fewer than ``minimum`` spots are reference.
    """
    if reference_key is None:
        mask = np.ones(adata.n_obs, dtype=bool) if healthy is None else healthy
    elif reference_key not in adata.obs:
        raise KeyError(f"obs[{reference_key!r}] does not exist: pass reference_key= one of {list(adata.obs)}, or None.")
    else:
        column = adata.obs[reference_key]
        if not pd.api.types.is_bool_dtype(column.dtype) or column.isna().any():
            example = next(iter(column.dropna().tolist()), "normal")
            raise TypeError(
                f"obs[{reference_key!r}] must be boolean without missing values, got {column.dtype}: make a column "
                f"such as adata.obs['reference'] = (adata.obs[{reference_key!r}] == {example!r}).fillna(False)"
                ".astype(bool) and pass reference_key='reference'."
            )
        mask = column.to_numpy(dtype=bool)
    if (found := int(mask.sum())) < minimum:
        whole = "adata" if healthy is None else "The healthy part of labels_key"
        where = whole if reference_key is None else f"obs[{reference_key!r}]"
        raise ValueError(f"{where} has {found} reference spots, at least {minimum} are needed: add healthy spots.")
    return mask
