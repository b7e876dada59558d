"""The tables of genes that come with the package, and which names mean one gene.

`genes/README.md` names their releases, sources and terms. They are read when first needed.
"""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

RELEASES = {"human": "GENCODE 48 on GRCh38", "mouse": "GENCODE M37 on GRCm39"}
"""Species that have a table, and what it is."""
FEWEST_KNOWN = 0.5
"""A species is recognised when at least this share of the names is in its table."""
AHEAD = 2.0
"""A species is recognised when its table knows this many times as many names as the other's."""
NAMES = frozenset(
    "geneid geneids ensembl ensemblid ensemblids ensemblgeneid ensg ensgene genestableid featureid featureids id ids "
    "genename genenames featurename featurenames symbol symbols genesymbol genesymbols hgncsymbol mgisymbol gene genes "
    "name names".split()
)
"""``var`` columns that may hold ids or symbols, spelled in the same way."""
_VERSIONED = re.compile(r"(ENS[A-Z]*G\d{11})\.\d+", re.IGNORECASE)


def gene_table(species: str) -> pd.DataFrame:
    """Genes of a species as they come with the package.

    Of several genes with one symbol the first row is the one that the symbol means.

    Parameters
    ----------
    species
        ``"human"`` or ``"mouse"``.

    Returns
    -------
    Columns ``ensembl`` (without version), ``symbol`` (empty where there is none), ``chromosome`` (without ``chr``,
    mitochondria ``MT``), ``arm`` (``p`` or ``q``, empty for mitochondria), ``band`` (human only; ``q`` in mouse),
    ``start`` and ``end`` (base pairs from 1, both included), ``former`` (older names and ids, separated by ``|``).

    Raises
    ------
    ValueError
        There is no table for this species.
    """
    return _table(species).copy()


def recognise_species(names: Iterable[object]) -> str | None:
    """Whose genes these are, by the share of names that each table knows as they are written.

    Upper and lower case count, since human symbols (``ERBB2``) and mouse symbols (``Erbb2``) hardly differ otherwise.

    Parameters
    ----------
    names
        Symbols or Ensembl ids, with or without version, also mixed.

    Returns
    -------
    ``"human"``, ``"mouse"``, or None where less than half is known, or both tables know much.
    """
    plain = _plain(names).unique()
    if len(plain) == 0:
        return None
    known = {species: float(plain.isin(_rows(species).index).mean()) for species in RELEASES}
    best, other = sorted(known, key=lambda species: -known[species])
    return best if known[best] >= FEWEST_KNOWN and known[best] >= AHEAD * known[other] else None


def translate(model_names: Iterable[object], target_var: pd.DataFrame) -> np.ndarray:
    """Position in the target of every gene of a model, also where one has symbols and the other Ensembl ids.

    Exact names come first, then ids without their version, then other columns of ids or symbols in ``var``, and last
    the package's table, which also knows former names, where both sides are of one species. Every gene of the target is
    taken once; of equal names the first.

    Parameters
    ----------
    model_names
        The model's gene names: symbols or Ensembl ids, with or without version.
    target_var
        ``var`` of the target; its index holds the names.

    Returns
    -------
    (len(model_names),) int64, -1 where the gene is missing.
    """
    model = _as_index(model_names)
    found, taken = np.full(len(model), -1, np.int64), np.zeros(len(target_var), bool)
    for wanted, there in _ways(model, target_var):
        open_, free = np.flatnonzero((found < 0) & wanted.notna()), np.flatnonzero(~taken & there.notna())
        first = ~there[free].duplicated()
        at = there[free[first]].get_indexer(wanted[open_])
        # Two names of the model may mean one gene: the first has it.
        fresh = (at >= 0) & ~pd.Index(at).duplicated()
        found[open_[fresh]] = free[first][at[fresh]]
        taken[found[found >= 0]] = True
        if (found >= 0).all():
            break
    return found


def _ways(model: pd.Index, var: pd.DataFrame) -> Iterator[tuple[pd.Index, pd.Index]]:
    """Pairs of names of the model and of the target that mean one gene where they are equal, surest first."""
    yield model, _as_index(var.index)
    sources = [names for _, names in names_in(var)]
    plain = _plain(model)
    for names in sources:
        yield plain, _plain(names)
    species = recognise_species(model)
    if species is None:
        return
    known = rows_of(model, species)
    alike = [rows_of(names, species) for names in sources if recognise_species(names) == species]
    for rows in alike:
        yield _or_nan(known), _or_nan(rows)
    # Last, another gene of the same symbol: releases hand a symbol on.
    for rows in alike:
        yield _or_nan(_namesakes(known, species)), _or_nan(_namesakes(rows, species))


def names_in(var: pd.DataFrame) -> Iterator[tuple[str, pd.Index]]:
    """Names that genes go by, and where they are: the index, then columns of ids and symbols."""
    yield "var_names", _as_index(var.index)
    for column in var.columns:
        if squeezed(column) in NAMES and not pd.api.types.is_numeric_dtype(var[column]):
            yield f"var[{column!r}]", _as_index(var[column])


def squeezed(column: object) -> str:
    """A column's name in lower case, letters only."""
    return re.sub("[^a-z]", "", str(column).lower())


def _as_index(names: Iterable[object]) -> pd.Index:
    """Names as text, NaN where one is missing."""
    index = pd.Index(list(names), dtype=object)
    return pd.Index(np.where(index.notna(), index.astype(str), np.nan), dtype=object)


def _plain(names: Iterable[object]) -> pd.Index:
    """Names as text, Ensembl ids without version."""
    matches = ((name, _VERSIONED.fullmatch(name) if isinstance(name, str) else None) for name in _as_index(names))
    return pd.Index([name if match is None else match[1] for name, match in matches], dtype=object)


def _or_nan(rows: np.ndarray) -> pd.Index:
    """Row numbers, NaN where there is none."""
    return pd.Index(np.where(rows >= 0, rows, np.nan))


def rows_of(names: Iterable[object], species: str) -> np.ndarray:
    """Row of each name in the table of a species, (n,) int64, -1 where it is unknown; the exact name comes first."""
    plain = _plain(names)
    exact, folded = _rows(species), _folded(species)
    at = exact.index.get_indexer(plain)
    rows = np.where(at >= 0, exact.to_numpy()[at], -1)
    missed = np.flatnonzero((rows < 0) & plain.notna())
    at = folded.index.get_indexer(plain[missed].str.casefold()) if len(missed) else np.empty(0, np.int64)
    rows[missed] = np.where(at >= 0, folded.to_numpy()[at], -1)
    return rows.astype(np.int64)


def _namesakes(rows: np.ndarray, species: str) -> np.ndarray:
    """For every row the one that its symbol means, -1 stays."""
    return np.where(rows >= 0, _firsts(species)[rows], -1)


@lru_cache
def _table(species: str) -> pd.DataFrame:
    """The table of a species; do not write to it."""
    if species not in RELEASES:
        raise ValueError(f"species is one of {sorted(RELEASES)}, not {species!r}; place other genes by columns of var.")
    path = Path(__file__).parent / "genes" / f"{species}.tsv.gz"
    types = dict.fromkeys(("ensembl", "symbol", "chromosome", "band", "former"), str)
    table = pd.read_csv(path, sep="\t", dtype={**types, "start": np.int64, "end": np.int64}, keep_default_na=False)
    table.insert(3, "arm", table["band"].str[:1])
    return table


@lru_cache
def _rows(species: str) -> pd.Series:
    """Row of every id, symbol and former name, by name: ids first, then symbols; of equal symbols the first row's."""
    table = _table(species)
    former = table["former"][table["former"] != ""].str.split("|").explode()
    rows = pd.concat([pd.Series(part.index, part.to_numpy()) for part in (table["ensembl"], table["symbol"], former)])
    rows = rows[rows.index != ""]
    return rows[~rows.index.duplicated()]


@lru_cache
def _folded(species: str) -> pd.Series:
    """Row of every name in lower case, without those that would mean several genes."""
    rows = _rows(species)
    folded = pd.Series(rows.to_numpy(), rows.index.str.casefold())
    several = folded.groupby(level=0).transform("nunique") > 1
    return folded[~several.to_numpy() & ~folded.index.duplicated()]


@lru_cache
def _firsts(species: str) -> np.ndarray:
    """For every row of the table the row that its symbol means; its own where it has no symbol."""
    symbols, rows = _table(species)["symbol"], _rows(species)
    at = rows.index.get_indexer(symbols)
    return np.where(at >= 0, rows.to_numpy()[at], np.arange(len(symbols)))
