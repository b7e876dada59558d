"""Where genes lie on the genome: by the user's columns, or by the tables that come with the package."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd

from omib_spatial.slides.gene_table import RELEASES, gene_table, names_in, recognise_species, rows_of, squeezed

SPELLINGS = {
    "chromosome": "chromosome chrom chr seqname seqnames seqid chromosomename chromosomescaffoldname".split(),
    "start": "start chromstart txstart genestart startposition startpos startbp genestartbp".split(),
    "end": "end chromend txend geneend endposition endpos endbp geneendbp stop".split(),
}
"""``var`` columns that place genes, best first, in lower case without anything but letters."""


class Placed(NamedTuple):
    """Genes with their places.

    Attributes
    ----------
    table
        One row per row of ``var``, with its index: ``chromosome`` (without ``chr``, mitochondria ``MT``), ``start`` and
        ``end`` (base pairs), ``arm`` (``p`` or ``q``). NaN where a gene has no place or no arm.
    n_placed
        How many genes have a place.
    source
        A sentence for the log: what placed them.
    species
        ``"human"``, ``"mouse"`` or, where the user's own columns place genes of neither, None.
    own
        Whether the user's own columns did it.
    """

    table: pd.DataFrame
    n_placed: int
    source: str
    species: str | None
    own: bool = False


def positions(var: pd.DataFrame) -> Placed | None:
    """Where genes lie: by columns that the user has, else by the package's table.

    Columns for chromosome, start and end win, in any usual spelling (``Chromosome``, ``chrom``, ``seqname``, ...): a
    gene without a place in them has none, as one annotation must hold for all. Where one of the three lacks, or no gene
    has all three, genes are looked up by the index or the column of ids or symbols (``gene_ids``, ``feature_name``,
    ...) that places most.

    Parameters
    ----------
    var
        One row per gene.

    Returns
    -------
    Places, or None where neither way places a gene.
    """
    return _own(var) or _looked_up(var)


def arm_names(placed: Placed) -> np.ndarray:
    """Chromosome arm of every gene, as ``17q``; the chromosome alone in mouse, whose chromosomes have one arm.

    A gene whose arm the package's table does not know is on that of its neighbour.

    Parameters
    ----------
    placed
        From `positions`.

    Returns
    -------
    (n_vars,) text, the chromosome where no gene of it has an arm, empty where a gene has no place.
    """
    table = placed.table.reset_index(drop=True)
    if placed.species == "mouse":
        arm = pd.Series("", table.index)
    else:
        ordered = table.assign(arm=table["arm"].astype("string")).sort_values("start", kind="stable")
        arm = (
            ordered.groupby("chromosome")["arm"]
            .transform(lambda arms: arms.ffill().bfill())
            .reindex(table.index)
            .fillna("")
        )
    return table["chromosome"].str.cat(arm.astype(str)).fillna("").to_numpy(str)


def _own(var: pd.DataFrame) -> Placed | None:
    """Places from the user's own columns; None where one lacks, or no gene has all three."""
    columns = {kind: _column(var, SPELLINGS[kind]) for kind in SPELLINGS}
    if any(column is None for column in columns.values()):
        return None
    table = pd.DataFrame({"chromosome": _chromosomes(var[columns["chromosome"]])}, index=var.index)
    for kind in ("start", "end"):
        numbers = pd.to_numeric(pd.Series(var[columns[kind]].to_numpy(), dtype=object), errors="coerce")
        table[kind] = numbers.to_numpy(float)
    placed = table.notna().all(axis=1).to_numpy()
    if not placed.any():
        return None
    table[~placed] = np.nan
    known = _looked_up(var)
    table["arm"] = pd.Series(np.nan, index=var.index, dtype=object)
    if known is not None:
        agree = (known.table["chromosome"] == table["chromosome"]).to_numpy()
        table["arm"] = known.table["arm"].where(agree)
    where = ", ".join(f"var[{column!r}]" for column in columns.values())
    source = f"{where} place {placed.sum():,} of {len(var):,} genes."
    return Placed(_ordered(table), int(placed.sum()), source, None if known is None else known.species, own=True)


def _looked_up(var: pd.DataFrame) -> Placed | None:
    """Places from the package's table, by whichever names place most genes; None where the species is unknown."""
    best: tuple[int, str, str, np.ndarray] | None = None
    for where, names in names_in(var):
        species = recognise_species(names)
        if species is None:
            continue
        rows = rows_of(names, species)
        n_placed = int((rows >= 0).sum())
        if best is None or n_placed > best[0]:
            best = n_placed, where, species, rows
    if best is None:
        return None
    n_placed, where, species, rows = best
    table = gene_table(species).reindex(rows).set_axis(var.index)
    table["arm"] = table["arm"].replace("", np.nan)
    source = f"{where} place {n_placed:,} of {len(var):,} genes ({species}, {RELEASES[species]}, shipped table)."
    return Placed(_ordered(table), n_placed, source, species)


def _column(var: pd.DataFrame, spellings: Iterable[str]) -> object:
    """The column that is spelled in one of these ways, best first; None where there is none."""
    spelled = {squeezed(column): column for column in reversed(list(var.columns))}
    return next((spelled[spelling] for spelling in spellings if spelling in spelled), None)


def _chromosomes(values: pd.Series) -> np.ndarray:
    """Names without ``chr``, mitochondria ``MT``, NaN where there is none."""
    names = pd.Series(values.to_numpy(), dtype=object)
    text = names.astype(str).str.strip().str.replace(r"(?i)^chr", "", regex=True).str.removesuffix(".0")
    text = text.replace(r"(?i)^mt?$", "MT", regex=True)
    return text.where(names.notna() & ~text.str.lower().isin(["", "nan", "none", "na", "<na>"])).to_numpy()


def _ordered(table: pd.DataFrame) -> pd.DataFrame:
    """The columns that `Placed` promises, as such types."""
    columns = {"chromosome": object, "start": float, "end": float, "arm": object}
    return table[list(columns)].astype(columns)
