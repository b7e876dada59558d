"""Panels of a map: spots of every slice on its image, coloured by score or by class."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import EllipseCollection
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from omib_spatial._colours import INK
from omib_spatial._settings import settings
from omib_spatial.pl._figure import scale_bar
from omib_spatial.pl._slices import Slice

SLICES_PER_PAGE = 6
_PANEL_WIDTH = 3.2  # inches
_FADED = 0.35  # opacity of the image under spots
_TOUCHING = 0.95  # diameter of spots by their pitch, where they are not drawn in true size
_SEEN = 1 / 250  # diameter of the smallest spot that is seen, by the size of the map
_MANY = 20_000  # spots from which on a vector graphic is larger than its picture


@dataclass(frozen=True)
class ScoreLayer:
    """A number per spot, masked where there is none; ``marks`` are values that are told on the bar, with words."""

    values: np.ma.MaskedArray
    colours: ScalarMappable
    title: str = "Score"
    unit: str = ""
    marks: Mapping[float, str] = field(default_factory=dict)

    def faces(self, rows: np.ndarray) -> np.ndarray:
        """Colours of some spots, (n, 4)."""
        return self.colours.to_rgba(self.values[rows])

    def explain(self, figure: Figure, column: np.ndarray) -> None:
        """Say beside a column of panels what colours mean, and where on the bar calls begin."""
        known, norm = self.values.compressed(), self.colours.norm
        beyond = bool((known < norm.vmin).any()), bool((known > norm.vmax).any())
        extend = {(False, False): "neither", (True, False): "min", (False, True): "max"}.get(beyond, "both")
        share = 1 / len(column)  # beside the first row, where legends are
        bar = figure.colorbar(
            self.colours, ax=list(column), extend=extend, extendfrac=0.03, pad=0.03,
            aspect=20, shrink=0.85 * share, anchor=(0.0, 1 - 0.05 * share), fraction=0.15 * share,
        )  # fmt: skip
        bar.set_label(self.unit, color=INK, fontsize="x-small")
        bar.outline.set_visible(False)
        bar.ax.tick_params(colors=INK, labelsize="small")
        self._mark(bar)

    def _mark(self, bar: Colorbar) -> None:
        """Lines across the bar at its marks, which are told in the place of the nearest ticks."""
        low, high = bar.ax.get_ylim()
        told = {value: words for value, words in self.marks.items() if low <= value <= high}
        if not told:
            return
        # Words of two marks that lie close stand above the upper one and below the lower one.
        close = 0 < max(told) - min(told) < 0.2 * (high - low)
        room = (0.2 if close else 0.09) * (high - low)
        plain = [
            value
            for value in bar.get_ticks()
            if low <= value <= high and all(abs(value - mark) > room for mark in told)
        ]
        for value in told:
            bar.ax.axhline(value, color="white", linewidth=2.4)
            bar.ax.axhline(value, color=INK, linewidth=1.2)
        labels = [f"{value:g}" for value in plain] + [f"{value:.2g}: {words}" for value, words in told.items()]
        bar.set_ticks([*plain, *told], labels=labels)
        for value, label in zip([*plain, *told], bar.ax.get_yticklabels(), strict=True):
            if close and value in told:
                label.set_verticalalignment("bottom" if value == max(told) else "top")


@dataclass(frozen=True)
class ClassLayer:
    """A class per spot; the last one is of spots without any."""

    codes: np.ndarray
    labels: list[str]
    colours: np.ndarray
    title: str

    def faces(self, rows: np.ndarray) -> np.ndarray:
        """Colours of some spots, (n, 4)."""
        return self.colours[self.codes[rows]]

    def explain(self, figure: Figure, column: np.ndarray) -> None:
        """Say beside a column of panels what colours mean."""
        there = np.unique(self.codes)
        dot: dict[str, Any] = {"marker": "o", "linestyle": "", "markeredgecolor": "none", "markersize": 7}
        handles = [
            Line2D([], [], color=colour, label=label, **dot)
            for code, (label, colour) in enumerate(zip(self.labels, self.colours, strict=True))
            if code < len(self.labels) - 1 or code in there
        ]
        column[0].legend(
            handles=handles, loc="upper left", bbox_to_anchor=(1, 1), frameon=False, labelcolor=INK, fontsize="small",
            handletextpad=0.2, borderaxespad=0.2, ncols=-(-len(handles) // 16),
        )  # fmt: skip


@dataclass(frozen=True)
class Page:
    """A figure with a row per slice and a column per panel.

    Attributes
    ----------
    figure
        All of it.
    shown
        Its slices, from above.
    grid
        Its Axes, (slices, panels).
    """

    figure: Figure
    shown: list[Slice]
    grid: np.ndarray

    def name_rows(self) -> None:
        """Name of each slice beside its row, and a scale bar in its first panel where the scale is known."""
        for item, row in zip(self.shown, self.grid, strict=True):
            row[0].set_ylabel(item.name, color=INK)
            if item.um_per_pixel is not None:
                scale_bar(row[0], item.um_per_pixel, item.xy)


def pages(shown: list[Slice], panels: list[str], figsize: tuple[float, float] | None, ax: Axes | None) -> list[Page]:
    """Figures of at most six slices each.

    Parameters
    ----------
    shown
        Slices, from above.
    panels
        Names of panels, from the left; ``"image"`` needs no legend beside it.
    figsize
        Width and height of a page in inches; None follows the shape of slices.
    ax
        Axes to use instead, for one slice and one panel.

    Raises
    ------
    ValueError
        ``ax`` is given and there are several panels.
    """
    if ax is not None:
        if len(shown) * len(panels) != 1:
            names = [item.name for item in shown]
            raise ValueError(f"ax= holds one panel of one slice, not {panels} of {names}: pass color= and library_id=.")
        return [Page(ax.figure.figure, shown, np.array([[ax]], dtype=object))]
    return [_page(shown[i : i + SLICES_PER_PAGE], panels, figsize) for i in range(0, len(shown), SLICES_PER_PAGE)]


def _page(shown: list[Slice], panels: list[str], figsize: tuple[float, float] | None) -> Page:
    heights = [float(np.clip(item.aspect, 0.25, 4)) for item in shown]
    if figsize is None:
        beside = sum({"image": 0.1, "score": 1.5}.get(name, 1.1) for name in panels)
        figsize = (_PANEL_WIDTH * len(panels) + beside + 0.3, _PANEL_WIDTH * sum(heights) + 0.15 * len(heights) + 0.6)
    figure, grid = plt.subplots(
        len(shown), len(panels), figsize=figsize, squeeze=False, layout="compressed", height_ratios=heights
    )
    return Page(figure, shown, grid)


def draw_pages(
    shown: list[Slice],
    columns: Mapping[str, ScoreLayer | ClassLayer | None],
    *,
    size: float = 1.0,
    alpha: float = 1.0,
    figsize: tuple[float, float] | None = None,
    ax: Axes | None = None,
    captions: Mapping[str, str] | None = None,
    legends: bool = True,
) -> list[Page]:
    """Draw slices, a column for each layer.

    Parameters
    ----------
    shown
        Slices, from above.
    columns
        By the name of the panel, what colours spots; None shows the image.
    size
        Factor on the diameter of spots.
    alpha
        Opacity of scores over tissue.
    figsize, ax
        As of `pages`.
    captions
        What is said below the last panel of a slice, by its name.
    legends
        Whether each column says what its colours mean.
    """
    found = pages(shown, list(columns), figsize, ax)
    for page in found:
        for item, row in zip(page.shown, page.grid, strict=True):
            for layer, cell in zip(columns.values(), row, strict=True):
                draw_panel(cell, item, layer, size, alpha)
            if caption := (captions or {}).get(item.name):
                row[-1].set_xlabel(caption, color=INK, fontsize="small")
        page.name_rows()
        for layer, column in zip(columns.values(), page.grid.T, strict=True):
            column[0].set_title("H&E" if layer is None else layer.title, color=INK)
            if layer is not None and legends:
                layer.explain(page.figure, column)
    return found


def name_pages(found: list[Page], title: str | None, *, own_panel: bool = True) -> None:
    """Title of each page, or of the panel if there is but one and ``own_panel``; several pages are counted."""
    if title is None:
        return
    for number, page in enumerate(found, 1):
        counted = f"{title} ({number} of {len(found)})" if len(found) > 1 else title
        if own_panel and len(found) == 1 and page.grid.size == 1:
            page.grid[0, 0].set_title(counted, color=INK)
        else:
            page.figure.suptitle(counted, color=INK, fontsize="medium")


def draw_panel(
    ax: Axes, item: Slice, layer: ScoreLayer | ClassLayer | None, size: float = 1.0, alpha: float = 1.0
) -> None:
    """Draw one slice: its image alone, or spots over the faded image in their true size.

    Parameters
    ----------
    ax
        Where.
    item
        The slice.
    layer
        What colours its spots; None draws the image.
    size
        Factor on the diameter of spots.
    alpha
        Opacity of scores over tissue. Where there is no image, spots are opaque and nearly touch.
    """
    if item.image is not None:
        part, extent = item.picture()
        if 0 in part.shape:
            raise ValueError(
                f"The spots of slice {item.name!r} lie off its image: check its scale factor in "
                f"uns['spatial'][{item.name!r}]['scalefactors'], or draw the score alone without uns['spatial']."
            )
        ax.imshow(_light(part, 1.0 if layer is None else _FADED, _dots(ax)), extent=extent, interpolation="none")
    elif layer is None:
        ax.text(0.5, 0.5, "no image", transform=ax.transAxes, ha="center", va="center", color=INK)
    if layer is not None:
        _draw_spots(ax, item, layer, size, alpha)
    left, right, bottom, top = item.view
    ax.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[], aspect="equal")
    ax.spines[:].set_visible(False)


def _dots(ax: Axes) -> int:
    """Dots along the longer side of a panel on paper."""
    figure = ax.figure.figure
    return max(int(1.1 * settings.figure_dpi * (figure.get_size_inches() * ax.get_position().size).max()), 100)


def _light(part: np.ndarray, opacity: float, longest: int) -> np.ndarray:
    """A picture over white, (h, w, 3) uint8, in few colours and no finer than the paper: files are much smaller."""
    pixels = np.asarray(part, np.float32)
    if part.dtype.kind == "f":
        pixels = pixels * 255
    opaque = opacity * (pixels[..., 3:] / 255 if pixels.shape[2] == 4 else np.float32(1))
    pixels = pixels[..., :3] * opaque + 255 * (1 - opaque)
    picture = Image.fromarray(np.rint(pixels).clip(0, 255).astype(np.uint8))
    picture.thumbnail((longest, longest), Image.Resampling.BOX)
    return np.asarray(picture.quantize(256 if opacity == 1 else 32, dither=Image.Dither.NONE).convert("RGB"))


def _draw_spots(ax: Axes, item: Slice, layer: ScoreLayer | ClassLayer, size: float, alpha: float) -> None:
    touching = _TOUCHING * item.pitch
    if item.image is None or item.diameter is None:
        diameter = touching
    else:  # the true one, unless nothing would be seen of it, as of bins of 2 um
        left, right, bottom, top = item.view
        diameter = max(item.diameter, min(touching, _SEEN * max(right - left, bottom - top)))
    width = np.full(len(item.rows), size * diameter)
    faces = layer.faces(item.rows)
    if isinstance(layer, ScoreLayer) and item.image is not None:
        faces[:, 3] *= alpha
    spots = EllipseCollection(
        width, width, np.zeros_like(width), units="xy", offsets=item.xy, offset_transform=ax.transData,
        facecolors=faces, edgecolors="none", rasterized=len(width) > _MANY,
    )  # fmt: skip
    ax.add_collection(spots)
