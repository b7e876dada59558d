import subprocess
import sys

import anndata as ad
import matplotlib
import numpy as np
import pandas as pd
import pytest
import tifffile
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex

from omib_spatial._colours import ANOMALOUS, HEALTHY
from omib_spatial.pl import patches

DIAMETER = 10.0
XY = np.stack(np.meshgrid(np.arange(6), np.arange(5)), -1).reshape(-1, 2) * 40.0 + 30


@pytest.fixture(autouse=True)
def paper():
    with matplotlib.rc_context({"interactive": False}):
        plt.switch_backend("agg")
        yield
        plt.close("all")


def scored(scale: float = 1.0, slices: int = 2) -> ad.AnnData:
    """Every spot is a square of its own colour; slices differ in blue. Scores are a permutation."""
    n = len(XY) * slices
    score = np.random.default_rng(0).permutation(n).astype(float)
    obs = pd.DataFrame({"slice": np.repeat([f"L{i}" for i in range(slices)], len(XY)), "omib_score": score})
    obs["omib_anomaly"] = score >= n - 3
    obs.index = [f"s{i}" for i in range(n)]
    adata = ad.AnnData(obs=obs, obsm={"spatial": np.tile(XY, (slices, 1))})
    adata.uns["omib"] = {"params": {"library_key": "slice", "spatial_key": "spatial", "image_key": "hires"}}
    adata.uns["spatial"] = {}
    for i in range(slices):
        image = np.full((round(220 * scale), round(260 * scale), 3), 255, np.uint8)
        for k, (x, y) in enumerate(XY * scale):
            half = 16 * scale
            image[round(y - half) : round(y + half), round(x - half) : round(x + half)] = colour(k, i)
        factors = {"tissue_hires_scalef": scale, "spot_diameter_fullres": DIAMETER}
        adata.uns["spatial"][f"L{i}"] = {"images": {"hires": image}, "scalefactors": factors}
    return adata


def colour(k: int, i: int) -> tuple[int, int, int]:
    return 8 * k, 250 - 8 * k, 60 * i


def middle(ax) -> tuple[int, ...]:
    """Colour that is drawn at the centre of a patch."""
    (picture,) = ax.images
    left, right, bottom, top = picture.get_extent()
    pixels = picture.get_array()
    x, y = np.mean(ax.get_xlim()), np.mean(ax.get_ylim())
    row, column = (y - top) / (bottom - top) * len(pixels), (x - left) / (right - left) * pixels.shape[1]
    return tuple(int(v) for v in pixels[int(row), int(column)])


def expected(adata, row):
    return colour(row % len(XY), row // len(XY))


@pytest.mark.parametrize("scale", [1.0, 0.5, 2.0])
def test_patches_are_those_of_the_highest_and_the_lowest(scale):
    adata = scored(scale)
    axes = patches(adata, n=4, rows=2)
    order = np.argsort(adata.obs["omib_score"].to_numpy())
    assert [middle(ax) for ax in axes[:8]] == [expected(adata, row) for row in order[::-1][:8]]
    assert [middle(ax) for ax in axes[8:]] == [expected(adata, row) for row in order[:8]]
    assert axes[0].figure.get_suptitle() == "highest omib_score"
    assert axes[8].figure.get_suptitle() == "lowest omib_score"
    assert axes[0].get_xlabel() == adata.obs["slice"].iloc[order[-1]]
    assert [ax.get_title() for ax in axes[:2]] == [
        f"{adata.obs_names[row]}\n{59 - i}" for i, row in enumerate(order[:-3:-1])
    ]
    for ax in axes:
        assert abs(np.diff(ax.get_xlim())[0]) == abs(np.diff(ax.get_ylim())[0]) == 4 * DIAMETER
        (ring,) = ax.patches
        assert ring.radius == DIAMETER / 2
    assert [to_hex(ax.patches[0].get_edgecolor()) for ax in axes[:4]] == [ANOMALOUS.lower()] * 3 + [HEALTHY.lower()]


def test_spots_without_a_value_or_an_image_are_left_out():
    adata = scored()
    del adata.uns["spatial"]["L1"]["images"]
    adata.obs.loc[adata.obs.index[:25], "omib_score"] = np.nan
    axes = patches(adata, n=8, rows=1)
    assert len(axes) == 4  # of five spots, two are high and two are low
    assert {middle(ax) for ax in axes} <= {expected(adata, row) for row in range(25, 30)}
    adata.obs["omib_score"] = np.nan
    with pytest.raises(ValueError, match="both obs\\['omib_score'\\] and an image"):
        patches(adata)


def test_any_column_some_slices_and_a_file(tmp_path):
    adata = scored()
    adata.obs["mine"] = np.arange(60) % 30
    image = adata.uns["spatial"]["L1"]["images"].pop("hires")
    tifffile.imwrite(tmp_path / "full.tif", image, photometric="rgb", tile=(64, 64))
    adata.uns["spatial"]["L1"]["images"]["fullres"] = str(tmp_path / "full.tif")
    axes = patches(adata, "mine", n=3, rows=1, library_id="L1", image_key="fullres", save=tmp_path / "a" / "p.png")
    assert [middle(ax) for ax in axes] == [colour(k, 1) for k in (29, 28, 27, 0, 1, 2)]
    assert (tmp_path / "a" / "p.png").stat().st_size > 1000


def test_a_spot_at_the_border_stays_in_the_middle():
    adata = scored(slices=1)
    adata.obsm["spatial"][0] = [2, 3]
    adata.obs["mine"] = [1.0] + [0.0] * 29
    (first, *_) = patches(adata, "mine", n=1, rows=1)
    assert np.mean(first.get_xlim()) == 2 and np.mean(first.get_ylim()) == 3


def test_bad_settings_are_refused_and_nothing_is_written():
    adata = scored()
    adata.obs["word"] = "x"
    with pytest.raises(KeyError, match="pass by= one of"):
        patches(adata, "none")
    with pytest.raises(TypeError, match="must be numeric"):
        patches(adata, "word")
    for bad in ({"n": 0}, {"rows": 0}, {"patch_diameter": 0}):
        with pytest.raises(ValueError, match="an integer from 1 to 1000|a number above 0"):
            patches(adata, **bad)
    before = adata.copy()
    patches(adata)
    assert adata.obs.equals(before.obs)
    assert adata.uns.keys() == before.uns.keys()


def test_torch_is_not_needed():
    code = "import sys; from omib_spatial.pl import patches; raise SystemExit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0
