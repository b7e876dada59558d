"""The colours of everything that is drawn: the same thing has the same colour in plots, reports and exports."""

from collections.abc import Mapping, Sequence
from typing import Any

from omib_spatial._keys import ABNORMAL, CALL_COLOURS, NOT_CALLED

ANOMALOUS, HEALTHY = CALL_COLOURS[ABNORMAL], CALL_COLOURS[NOT_CALLED]
UNKNOWN = "#A6A6A6"
"""No value, no class, or not told."""
INK = "#333333"
"""Letters, lines and frames."""
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", ANOMALOUS, "#F0E442", "#000000")
"""Okabe and Ito's colours: they stay apart under every common colour vision deficiency."""
GROUPS = (
    *(colour for colour in PALETTE if colour != ANOMALOUS),
    *("#332288", "#882255", "#44AA99", "#999933", "#AA4499", "#117733", "#661100"),
)
"""Clones and kinds of anomaly: the palette without the colour of calls; then Tol's."""
ZONES = {"core": "#882255", "edge": "#CC79A7", "ring": "#56B4E9"}
"""Where in a region a spot lies: darker towards its middle."""
REFERENCE_COLOURS = {"taken as healthy": HEALTHY, "not taken": UNKNOWN}
SCORE = "magma"
"""Colour map of scores: even in lightness, and safe for colour-blind eyes."""
EITHER_WAY = "PuOr_r"
"""Colour map of what has a sign: orange above 0, violet below."""


def group_colours(names: Sequence[str]) -> list[str]:
    """Colour of each clone or kind of anomaly, by its place among all of them."""
    if len(names) <= len(GROUPS):
        return list(GROUPS[: len(names)])
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return [to_hex(colour) for colour in colormaps["turbo"].resampled(len(names))(range(len(names)))]


def stored_colours(uns: Mapping[str, Any], key: str, n: int) -> list[str] | None:
    """Colours that are kept for the categories of a column, as scanpy stores them; None if there are not enough."""
    from matplotlib.colors import is_color_like

    colours = [str(colour) for colour in uns.get(f"{key}_colors", ())]
    return colours[:n] if len(colours) >= n and all(map(is_color_like, colours)) else None
