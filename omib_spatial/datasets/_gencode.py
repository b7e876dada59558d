"""Where genes lie on the genome, from a GENCODE annotation."""

import gzip
import logging
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from anndata import AnnData

from omib_spatial._checked import File, Key, checked
from omib_spatial.datasets._fetch import fetch
from omib_spatial.datasets._registry import registry, remote_files

logger = logging.getLogger("omib_spatial")


@checked
def gene_positions(adata: AnnData, gtf: File | None = None, *, species: Key = "human") -> None:
    """Write ``var["chromosome"]``, ``var["start"]`` and ``var["end"]``, which the modality ``"genome"`` reads.

    Genes are found by ``var_names``: gene names, or Ensembl ids with or without version. Of several genes with one
    name the first in the file counts.

    Parameters
    ----------
    adata
        Spots by genes.
    gtf
        GENCODE (or Ensembl) annotation in GTF, plain or gzipped. None downloads the one that ``data_registry.yaml``
        names, once (`fetch`).
    species
        ``"human"`` or ``"mouse"``: which to download.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    OSError
        The download fails.
    ValueError
        An unknown species, a view, or none of the genes is in the file.

    Notes
    -----
    Writes ``var["chromosome"]`` (categorical, such as ``chr1``), ``var["start"]`` and ``var["end"]`` (base pairs, both
    counted from 1 and included; NaN for genes that the file lacks).

    Examples
    --------
    >>> some = ad.AnnData(np.ones((2, 2), np.float32), var={"gene": ["TP53", "MYC"]})
    >>> some.var_names = ["TP53", "MYC"]
    >>> omib.datasets.gene_positions(some, "genes.gtf")  # leave the file out, and GENCODE's is fetched
    >>> some.var["chromosome"].tolist()
    ['chr17', 'chr8']
    """
    if not isinstance(adata, AnnData):
        raise TypeError(f"adata is {type(adata).__name__}: pass an AnnData, whose var gets the positions.")
    if adata.is_view:
        raise ValueError("adata is a view of another AnnData, positions would not reach it: pass adata.copy() instead.")
    table = pd.DataFrame(_genes(_annotation(species) if gtf is None else Path(gtf)))
    names = pd.Index(adata.var_names.astype(str))
    by_name = table.drop_duplicates("name").set_index("name")
    by_id = table.drop_duplicates("gene").set_index("gene")
    by_id = by_id.rename(index=_plain)
    found = max((by_name.reindex(names), by_id.reindex(names.map(_plain))), key=lambda t: t["start"].notna().sum())
    placed = int(found["start"].notna().sum())
    if placed == 0:
        raise ValueError(
            f"None of the genes in var_names (such as {list(names[:3])}) is in the annotation (such as "
            f"{table['name'].tolist()[:3]} or {table['gene'].tolist()[:3]}): check the species."
        )
    adata.var["chromosome"] = pd.Categorical(found["chromosome"].to_numpy())
    adata.var["start"], adata.var["end"] = found["start"].to_numpy(float), found["end"].to_numpy(float)
    logger.info("Added var['chromosome'], var['start'], var['end']: %d of %d genes placed.", placed, adata.n_vars)


def _annotation(species: str) -> Path:
    """Download the registry's annotation, once."""
    known = {name.removeprefix("gencode_"): e for name, e in registry().items() if name.startswith("gencode_")}
    if species not in known:
        raise ValueError(f"species is one of {sorted(known)}, not {species!r}; or pass the annotation as gtf=.")
    (file,) = remote_files(known[species])
    return fetch(f"gencode_{species}") / file.path


def _genes(path: Path) -> Iterator[dict[str, object]]:
    """Chromosome, first and last base, id and name of every line that describes a gene."""
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt") as lines:
        for line in lines:
            fields = line.rstrip("\n").split("\t")
            if line.startswith("#") or len(fields) < 9 or fields[2] != "gene":
                continue
            notes = dict(note.strip().partition(" ")[::2] for note in fields[8].split(";") if note.strip())
            gene = notes.get("gene_id", "").strip('"')
            yield {
                "chromosome": fields[0],
                "start": int(fields[3]),
                "end": int(fields[4]),
                "gene": gene,
                "name": notes.get("gene_name", gene).strip('"'),
            }


def _plain(gene: str) -> str:
    """Return an Ensembl id without its version."""
    return gene.split(".")[0] if gene.startswith("ENS") else gene
