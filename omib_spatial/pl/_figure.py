"""What every plot shares: colours, and showing or saving at the end."""

from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar

from omib_spatial._atomic import replacing
from omib_spatial._keys import ABNORMAL, CALL_COLOURS, NOT_CALLED
from omib_spatial._settings import settings

# Okabe and Ito's colours: they stay apart under every common colour vision deficiency.
PALETTE = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000"]
ANOMALOUS, HEALTHY = CALL_COLOURS[ABNORMAL], CALL_COLOURS[NOT_CALLED]
UNKNOWN = "#A6A6A6"
INK = "#333333"


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
    length = max(step * decade for step in (1, 2, 5) if step * decade <= longest)
    label = f"{length / 1000:g} mm" if length >= 1000 else f"{length:g} µm"
    bar = AnchoredSizeBar(
        ax.transData, length / um_per_unit, label, min(corners, key=corners.__getitem__), pad=0.3, borderpad=0.4, sep=3,
        color=INK, size_vertical=abs(top - bottom) / 150, fill_bar=True, fontproperties=FontProperties(size="small"),
    )  # fmt: skip
    bar.patch.set(alpha=0.85, edgecolor="none")
    ax.add_artist(bar)


def finish(figure: Figure, name: str, *, own: bool, show: bool | None, save: str | Path | bool | None) -> None:
    """Save and show as asked.

    Parameters
    ----------
    figure
        What was drawn on.
    name
        File name without suffix where ``save`` is True.
    own
        Whether the figure was made here, not by the caller.
    show
        None shows the figure if matplotlib is interactive, the figure is our own and it is not saved.
    save
        File to write, its folder is made; True writes a PNG into the present folder.
    """
    if save:
        path = Path(f"{name}.{settings.figure_format}" if save is True else save)
        with replacing(path) as partial:
            figure.savefig(partial, dpi=settings.figure_dpi, bbox_inches="tight")
    if show or (show is None and own and not save and matplotlib.is_interactive()):
        plt.show()
