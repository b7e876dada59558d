import anndata as ad
import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from omib_spatial.pl import patch_contributions


@pytest.fixture(autouse=True)
def paper():
    with matplotlib.rc_context({"interactive": False}):
        plt.switch_backend("agg")
        yield
        plt.close("all")


@pytest.fixture
def told() -> ad.AnnData:
    """One slide of thirty spots, of two of which something is said."""
    xy = np.stack(np.meshgrid(np.arange(6), np.arange(5)), -1).reshape(-1, 2) * 40.0 + 30
    obs = pd.DataFrame({"omib_score": np.arange(30.0)}, index=[f"s{i}" for i in range(30)])
    adata = ad.AnnData(obs=obs, obsm={"spatial": xy})
    adata.uns["omib"] = {"params": {"spatial_key": "spatial", "image_key": "hires"}}
    factors = {"tissue_hires_scalef": 1.0, "spot_diameter_fullres": 10.0}
    image = np.full((220, 260, 3), 230, np.uint8)
    adata.uns["spatial"] = {"L0": {"images": {"hires": image}, "scalefactors": factors}}
    maps = np.zeros((2, 3, 3), np.float32)
    maps[0, 0, 2], maps[1, 2, 0] = 2.0, -1.0
    adata.uns["omib_patch_contributions"] = {
        "spots": np.array(["s8", "s15"]), "contributions": maps, "side": np.array([30.0, 30.0])
    }  # fmt: skip
    return adata


def test_parts_lie_where_they_are_in_the_patch_and_share_one_scale(told, tmp_path):
    axes = patch_contributions(told, save=tmp_path / "p.png")
    assert len(axes) == 4 and (tmp_path / "p.png").stat().st_size > 1000
    for ax, row in zip(axes, (8, 15, 8, 15), strict=True):
        x, y = told.obsm["spatial"][row]
        assert ax.get_xlim() == (x - 15, x + 15) and ax.get_ylim() == (y + 15, y - 15)
    (_, first), (_, second) = axes[2].images, axes[3].images
    assert first.norm.vmax == second.norm.vmax == 2 and first.norm.vcenter == 0
    left, right, bottom, top = first.get_extent()
    assert (left, right, bottom, top) == (*axes[2].get_xlim(), *axes[2].get_ylim())
    assert np.unravel_index(np.argmax(first.get_array()), (3, 3)) == (0, 2)
    assert axes[0].get_title() == "s8" and axes[3].get_title() == "-1 in all"


def test_some_spots_and_errors(told):
    assert len(patch_contributions(told, "s15", vmax=5.0)) == 2
    with pytest.raises(KeyError, match="pass some of"):
        patch_contributions(told, ["s15", "s1"])
    del told.uns["spatial"]["L0"]["images"]
    with pytest.raises(ValueError, match="no image"):
        patch_contributions(told)
    del told.uns["omib_patch_contributions"]
    with pytest.raises(KeyError, match=r"tl\.patch_contributions first"):
        patch_contributions(told)
