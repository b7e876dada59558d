"""Categories as the CSV files that Loupe Browser imports."""

import logging
import re
from pathlib import Path

import pandas as pd
from anndata import AnnData

from omib_spatial._atomic import check_folder, replacing
from omib_spatial._checked import File, Key, KeyAdded, Names, checked
from omib_spatial._keys import Written
from omib_spatial.slides.results import check_results
from omib_spatial.slides.scored import file_name, scored_slides
from omib_spatial.slides.slides import named
from omib_spatial.slides.validation import require_anndata

logger = logging.getLogger("omib_spatial")

BARCODE = re.compile(r"(?<![A-Za-z])([ACGT]{12,}|s_\d{3}um_\d+_\d+|cellid_\d+)(?:-\d+)?(?![A-Za-z0-9])")
"""A barcode of Visium, of a bin or of a cell within a name, without the number that aggregation gave to its slide."""


@checked
def to_loupe(
    adata: AnnData,
    folder: File,
    *,
    by: Key | None = None,
    key_added: KeyAdded = "omib",
    library_key: Key | None = None,
    library_id: Names | None = None,
) -> list[Path]:
    """Write a category of every spot as CSV, one file per slide: Loupe Browser > Categories > Import.

    A file has the columns ``Barcode`` and the category. Barcodes are Space Ranger's: with ``-1`` at the end,
    and without whatever was put around them to tell slides apart. Spots without a value are left out; Loupe shows
    them as unassigned.

    Parameters
    ----------
    adata
        After `omib_spatial.tl.score`. Names of spots hold their barcodes.
    folder
        Made if missing; gets ``{slide}_{by}.csv``.
    by
        ``obs`` column; default: the call. Regions and clones serve, too.
    key_added
        Prefix of what is read.
    library_key
        ``obs`` column that separates slides; default: as in the run.
    library_id
        Write this slide alone.

    Returns
    -------
    The files written.

    Raises
    ------
    KeyError
        The column is not there.
    ValueError
        A spot's name has no barcode of Space Ranger, as on ST arrays; or two spots of a slide have one barcode.
    OSError
        A file cannot be written.

    Examples
    --------
    >>> letters = np.random.default_rng(0).choice(list("ACGT"), (adata.n_obs, 16))
    >>> adata.obs_names = ["".join(row) + "-1" for row in letters]  # as Space Ranger names spots
    >>> omib.io.to_loupe(adata, "loupe/", library_id="slide3")
    [PosixPath('loupe/slide3_omib_call.csv')]
    """
    require_anndata(adata)
    check_results(adata, key_added)
    by = by or Written(key_added).call
    if by not in adata.obs:
        raise KeyError(f"obs[{by!r}] does not exist: run omib_spatial.tl.score first, or pass by= an obs column.")
    folder = Path(folder)
    check_folder(folder)
    tables = {}
    for slide in scored_slides(adata, key_added, library_key=library_key, library_id=library_id):
        column = adata.obs[by].iloc[slide.rows]
        barcodes = _barcodes(column.index.astype(str), slide.name)
        known = column.notna().to_numpy()
        table = pd.DataFrame({"Barcode": barcodes[known], by: column[known].astype(str).to_numpy()})
        path = folder / f"{file_name(slide.name)}_{file_name(by)}.csv"
        if path in tables:
            raise ValueError(f"Two slides would be written to {path}: write them one by one, with library_id=.")
        tables[path] = table
    for path, table in tables.items():
        with replacing(path) as partial:
            table.to_csv(partial, index=False)
        logger.info("%s: %d spots.", path, len(table))
    return list(tables)


def _barcodes(names: pd.Index, slide: str) -> pd.Index:
    """Barcode of each spot of one slide."""
    found = [BARCODE.search(name) for name in names]
    if strange := [name for name, match in zip(names, found, strict=True) if match is None]:
        # Without their names it is the same sentence of every slide of an ST array.
        which = "no name of a spot holds a barcode of Space Ranger"
        if len(strange) < len(names):
            which = f"{len(strange)} names of spots hold no barcode of Space Ranger ({named(strange)})"
        raise ValueError(
            f"{which}: Loupe Browser knows spots by barcode alone. Use the names that Space Ranger gave, or "
            "io.to_qupath, which needs none."
        )
    barcodes = pd.Index([f"{match[1]}-1" for match in found if match])
    if barcodes.has_duplicates:
        twice = barcodes[barcodes.duplicated()].unique()
        raise ValueError(
            f"Slide {slide!r} has {len(twice)} barcodes twice ({named(twice)}): it holds several slides, tell them "
            "apart with library_key=."
        )
    return barcodes
