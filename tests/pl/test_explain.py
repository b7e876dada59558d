"""Bars and maps of contributions show the numbers of the tables."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib import pyplot as plt

from omib_spatial.pl import contributions, modalities, top_genes


@pytest.fixture(autouse=True)
def paper():
    with matplotlib.rc_context({"interactive": False}):
        plt.switch_backend("agg")
        yield
        plt.close("all")


@pytest.fixture
def adata() -> AnnData:
    """Two slices of four spots, two groups, two modalities."""
    adata = AnnData(
        np.ones((8, 3), np.float32), obs=pd.DataFrame({"slice": ["a", "b"] * 4}, [f"s{i}" for i in range(8)])
    )
    adata.obsm["spatial"] = np.repeat(np.argwhere(np.ones((2, 2))) * 10.0, 2, axis=0)
    values = np.arange(24.0).reshape(8, 3) - 12
    values[0, 1] = np.nan
    adata.obsm["omib_contributions"] = pd.DataFrame(values, adata.obs_names, ["gene", "image", "noise"])
    groups = pd.Categorical(["called"] * 3 + ["a:1"] * 3, ["called", "a:1"])
    shares = {"modality": ["gene", "image", "noise"] * 2, "contribution": [2.0, -0.5, 0.0, 1.0, 1.0, 0.001]}
    genes = {"gene": list("XYZXYZ"), "contribution": [3.0, 2, 1, 2, 1, 0], "by_expression": [1.0, -1, 1, 2, 1, 0]}
    genes |= {"by_genome": [2.0, 3, 0, 0, 0, 0], "change": [1.0, -1, np.nan, 0, 1, 1], "rank": [1, 2, 3] * 2}
    adata.uns["omib_explain"] = {
        "modalities": pd.DataFrame({"group": groups, "n_spots": 4, **shares}),
        "genes": pd.DataFrame({"group": groups, **genes}),
        "params": {},
    }
    adata.uns["omib"] = {"params": {"library_key": "slice"}}
    return adata


def widths(ax) -> list[list[float]]:
    return [[bar.get_width() for bar in bars] for bars in ax.containers]


def names(ax) -> list[str]:
    return [label.get_text() for label in ax.get_yticklabels()]


def test_bars_are_contributions_and_dots_their_sums(adata, tmp_path):
    ax = modalities(adata, save=tmp_path / "m.png")
    assert widths(ax) == [[2.0, 1.0], [-0.5, 1.0]] and names(ax) == ["called (4)", "a:1 (4)"]
    np.testing.assert_allclose(ax.lines[-1].get_xdata(), [1.5, 2.001], atol=0.01)
    assert (tmp_path / "m.png").stat().st_size > 0
    assert names(modalities(adata, "a:1")) == ["a:1 (4)"]
    with pytest.raises(KeyError, match="nobody"):
        modalities(adata, "nobody")


def test_noise_is_drawn_where_it_counts(adata):
    adata.uns["omib_explain"]["modalities"].loc[2, "contribution"] = 0.3
    assert len(modalities(adata).containers) == 3


def test_top_genes_say_in_which_direction(adata):
    first, second = top_genes(adata, ["called", "a:1"], n_genes=3)
    assert names(first) == ["X ↑", "Y ↓", "Z"] and first.get_title() == "called"
    assert widths(first) == [[1.0, -1.0, 1.0], [2.0, 3.0, 0.0]] and len(second.containers) == 1
    assert names(top_genes(adata, n_genes=1)) == ["X ↑"]
    with pytest.raises(ValueError, match="one group"):
        top_genes(adata, ["called", "a:1"], ax=first)
    with pytest.raises(KeyError, match=r"tl\.explain first"):
        top_genes(adata, key_added="other")


def test_maps_have_one_scale_and_grey_where_a_modality_is_missing(adata, content):
    before = content(adata)
    axes = contributions(adata)
    assert len(axes) == 4 and [ax.get_title() for ax in axes[:2]] == ["gene", "image"]
    faces = [ax.collections[0].get_facecolors() for ax in axes]
    assert len(np.unique(faces[1][0][:3])) == 1 and len(np.unique(faces[0][0][:3])) == 3
    assert content(adata) == before
    assert len(contributions(adata, modalities=["gene"], library_id="b")) == 1
    with pytest.raises(KeyError, match="touch"):
        contributions(adata, modalities=["touch"])
    del adata.obsm["omib_contributions"]
    with pytest.raises(KeyError, match=r"tl\.explain first"):
        contributions(adata)
