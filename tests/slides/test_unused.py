"""What is there and is not read, said in words."""

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from omib_spatial import tl
from omib_spatial.datasets import simulate_tissue
from omib_spatial.slides import Layout, Tissue
from omib_spatial.slides.unused import unused_features, unused_images

PICTURE = np.zeros((20, 30, 3), np.uint8)
SLIDES = Layout(library_key="slice")


def entry(*images: str) -> dict:
    factors = {"tissue_hires_scalef": 1.0, "spot_diameter_fullres": 2.0}
    return {"images": dict.fromkeys(images, PICTURE), "scalefactors": factors}


def make(spatial: object = None, n: int = 6, **obsm: object) -> ad.AnnData:
    """Spots of slices ``a`` and ``b`` by turns."""
    obs = pd.DataFrame({"slice": ["a", "b"] * (n // 2)}, index=[f"s{i}" for i in range(n)])
    adata = ad.AnnData(np.ones((n, 2), np.float32), obs=obs, obsm={"spatial": np.argwhere(np.ones((n, 1))) * 5.0})
    adata.obsm.update(obsm)
    if spatial is not None:
        adata.uns["spatial"] = spatial
    return adata


def images(spatial: object, layout: Layout = SLIDES, **uns: object) -> list[str]:
    adata = make(spatial)
    adata.uns.update(uns)
    return unused_images(Tissue(adata, layout))


def features(adata: ad.AnnData, *modalities: str, key_added: str = "omib", **layout: str) -> list[str]:
    return unused_features(Tissue(adata, Layout(**layout)), modalities, key_added)


# Images.


@pytest.mark.parametrize(
    "spatial",
    [
        None,
        {},
        {"a": entry("hires"), "b": entry("hires", "lowres")},
        {"a": {"scalefactors": {}}, "b": {"images": {}}},
        {"is_single": True, "a": entry("hires"), "b": {}},
    ],
)
def test_nothing_is_said_where_nothing_is_lost(spatial):
    assert images(spatial) == []


def test_an_image_under_another_library_name_is_named_with_the_way_on():
    (said,) = images({"A": entry("hires"), "b": entry("hires"), "c": {"scalefactors": {}}})
    assert said.startswith("uns['spatial'] has images of 'A', but slices are named 'a', 'b'")
    assert "rename" in said and "library_key=" in said


def test_images_of_other_slices_are_no_loss_where_every_slice_has_its_own():
    assert images({"a": entry("hires"), "b": entry("hires"), "gone": entry("hires")}) == []


def test_an_image_under_another_key_is_named_with_the_way_on():
    assert images({"a": entry("hires"), "b": entry("lowres", "big")}) == [
        "slice 'b' has images 'lowres', 'big', not 'hires': pass image_key='lowres'"
    ]
    both = images({"a": entry("lowres"), "b": entry("lowres")})
    assert [said.split()[1] for said in both] == ["'a'", "'b'"]
    assert images({"a": entry("lowres"), "b": entry("lowres")}, Layout(library_key="slice", image_key="lowres")) == []


def test_a_slice_without_a_name_finds_its_only_entry():
    assert images({"anything": entry("hires")}, Layout()) == []
    assert "slice 'anything' has images 'lowres'" in images({"anything": entry("lowres")}, Layout())[0]


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize(
    ("put", "where"),
    [
        (lambda p: ({}, {"image": p}), "uns['image']"),
        (lambda p: (p, {}), "uns['spatial']"),
        (lambda p: ({"img": p}, {}), "uns['spatial']['img']"),
        (lambda p: ({"a": {"images": p}}, {}), "uns['spatial']['a']['images']"),
    ],
)
def test_a_bare_array_is_named_with_where_it_belongs(put, where, channels):
    spatial, uns = put(np.zeros((20, 30, channels), np.uint8))
    (said,) = images(spatial, **uns)
    assert said.startswith(f"{where} is a bare array") and "uns['spatial'][slice]['images']['hires']" in said
    assert "scalefactors" in said


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 5), (1, 30, 3), (20,), (2, 20, 30, 3)])
def test_arrays_of_another_shape_are_no_pictures(shape):
    assert images({}, table=np.zeros(shape), text="words", frame=pd.DataFrame({"x": [1]})) == []


# Features.


def test_ready_features_are_named_with_the_way_on():
    (said,) = features(make(X_uni=np.ones((6, 12))), "gene", "image")
    assert said == "obsm['X_uni'] (12 columns) is no modality unless named: modalities=['gene', 'image', 'X_uni']"


@pytest.mark.parametrize(
    "kind", [np.asarray, sp.csr_matrix, lambda v: pd.DataFrame(v, index=[f"s{i}" for i in range(6)])]
)
def test_features_of_any_kind_are_seen(kind):
    assert len(features(make(X_uni=kind(np.ones((6, 12)))), "gene")) == 1


@pytest.mark.parametrize(
    "key",
    ["X_uni", "spatial", "X_pca", "X_PCA", "X_umap", "X_tsne", "X_scVI", "X_harmony", "X_image", "X_omib"]
    + ["X_omib_genome", "omib_probability"],
)
def test_what_is_used_or_made_of_the_counts_or_written_by_us_is_no_loss(key):
    assert features(make(**{key: np.ones((6, 12))}), "gene", "X_uni") == []


def test_coordinates_under_any_name_are_no_features():
    adata = make(places=np.ones((6, 3)), flat=np.ones((6, 2)))
    assert features(adata, "gene", spatial_key="places") == []
    assert len(features(adata, "gene")) == 1


def test_results_are_told_from_features_by_their_whole_prefix():
    """A short key_added is in many names."""
    adata = make(X_uni=np.ones((6, 12)), X_u=np.ones((6, 4)), X_u_genome=np.ones((6, 9)), u_probability=np.ones((6, 3)))
    assert [said.split("'")[1] for said in features(adata, "gene", key_added="n")] == [
        "X_uni",
        "X_u",
        "X_u_genome",
        "u_probability",
    ]


# In a fit.

FIT = {"all_healthy": True, "library_key": "library_id", "max_epochs": 1, "enable_progress_bar": False}


@pytest.fixture
def tissue() -> ad.AnnData:
    return simulate_tissue(2, n_spots=80, n_genes=60, n_healthy=2)


def caught(adata: ad.AnnData, **options) -> list[str]:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        tl.fit(adata, **FIT, **options)
    return [str(one.message) for one in found if "ot used" in str(one.message)]


def test_a_fit_says_it_once_and_of_named_modalities_nothing(tissue):
    tissue.obsm["X_uni"] = np.random.default_rng(0).normal(size=(160, 5))
    tissue.uns["spatial"]["slide2"]["images"] = {"lowres": PICTURE}
    (said,) = caught(tissue.copy())
    assert said.startswith("Not used: slice 'slide2' has images 'lowres'") and "obsm['X_uni'] (5 columns)" in said
    assert caught(tissue, modalities=["gene", "X_uni"]) == []


def test_images_under_other_names_are_said(tissue):
    tissue.uns["spatial"] = {f"other {name}": value for name, value in tissue.uns["spatial"].items()}
    (said,) = caught(tissue)
    assert "'other slide1': ['hires']" in said and "They are not used: library_key= matches none" in said


def test_an_image_under_another_name_is_said_where_other_slices_have_theirs(tissue):
    tissue.uns["spatial"]["other"] = tissue.uns["spatial"].pop("slide2")
    said = caught(tissue)
    assert said[0].startswith("Not used: uns['spatial'] has images of 'other', but slices are named 'slide1', 'slide2'")


def test_images_that_are_bare_arrays_are_said(tissue):
    for item in tissue.uns["spatial"].values():
        item["images"] = item["images"]["hires"]
    (said,) = caught(tissue)
    assert "uns['spatial']['slide1']['images'] is a bare array" in said


def test_a_fit_to_tissue_without_anything_else_says_nothing(tissue):
    assert caught(tissue) == []
    del tissue.uns["spatial"]
    (said,) = caught(tissue, image_key="lowres")
    assert said == "Not used: image_key='lowres', since no slice has an image in uns['spatial']."
