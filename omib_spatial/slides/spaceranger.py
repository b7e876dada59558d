"""The files of a Space Ranger run, wherever they are and under whatever prefix."""

import gzip
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from omib_spatial.slides.images import colours_of

if TYPE_CHECKING:
    from anndata import AnnData

MATRICES = (
    "filtered_feature_bc_matrix.h5",
    "filtered_feature_cell_matrix.h5",
    "filtered_feature_bc_matrix",
    "filtered_feature_cell_matrix",
    "matrix.mtx",
    "raw_feature_bc_matrix.h5",
    "raw_feature_bc_matrix",
)
"""Count matrices, best first: of spots under tissue, of cells, as a file or as a folder, and of all spots."""
POSITIONS = ("tissue_positions.parquet", "tissue_positions.csv", "tissue_positions_list.csv")
CELLS = "cell_segmentations.geojson"
FACTORS = "scalefactors_json.json"
COLUMNS = ["in_tissue", "array_row", "array_col", "pxl_row_in_fullres", "pxl_col_in_fullres"]


class Pieces:
    """Files of one sample: in a folder or its ``spatial``, perhaps after one prefix, as GEO has them, perhaps gzipped.

    Parameters
    ----------
    folder
        Where they are.
    prefix
        What stands before the usual names; None finds out.

    Attributes
    ----------
    guessed
        Names of files with another prefix that were taken for the same sample, since there is no second one.

    Raises
    ------
    ValueError
        Several samples are in the folder, and ``prefix`` does not tell which is meant.
    """

    def __init__(self, folder: Path, prefix: str | None = None) -> None:
        self.folder = folder
        self._places = [place for place in (folder, folder / "spatial") if place.is_dir()]
        found = self._samples = {self._prefix_of(path.name) for path in folder.iterdir()} - {None}
        self.guessed: set[str] = set()
        if prefix is None and len(found) > 1 and "" not in found:
            raise ValueError(
                f"{folder} holds several samples ({', '.join(sorted(map(repr, found)))}): pass counts_file= the count "
                "matrix of one, or give each a folder of its own."
            )
        self.prefix = prefix if prefix is not None else "" if "" in found or not found else str(next(iter(found)))

    @staticmethod
    def _prefix_of(name: str) -> str | None:
        known = [each for each in MATRICES if _plain(name).endswith(each)]
        return _plain(name).removesuffix(max(known, key=len)) if known else None

    def find(self, name: str) -> Path | None:
        """File or folder of the usual ``name``, None if there is none."""
        for path in self._candidates(name):
            if path.exists():
                return path
        # Archives give the files of one sample different prefixes.
        ending = [path for place in self._places for path in place.iterdir() if _plain(path.name).endswith(name)]
        if len(ending) != 1 or len(self._samples) > 1:
            return None
        self.guessed.add(ending[0].name)
        return ending[0]

    def _candidates(self, name: str) -> Iterator[Path]:
        for place in self._places:
            for prefix in dict.fromkeys((self.prefix, "")):
                yield place / f"{prefix}{name}"
                yield place / f"{prefix}{name}.gz"


def _plain(name: str) -> str:
    return name.removesuffix(".gz")


@contextmanager
def decoding(path: Path) -> Iterator[None]:
    """Raise ValueError that names the file where it cannot be read."""
    try:
        yield
    except (ImportError, MemoryError):
        raise
    except Exception as error:
        raise ValueError(
            f"{path} cannot be read ({type(error).__name__}: {error}): it may be cut off or of another kind, copy or "
            "download it again."
        ) from error


def content(path: Path) -> bytes:
    """Bytes of a file, unpacked if it is gzipped."""
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data


def read_counts(path: Path, pieces: Pieces) -> tuple["AnnData", dict[str, str]]:
    """Counts of all features, and what the file says of the run (``library_id``, ``software_version``, ...)."""
    with warnings.catch_warnings():
        # Repeated symbols are made unique later.
        warnings.filterwarnings("ignore", "Variable names are not unique")
        if path.is_dir() or "matrix.mtx" in path.name:
            return _read_mtx(Pieces(path) if path.is_dir() else pieces, path), {}
        with decoding(path), TemporaryDirectory() as scratch:
            if path.suffix != ".gz":
                return _read_h5(path)
            unpacked = Path(scratch) / path.stem
            unpacked.write_bytes(content(path))
            return _read_h5(unpacked)


def _read_h5(path: Path) -> tuple["AnnData", dict[str, str]]:
    import h5py
    import scanpy as sc

    with h5py.File(path) as file:
        attributes = {key: np.atleast_1d(value)[0] for key, value in file.attrs.items() if np.size(value)}
    adata = sc.read_10x_h5(path, gex_only=False)
    text = {key: v.decode() if isinstance(v, bytes) else str(v) for key, v in attributes.items()}
    described = {key: text[key] for key in ("chemistry_description", "software_version") if key in text}
    return adata, described | ({"library_id": text["library_ids"]} if "library_ids" in text else {})


def _read_mtx(pieces: Pieces, path: Path) -> "AnnData":
    from anndata import AnnData
    from scipy import sparse
    from scipy.io import mmread

    names = ("matrix.mtx",), ("features.tsv", "genes.tsv"), ("barcodes.tsv",)
    files = [next((found for name in either if (found := pieces.find(name))), None) for either in names]
    for file, either in zip(files, names, strict=True):
        if file is None:
            raise FileNotFoundError(f"{path} has no {' or '.join(either)}: the counts cannot be read without it.")
    with decoding(path):
        matrix, features, barcodes = (content(file) for file in files if file is not None)
        table = pd.read_csv(BytesIO(features), sep="\t", header=None, dtype=str)
        var = pd.DataFrame({"gene_ids": table[0].to_numpy()}, index=table[min(1, table.shape[1] - 1)].to_numpy(object))
        if table.shape[1] > 2:
            var["feature_types"] = table[2].to_numpy()
        obs = pd.DataFrame(index=barcodes.decode().split())
        counts = sparse.csr_matrix(sparse.csc_matrix(mmread(BytesIO(matrix))).T, dtype=np.float32)
        return AnnData(counts, obs=obs, var=var)


def read_positions(path: Path) -> pd.DataFrame:
    """Places by barcode, with the columns `COLUMNS`; from csv with or without a header, or parquet.

    Raises
    ------
    ValueError
        The table has other columns.
    """
    with decoding(path):
        data = content(path)
        headed = data[:200].lower().lstrip(b"\"'").startswith(b"barcode")
        parquet = ".parquet" in path.suffixes
        table = pd.read_parquet(BytesIO(data)) if parquet else pd.read_csv(BytesIO(data), header=0 if headed else None)
    if not (parquet or headed) and table.shape[1] == len(COLUMNS) + 1:
        table.columns = ["barcode", *COLUMNS]
    if missing := {"barcode", *COLUMNS[3:]} - set(map(str, table.columns)):
        raise ValueError(f"{path} lacks the columns {sorted(missing)}: it is no table of positions by Space Ranger.")
    return table.set_index(table["barcode"].astype(str)).drop(columns="barcode")


def read_cells(path: Path) -> pd.DataFrame:
    """Centre ``x``, ``y`` and ``area`` of each cell in full-resolution pixels, by its number."""
    from shapely.geometry import shape

    with decoding(path):
        features = json.loads(content(path))["features"]
        outlines = [shape(feature["geometry"]) for feature in features]
        numbers = [int(feature["properties"]["cell_id"]) for feature in features]
    centres = [(o.centroid.x, o.centroid.y, o.area) for o in outlines]
    return pd.DataFrame(centres, index=numbers, columns=["x", "y", "area"])


def read_factors(path: Path) -> dict[str, Any]:
    """Scale factors as they are written."""
    with decoding(path):
        return dict(json.loads(content(path)))


def read_picture(path: Path) -> np.ndarray:
    """(H, W, 3 or 4) uint8 of a picture in any colour mode."""
    from PIL import Image

    with decoding(path):
        return colours_of(Image.open(BytesIO(content(path))))
