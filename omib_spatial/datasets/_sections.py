"""What the readers of tissue sections share: which sections there are, and their pictures."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

SECTION = "section"


def check_folder(folder: Path) -> None:
    """Raise FileNotFoundError unless the folder exists."""
    if not folder.is_dir():
        raise FileNotFoundError(f"The folder {folder} does not exist: give the one with the sections' files.")


def chosen(there: Iterable[str], sections: Sequence[str] | None, folder: Path) -> list[str]:
    """Sections to read, in the order asked for; all that are there, sorted, for None.

    Raises
    ------
    ValueError
        A section of ``sections`` is not there, or ``sections`` is empty.
    """
    there = sorted(there)
    names = there if sections is None else [sections] if isinstance(sections, str) else list(sections)
    if unknown := [name for name in names if name not in there]:
        raise ValueError(f"sections {unknown} are not in {folder}: pass some of {there}.")
    if not names:
        raise ValueError(f"sections is empty: pass some of {there}, or None for all.")
    return names


def pixels(path: Path) -> npt.NDArray[np.uint8]:
    """Read a picture of any size as (height, width, 3) uint8."""
    with _any_size(), Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def size(path: Path) -> tuple[int, int]:
    """Width and height of a picture, which is not decoded."""
    with _any_size(), Image.open(path) as picture:
        return picture.size


@contextmanager
def _any_size() -> Iterator[None]:
    """Lift Pillow's limit, which takes a scanned slide for an attack, for as long as one is read."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit
