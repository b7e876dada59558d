"""What every plot shares: colours, and showing or saving at the end."""

from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's colours: they stay apart under every common colour vision deficiency.
PALETTE = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000"]
ANOMALOUS = "#D55E00"
HEALTHY = "#A9C3DA"
UNKNOWN = "#A6A6A6"
INK = "#333333"

_DPI = 200


def quiet(ax: Axes) -> None:
    """Leave of the frame what is needed to read values."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(INK)
    ax.tick_params(colors=INK, labelsize="small")


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
        path = Path(f"{name}.png" if save is True else save)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=_DPI, bbox_inches="tight")
    if show or (show is None and own and not save and matplotlib.is_interactive()):
        plt.show()
