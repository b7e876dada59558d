"""What every plot does first: arguments are checked, and a SpatialData gives its table."""

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from functools import wraps
from inspect import signature
from typing import Annotated, Any, TypeVar

import matplotlib
import numpy as np
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.colors import Colormap

from omib_spatial._checked import Fits, checked_arguments, is_a
from omib_spatial._keys import Written
from omib_spatial.slides.results import check_results, recorded_params
from omib_spatial.slides.spatialdata import table_of, to_anndata

F = TypeVar("F", bound=Callable[..., Any])

OnAxes = Annotated[Axes, Fits("Axes of matplotlib, as plt.subplots()[1] is", is_a(Axes))]
ThreeAxes = Annotated[
    Sequence[Axes],
    Fits(
        "three Axes of matplotlib, as plt.subplots(1, 3)[1] are",
        lambda given: (
            isinstance(given, list | tuple | np.ndarray) and all(isinstance(ax, Axes) for ax in np.ravel(given))
        ),
    ),
]
ColourMap = Annotated[
    str | Colormap,
    Fits(
        "a colour map of matplotlib, or the name of one such as 'viridis'",
        is_a(str, Colormap),
        lambda cmap: isinstance(cmap, Colormap) or cmap in matplotlib.colormaps,
    ),
]

WRITTEN_BY = {
    "score": "tl.fit or omib_spatial.tl.score",
    "call": "tl.call", "anomaly": "tl.call", "pvalue": "tl.score", "slice_pvalue": "tl.score",
    "region": "tl.regions", "zone": "tl.regions", "clone": "tl.clones", "subtype": "tl.subtypes", "label": "tl.score",
}  # fmt: skip
"""Short names of the ``obs`` columns that results are in, and the function that writes each."""


def plot(function: F) -> F:
    """Check the arguments of a plot; let its first one be a SpatialData, of which ``table_key`` is drawn.

    Plots of tissue get coordinates and images through the transformations of the SpatialData, others the table as it
    is.
    """
    parameters = signature(function).parameters
    first, on_tissue = next(iter(parameters)), "spatial_key" in parameters

    @wraps(function)
    def drawn(*args: Any, **kwargs: Any) -> Any:
        bound = checked_arguments(function, args, kwargs)
        given = bound.arguments
        source = given[first]
        if not isinstance(source, AnnData) and hasattr(source, "tables"):
            bound.apply_defaults()
            given = bound.arguments
            table = table_of(source, given["table_key"])
            given[first] = _laid_out(source, table, given) if on_tissue else table
        elif not isinstance(source, AnnData) and first == "adata":
            kind = type(source).__name__
            raise TypeError(f"{function.__name__}() draws an AnnData or a SpatialData, not {kind}: pass the slides.")
        if isinstance(given[first], AnnData):
            check_results(given[first], given.get("key_added", "omib"))
        return function(*bound.args, **bound.kwargs)

    return drawn  # type: ignore[return-value]


def _laid_out(sdata: Any, table: AnnData, given: dict[str, Any]) -> AnnData:
    """A table as AnnData under the keys of the run that is looked at; sets ``library_key`` where none is given."""
    params = recorded_params(table.uns, given.get("key_added", "omib"))
    keys = {name: given.get(name) or params.get(name) or None for name in ("image_key", "spatial_key")}
    if keys["spatial_key"] is None:
        del keys["spatial_key"]
    adata, region_key = to_anndata(sdata, given["table_key"], **keys)  # type: ignore[arg-type]
    given["library_key"] = given["library_key"] or params.get("library_key") or region_key
    return adata


def column_of(adata: AnnData, name: Any, key_added: str, argument: str, *, written_only: bool = False) -> str:
    """The ``obs`` column that a user means: one of that name, or the result that has it as its short name.

    Parameters
    ----------
    adata
        Spots by genes.
    name
        As given: a column, or a short name such as ``"clone"`` for ``obs["{key_added}_clone"]``.
    key_added
        Prefix of the results.
    argument
        That it was given to, for messages.
    written_only
        Whether results alone are meant, not the user's own columns.

    Raises
    ------
    TypeError
        ``name`` is no text.
    KeyError
        The result was not written yet.
    ValueError, KeyError
        There is no such result, or no such column, with what comes close.
    """
    if not isinstance(name, str):
        raise TypeError(f"{argument}= is {name!r}: it is the name of a column, as text.")
    keys = Written(key_added)
    short = {each: str(getattr(keys, each)) for each in WRITTEN_BY}
    if keys.call not in adata.obs and keys.anomaly in adata.obs:  # of version 0.1
        short["call"] = keys.anomaly
    columns = list(map(str, adata.obs))
    long = name if name in columns and not written_only else short.get(name, name)
    if long in columns and (not written_only or long in short.values()):
        return long
    if (writer := {short[each]: by for each, by in WRITTEN_BY.items()}.get(long)) is not None:
        raise KeyError(
            f"obs[{long!r}] does not exist: run omib_spatial.{writer} first, or pass the key_added= that was given to "
            "it."
        )
    known = [*short, *short.values()] if written_only else [*columns, *short]
    what = f"{argument}={name!r} is no result that can be drawn" if written_only else f"obs[{name!r}] does not exist"
    message = f"{what}: {did_you_mean(name, known)}pass {argument}= one of {list(short) if written_only else columns}."
    if name in columns:
        message += f" A column of your own is drawn beside them by truth={name!r}."
    raise (ValueError if written_only else KeyError)(message)


def did_you_mean(name: str, known: list[str]) -> str:
    """``"did you mean 'x'? Or "`` where something comes close, else nothing."""
    close = get_close_matches(name.lower(), known, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}? Or " if close else ""
