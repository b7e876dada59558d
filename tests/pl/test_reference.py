"""The map of what was taken as healthy."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgba
from PIL import Image

from omib_spatial._colours import HEALTHY, UNKNOWN
from omib_spatial.pl import reference


@pytest.fixture(autouse=True)
def paper():
    with matplotlib.rc_context({"interactive": False}):
        plt.switch_backend("agg")
        yield
        plt.close("all")


@pytest.fixture
def adata() -> AnnData:
    """Slices ``a``, which has an image and of which every third spot is healthy, and ``b``; rows are interleaved."""
    n = 60
    obs = pd.DataFrame({"slice": ["b", "a"] * (n // 2)}, index=[f"s{i}" for i in range(n)])
    grid = np.repeat(np.argwhere(np.ones((5, 6))) * 10.0 + 15, 2, axis=0)
    adata = AnnData(np.ones((n, 1), np.float32), obs=obs, obsm={"spatial": grid})
    adata.obs["omib_reference"] = (obs["slice"] == "a").to_numpy() & (np.arange(n) // 2 % 3 == 0)
    adata.uns["omib_reference"] = {
        "slices": np.array(["a", "b"]),
        "answered": np.array([True, False]),
        "agreement": np.array([0.954, 0.4]),
        "reason": np.array(["", ""]),
    }
    factors = {"tissue_hires_scalef": 1.0, "spot_diameter_fullres": 6.0}
    picture = np.random.default_rng(0).integers(0, 256, (80, 80, 3), dtype=np.uint8)
    adata.uns["spatial"] = {
        "a": {"images": {"hires": picture}, "scalefactors": factors},
        "b": {"scalefactors": factors},
    }
    return adata


def test_a_row_per_slice_has_the_image_beside_its_spots(adata):
    axes = reference(adata, library_key="slice")
    assert [ax.get_title() for ax in axes] == ["H&E", "Reference", "", ""]
    assert [ax.get_ylabel() for ax in axes[::2]] == ["a", "b"]
    assert [len(ax.images) for ax in axes] == [1, 1, 0, 0] and [len(ax.collections) for ax in axes] == [0, 1, 0, 1]
    assert axes[2].texts[0].get_text() == "no image"


def test_spots_have_the_colour_of_what_they_were_taken_for(adata):
    axes = reference(adata, library_key="slice")
    own = adata[(adata.obs["slice"] == "a").to_numpy()]
    (spots,) = axes[1].collections
    expected = [to_rgba(HEALTHY if healthy else UNKNOWN) for healthy in own.obs["omib_reference"]]
    np.testing.assert_allclose(spots.get_facecolors(), expected)
    np.testing.assert_allclose(spots.get_offsets(), own.obsm["spatial"])
    (other,) = axes[3].collections
    np.testing.assert_allclose(other.get_facecolors(), [to_rgba(UNKNOWN)] * 30)
    labels = [text.get_text() for text in axes[1].get_legend().get_texts()]
    assert labels[0] == "taken as healthy" and set(labels) <= {"taken as healthy", "not taken"}


def test_how_sure_each_slice_is_stands_below_it(adata):
    axes = reference(adata, library_key="slice")
    assert [ax.get_xlabel() for ax in axes[1::2]] == ["10 of 30 spots, agreement 0.95", "0 of 30 spots, cannot tell"]


def test_any_boolean_column_will_do_and_says_only_how_many(adata):
    adata.obs["mine"] = pd.array([True, None] * 30, "boolean")
    axes = reference(adata, "mine", library_key="slice")
    assert [ax.get_xlabel() for ax in axes[1::2]] == ["0 of 30 spots", "30 of 30 spots"]
    adata.uns["mine"] = {"something": "else"}
    assert reference(adata, "mine", library_key="slice")[1].get_xlabel() == "0 of 30 spots"


def test_slices_can_be_chosen_and_without_images_their_panel_is_left_out(adata):
    axes = reference(adata, library_key="slice", library_id="a")
    assert len(axes) == 2
    (only,) = reference(adata, library_key="slice", library_id=["b"])
    assert only.get_title() == "Reference" and only.get_ylabel() == "b"
    assert only.get_xlabel() == "0 of 30 spots, cannot tell"


def test_size_image_and_places_are_taken(adata):
    adata.obsm["places"] = adata.obsm.pop("spatial") + 1
    adata.uns["spatial"]["a"]["images"]["small"] = np.zeros((40, 40, 3), np.uint8)
    adata.uns["spatial"]["a"]["scalefactors"]["tissue_small_scalef"] = 0.5
    axes = reference(
        adata, library_key="slice", spatial_key="places", image_key="small", size=0.5, figsize=(4, 3), library_id="a"
    )
    (spots,) = axes[1].collections
    assert spots.get_offsets().min() == 16 and not np.asarray(axes[0].images[0].get_array()).any()
    np.testing.assert_allclose(spots.get_widths(), 3.0)
    np.testing.assert_allclose(axes[0].figure.get_size_inches(), (4, 3))


def test_a_found_reference_draws_from_a_file_and_writes_nothing(adata, tmp_path, content, monkeypatch):
    import anndata as ad

    path = tmp_path / "marked.h5ad"
    adata.write_h5ad(path)
    back = ad.read_h5ad(path)
    before = content(back)
    axes = reference(back, library_key="slice", save=tmp_path / "new" / "map.png")
    assert content(back) == before
    assert axes[1].get_xlabel() == "10 of 30 spots, agreement 0.95"
    with Image.open(tmp_path / "new" / "map.png") as picture:
        assert picture.width > 500
    monkeypatch.chdir(tmp_path)
    reference(adata, library_key="slice", save=True)
    assert (tmp_path / "omib_reference.png").is_file()


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"key": "nothing"}, KeyError, "pp.find_reference"),
        ({"key": "slice"}, TypeError, "a boolean column is needed"),
        ({"spatial_key": "nothing"}, KeyError, "spatial_key="),
        ({"library_key": None}, ValueError, "library_key="),
        ({"library_id": "c"}, ValueError, r"\['c'\] has no spots"),
    ],
)
def test_what_is_missing_is_named(adata, options, error, says):
    with pytest.raises(error, match=says):
        reference(adata, **({"library_key": "slice"} | options))
