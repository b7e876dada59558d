"""Panels of a map: spots of every slice on its image, coloured by score or by class."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import EllipseCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from omib_spatial.pl._figure import INK
from omib_spatial.pl._slices import Slice

_PANEL_WIDTH = 3.2  # inches
_FADED = 0.35  # opacity of the image under spots
_TOUCHING = 0.95  # diameter of spots by their pitch, where they are not drawn in true size
_MANY = 20_000  # spots from which on a vector graphic is larger than its picture


@dataclass(frozen=True)
class ScoreLayer:
    """A number per spot, masked where there is none."""

    values: np.ma.MaskedArray
    colours: ScalarMappable
    title: str = "Score"

    def faces(self, rows: np.ndarray) -> np.ndarray:
        """Colours of some spots, (n, 4)."""
        return self.colours.to_rgba(self.values[rows])

    def explain(self, figure: Figure, column: np.ndarray) -> None:
        """Say beside a column of panels what colours mean."""
        known, norm = self.values.compressed(), self.colours.norm
        beyond = bool((known < norm.vmin).any()), bool((known > norm.vmax).any())
        extend = {(False, False): "neither", (True, False): "min", (False, True): "max"}.get(beyond, "both")
        share = 1 / len(column)  # beside the first row, where legends are
        bar = figure.colorbar(
            self.colours, ax=list(column), extend=extend, extendfrac=0.03, pad=0.03,
            aspect=20, shrink=0.85 * share, anchor=(0.0, 1 - 0.05 * share), fraction=0.15 * share,
        )  # fmt: skip
        bar.set_label("anomaly score (s.d. beyond the border)", color=INK)
        low, high = bar.ax.get_ylim()
        if low < 0 < high:
            bar.ax.axhline(0, color=INK, linewidth=1)  # the border itself
        bar.outline.set_visible(False)
        bar.ax.tick_params(colors=INK, labelsize="small")


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


def stored_colours(uns: Mapping[str, Any], key: str, n: int) -> list[str] | None:
    """Colours that the user chose, as scanpy stores them; None if there are not enough."""
    colours = [str(colour) for colour in uns.get(f"{key}_colors", ())]
    return colours[:n] if len(colours) >= n else None


def panel_grid(
    shown: list[Slice], panels: list[str], figsize: tuple[float, float] | None, ax: Axes | None
) -> tuple[Figure, np.ndarray]:
    """A figure with a row per slice and a column per panel.

    Parameters
    ----------
    shown
        Slices, from above.
    panels
        Names of panels, from the left; ``"image"`` needs no legend beside it.
    figsize
        Width and height in inches; None follows the shape of slices.
    ax
        Axes to use instead, for one slice and one panel.

    Returns
    -------
    The figure and its Axes, (slices, panels).
    """
    if ax is not None:
        if len(shown) * len(panels) != 1:
            names = [item.name for item in shown]
            raise ValueError(f"ax= holds one panel of one slice, not {panels} of {names}: pass color= and library_id=.")
        return ax.figure.figure, np.array([[ax]], dtype=object)
    heights = [float(np.clip(item.aspect, 0.25, 4)) for item in shown]
    if figsize is None:
        beside = sum({"image": 0.1, "score": 0.9}.get(name, 1.1) for name in panels)
        figsize = (_PANEL_WIDTH * len(panels) + beside + 0.3, _PANEL_WIDTH * sum(heights) + 0.15 * len(heights) + 0.3)
    return plt.subplots(
        len(shown), len(panels), figsize=figsize, squeeze=False, layout="compressed", height_ratios=heights
    )


def draw_panel(ax: Axes, item: Slice, layer: ScoreLayer | ClassLayer | None, size: float) -> None:
    """Draw one slice: its image alone, or spots over the faded image in their true size.

    Parameters
    ----------
    ax
        Where.
    item
        The slice.
    layer
        What colours its spots; None draws the image. Scores are drawn on white.
    size
        Factor on the diameter of spots.
    """
    pictured = item.image is not None and not isinstance(layer, ScoreLayer)
    if pictured:
        part, extent = item.picture()
        ax.imshow(part, extent=extent, alpha=1.0 if layer is None else _FADED)
    elif layer is None:
        ax.text(0.5, 0.5, "no image", transform=ax.transAxes, ha="center", va="center", color=INK)
    if layer is not None:
        true = item.diameter if pictured else None
        width = np.full(len(item.rows), size * (_TOUCHING * item.pitch if true is None else true))
        ax.add_collection(
            EllipseCollection(
                width,
                width,
                np.zeros_like(width),
                units="xy",
                offsets=item.xy,
                offset_transform=ax.transData,
                facecolors=layer.faces(item.rows),
                edgecolors="none",
                rasterized=len(width) > _MANY,
            )  # fmt: skip
        )
    left, right, bottom, top = item.view
    ax.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[], aspect="equal")
    ax.spines[:].set_visible(False)
