"""Where an AnnData keeps what is read of it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """Where an AnnData keeps what the model reads, and how its graph is built. Stored with the model.

    Attributes
    ----------
    layer
        Layer with raw counts; None reads ``X``.
    spatial_key
        ``obsm`` key of the coordinates.
    library_key
        ``obs`` column that separates slices; None for a single slice.
    image_key
        Which image of ``uns["spatial"][library]["images"]`` is read; None: of each slice the best that is there.
    neighbors_key
        ``obsp`` key of a ready graph; None builds one.
    n_neighbors
        Neighbours per spot when the graph is built, before it is made symmetric; with all that tie with the last one.
    counts
        ``"raw"`` counts, or ``"corrected"`` ones: freed of ambient RNA, and fractions (SoupX, DecontX, CellBender).

    Examples
    --------
    >>> from omib_spatial.slides import Layout
    >>> Layout(library_key="section").n_neighbors
    6
    """

    layer: str | None = None
    spatial_key: str = "spatial"
    library_key: str | None = None
    image_key: str | None = "hires"
    neighbors_key: str | None = None
    n_neighbors: int = 6
    counts: str = "raw"
