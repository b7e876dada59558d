import anndata as ad
import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from shapely import Point, box
from spatialdata import SpatialData
from spatialdata.models import Image2DModel, ShapesModel, TableModel
from spatialdata.transformations import Affine, Identity, Scale, Sequence, Translation

from omib_spatial.modalities.patches import extract_patches
from omib_spatial.slides.spatialdata import to_anndata

RADIUS = 8.0
XY = np.stack(np.meshgrid(np.arange(5), np.arange(4)), -1).reshape(-1, 2) * 24.0 + 20
IMAGE = np.random.default_rng(0).integers(0, 200, (120, 160, 3), dtype=np.uint8)
IMAGE[[0, -1]] = IMAGE[:, [0, -1]] = 250
TURN = np.array([[0.0, -2.0, 300.0], [2.0, 0.0, -50.0], [0, 0, 1]])  # a quarter turn, twice as large, moved


def affine(matrix):
    return Affine(matrix, input_axes=("x", "y"), output_axes=("x", "y"))


def images(transformations, pixels=IMAGE, **options):
    return Image2DModel.parse(
        pixels.transpose(2, 0, 1), dims=("c", "y", "x"), transformations=transformations, **options
    )


def circles(transformations, xy=XY, radius=RADIUS):
    return ShapesModel.parse(xy, geometry=0, radius=radius, transformations=transformations)


def table(region="spots", order=None):
    n = len(XY)
    adata = ad.AnnData(np.arange(n * 3.0).reshape(n, 3))
    adata.obs["region"] = pd.Categorical([region] * n)
    adata.obs["spot"] = np.arange(n) if order is None else order
    adata.obs_names = [f"{region}{i}" for i in range(n)]
    return TableModel.parse(adata, region=region, region_key="region", instance_key="spot")


def expected():
    """Patches of the plain AnnData whose coordinates are pixels."""
    factors = {"tissue_hires_scalef": 1.0, "spot_diameter_fullres": 2 * RADIUS}
    adata = ad.AnnData(obsm={"spatial": XY})
    adata.uns["spatial"] = {"spots": {"images": {"hires": IMAGE}, "scalefactors": factors}}
    return extract_patches(adata, patch_size=16)


@pytest.mark.parametrize(
    ("of_shapes", "of_image", "xy", "radius"),
    [
        (Identity(), Identity(), XY, RADIUS),
        (Identity(), Scale([4, 4], axes=("x", "y")), XY * 4, RADIUS * 4),
        (Scale([0.25, 0.25], axes=("x", "y")), Identity(), XY * 4, RADIUS * 4),
        (Translation([7, -3], axes=("x", "y")), Identity(), XY - [7, -3], RADIUS),
        (Identity(), affine(TURN), XY @ TURN[:2, :2].T + TURN[:2, 2], RADIUS * 2),
        (Sequence([Scale([2, 2], axes=("x", "y")), Translation([5, 9], axes=("x", "y"))]), affine(TURN), None, RADIUS),
    ],
)
def test_transformations_lead_to_the_same_pixels(of_shapes, of_image, xy, radius):
    if xy is None:  # back through twice the size and a shift
        xy = (XY @ TURN[:2, :2].T + TURN[:2, 2] - [5, 9]) / 2
    sdata = SpatialData(
        images={"section_hires_image": images({"here": of_image})},
        shapes={"spots": circles({"here": of_shapes}, xy, radius)},
        tables={"table": table()},
    )
    adata, library_key = to_anndata(sdata, "table")
    assert library_key == "region"
    np.testing.assert_allclose(adata.obsm["spatial"], XY, atol=1e-9)
    assert adata.uns["spatial"]["spots"]["scalefactors"]["spot_diameter_fullres"] == pytest.approx(2 * RADIUS)
    patches = extract_patches(adata, library_key=library_key, patch_size=16)
    assert np.array_equal(patches.pixels, expected().pixels)
    assert patches.present.all()


def test_a_pyramid_gives_its_largest_scale_and_bins_their_side():
    squares = gpd.GeoDataFrame(geometry=[box(x - 8, y - 8, x + 8, y + 8) for x, y in XY])
    shapes = ShapesModel.parse(squares, transformations={"here": Identity()})
    sdata = SpatialData(
        images={"any": images({"here": Identity()}, scale_factors=[2])},
        shapes={"spots": shapes},
        tables={"table": table()},
    )
    adata, _ = to_anndata(sdata, "table")
    assert np.array_equal(extract_patches(adata, library_key="region", patch_size=16).pixels, expected().pixels)


def test_rows_of_the_table_are_found_by_instance_and_nothing_is_changed():
    order = np.random.default_rng(1).permutation(len(XY))
    sdata = SpatialData(
        images={"any": images({"here": Identity()})},
        shapes={"spots": circles({"here": Identity()})},
        tables={"table": table(order=order)},
    )
    before = sdata.tables["table"].copy()
    adata, _ = to_anndata(sdata, "table")
    np.testing.assert_array_equal(adata.obsm["spatial"], XY[order])
    assert adata.X is sdata.tables["table"].X
    assert sdata.tables["table"].obs.equals(before.obs)
    assert list(sdata.tables["table"].uns) == list(before.uns)
    assert not sdata.tables["table"].obsm


def two_regions(names=("a_hires_image", "b_hires_image"), system=lambda region: region):
    other = 255 - IMAGE
    both = ad.concat([table("a"), table("b")])
    both = TableModel.parse(both, region=["a", "b"], region_key="region", instance_key="spot")
    return SpatialData(
        images={n: images({system(r): Identity()}, p) for n, r, p in zip(names, "ab", (IMAGE, other), strict=True)},
        shapes={r: circles({system(r): Identity()}) for r in "ab"},
        tables={"table": both},
    )


@pytest.mark.parametrize("system", [lambda region: region, lambda region: "global"])
def test_every_region_has_its_own_image(system):
    adata, _ = to_anndata(two_regions(system=system), "table")
    found = extract_patches(adata, library_key="region", patch_size=16).pixels
    assert np.array_equal(found[:20], expected().pixels)
    assert np.array_equal(found[20:], 255 - expected().pixels)


def test_the_image_key_chooses_and_ambiguity_is_an_error():
    half = IMAGE[::2, ::2]
    sdata = SpatialData(
        images={
            "x_full_image": images({"here": Identity()}),
            "x_lowres_image": images({"here": Scale([2, 2], axes=("x", "y"))}, half),
            "far_hires_image": images({"elsewhere": Identity()}),
        },
        shapes={"spots": circles({"here": Identity()})},
        tables={"table": table()},
    )
    for key, scale in (("full", 1), ("lowres", 0.5), ("x_lowres_image", 0.5)):
        np.testing.assert_allclose(to_anndata(sdata, "table", image_key=key)[0].obsm["spatial"], XY * scale)
    with pytest.raises(KeyError, match=r"several images: pass image_key= one of \['x_full_image', 'x_lowres_image'\]"):
        to_anndata(sdata, "table")


def test_without_an_image_there_are_coordinates_only():
    sdata = SpatialData(shapes={"spots": circles({"here": Scale([3, 3], axes=("x", "y"))})}, tables={"table": table()})
    adata, _ = to_anndata(sdata, "table")
    np.testing.assert_allclose(adata.obsm["spatial"], 3 * XY)
    assert "images" not in adata.uns["spatial"]["spots"]


def test_what_is_missing_is_named():
    shapes = {"spots": circles({"here": Identity()})}
    sdata = SpatialData(shapes=shapes, tables={"table": table()})
    with pytest.raises(KeyError, match=r"pass table_key= one of \['table'\]"):
        to_anndata(sdata, "cells")
    fewer = SpatialData(shapes={"spots": sdata.shapes["spots"].iloc[1:]}, tables={"table": table()})
    with pytest.raises(KeyError, match="lacks spots of the table: 'spots0'"):
        to_anndata(fewer, "table")
    with pytest.raises(ValueError, match="annotates no element"):
        to_anndata(SpatialData(tables={"table": ad.AnnData(np.ones((2, 2)))}), "table")
    points = gpd.GeoDataFrame({"radius": [1.0]}, geometry=[Point(0, 0)])
    other = SpatialData(shapes={"other": ShapesModel.parse(points)}, tables={"table": table()})
    with pytest.raises(TypeError, match="'spots' of the table does not exist: circles or polygons"):
        to_anndata(other, "table")
