"""What every plot shares: frames, scale bars, and showing or saving at the end."""

import logging
from io import BytesIO
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.image import AxesImage
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar
from PIL import Image

from omib_spatial._atomic import replacing
from omib_spatial._colours import INK
from omib_spatial._settings import FIGURE_FORMATS, Settings, settings

logger = logging.getLogger("omib_spatial")

DEFAULT_DPI = Settings.figure_dpi
_LARGEST = 1_950_000
"""Bytes of a file at the default resolution, at most."""
_COARSEST = 50
_TRIES = 3
_COARSER = {"png", "pdf", "jpg", "jpeg", "webp"}
"""Kinds of files that a lower resolution makes smaller."""


def quiet(ax: Axes) -> None:
    """Leave of the frame what is needed to read values."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(INK)
    ax.tick_params(colors=INK, labelsize="small")


def scale_bar(ax: Axes, um_per_unit: float, xy: np.ndarray) -> None:
    """Draw a bar of a round length, at most a quarter of the width of ``ax``, in the corner with the fewest points.

    Parameters
    ----------
    ax
        Where; its limits are set.
    um_per_unit
        Micrometres per unit of its axes.
    xy
        Points that should stay visible, (n, 2).
    """
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    across, up = (xy[:, 0] - left) / (right - left), (xy[:, 1] - bottom) / (top - bottom)
    corners = {
        f"{vertical} {horizontal}": int(((beside < 1 / 3) & (beyond < 1 / 4)).sum())
        for vertical, beyond in (("lower", up), ("upper", 1 - up))
        for horizontal, beside in (("left", across), ("right", 1 - across))
    }
    longest = abs(right - left) * um_per_unit / 4
    decade = 10.0 ** np.floor(np.log10(longest))
    length = max(step * decade for step in (0.5, 1, 2, 5) if step * decade <= longest)
    label = f"{length / 1000:g} mm" if length >= 1000 else f"{length:g} µm"
    bar = AnchoredSizeBar(
        ax.transData, length / um_per_unit, label, min(corners, key=corners.__getitem__), pad=0.3, borderpad=0.4, sep=3,
        color=INK, size_vertical=abs(top - bottom) / 150, fill_bar=True, fontproperties=FontProperties(size="small"),
    )  # fmt: skip
    bar.patch.set(alpha=0.85, edgecolor="none")
    ax.add_artist(bar)


def page_files(save: str | Path, n_pages: int) -> list[Path]:
    """Files that ``n_pages`` pages are written into: a PDF holds all, of other kinds each page has a numbered file."""
    path = Path(save)
    if n_pages == 1 or path.suffix.lower() == ".pdf":
        return [path]
    return [path.with_name(f"{path.stem}_{number}{path.suffix}") for number in range(1, n_pages + 1)]


def finish(
    figures: Figure | list[Figure], name: str, *, own: bool, show: bool | None, save: str | Path | bool | None
) -> None:
    """Save and show as asked.

    Parameters
    ----------
    figures
        What was drawn on: one figure, or a list of pages.
    name
        File name without suffix where ``save`` is True.
    own
        Whether the figure was made here, not by the caller.
    show
        None shows the figure if matplotlib is interactive, the figure is our own and it is not saved.
    save
        File to write, its folder is made; True writes into the present folder, in the format of
        `omib_spatial.settings`. Several pages are one PDF, or numbered files (`page_files`).

    Raises
    ------
    ValueError
        ``save`` ends with no kind of picture.
    """
    pages = figures if isinstance(figures, list) else [figures]
    if save:
        path = Path(f"{name}.{settings.figure_format}" if save is True else save)
        if path.suffix.lower().lstrip(".") not in FIGURE_FORMATS:
            kinds = ", ".join(FIGURE_FORMATS)
            raise ValueError(f"save= is {str(path)!r}, which ends with no kind of picture: pass one of {kinds}.")
        files = page_files(path, len(pages))
        for file, content in zip(files, [pages] if len(files) == 1 else [[page] for page in pages], strict=True):
            with replacing(file) as partial:
                partial.write_bytes(_encoded(content, path.suffix.lower().lstrip(".")))
        logger.info("Wrote %s.", " and ".join(map(str, files)) + (f" ({len(pages)} pages)" if len(pages) > 1 else ""))
    if show or (show is None and own and not save and matplotlib.is_interactive()):
        plt.show()


def _encoded(pages: list[Figure], kind: str) -> bytes:
    """Pages as one file; at the default resolution, pictures of one that would be large are made coarser."""
    dpi = settings.figure_dpi
    content = _at(pages, kind, dpi)
    if dpi != DEFAULT_DPI or kind not in _COARSER or len(content) <= _LARGEST:
        return content
    pictures = [image for page in pages for ax in _axes(page) for image in ax.images if _is_picture(image)]
    before = [image.get_array() for image in pictures]
    try:
        content = _below_limit(pages, pictures, kind, dpi, content)
    finally:
        for image, pixels in zip(pictures, before, strict=True):
            image.set_data(pixels)
    logger.info("Pictures are coarser, so that the file stays below 2 MB; settings.figure_dpi sets another one.")
    return content


def _below_limit(pages: list[Figure], pictures: list[AxesImage], kind: str, dpi: int, content: bytes) -> bytes:
    """First pictures lose pixels, so that letters stay sharp, then all does."""
    for _ in range(_TRIES if pictures else 0):
        _shrink(pictures, max((0.7 * _LARGEST / len(content)) ** 0.5, 0.4))
        if len(content := _at(pages, kind, dpi)) <= _LARGEST:
            return content
    while len(content) > _LARGEST and dpi > _COARSEST:
        dpi = max(int(0.75 * dpi), _COARSEST)
        content = _at(pages, kind, dpi)
    return content


def _axes(page: Figure) -> list[Axes]:
    """Of a figure and its parts."""
    return [*page.axes, *(ax for part in page.subfigs for ax in part.axes if ax not in page.axes)]


def _is_picture(image: AxesImage) -> bool:
    pixels = image.get_array()
    return pixels is not None and pixels.ndim == 3 and pixels.dtype == np.uint8


def _shrink(pictures: list[AxesImage], factor: float) -> None:
    for image in pictures:
        pixels = np.asarray(image.get_array())[..., :3]
        size = [max(int(length * factor), 1) for length in pixels.shape[1::-1]]
        picture = Image.fromarray(pixels).resize((size[0], size[1]), Image.Resampling.BOX)
        image.set_data(np.asarray(picture.quantize(128, dither=Image.Dither.NONE).convert("RGB")))


def _at(pages: list[Figure], kind: str, dpi: int) -> bytes:
    buffer = BytesIO()
    if kind != "pdf":
        pages[0].savefig(buffer, format=kind, dpi=dpi, bbox_inches="tight")
        return buffer.getvalue()
    with PdfPages(buffer) as file:
        for page in pages:
            file.savefig(page, dpi=dpi, bbox_inches="tight")
    return buffer.getvalue()
