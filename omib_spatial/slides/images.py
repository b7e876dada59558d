"""Images in a file, read region by region, so that memory does not depend on the size of the slide."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from omib_spatial._keys import IMAGES, scale_key

FULLRES = "fullres"
"""Image key of the full-resolution image: an array or file in ``images``, or the file that Space Ranger was given."""
_TIFF = {".tif", ".tiff", ".btf", ".svs", ".qptiff"}
_OPENSLIDE = {".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".dcm", ".czi"}
_WHOLE = {".png", ".jpg", ".jpeg"}
_KEPT = 2**26
"""Bytes of tiles that are kept for each image."""
_LAZY = 1024
"""Sides of the tiles of a lazy image are those of its chunks, and at most so many pixels."""


class _Tiled(ABC):
    """An image (H, W, C) read tile by tile; those that were read last are kept, for neighbouring spots share them.

    Tiles of one channel are those of a grey image: it gets three equal ones, as `in_three_channels` gives them.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype, tile: tuple[int, int]) -> None:
        channels = 3 if shape[2] == 1 else shape[2]
        self.shape, self.dtype, self.ndim, self._tile = (*shape[:2], channels), dtype, 3, tile
        size = tile[0] * tile[1] * shape[2] * dtype.itemsize
        self._kept = lru_cache(maxsize=max(_KEPT // size, 1))(self._read)

    @abstractmethod
    def _read(self, y: int, x: int) -> np.ndarray:
        """(h, w, C) of the tile that begins there, cut off at the border."""

    def __getitem__(self, key: tuple[slice, slice]) -> np.ndarray:
        """(h, w, C) of one region."""
        (top, bottom, down), (left, right, across) = (
            part.indices(n) for part, n in zip(key, self.shape[:2], strict=True)
        )
        rows, columns = range(top, bottom, down), range(left, right, across)
        part = np.empty((len(rows), len(columns), self.shape[2]), self.dtype)
        height, width = self._tile
        for y in range(top // height * height, bottom, height):
            for x in range(left // width * width, right, width):
                (above, within_y), (before, within_x) = _meeting(rows, y, height), _meeting(columns, x, width)
                if above.stop > above.start and before.stop > before.start:
                    part[above, before] = self._kept(y, x)[within_y, within_x]
        return part


class TiffPixels(_Tiled):
    """Largest level of a TIFF, OME-TIFF or SVS, colour or grey, as (H, W, C); only tiles that are touched are decoded.

    ``identity`` is the file's path, size and time.
    """

    def __init__(self, path: Path) -> None:
        import tifffile
        import zarr

        series = tifffile.TiffFile(path).series[0]
        sizes = zip(series.axes, series.shape, strict=True)
        self._axes = "".join("S" if axis == "C" or (size == 1 and axis not in "XY") else axis for axis, size in sizes)
        if sorted(self._axes) not in (["S", "X", "Y"], ["X", "Y"]):
            raise ValueError(f"{path} has axes {series.axes}; an RGB image (YXS or SYX) or a grey one (YX) is needed.")
        self._level: Any = zarr.open_array(series.aszarr(level=0), mode="r")
        height, width = (self._level.shape[self._axes.index(axis)] for axis in "YX")
        colours = self._level.shape[self._axes.index("S")] if "S" in self._axes else 1
        tall, wide = (self._level.chunks[self._axes.index(axis)] for axis in "YX")
        super().__init__((height, width, colours), self._level.dtype, (tall, wide))
        self.identity = _identity(path)

    def _read(self, y: int, x: int) -> np.ndarray:
        place = {"Y": slice(y, y + self._tile[0]), "X": slice(x, x + self._tile[1]), "S": slice(None)}
        tile = np.asarray(self._level[tuple(place[axis] for axis in self._axes)])
        tile = tile.transpose([self._axes.index(axis) for axis in "YXS" if axis in self._axes])
        return tile.reshape(*tile.shape[:2], -1)


class LazyPixels(_Tiled):
    """A dask array (H, W, C) or, grey, (H, W): one computation for all spots of a tile, not one for each."""

    def __init__(self, array: Any) -> None:
        array = array if array.ndim == 3 else array[:, :, None]
        tall, wide = (min(length, _LAZY) for length in array.chunksize[:2])
        super().__init__(array.shape, array.dtype, (tall, wide))
        self._array = array

    def _read(self, y: int, x: int) -> np.ndarray:
        return np.asarray(self._array[y : y + self._tile[0], x : x + self._tile[1]])


class OpenSlidePixels:
    """Largest level of a whole-slide image as (H, W, 4), through openslide; what was not scanned is transparent."""

    def __init__(self, path: Path) -> None:
        try:
            import openslide
        except ImportError as error:
            raise ImportError(
                f"Reading {path} needs openslide: pip install 'omib-spatial[openslide]', or convert to OME-TIFF."
            ) from error
        self._slide = openslide.OpenSlide(path)
        width, height = self._slide.dimensions
        self.shape, self.dtype, self.ndim = (height, width, 4), np.dtype(np.uint8), 3
        self.identity = _identity(path)

    def __getitem__(self, key: tuple[slice, slice]) -> np.ndarray:
        """(h, w, 4) of one region."""
        (top, bottom, down), (left, right, across) = (
            part.indices(n) for part, n in zip(key, self.shape[:2], strict=True)
        )
        size = (max(right - left, 0), max(bottom - top, 0))
        return np.asarray(self._slide.read_region((left, top), 0, size))[::down, ::across]


def open_image(source: Any) -> Any:
    """Give an image as something that has a shape (H, W, C) and is sliced by rows and columns.

    Parameters
    ----------
    source
        An array in memory, a Pillow image, a dask array, or the path of a file. A colour array is returned as it is, a
        grey image (H, W) gets three equal channels. TIFF, OME-TIFF and SVS are read with tifffile, other whole-slide
        formats with openslide. PNG and JPEG have no regions: they are decoded whole.

    Raises
    ------
    FileNotFoundError, ValueError, ImportError
        There is no such file, its kind is not known, or openslide is missing.
    """
    if _is_lazy(source):
        return LazyPixels(source)
    if isinstance(source, Image.Image):
        return colours_of(source)
    if not isinstance(source, str | Path):
        return in_three_channels(source)
    path = Path(source)
    if not path.is_file():
        raise FileNotFoundError(f"The image file {path} does not exist: correct the path, or remove the image.")
    return _open_file(path.resolve(), path.stat().st_mtime_ns)


def _is_lazy(source: Any) -> bool:
    return type(source).__module__.startswith("dask.") and source.ndim in (2, 3)


@lru_cache(maxsize=16)
def _open_file(path: Path, modified: int) -> Any:
    kind = path.suffix.lower()
    if kind in _TIFF:
        return TiffPixels(path)
    if kind in _OPENSLIDE:
        return OpenSlidePixels(path)
    if kind in _WHOLE:
        return colours_of(Image.open(path))
    raise ValueError(f"{path} is no image that can be read: one of {sorted(_TIFF | _OPENSLIDE | _WHOLE)} is needed.")


def colours_of(picture: Image.Image) -> np.ndarray:
    """(H, W, 3) uint8 of a Pillow image, be it grey, indexed, CMYK or of 16 bits; (H, W, 4) if it has transparency."""
    if picture.mode.startswith("I"):
        deep = np.asarray(picture) / np.iinfo(np.uint16).max
        return in_three_channels(np.rint(deep.clip(0, 1) * 255).astype(np.uint8))
    return np.asarray(picture.convert("RGBA" if picture.has_transparency_data else "RGB"))


def in_three_channels(pixels: Any) -> Any:
    """An image as it is, but of a grey one (H, W) or (H, W, 1) three times its channel."""
    if isinstance(pixels, np.ndarray) and (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 1)):
        return np.repeat(pixels.reshape(*pixels.shape[:2], 1), 3, axis=2)
    return pixels


def _meeting(wanted: range, start: int, length: int) -> tuple[slice, slice]:
    """Which of the wanted lines a tile holds: their places among the wanted ones, and in the tile."""
    first = max(-(-(start - wanted.start) // wanted.step), 0)
    last = min(-(-(start + length - wanted.start) // wanted.step), len(wanted))
    offset = wanted.start + first * wanted.step - start
    return slice(first, last), slice(offset, offset + (last - first) * wanted.step, wanted.step)


def _identity(path: Path) -> str:
    state = path.stat()
    return f"{path}:{state.st_size}:{state.st_mtime_ns}"


def best_image(entry: Mapping[str, Any], image_key: str | None = None) -> str:
    """``image_key``, or if it is None the best of an entry of ``uns["spatial"]``: hires, lowres, any, full resolution.

    The last is last, since reading it takes longest and the file is often elsewhere.
    """
    if image_key is not None:
        return image_key
    images = entry.get(IMAGES, {})
    there = list(images) if isinstance(images, Mapping) else []
    if not there and Path(_part(entry, "metadata").get("source_image_path") or "").is_file():
        return FULLRES
    return next((str(key) for key in ("hires", "lowres", *there) if key in there), "hires")


def image_source(entry: Mapping[str, Any], image_key: str) -> Any | None:
    """Array or path of one image of an entry of ``uns["spatial"]``, None if it has none.

    ``"fullres"`` falls back on ``metadata["source_image_path"]``, where Space Ranger's readers put the file's path.
    """
    images = _part(entry, IMAGES)
    if image_key in images:
        return images[image_key]
    return _part(entry, "metadata").get("source_image_path") if image_key == FULLRES else None


def _part(entry: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A mapping in an entry; an empty one where there is none, or something else."""
    found = entry.get(name)
    return found if isinstance(found, Mapping) else {}


def image_scale(factors: Mapping[str, Any], image_key: str) -> Any | None:
    """Image pixels per full-resolution pixel, None if it is not known; 1 for ``"fullres"`` unless given."""
    return factors.get(scale_key(image_key), 1.0 if image_key == FULLRES else None)
