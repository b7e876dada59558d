import gzip
import json
import os
import shutil
import warnings
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import sparse
from scipy.io import mmwrite
from scipy.spatial import KDTree

import omib_spatial as omib
from omib_spatial.cli.inputs import read_slides
from omib_spatial.modalities import check_input, choose_modalities
from omib_spatial.slides import Tissue

DATA = Path(os.environ.get("OMIB_DATA", Path(__file__).parents[2] / "../shared/data"))
N, GENES = 12, 5
COUNTS = np.random.default_rng(0).integers(0, 9, (N, GENES))
BARCODES = [f"AAAC{i:02d}-1" for i in range(N)]
XY = np.stack([np.arange(N) * 137.5 + 60, np.arange(N) * 11.0 + 90], 1)
COLUMNS = ["barcode", "in_tissue", "array_row", "array_col", "pxl_row_in_fullres", "pxl_col_in_fullres"]


def write_counts(path: Path, barcodes: list[str] = BARCODES) -> None:
    matrix = sparse.csc_matrix(COUNTS.T)
    with h5py.File(path, "w") as file:
        file.attrs["library_ids"] = np.array([b"LIB"])
        group = file.create_group("matrix")
        for key in ("data", "indices", "indptr"):
            group[key] = getattr(matrix, key)
        group["shape"], group["barcodes"] = np.array(matrix.shape), np.array(barcodes, "S")
        features = group.create_group("features")
        names = ["TP53", "TP53", "MYC", "ACTB", "CD3E"]
        for key, values in {
            "id": [f"ENSG{i}" for i in range(GENES)],
            "name": names,
            "feature_type": ["Gene Expression"] * GENES,
            "genome": ["GRCh38"] * GENES,
        }.items():
            features[key] = np.array(values, "S")


def write_folder(folder: Path, layout: str) -> Path:
    (folder / "spatial").mkdir(parents=True)
    write_counts(folder / "filtered_feature_bc_matrix.h5")
    table = pd.DataFrame({"barcode": BARCODES, "in_tissue": 1, "array_row": range(N), "array_col": range(N)})
    table["pxl_row_in_fullres"], table["pxl_col_in_fullres"] = XY[:, 1], XY[:, 0]
    # Space Ranger lists spots that are not in the filtered matrix too, in its own order.
    table = pd.concat([table.iloc[::-1], table.iloc[:1].assign(barcode="GGGG-1", in_tissue=0)])[COLUMNS]
    factors = {"spot_diameter_fullres": 89.4, "tissue_hires_scalef": 0.1, "tissue_lowres_scalef": 0.03}
    if layout == "1":
        table.to_csv(folder / "spatial" / "tissue_positions_list.csv", header=False, index=False)
    elif layout == "2":
        table.to_csv(folder / "spatial" / "tissue_positions.csv", index=False)
    else:
        table.to_parquet(folder / "spatial" / "tissue_positions.parquet", index=False)
        factors |= {"microns_per_pixel": 0.25, "bin_size_um": 8.0}
    (folder / "spatial" / "scalefactors_json.json").write_text(json.dumps(factors))
    for key, size in (("hires", (170, 40)), ("lowres", (51, 12))):
        Image.new("RGB", size, (200, 150, 180)).save(folder / "spatial" / f"tissue_{key}_image.png")
    return folder


@pytest.mark.parametrize("layout", ["1", "2", "hd"])
def test_every_layout_gives_the_same_slide(tmp_path, layout):
    folder = tmp_path / "outs"
    write_folder(folder / "binned_outputs" / "square_008um" if layout == "hd" else folder, layout)
    adata = omib.read_visium(folder)
    assert adata.obs_names.tolist() == BARCODES
    np.testing.assert_array_equal(adata.X.toarray(), COUNTS)
    assert adata.var_names.is_unique
    np.testing.assert_array_equal(adata.obsm["spatial"], XY)
    assert adata.obsm["spatial"].dtype == np.float64
    assert (adata.obs["in_tissue"] == 1).all()
    assert adata.obs["array_row"].tolist() == list(range(N))
    entry = adata.uns["spatial"]["LIB"]
    assert entry["images"]["hires"].shape[:2] == (40, 170)
    expected = 0.25 if layout == "hd" else 65 / 89.4
    assert entry["scalefactors"]["microns_per_pixel"] == pytest.approx(expected)
    adata.write_h5ad(tmp_path / "slide.h5ad")


def test_patches_can_be_cut_in_micrometres_from_every_image(tmp_path):
    import tifffile

    from omib_spatial.modalities.patches import extract_patches

    full = np.random.default_rng(0).integers(0, 200, (400, 1700, 3), dtype=np.uint8)
    full[[0, -1]] = 250
    tifffile.imwrite(tmp_path / "full.tif", full, photometric="rgb", tile=(64, 64))
    adata = omib.read_visium(write_folder(tmp_path / "outs", "2"), source_image_path=tmp_path / "full.tif")
    side = 32 * 65 / 89.4
    patches = extract_patches(adata, image_key="fullres", patch_um=side, patch_size=32).pixels
    for (x, y), patch in zip(XY.astype(int), patches, strict=True):
        if (XY % 1 == 0).all(1)[np.flatnonzero(XY[:, 0].astype(int) == x)[0]]:
            np.testing.assert_array_equal(patch.transpose(1, 2, 0), full[y - 16 : y + 16, x - 16 : x + 16])


def test_another_bin_size_and_the_folder_of_one(tmp_path):
    bins = write_folder(tmp_path / "binned_outputs" / "square_016um", "hd")
    assert omib.read_visium(tmp_path, bin_size=16, library_id="mine").uns["spatial"].keys() == {"mine"}
    assert omib.read_visium(bins).n_obs == N
    with pytest.raises(FileNotFoundError, match=r"no bins of 8 um: pass bin_size= of one of \[16\]"):
        omib.read_visium(tmp_path, bin_size=8)
    with pytest.warns(UserWarning, match="bins of 8 um are missing: those of 16 um were read"):
        assert omib.read_visium(tmp_path).n_obs == N


def write_cells(folder: Path) -> Path:
    """Squares of 10 x 10 around `XY`, in another order, and one cell more than the counts have."""
    write_folder(folder, "2")
    (folder / "spatial" / "tissue_positions.csv").unlink()
    (folder / "filtered_feature_bc_matrix.h5").unlink()
    write_counts(folder / "filtered_feature_cell_matrix.h5", [f"cellid_{i + 1:09d}-1" for i in range(N)])
    features = [
        {
            "type": "Feature",
            "properties": {"cell_id": i + 1},
            "geometry": {"type": "Polygon", "coordinates": [square.tolist()]},
        }
        for i, centre in reversed(list(enumerate([*XY, XY[0] + 500])))
        for square in [centre + 5 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1], [-1, -1]])]
    ]
    (folder / "cell_segmentations.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return folder


FILES = ["counts", "positions", "scalefactors_json.json", "tissue_hires_image.png", "tissue_lowres_image.png"]
LAYOUTS = {"1": "", "2": "", "hd": "binned_outputs/square_008um", "cells": "segmented_outputs"}


def check_slides(adata) -> None:
    """The checks of a fit, but for the number of spots."""
    tissue = Tissue(adata)
    check_input(tissue, choose_modalities(tissue).values(), required=True)


@pytest.mark.parametrize("missing", [None, *FILES])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_file_left_out_is_one_clear_sentence(tmp_path, layout, missing):
    folder = tmp_path / "outs" / LAYOUTS[layout]
    write_cells(folder) if layout == "cells" else write_folder(folder, layout)
    names = {"counts": "filtered_feature_*_matrix.h5", "positions": "*_positions*"}
    if layout == "cells":
        names["positions"] = "cell_segmentations.geojson"
    if missing is not None:
        (path,) = folder.rglob(names.get(missing, missing))
        path.unlink()
    if missing in names:
        with pytest.raises(
            FileNotFoundError, match="has no count matrix" if missing == "counts" else "places of spots"
        ):
            omib.read_visium(tmp_path)
        # The command line says the same of the folder that holds the files.
        with pytest.raises(FileNotFoundError, match="count matrix|places of spots"):
            read_slides(folder)
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        adata = omib.read_visium(tmp_path)
    told = [str(w.message) for w in caught if issubclass(w.category, UserWarning)]
    # The smaller of two images is not needed.
    assert len(told) == (missing is not None and missing != "tissue_lowres_image.png")
    assert all(str(missing) in text and str(folder) in text for text in told)
    np.testing.assert_array_equal(adata.X.toarray(), COUNTS)
    np.testing.assert_allclose(adata.obsm["spatial"], XY)
    assert adata.var["gene_symbols"].tolist() == ["TP53", "TP53", "MYC", "ACTB", "CD3E"]
    assert adata.var["gene_ids"].tolist() == [f"ENSG{i}" for i in range(GENES)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        same = read_slides(tmp_path)
    pd.testing.assert_frame_equal(same.obs, adata.obs)
    np.testing.assert_array_equal(same.obsm["spatial"], adata.obsm["spatial"])
    assert same.uns["spatial"]["LIB"]["images"].keys() == adata.uns["spatial"]["LIB"]["images"].keys()
    (entry,) = adata.uns["spatial"].values()
    expected = {"hires", "lowres"} - {str(missing).split("_")[1] if "image" in str(missing) else ""}
    assert set(entry["images"]) == (set() if missing == "scalefactors_json.json" else expected)
    if layout == "cells":
        assert (adata.obs["area"] == 100).all()
    check_slides(adata)
    adata.write_h5ad(tmp_path / "slide.h5ad")


def _pack(path: Path) -> None:
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()


def _as_mtx(folder: Path, prefix: str, compress: bool, genes: str) -> None:
    (folder / f"{prefix}filtered_feature_bc_matrix.h5").unlink()
    mmwrite(folder / f"{prefix}matrix.mtx", sparse.coo_matrix(COUNTS.T))
    names = ["TP53", "TP53", "MYC", "ACTB", "CD3E"]
    rows = [f"ENSG{i}\t{name}\tGene Expression" for i, name in enumerate(names)]
    (folder / f"{prefix}{genes}").write_text("\n".join(rows) + "\n")
    (folder / f"{prefix}barcodes.tsv").write_text("\n".join(BARCODES) + "\n")
    for name in ("matrix.mtx", genes, "barcodes.tsv") if compress else ():
        _pack(folder / f"{prefix}{name}")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("mtx", [False, True])
def test_a_flat_folder_with_the_prefix_of_an_archive(tmp_path, packed, mtx):
    folder, prefix = write_folder(tmp_path / "GSE1", "1"), "GSM123_sample_A_"
    for path in [*folder.glob("*.h5"), *folder.glob("spatial/*")]:
        path.rename(folder / f"{prefix}{path.name}")
    (folder / "spatial").rmdir()
    if mtx:
        _as_mtx(folder, prefix, packed, "features.tsv" if packed else "genes.tsv")
    for path in list(folder.iterdir()) if packed else ():
        if path.suffix != ".gz":
            _pack(path)
    adata = omib.read_visium(folder)
    np.testing.assert_array_equal(adata.X.toarray(), COUNTS)
    np.testing.assert_array_equal(adata.obsm["spatial"], XY)
    assert adata.var["gene_ids"].tolist() == [f"ENSG{i}" for i in range(GENES)]
    assert set(adata.uns["spatial"]["GSM123_sample_A" if mtx else "LIB"]["images"]) == {"hires", "lowres"}
    write_counts(folder / "GSM124_filtered_feature_bc_matrix.h5")
    with pytest.raises(ValueError, match="several samples .'GSM123_sample_A_', 'GSM124_'.: pass counts_file="):
        omib.read_visium(folder)


def test_the_folder_of_a_matrix_is_read_and_the_raw_one_for_want_of_it(tmp_path):
    folder = write_folder(tmp_path / "outs", "2")
    (folder / "filtered_feature_bc_matrix.h5").rename(folder / "raw_feature_bc_matrix.h5")
    table = pd.read_csv(folder / "spatial" / "tissue_positions.csv")
    table.loc[table["barcode"] == BARCODES[3], "in_tissue"] = 0
    table.to_csv(folder / "spatial" / "tissue_positions.csv", index=False)
    with pytest.warns(UserWarning, match="spots under tissue were taken from the raw one"):
        adata = omib.read_visium(folder)
    assert adata.obs_names.tolist() == BARCODES[:3] + BARCODES[4:]
    inner = folder / "filtered_feature_bc_matrix"
    inner.mkdir()
    write_counts(inner / "filtered_feature_bc_matrix.h5")
    _as_mtx(inner, "", True, "features.tsv")
    np.testing.assert_array_equal(omib.read_visium(folder).X.toarray(), COUNTS)
    (inner / "barcodes.tsv.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no barcodes\.tsv"):
        omib.read_visium(folder)


def test_places_of_another_sample_are_refused_and_lost_spots_named(tmp_path):
    folder = write_folder(tmp_path / "outs", "2")
    path = folder / "spatial" / "tissue_positions.csv"
    table = pd.read_csv(path)
    table[table["barcode"] != BARCODES[3]].to_csv(path, index=False)
    with pytest.warns(UserWarning, match="1 spots without a place"):
        assert omib.read_visium(folder).n_obs == N - 1
    table.assign(barcode="T" + table["barcode"]).to_csv(path, index=False)
    with pytest.raises(ValueError, match="of different samples"):
        omib.read_visium(folder)
    table.drop(columns="pxl_row_in_fullres").to_csv(path, index=False)
    with pytest.raises(ValueError, match="lacks the columns"):
        omib.read_visium(folder)
    shutil.rmtree(folder)
    with pytest.raises(FileNotFoundError, match="outs does not exist"):
        omib.read_visium(folder)


@pytest.mark.skipif(not (DATA / "crc16_outs").is_dir(), reason=f"no crc16_outs folder in {DATA}; set OMIB_DATA")
def test_a_real_folder_without_hires_keeps_its_spots_image():
    from omib_spatial.modalities.patches import extract_patches

    with pytest.warns(UserWarning, match="tissue_hires_image.png is missing"):
        adata = omib.read_visium(DATA / "crc16_outs")
    assert adata.shape == (3106, 36601)
    # Its picture has a dark rim.
    assert extract_patches(adata, image_key="lowres", patch_diameter=2, patch_size=64).present.mean() > 0.95


@pytest.mark.skipif(not (DATA / "visium_mini").is_dir(), reason=f"no visium_mini folder in {DATA}; set OMIB_DATA")
def test_a_real_folder_has_spots_of_65_um_on_a_grid_of_100():
    adata = omib.read_visium(DATA / "visium_mini")
    (entry,) = adata.uns["spatial"].values()
    um = entry["scalefactors"]["microns_per_pixel"]
    near = KDTree(adata.obsm["spatial"]).query(adata.obsm["spatial"], k=2)[0][:, 1]
    assert near.min() * um == pytest.approx(100, rel=0.02)
    check_slides(adata)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("broken", FILES)
@pytest.mark.parametrize("what", [b"", b"cut off"])
def test_a_broken_file_is_named(tmp_path, layout, broken, what):
    folder = tmp_path / LAYOUTS[layout]
    write_cells(folder) if layout == "cells" else write_folder(folder, layout)
    positions = "cell_segmentations.geojson" if layout == "cells" else "*_positions*"
    (path,) = folder.rglob({"counts": "filtered_feature_*_matrix.h5", "positions": positions}.get(broken, broken))
    path.write_bytes(what)
    with pytest.raises(ValueError, match="cannot be read|is no table of positions") as told:
        omib.read_visium(tmp_path)
    assert str(told.value).startswith(str(path))


def test_what_lies_elsewhere_is_pointed_to(tmp_path):
    inner = write_folder(tmp_path / "a" / "run1", "2")
    with pytest.raises(FileNotFoundError, match=f"has no count matrix.*give one of '{inner}'"):
        omib.read_visium(tmp_path)
    with pytest.raises(NotADirectoryError, match="is a file: give its folder"):
        omib.read_visium(inner / "filtered_feature_bc_matrix.h5")
    shutil.rmtree(inner / "spatial")
    (inner / "spatial.tar.gz").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"places of spots are needed.*unpack 'spatial\.tar\.gz' first"):
        omib.read_visium(inner)


def test_files_of_one_sample_under_different_prefixes(tmp_path):
    folder = write_folder(tmp_path / "outs", "2")
    for i, path in enumerate([*folder.glob("*.h5"), *folder.glob("spatial/*")]):
        path.rename(folder / f"GSM{i}_{path.name}")
    with pytest.warns(UserWarning, match="were taken for the same sample as GSM0_filtered"):
        adata = omib.read_visium(folder)
    np.testing.assert_array_equal(adata.obsm["spatial"], XY)
    assert set(adata.uns["spatial"]["LIB"]["images"]) == {"hires", "lowres"}
    # Of several samples none gets the places of another.
    write_counts(folder / "GSM9_filtered_feature_bc_matrix.h5")
    with pytest.raises(FileNotFoundError, match="places of spots are needed"):
        omib.read_visium(folder, counts_file="GSM9_filtered_feature_bc_matrix.h5")
