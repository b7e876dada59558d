import gzip
import json
import shutil
import warnings
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import sparse
from spatialdata import SpatialData
from spatialdata.models import ShapesModel, TableModel

import omib_spatial as omib
from omib_spatial.cli.inputs import find_sources, is_spatialdata, is_zarr, read_slides, read_with_key
from omib_spatial.datasets import simulate_tissue


@pytest.fixture(scope="module")
def slides() -> ad.AnnData:
    return simulate_tissue(2, n_spots=60, n_genes=50, n_healthy=1)


def one(slides: ad.AnnData, name: str) -> ad.AnnData:
    own = slides[slides.obs["library_id"] == name].copy()
    own.uns["spatial"] = {name: own.uns["spatial"][name]}
    return own


def write_outs(folder: Path, adata: ad.AnnData, barcodes: list[str]) -> Path:
    """A folder of Space Ranger 2 with the counts and places of a slide."""
    (folder / "spatial").mkdir(parents=True)
    matrix = sparse.csc_matrix(sparse.csr_matrix(adata.X).T)
    with h5py.File(folder / "filtered_feature_bc_matrix.h5", "w") as file:
        group = file.create_group("matrix")
        for key in ("data", "indices", "indptr"):
            group[key] = getattr(matrix, key).astype(int)
        group["shape"], group["barcodes"] = np.array(matrix.shape), np.array(barcodes, "S")
        features = group.create_group("features")
        n = adata.n_vars
        for key, values in {
            "id": list(adata.var_names),
            "name": list(adata.var_names),
            "feature_type": ["Gene Expression"] * n,
            "genome": ["none"] * n,
        }.items():
            features[key] = np.array(values, "S")
    columns = {"barcode": barcodes, "in_tissue": 1, "array_row": 0, "array_col": range(len(barcodes))}
    xy = adata.obsm["spatial"]
    table = pd.DataFrame(columns | {"pxl_row_in_fullres": xy[:, 1], "pxl_col_in_fullres": xy[:, 0]})
    table.to_csv(folder / "spatial" / "tissue_positions.csv", index=False)
    entry = next(iter(adata.uns["spatial"].values()))
    (folder / "spatial" / "scalefactors_json.json").write_text(json.dumps(dict(entry["scalefactors"])))
    pixels = np.asarray(entry["images"]["hires"])
    pixels = pixels if pixels.dtype == np.uint8 else (pixels * 255).astype(np.uint8)
    Image.fromarray(pixels[..., :3]).save(folder / "spatial" / "tissue_hires_image.png")
    return folder


def as_spatialdata(adata: ad.AnnData, region: str = "spots", **more) -> SpatialData:
    table = ad.AnnData(adata.X, obs=pd.DataFrame(index=adata.obs_names), var=pd.DataFrame(index=adata.var_names))
    table.obs["region"], table.obs["spot"] = pd.Categorical([region] * adata.n_obs), np.arange(adata.n_obs)
    circles = ShapesModel.parse(adata.obsm["spatial"], geometry=0, radius=5.0)
    parsed = TableModel.parse(table, region=region, region_key="region", instance_key="spot")
    return SpatialData(shapes={region: circles}, tables={"table": parsed, **more})


@pytest.mark.parametrize("kind", ["h5ad", "zarr", "outs", "h5", "spatialdata"])
def test_every_kind_of_slide_is_the_same_slide(slides, tmp_path, kind):
    own = one(slides, "slide1")
    path = tmp_path / f"p1.{kind}"
    if kind == "h5ad":
        own.write_h5ad(path)
    elif kind == "zarr":
        own.write_zarr(path)
    elif kind == "spatialdata":
        as_spatialdata(own).write(path)
    else:
        write_outs(path, own, list(own.obs_names))
    assert is_zarr(path) is (kind in {"zarr", "spatialdata"}) and is_spatialdata(path) is (kind == "spatialdata")
    adata, key = read_with_key(path / "filtered_feature_bc_matrix.h5" if kind == "h5" else path)
    assert key == ("region" if kind == "spatialdata" else None)
    assert (adata.X != own.X).sum() == 0 and list(adata.var_names) == list(own.var_names)
    np.testing.assert_allclose(adata.obsm["spatial"], own.obsm["spatial"])


def test_several_slides_are_one_under_names_that_differ(slides, tmp_path):
    parts = [one(slides, name) for name in ("slide1", "slide2")]
    # The same barcodes, the same slice's name: as two runs on two capture areas have them.
    for i, part in enumerate(parts):
        part.obs_names = [f"AAAC{j}-1" for j in range(part.n_obs)]
        part.uns["spatial"] = {"V10": next(iter(part.uns["spatial"].values()))}
        del part.obs["library_id"]
        part.write_h5ad(tmp_path / f"p{i}.h5ad")
    adata, key = read_with_key(tmp_path)
    assert key == "library_id" and list(adata.obs[key].cat.categories) == ["p0_V10", "p1_V10"] == list(
        adata.uns["spatial"]
    )
    assert adata.obs_names.is_unique and adata.obs_names[0] == "p0_AAAC0-1"
    for name, part in zip(adata.obs[key].cat.categories, parts, strict=True):
        own = adata[adata.obs[key] == name]
        assert (own.X != part.X).sum() == 0
        np.testing.assert_array_equal(own.obsm["spatial"], part.obsm["spatial"])
        np.testing.assert_array_equal(
            adata.uns["spatial"][name]["images"]["hires"], part.uns["spatial"]["V10"]["images"]["hires"]
        )
    one_by_one, _ = read_with_key([tmp_path / "p0.h5ad", tmp_path / "p1.h5ad"])
    assert list(one_by_one.obs_names) == list(adata.obs_names)


def test_results_of_several_runs_are_left_behind_when_slides_are_joined(slides, tmp_path):
    own = one(slides, "slide1")
    model = omib.tl.fit(own, all_healthy=True, max_epochs=3)
    assert "image" in model.modalities
    for name in ("slide1", "slide2"):
        part = one(slides, name)
        omib.tl.score(part, model)
        omib.tl.call(part, question="part")
        omib.tl.explain(part, model)
        part.obs["omib_mine"] = 1
        part.write_h5ad(tmp_path / f"{name}.h5ad")
    alone, _ = read_with_key(tmp_path / "slide1.h5ad")
    assert "omib_score" in alone.obs
    joined, key = read_with_key(tmp_path)
    left = [name for name in (*joined.obs, *joined.obsm, *joined.layers, *joined.uns) if "omib" in name]
    assert left == ["omib_mine"] and "X_image" not in joined.obsm
    omib.tl.score(joined, model, library_key=key)


def test_spots_beside_the_tissue_are_left_out_and_told(slides, tmp_path):
    part = one(slides, "slide1")
    part.obs["in_tissue"] = (np.arange(part.n_obs) > 2).astype(int)
    part.write_h5ad(tmp_path / "a.h5ad")
    with pytest.warns(UserWarning, match=r"a\.h5ad: 3 of \d+ spots lie beside the tissue"):
        adata, _ = read_with_key(tmp_path / "a.h5ad")
    assert adata.n_obs == part.n_obs - 3


def test_what_is_no_slice_in_uns_is_passed_over_when_slides_are_joined(slides, tmp_path):
    first, second = one(slides, "slide1"), one(slides, "slide2")
    # As CELLxGENE keeps a flag beside the entry, and as something else may have written over all of them.
    first.uns["spatial"] = {"V10": first.uns["spatial"]["slide1"], "is_single": True}
    second.uns["spatial"] = "text"
    for name, part in (("a", first), ("b", second)):
        del part.obs["library_id"]
        part.write_h5ad(tmp_path / f"{name}.h5ad")
    adata, _ = read_with_key(tmp_path)
    assert list(adata.uns["spatial"]) == ["V10"] and set(adata.obs["library_id"]) == {"V10", "b"}


def test_kinds_mix_and_names_of_slices_stay_where_they_differ(slides, tmp_path):
    first, second = one(slides, "slide1"), one(slides, "slide2")
    write_outs(tmp_path / "patient7" / "outs", first, list(first.obs_names))
    second.write_zarr(tmp_path / "second.zarr")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    with pytest.warns(UserWarning, match="since not all slides have them"):
        second.obsm["mine"] = np.zeros((second.n_obs, 2))
        second.write_h5ad(tmp_path / "third.h5ad")
        shutil.rmtree(tmp_path / "second.zarr")
        adata, key = read_with_key(tmp_path)
    assert sorted(adata.obs[key].unique()) == ["patient7", "slide2"] == sorted(adata.uns["spatial"])
    assert sorted(adata.obs_names) == sorted([*first.obs_names, *second.obs_names])


def test_a_file_of_several_slices_keeps_them_beside_others(slides, tmp_path):
    slides.write_h5ad(tmp_path / "a.h5ad")
    more = one(slides, "slide2")
    more.obs_names = [f"b{name}" for name in more.obs_names]
    more.write_h5ad(tmp_path / "b.h5ad")
    adata, key = read_with_key([tmp_path / "a.h5ad", tmp_path / "b.h5ad"], library_key="library_id")
    assert adata.obs[key].value_counts(sort=False).to_dict() == {"a_slide2": 60, "b_slide2": 60, "slide1": 60}
    assert set(adata.uns["spatial"]) == set(adata.obs[key])
    assert list(slides.obs_names) == list(adata.obs_names[:120])


def test_genes_that_not_all_have_are_left_out_and_told(slides, tmp_path):
    first, second = one(slides, "slide1"), one(slides, "slide2")
    first[:, :40].copy().write_h5ad(tmp_path / "a.h5ad")
    second[:, 5:].copy().write_h5ad(tmp_path / "b.h5ad")
    with pytest.warns(UserWarning, match="15 of 50 genes"):
        adata = read_slides(tmp_path)
    assert list(adata.var_names) == list(slides.var_names[5:40])
    second.var_names = [f"ENSG{i}" for i in range(second.n_vars)]
    second.write_h5ad(tmp_path / "b.h5ad")
    with pytest.raises(ValueError, match=r"no gene in common \(a.h5ad: .*, b.h5ad: 'ENSG0'\)"):
        read_slides(tmp_path)


def test_one_slide_is_read_as_it_is(slides, tmp_path):
    slides.write_h5ad(tmp_path / "a.h5ad")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        adata, key = read_with_key(tmp_path / "a.h5ad")
    assert key is None and list(adata.obs) == list(slides.obs)


def test_what_is_no_slide_is_told(slides, tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing does not exist"):
        read_slides(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match="holds no slides"):
        read_slides(tmp_path)
    (tmp_path / "table.csv").write_text("a,b")
    with pytest.raises(ValueError, match="table.csv is no slide"):
        read_slides(tmp_path / "table.csv")
    for name in ("cut.h5ad", "gone.zarr/zarr.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(gzip.compress(b"cut"))
        with pytest.raises(ValueError, match=f"{Path(name).parts[0]} cannot be read"):
            read_slides(tmp_path / Path(name).parts[0])
    one(slides, "slide1").write_h5ad(tmp_path / "a.h5ad")
    with pytest.raises(ValueError, match="given twice"):
        find_sources([tmp_path / "a.h5ad", tmp_path / "a.h5ad"])
    with pytest.raises(ValueError, match="no SpatialData"):
        read_slides(tmp_path / "a.h5ad", table_key="table")


def test_several_slices_in_a_file_need_a_key_when_joined(slides, tmp_path):
    both = slides.copy()
    both.obs = both.obs.rename(columns={"library_id": "section"})
    both.write_h5ad(tmp_path / "a.h5ad")
    one(slides, "slide1").write_h5ad(tmp_path / "b.h5ad")
    with pytest.raises(ValueError, match=r"a.h5ad has several slices \(slide1, slide2\): .*--library-key"):
        read_slides(tmp_path)


def test_a_table_of_several_is_asked_for(slides, tmp_path):
    sdata = as_spatialdata(one(slides, "slide1"))
    for bins in ("square_002um", "square_008um"):
        sdata.tables[bins] = sdata.tables["table"].copy()
    del sdata.tables["table"]
    sdata.write(tmp_path / "hd.zarr")
    with pytest.raises(ValueError, match="'square_002um', 'square_008um'.*--table-key"):
        read_slides(tmp_path / "hd.zarr")
    assert read_slides(tmp_path / "hd.zarr", table_key="square_008um").n_obs == 60
