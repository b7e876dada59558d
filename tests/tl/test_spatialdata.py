from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from spatialdata import SpatialData, read_zarr
from spatialdata.models import Image2DModel, ShapesModel, TableModel
from spatialdata.transformations import Identity, Scale

import omib_spatial as omib
from omib_spatial._keys import Written
from omib_spatial.tl._spatialdata import _bring_back

QUICK = {
    "config": replace(omib.tl.OBJECTIVES["reconstruction"].config, warmup_epochs=1, beta=0.05),
    "max_epochs": 2,
    "enable_progress_bar": False,
    "reference_key": "healthy",
}
WRITTEN = [f"omib_{name}" for name in ("score", "pvalue", "slice_pvalue", "modalities", "call", "anomaly")]


@pytest.fixture(scope="module")
def plain():
    """Two slides; their coordinates are pixels of their images, as a table of SpatialData has them."""
    adata = omib.datasets.simulate_tissue(n_slides=2, n_healthy=1, n_spots=120, n_genes=80)
    for name, entry in adata.uns["spatial"].items():
        scale = entry["scalefactors"]["tissue_hires_scalef"]
        adata.obsm["spatial"][adata.obs["library_id"] == name] *= scale
        entry["scalefactors"]["spot_diameter_fullres"] *= scale
        entry["scalefactors"]["tissue_hires_scalef"] = 1.0
    return adata


def spatial(adata) -> SpatialData:
    """The same in a SpatialData, whose shapes are an eighth the size of pixels: eights keep coordinates exact."""
    images, shapes = {}, {}
    for name, entry in adata.uns["spatial"].items():
        pixels, rows = entry["images"]["hires"].transpose(2, 0, 1), (adata.obs["library_id"] == name).to_numpy()
        images[f"{name}_hires_image"] = Image2DModel.parse(
            pixels, dims=("c", "y", "x"), transformations={name: Identity()}
        )
        shapes[name] = ShapesModel.parse(
            adata.obsm["spatial"][rows] / 8,
            geometry=0,
            radius=entry["scalefactors"]["spot_diameter_fullres"] / 16,
            transformations={name: Scale([8, 8], axes=("x", "y"))},
        )
    table = adata.copy()
    del table.uns["spatial"], table.obsm["spatial"]
    table.obs["spot"] = np.concatenate([np.arange(n) for n in adata.obs["library_id"].value_counts(sort=False)])
    table = TableModel.parse(table, region=list(shapes), region_key="library_id", instance_key="spot")
    return SpatialData(images=images, shapes=shapes, tables={"spots": table})


def draw_all(sdata: SpatialData, model) -> None:
    """Every plot takes the SpatialData, and leaves its table as it is."""
    import matplotlib.pyplot as plt

    columns, keys = list(sdata.tables["spots"].obs), sorted(sdata.tables["spots"].uns)
    tissue = (omib.pl.anomaly_map, omib.pl.regions, omib.pl.contributions, omib.pl.patches)
    for plot in tissue:
        axes = plot(sdata, table_key="spots", spot_diameter_um=55, library_id="slide1")
        first = axes[0] if isinstance(axes, list) else axes
        assert first.images and [artist for artist in first.artists if hasattr(artist, "size_bar")], plot
        plt.close("all")
    sdata.tables["spots"].obs["taken"] = True
    columns.append("taken")
    assert omib.pl.reference(sdata, "taken", table_key="spots")[0].images
    assert omib.pl.modalities(sdata, table_key="spots").patches
    assert omib.pl.top_genes(sdata, table_key="spots").patches
    assert omib.pl.genome(sdata, table_key="spots").images
    assert len(omib.pl.training(sdata, table_key="spots")) == 3
    plt.close("all")
    assert (list(sdata.tables["spots"].obs), sorted(sdata.tables["spots"].uns)) == (columns, keys)
    with pytest.raises(KeyError, match="pass table_key= one of"):
        omib.pl.anomaly_map(sdata, table_key="spot")
    with pytest.raises(TypeError, match=r"regions\(\) draws an AnnData or a SpatialData, not dict"):
        omib.pl.regions({})


def test_fit_and_score_give_what_they_give_on_anndata(plain, tmp_path):
    adata, sdata = plain.copy(), spatial(plain)
    expected = omib.tl.fit(adata, library_key="library_id", **QUICK)
    model = omib.tl.fit(sdata, table_key="spots", **QUICK)
    table = sdata.tables["spots"]
    assert model.layout == expected.layout
    np.testing.assert_allclose(table.obs["omib_score"], adata.obs["omib_score"], atol=1e-4)
    np.testing.assert_allclose(table.obsm["X_image"], adata.obsm["X_image"], atol=1e-5)
    assert set(table.obs) - set(plain.obs) == {*WRITTEN, "spot"}
    assert set(table.obsm) == {"X_omib", "X_omib_genome", "X_image"}
    assert "spatial" not in table.uns

    other = spatial(plain)
    omib.tl.score(other, model, table_key="spots", key_added="again")
    np.testing.assert_allclose(other.tables["spots"].obs["again_score"], table.obs["omib_score"], atol=1e-5)
    omib.tl.call(sdata, table_key="spots", question="part")
    assert set(table.uns["omib_slides"]["question"]) == {"part"}
    omib.tl.regions(sdata, table_key="spots", min_spots=1, n_fields=9)
    assert "omib_region" in table.obs and "omib_regions" in table.uns
    omib.tl.explain(sdata, model, table_key="spots", n_spot_genes=2)
    omib.tl.subtypes(sdata, table_key="spots")
    assert {"omib_contributions", "X_omib_deviation"} <= {*table.obsm} and "omib_contributions" in table.layers
    assert omib.get.explanation(sdata, table_key="spots")["group"].iloc[0] == "called" and "omib_subtype" in table.obs
    draw_all(sdata, model)
    omib.tl.call(sdata, table_key="spots", question="any")
    rested = ("omib_region", "omib_explain", "omib_subtype")
    assert not [key for key in (*table.obs, *table.uns) if key.startswith(rested)]
    sdata.write(tmp_path / "sdata.zarr")
    back = read_zarr(tmp_path / "sdata.zarr")
    np.testing.assert_array_equal(back.tables["spots"].obs["omib_score"], table.obs["omib_score"])


def test_classes_come_back_too(plain, tmp_path):
    adata = plain.copy()
    adata.obs["half"] = np.where(adata.obsm["spatial"][:, 0] < np.median(adata.obsm["spatial"][:, 0]), "left", "right")
    sdata = spatial(adata)
    options = QUICK | {"labels_key": "half", "modalities": ["gene", "genome"]}
    omib.tl.fit(sdata, table_key="spots", **options)
    omib.tl.fit(adata, library_key="library_id", **options)
    sdata.write(tmp_path / "sdata.zarr")
    table = read_zarr(tmp_path / "sdata.zarr").tables["spots"]
    np.testing.assert_allclose(table.obsm["omib_probability"], adata.obsm["omib_probability"], atol=1e-4)
    np.testing.assert_allclose(table.obsm["X_omib_genome"], adata.obsm["X_omib_genome"], atol=1e-4)
    assert table.obs["omib_label"].equals(adata.obs["omib_label"])
    assert table.uns["omib"]["classes"].tolist() == ["left", "right"]
    # A run without labels takes them away, and what only another modality has drawn.
    omib.tl.fit(sdata, table_key="spots", **(QUICK | {"modalities": ["gene"]}))
    now = sdata.tables["spots"]
    assert not {"omib_label", "omib_probability", "X_omib_genome", "classes"} & {*now.obs, *now.obsm, *now.uns["omib"]}
    assert "X_omib" in now.obsm and "half" in now.obs


def test_nothing_is_written_when_it_fails(plain):
    sdata = spatial(plain)
    table = sdata.tables["spots"]
    before = table.copy()
    table.X[0, 0] = 0.5
    with pytest.raises(ValueError, match="no integers"):
        omib.tl.fit(sdata, table_key="spots", **QUICK)
    with pytest.raises(TypeError, match="Did you mean labels_key="):
        omib.tl.fit(sdata, table_key="spots", labels="half", **QUICK)
    with pytest.raises(KeyError, match="pass table_key="):
        omib.tl.fit(sdata, **QUICK)
    assert table.obs.equals(before.obs)
    assert list(table.obsm) == list(before.obsm)
    assert list(table.uns) == list(before.uns)


def test_a_copy_is_the_users(plain):
    adata = plain.copy()
    model = omib.tl.fit(adata, library_key="library_id", modalities=["gene"], **QUICK)
    with pytest.raises(ValueError, match="copy the SpatialData yourself"):
        omib.tl.score(spatial(plain), model, table_key="spots", copy=True)


def test_a_found_reference_comes_back_and_what_is_gone_goes():
    table = ad.AnnData(np.ones((3, 1)), obs=pd.DataFrame({"omib_label": ["a"] * 3, "mine": 1}, index=list("abc")))
    found = ad.AnnData(np.ones((3, 1)), obs=pd.DataFrame({"omib_reference": [True, False, True]}, index=list("abc")))
    found.obs["omib_reference_score"], found.uns["omib_reference"] = [0.1, 0.9, 0.2], {"answered": [True]}
    found.obsm["X_image"], found.uns["X_image"] = np.ones((3, 2)), {"encoder": "texture"}
    _bring_back(found, table, Written())
    assert list(table.obs) == ["mine", "omib_reference", "omib_reference_score"]
    assert table.obs["omib_reference"].tolist() == [True, False, True]
    assert "X_image" in table.obsm and {"X_image", "omib_reference"} <= set(table.uns)
