"""What an AnnData says of its slides: which spot is on which, where it lies, and the image of each.

Every message names the key, the first few rows, and the next step to take.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from omib_spatial._keys import SCALEFACTORS, SPATIAL, SPOT_DIAMETER, UM_PER_PIXEL, scale_key
from omib_spatial.slides.images import best_image, image_scale, image_source, open_image

_NAMED = 5


def named(names: Any, mask: np.ndarray | None = None) -> str:
    """First few names, those under ``mask`` where one is given, then how many more there are."""
    chosen = list(names) if mask is None else list(np.asarray(names)[mask])
    more = f" and {len(chosen) - _NAMED} more" if len(chosen) > _NAMED else ""
    return ", ".join(repr(str(name)) for name in chosen[:_NAMED]) + more


def slide_entries(adata: AnnData) -> dict[str, Mapping[str, Any]]:
    """Entries of ``uns["spatial"]``; CELLxGENE files keep flags such as ``is_single`` beside them."""
    spatial = adata.uns.get(SPATIAL, {})
    if not isinstance(spatial, Mapping):
        return {}
    entries = {str(name): entry for name, entry in spatial.items() if isinstance(entry, Mapping)}
    for name, entry in entries.items():
        if not isinstance(factors := entry.get(SCALEFACTORS, {}), Mapping):
            raise TypeError(f"uns['spatial'][{name!r}]['scalefactors'] is {type(factors).__name__}: it is a mapping.")
    return entries


def library_codes(
    adata: AnnData, library_key: str | None = None, *, missing_ok: bool = False
) -> tuple[np.ndarray, list[str]]:
    """Slice of every spot.

    Parameters
    ----------
    adata
        Spots by genes.
    library_key
        ``obs`` column that separates slices. Without it all spots are one slice, named as in ``uns["spatial"]``.
    missing_ok
        Whether spots may be on no slice.

    Returns
    -------
    codes
        (n_obs,) int64, position in ``names``; -1 for a spot on no slice.
    names
        Slices that have spots, in category order if the column is categorical, else sorted.

    Raises
    ------
    KeyError
        ``library_key`` is not in ``obs``.
    ValueError
        Spots without a slice, names that read alike, or no ``library_key`` though ``uns["spatial"]`` has several
        slices.
    TypeError
        The column holds what is no name, such as lists.
    """
    slides = slide_entries(adata)
    if library_key is None:
        if len(slides) > 1:
            columns = [c for c in adata.obs if not slides.keys().isdisjoint(map(str, adata.obs[c].unique()))]
            hint = f"obs columns that hold these names: {columns}" if columns else "no obs column holds these names"
            raise ValueError(
                f"uns['spatial'] has several slices ({named(slides)}): tell with library_key= which spot is on which "
                f"({hint}), or keep only the entry of the one slice that is there."
            )
        return np.zeros(adata.n_obs, dtype=np.int64), [next(iter(slides), "")]
    if library_key not in adata.obs:
        raise KeyError(f"obs[{library_key!r}] does not exist: pass library_key= one of {list(adata.obs)}.")
    try:
        column = adata.obs[library_key].astype("category").cat.remove_unused_categories().cat
    except TypeError as error:
        raise TypeError(f"obs[{library_key!r}] must hold a name for each spot: {error}.") from error
    codes = column.codes.to_numpy().astype(np.int64)
    if not missing_ok and (codes < 0).any():
        spots = named(adata.obs_names, codes < 0)
        raise ValueError(f"obs[{library_key!r}] is missing for spots {spots}: fill it in or drop these spots.")
    # As the whole column is written as text elsewhere: a day is "2020-01-01", without an hour.
    names = column.categories.astype(str)
    if not names.is_unique:
        raise ValueError(
            f"obs[{library_key!r}] has values that read alike ({named(names[names.duplicated()])}), such as 1 and '1': "
            f"write adata.obs[{library_key!r}].astype(str) into it if they are the same."
        )
    return codes, list(names)


def real_numbers(found: Any, where: str) -> np.ndarray:
    """``found`` as an array of floats, as wide as given; TypeError, with ``where`` it is, unless all are real numbers.

    numpy would drop imaginary parts, count the days of a date, and read text as numbers.
    """
    if isinstance(found, np.ma.MaskedArray) and found.dtype.kind in "biuf":
        found = np.ma.filled(found.astype(np.float64), np.nan)
    try:
        table = isinstance(found, pd.DataFrame)
        values = found.to_numpy(na_value=np.nan) if table else np.asarray(found)
        kinds = [values.dtype, *(found.dtypes if table else [])]
        if any(kind.kind in "cmMUS" for kind in kinds):
            raise TypeError(", ".join(sorted(map(str, set(kinds)))))
        if values.dtype == object and any(isinstance(value, str | bytes | complex) for value in values.flat):
            raise TypeError("there is text or a complex number among them")
        return values if values.dtype.kind == "f" else values.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{where} must be a dense array or DataFrame of real numbers only, not {type(found).__name__}: {error}."
        ) from error


LARGEST = 1e9
"""Pixels of a coordinate: beyond, distances between spots cannot be told apart."""


def coordinates(adata: AnnData, spatial_key: str = SPATIAL, *, missing_ok: bool = False) -> np.ndarray:
    """Coordinates, (n_obs, >= 2) float64 in full-resolution pixels: x to the right, y down, then any others.

    They are finite, unless ``missing_ok``; then at least one spot's are.

    Raises
    ------
    KeyError
        ``obsm[spatial_key]`` does not exist.
    TypeError, ValueError
        It holds no numbers, has another shape, or NaN or infinite rows.
    """
    if spatial_key not in adata.obsm:
        raise KeyError(
            f"obsm[{spatial_key!r}] does not exist: store the full-resolution pixel coordinates (x, y) of the spots "
            f"there, or pass spatial_key= one of {list(adata.obsm)}."
        )
    xy = real_numbers(adata.obsm[spatial_key], f"obsm[{spatial_key!r}]").astype(np.float64)
    if xy.ndim != 2 or xy.shape[1] < 2:
        raise ValueError(f"obsm[{spatial_key!r}] must have shape (n_obs, 2), x and y of every spot; got {xy.shape}.")
    bad = np.asarray((~np.isfinite(xy)).any(axis=1))
    if missing_ok and bad.all():
        raise ValueError(f"obsm[{spatial_key!r}] places no spot: correct it, or pass spatial_key=.")
    if not bad.all() and np.abs(xy[~bad]).max() > LARGEST:
        spots = named(adata.obs_names, np.asarray((np.abs(xy) > LARGEST).any(axis=1)))
        raise ValueError(f"obsm[{spatial_key!r}] is beyond {LARGEST:g} pixels for spots {spots}: correct them.")
    if bad.any() and not missing_ok:
        spots = named(adata.obs_names, bad)
        raise ValueError(f"obsm[{spatial_key!r}] is NaN or infinite for spots {spots}: drop or correct them.")
    return xy


@dataclass(frozen=True)
class SlideImage:
    """Image of one slice: pixels (H, W, 3 or 4), image per full-resolution pixels, spot diameter in the latter.

    ``um_per_pixel`` is that of full resolution, None if it is not known; ``key`` is the name of the image.
    """

    pixels: Any
    scale: float
    diameter: float
    um_per_pixel: float | None = None
    key: str = "hires"

    def outside(self, xy: np.ndarray) -> np.ndarray:
        """Which of the full-resolution coordinates (n, >= 2) are over half a spot off the image: (n,) bool."""
        height, width = self.pixels.shape[:2]
        slack = self.diameter / 2
        extent = np.array([width, height]) / self.scale
        beyond = (xy[:, :2] < -slack) | (xy[:, :2] > extent + slack)
        return np.asarray(beyond.any(axis=1))


def slide_image(adata: AnnData, library: str, image_key: str | None = "hires") -> SlideImage | None:
    """Image ``uns["spatial"][library]["images"][image_key]`` with its scale, None if there is none.

    The image is an array, or the path of a file, which is then read region by region. ``"fullres"`` is also found at
    ``metadata["source_image_path"]``, and has the scale 1 unless another is given. None takes the best that is there.

    Raises
    ------
    KeyError, ValueError
        The image has no scale factor or no spot diameter, or one that is no positive number.
    TypeError, ValueError
        The image is not (H, W, 3 or 4), uint8 or float in [0, 1].
    FileNotFoundError, ImportError
        As `omib_spatial.slides.images.open_image`.
    """
    found = pixels_and_scale(adata, library, image_key)
    if found is None:
        return None
    factors = slide_entries(adata)[library].get(SCALEFACTORS, {})
    where = f"uns['spatial'][{library!r}]['scalefactors']"
    diameter = _positive(
        factors.get(SPOT_DIAMETER),
        f"{where}[{SPOT_DIAMETER!r}]",
        "diameter of a spot in full-resolution pixels",
    )
    pixels, scale = found
    key = best_image(slide_entries(adata)[library], image_key)
    _check_pixels(pixels, f"uns['spatial'][{library!r}]['images'][{key!r}]")
    return SlideImage(pixels, scale, diameter, um_per_pixel(adata, library), key)


def pixels_and_scale(adata: AnnData, library: str, image_key: str | None = "hires") -> tuple[Any, float] | None:
    """An image of one slice, opened but not looked at, and its pixels per full-resolution pixel; None without one.

    Raises
    ------
    KeyError, ValueError
        The image has no scale factor, or one that is no positive number.
    FileNotFoundError, ImportError
        As `omib_spatial.slides.images.open_image`.
    """
    entry = slide_entries(adata).get(library, {})
    key = best_image(entry, image_key)
    if (source := image_source(entry, key)) is None:
        return None
    scale = _positive(
        image_scale(entry.get(SCALEFACTORS, {}), key),
        f"uns['spatial'][{library!r}]['scalefactors'][{scale_key(key)!r}]",
        f"image pixels of {key!r} per full-resolution pixel",
    )
    return open_image(source), scale


def spot_diameter(adata: AnnData, library: str) -> float | None:
    """Diameter of a spot of one slice in full-resolution pixels; None if it is not known."""
    factors = slide_entries(adata).get(library, {}).get(SCALEFACTORS, {})
    if SPOT_DIAMETER not in factors:
        return None
    where = f"uns['spatial'][{library!r}]['scalefactors'][{SPOT_DIAMETER!r}]"
    return _positive(factors[SPOT_DIAMETER], where, "diameter of a spot in full-resolution pixels")


def um_per_pixel(adata: AnnData, library: str, spot_diameter_um: float | None = None) -> float | None:
    """Micrometres per full-resolution pixel of one slice; None if they are not known, nor the diameter of a spot.

    Parameters
    ----------
    adata
        Spots by genes.
    library
        Slice.
    spot_diameter_um
        True diameter of its spots in micrometres, by which the scale is computed where it is not written down.

    Raises
    ------
    ValueError
        A scale factor or ``spot_diameter_um`` is no positive number.
    """
    factors = slide_entries(adata).get(library, {}).get(SCALEFACTORS, {})
    where = f"uns['spatial'][{library!r}]['scalefactors']"
    if UM_PER_PIXEL in factors:
        return _positive(factors[UM_PER_PIXEL], f"{where}[{UM_PER_PIXEL!r}]", "micrometres per full-resolution pixel")
    if spot_diameter_um is None or SPOT_DIAMETER not in factors:
        return None
    true = _positive(spot_diameter_um, "spot_diameter_um", "diameter of a spot in micrometres")
    meaning = "diameter of a spot in full-resolution pixels"
    return true / _positive(factors[SPOT_DIAMETER], f"{where}[{SPOT_DIAMETER!r}]", meaning)


def _positive(value: Any, where: str, meaning: str) -> float:
    if value is None:
        raise KeyError(f"{where} is missing: set it to the {meaning}.")
    try:
        value = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{where} is {value!r}: set it to the {meaning}, a number.") from None
    if not (np.isfinite(value) and value > 0):
        raise ValueError(f"{where} is {value}: set it to the {meaning}, a positive number.")
    return value


def _check_pixels(pixels: Any, where: str) -> None:
    if not isinstance(getattr(pixels, "dtype", None), np.dtype):
        raise TypeError(f"{where} is {type(pixels).__name__}: it is an array or the path of a file.")
    if pixels.ndim != 3 or pixels.shape[2] not in {3, 4} or 0 in pixels.shape:
        raise ValueError(f"{where} must have shape (height, width, 3 or 4), channels last; got {pixels.shape}.")
    if pixels.dtype == np.uint8:
        return
    if pixels.dtype.kind != "f":
        way = "convert it, as by image.astype('uint8') where values are 0 to 255"
        raise TypeError(f"{where} must be uint8, or float in [0, 1]; got {pixels.dtype}: {way}.")
    # Of what is read region by region, one line tells.
    middle = pixels.shape[0] // 2
    values = pixels if isinstance(pixels, np.ndarray) else pixels[middle : middle + 1, :]
    low, high = float(values.min()), float(values.max())
    if np.isnan(low):
        raise ValueError(f"{where} has pixels that are NaN: fill them in, as with 1 (white) where there is no tissue.")
    if not (low >= 0 and high <= 1):
        way = "divide by the largest possible value, or convert to uint8"
        raise ValueError(f"{where} is float and must lie in [0, 1]; it reaches from {low:g} to {high:g}: {way}.")
