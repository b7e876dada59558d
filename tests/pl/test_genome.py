import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pytest

from omib_spatial.pl import genome

WINDOWS = np.repeat(["1", "2", "X10"], [20, 15, 1])


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture
def adata() -> ad.AnnData:
    """Spot i has value i everywhere; score grows with i; the last 10 of 40 are called, spot 0 has no profile."""
    n = 40
    adata = ad.AnnData(np.ones((n, 1), np.float32))
    adata.obs["omib_score"] = np.arange(n, dtype=float)
    adata.obs["omib_anomaly"] = np.arange(n) >= 30
    adata.obs["side"] = np.where(np.arange(n) % 2, "odd", "even")
    profile = np.repeat(np.arange(n, dtype=np.float32)[:, None], len(WINDOWS), 1)
    profile[0] = np.nan
    adata.obsm["X_omib_genome"] = profile
    adata.uns["omib"] = {"genome": {"chromosome": WINDOWS}}
    return adata


def shown(ax) -> np.ndarray:
    return np.asarray(ax.images[0].get_array())[:, 0]


def test_called_spots_come_first_and_the_most_anomalous_lead(adata):
    ax = genome(adata)
    np.testing.assert_array_equal(shown(ax), [*range(39, 29, -1), *range(29, 0, -1)])
    assert [t.get_text() for t in ax.get_yticklabels()] == ["called", "other"]


def test_lines_lie_between_chromosomes(adata):
    ax = genome(adata)
    vertical = sorted(line.get_xdata()[0] for line in ax.lines if line.get_xdata()[0] == line.get_xdata()[1])
    assert vertical == [19.5, 34.5]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["1", "2", "X10"]


def test_groups_of_a_column(adata):
    ax = genome(adata, groupby="side")
    np.testing.assert_array_equal(shown(ax), [*range(38, 0, -2), *range(39, 0, -2)])


def test_many_spots_are_thinned_and_the_adata_stays(adata, monkeypatch):
    monkeypatch.setattr("omib_spatial.pl._genome._ROWS", 13)
    before = adata.copy()
    ax = genome(adata, vmax=3)
    assert len(shown(ax)) == 14 and shown(ax)[0] == 39 and ax.images[0].get_clim() == (-3, 3)
    np.testing.assert_array_equal(adata.obsm["X_omib_genome"], before.obsm["X_omib_genome"])


def test_own_axes_and_files(adata, tmp_path):
    _, own = plt.subplots()
    assert genome(adata, ax=own, save=tmp_path / "new" / "map.png") is own
    assert (tmp_path / "new" / "map.png").stat().st_size > 1000


def test_what_is_missing_is_named(adata):
    with pytest.raises(KeyError, match="pass groupby= one of"):
        genome(adata, groupby="nothing")
    with pytest.raises(KeyError, match="X_other_genome"):
        genome(adata, key_added="other")
    adata.obsm["X_omib_genome"] = np.full((40, len(WINDOWS)), np.nan)
    with pytest.raises(ValueError, match="No spot"):
        genome(adata)


def test_groups_have_a_strip_in_their_colours(adata):
    adata.obs["omib_clone"] = np.where(np.arange(40) < 10, "b", "a")
    adata.obs.loc[adata.obs_names[20:], "omib_clone"] = np.nan
    adata.uns["omib_clone_colors"] = ["#ff0000", "#0000ff"]
    ax = genome(adata, groupby="omib_clone")
    (strip,) = ax.child_axes
    colours = np.asarray(strip.images[0].get_array())[:, 0]
    np.testing.assert_array_equal(colours, [[1, 0, 0]] * 10 + [[0, 0, 1]] * 9)
    np.testing.assert_array_equal(shown(ax), [*range(19, 0, -1)])
    assert not genome(adata).child_axes


def test_groups_without_colours_take_those_of_the_palette(adata):
    ax = genome(adata, groupby="side")
    assert len(np.unique(np.asarray(ax.child_axes[0].images[0].get_array())[:, 0], axis=0)) == 2


def test_few_grouped_spots_among_many_are_all_shown(adata, monkeypatch):
    monkeypatch.setattr("omib_spatial.pl._genome._ROWS", 10)
    adata.obs["omib_clone"] = np.where(np.arange(40) < 8, "clone 1", None)
    assert len(shown(genome(adata, groupby="omib_clone"))) == 7


def test_arms_are_told_apart_by_dotted_lines(adata):
    adata.uns["omib"]["genome"]["arm"] = np.repeat(["1p", "1q", "2p", "X10"], [8, 12, 15, 1])
    ax = genome(adata)
    dotted = [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == ":"]
    assert dotted == [7.5]


@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
def test_files_draw_the_same(adata, tmp_path, kind):
    adata.obs["omib_clone"] = np.where(np.arange(40) < 10, "b", "a")
    adata.uns["omib_clone_colors"] = ["#ff0000", "#0000ff"]
    adata.uns["omib"]["genome"]["arm"] = np.repeat(["1p", "1q", "2p", "X10"], [8, 12, 15, 1])
    getattr(adata, f"write_{kind}")(tmp_path / "a")
    back = getattr(ad, f"read_{kind}")(tmp_path / "a")
    for groupby in (None, "omib_clone"):
        one, other = genome(adata, groupby=groupby), genome(back, groupby=groupby)
        np.testing.assert_array_equal(shown(one), shown(other))
        assert [t.get_text() for t in one.get_xticklabels()] == [t.get_text() for t in other.get_xticklabels()]
        assert len(one.lines) == len(other.lines)
