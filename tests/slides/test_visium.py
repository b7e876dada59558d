import json
import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import sparse
from scipy.spatial import KDTree

import omib_spatial as omib

DATA = Path(os.environ.get("OMIB_DATA", Path(__file__).parents[2] / "../shared/data"))
N, GENES = 12, 5
COUNTS = np.random.default_rng(0).integers(0, 9, (N, GENES))
BARCODES = [f"AAAC{i:02d}-1" for i in range(N)]
XY = np.stack([np.arange(N) * 137.5 + 60, np.arange(N) * 11.0 + 90], 1)
COLUMNS = ["barcode", "in_tissue", "array_row", "array_col", "pxl_row_in_fullres", "pxl_col_in_fullres"]


def write_counts(path: Path) -> None:
    matrix = sparse.csc_matrix(COUNTS.T)
    with h5py.File(path, "w") as file:
        file.attrs["library_ids"] = np.array([b"LIB"])
        group = file.create_group("matrix")
        for key in ("data", "indices", "indptr"):
            group[key] = getattr(matrix, key)
        group["shape"], group["barcodes"] = np.array(matrix.shape), np.array(BARCODES, "S")
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
    with pytest.raises(FileNotFoundError, match=r"no bins of 8 um: pass bin_size= of one of \['square_016um'\]"):
        omib.read_visium(tmp_path)


@pytest.mark.parametrize("missing", ["filtered_feature_bc_matrix.h5", "spatial/scalefactors_json.json", "spatial"])
def test_what_is_missing_is_named(tmp_path, missing):
    folder = write_folder(tmp_path / "outs", "2")
    target = folder / missing
    if target.is_dir():
        (target / "tissue_positions.csv").unlink()
    else:
        target.unlink()
    with pytest.raises(FileNotFoundError, match=missing.replace("spatial/", "") if missing != "spatial" else "places"):
        omib.read_visium(folder)
    shutil.rmtree(folder)
    with pytest.raises(FileNotFoundError, match="outs does not exist"):
        omib.read_visium(folder)


@pytest.mark.skipif(not (DATA / "visium_mini").is_dir(), reason=f"no visium_mini folder in {DATA}; set OMIB_DATA")
def test_a_real_folder_has_spots_of_65_um_on_a_grid_of_100():
    adata = omib.read_visium(DATA / "visium_mini")
    (entry,) = adata.uns["spatial"].values()
    um = entry["scalefactors"]["microns_per_pixel"]
    near = KDTree(adata.obsm["spatial"]).query(adata.obsm["spatial"], k=2)[0][:, 1]
    assert near.min() * um == pytest.approx(100, rel=0.02)
    omib.pp.check(adata)
