import anndata as ad
import numpy as np
import pandas as pd
import pytest

from omib_spatial.modalities import KINDS, Gene, Image, Modality, ObsmFeatures
from omib_spatial.modalities.catalog import choose_modalities, slice_groups
from omib_spatial.slides import Layout, Tissue
from omib_spatial.slides.split import SpotLocations, hold_out

SLICES = list("abcdef")
SIDE = 8
N = SIDE**2


@pytest.fixture
def mixed() -> ad.AnnData:
    """Six slices of 64 spots, of which a and d have an image, and d, e and f have ready features for some spots."""
    grid = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE)), -1).reshape(-1, 2) * 10.0
    obs = pd.DataFrame({"slice": np.repeat(SLICES, N)}, index=[str(i) for i in range(N * 6)])
    adata = ad.AnnData(np.ones((N * 6, 2)), obs=obs)
    adata.obsm["spatial"] = np.tile(grid, (6, 1))
    factors = {"tissue_hires_scalef": 1.0, "spot_diameter_fullres": 5.0}
    picture = {"images": {"hires": np.zeros((80, 80, 3), np.uint8)}, "scalefactors": factors}
    adata.uns["spatial"] = {"a": picture, "d": picture, "b": {"scalefactors": factors}}
    adata.obsm["ready"] = np.where(np.arange(N * 6)[:, None] >= 3.5 * N, 1.0, np.nan)
    return adata


def groups_of(adata: ad.AnnData, *modalities) -> list[list[str]]:
    groups = slice_groups(Tissue(adata, Layout(library_key="slice")), modalities)
    assert groups.shape == (adata.n_obs,)
    assert all(len(np.unique(groups[adata.obs["slice"] == name])) == 1 for name in SLICES)
    return sorted(adata.obs["slice"][groups == g].unique().tolist() for g in np.unique(groups))


def test_slices_are_grouped_by_what_they_have(mixed):
    assert groups_of(mixed, Gene()) == [SLICES]
    assert groups_of(mixed, Gene(), Image()) == [["a", "d"], ["b", "c", "e", "f"]]
    assert groups_of(mixed, ObsmFeatures("ready")) == [["a", "b", "c"], ["d", "e", "f"]]
    assert groups_of(mixed, Image(), ObsmFeatures("ready")) == [["a"], ["b", "c"], ["d"], ["e", "f"]]


@pytest.mark.parametrize("seed", range(10))
def test_spots_with_an_image_are_on_both_sides_whatever_the_seed(mixed, seed):
    groups = slice_groups(Tissue(mixed, Layout(library_key="slice")), [Gene(), Image()])
    codes = pd.factorize(mixed.obs["slice"])[0]
    reference = np.ones(N * 6, bool)
    training, held_out = hold_out(SpotLocations(mixed.obsm["spatial"], codes), reference, 0.2, seed, groups)
    assert (training ^ held_out).all()
    for code in (0, 3):  # too few slices with an image to hold out a whole one
        assert 0.1 * N < held_out[codes == code].sum() < 0.4 * N
    whole = [held_out[codes == code].mean() for code in (1, 2, 4, 5)]
    assert set(whole) == {0.0, 1.0} and sum(whole) == 1


def test_kinds_are_modalities_under_their_own_names():
    assert all(kind.__name__ == name and issubclass(kind, Modality) for name, kind in KINDS.items())


@pytest.mark.parametrize(("name", "meant"), [("genes", "gene"), ("Image", "image"), ("X_unii", "X_uni")])
def test_a_misspelt_modality_gets_a_suggestion(name, meant):
    adata = ad.AnnData(np.ones((3, 2)), obsm={"spatial": np.eye(3)[:, :2], "X_uni": np.ones((3, 4))})
    tissue = Tissue(adata, Layout())
    assert list(choose_modalities(tissue, ["gene", "X_uni"])) == ["gene", "X_uni"]
    with pytest.raises(KeyError, match=f"modalities has '{name}'.*did you mean '{meant}'"):
        choose_modalities(tissue, [name])
    with pytest.raises(KeyError, match="There are 'gene', .*, and obsm holds") as error:
        choose_modalities(tissue, ["sound_of_it"])
    assert "did you mean" not in str(error.value)
