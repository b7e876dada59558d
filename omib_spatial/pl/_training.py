"""How training went."""

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from omib_spatial._checked import FigSize, Flag, Key, KeyAdded, SaveAs
from omib_spatial._colours import INK, PALETTE
from omib_spatial.pl._figure import finish, quiet
from omib_spatial.pl._inputs import ThreeAxes, plot

_WIDE = 50.0  # ratio of largest to smallest loss from which on a linear axis hides the end of training


@plot
def training(
    source: Any,
    *,
    key_added: KeyAdded = "omib",
    ax: ThreeAxes | None = None,
    figsize: FigSize | None = None,
    table_key: Key = "table",
    show: Flag | None = None,
    save: SaveAs | None = None,
) -> list[Axes]:
    """Draw losses, the weight ratio r and the KL divergences over epochs, with the warm-up shaded.

    Nothing is written into ``source``.

    Parameters
    ----------
    source
        AnnData or SpatialData that :func:`omib_spatial.tl.fit` wrote into, or the model that it returned (anything
        with ``history`` and ``params``).
    key_added
        Name under which the results were stored, if ``source`` is an AnnData.
    ax
        Three Axes to draw on.
    figsize
        Width and height in inches.
    table_key
        Table of a SpatialData that is drawn.
    show
        Show the figure; default: if matplotlib is interactive and neither ``ax`` nor ``save`` is given.
    save
        File to write; True writes ``{key_added}_training.png`` into the present folder.

    Returns
    -------
    The three Axes: losses, r, KL.

    Raises
    ------
    KeyError
        ``uns[key_added]`` holds no history.
    TypeError
        ``source`` is neither an AnnData nor has it ``history`` and ``params``.
    ValueError
        No epoch was trained, or ``ax`` does not hold three Axes.

    Examples
    --------
    >>> axes = omib.pl.training(model)
    >>> [ax.get_xlabel() for ax in axes]
    ['epoch', 'epoch', 'epoch']
    """
    history, params = _read(source, key_added)
    figure = None
    if ax is None:
        figure, axes = plt.subplots(1, 3, figsize=figsize or (11, 3), layout="constrained")
    elif len(axes := np.ravel(ax)) != 3:  # type: ignore[arg-type]
        raise ValueError(f"ax= must hold three Axes, got {len(axes)}: pass plt.subplots(1, 3)[1].")
    colours = _colours(history, params)
    _losses(axes[0], history, colours)
    _parts(axes[1], history, colours, "r", "Weight ratio r")
    axes[1].axhline(1, color=INK, linewidth=0.8, linestyle=":", zorder=0)
    _parts(axes[2], history, colours, "kl", _constants(params))
    axes[2].set_ylabel("KL divergence (nats)", color=INK)
    for panel in axes:
        _epochs(panel, history["phase"])
    finish(figure or axes[0].figure.figure, f"{key_added}_training", own=ax is None, show=show, save=save)
    return list(axes)


def _read(source: Any, key_added: str) -> tuple[dict[str, np.ndarray], Mapping[str, Any]]:
    if isinstance(source, AnnData):
        results = source.uns.get(key_added, {})
        if "history" not in results:
            raise KeyError(f"uns[{key_added!r}] has no history: run omib_spatial.tl.fit first, or pass its key_added=.")
        history, params = results["history"], results.get("params", {})
    elif hasattr(source, "history") and hasattr(source, "params"):
        history, params = source.history, source.params
    else:
        raise TypeError(f"Expected an AnnData or a model with history and params, got {type(source).__name__}.")
    columns = {name: np.asarray(values, dtype=np.float64) for name, values in history.items()}
    if not len(columns.get("phase", ())):
        raise ValueError("The history has no epochs: run omib_spatial.tl.fit with max_epochs of at least 1.")
    return columns, params


def _colours(history: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, str]:
    """Colour of each modality, the same in all panels."""
    there = [name.removeprefix("branch_") for name in history if name.startswith("branch_")]
    told = [str(name) for name in params.get("modalities", ()) if str(name) in there]
    order = dict.fromkeys([*told, *there])
    return {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(order)}


def _line(ax: Axes, values: np.ndarray, change: int = 0, **style: Any) -> None:
    epochs = np.arange(1.0, len(values) + 1)
    if 0 < change < len(values):  # the loss is another one from here on
        epochs, values = (np.insert(column, change, np.nan) for column in (epochs, values))
    ax.plot(epochs, values, marker="o" if len(values) <= 40 else None, markersize=2.5, linewidth=1.5, **style)


def _losses(ax: Axes, history: Mapping[str, np.ndarray], colours: Mapping[str, str]) -> None:
    shown = {"loss": ("total", INK, "-"), "task": ("task", INK, "--")}
    shown |= {f"branch_{name}": (f"branch: {name}", colour, "-") for name, colour in colours.items()}
    drawn = {column: history[column] for column in shown if np.isfinite(history.get(column, np.nan)).any()}
    for column, values in drawn.items():
        label, colour, style = shown[column]
        _line(ax, values, int((history["phase"] == 0).sum()), label=label, color=colour, linestyle=style)
    ax.set_title("Losses", color=INK, fontsize="medium")
    ax.set_ylabel("loss", color=INK)
    if drawn and (lowest := np.nanmin([*drawn.values()])) > 0 and np.nanmax([*drawn.values()]) > _WIDE * lowest:
        ax.set_yscale("log")
    _legend(ax)


def _parts(ax: Axes, history: Mapping[str, np.ndarray], colours: Mapping[str, str], prefix: str, title: str) -> None:
    for name, colour in colours.items():
        values = history.get(f"{prefix}_{name}", np.array([np.nan]))
        if np.isfinite(values).any():
            _line(ax, values, label=name, color=colour)
    ax.set_title(title, color=INK, fontsize="medium")
    ax.set_ylabel(prefix, color=INK)
    if ax.lines:
        _legend(ax)
    else:
        ax.text(0.5, 0.5, "no values", transform=ax.transAxes, ha="center", va="center", color=INK)


def _constants(params: Mapping[str, Any]) -> str:
    """Title of the KL panel: the constants that are known."""
    symbols = {"beta": r"$\beta$", "M_l": "$M_l$", "M_u": "$M_u$"}
    known = {symbol: params[key] for key, symbol in symbols.items() if np.isfinite(params.get(key, np.nan))}
    return "KL: " + ", ".join(f"{symbol} = {value:.3g}" for symbol, value in known.items()) if known else "KL"


def _epochs(ax: Axes, phase: np.ndarray) -> None:
    quiet(ax)
    if warmup := int((phase == 0).sum()):
        ax.axvspan(0.5, warmup + 0.5, color="#F0F0F0", linewidth=0, zorder=-1)
        ax.text(0.7, 1, "warm-up", transform=ax.get_xaxis_transform(), va="top", fontsize="x-small", color="#777777")
    ax.set_xlim(0.5, len(phase) + 0.5)
    ax.set_xlabel("epoch", color=INK)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def _legend(ax: Axes) -> None:
    if ax.lines:
        ax.legend(frameon=False, fontsize="small", labelcolor=INK, handlelength=1.4)
