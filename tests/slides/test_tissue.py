import copy
import pickle

import anndata as ad
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from omib_spatial.slides import Layout, Tissue
from omib_spatial.slides import tissue as home
from omib_spatial.slides.counts import check_counts
from omib_spatial.slides.graph import spatial_graph
from omib_spatial.slides.rows import CountRows, size_factors
from omib_spatial.slides.slides import coordinates, library_codes
from omib_spatial.slides.split import SpotLocations

N, GENES = 60, 9
LAYOUT = Layout(layer="counts", library_key="slice", n_neighbors=3)
BLOCKS = 3
READ = ["_slices", "donors", "coordinates", "graph", "counts", "depth", "images"]
"""What a tissue keeps, by the names under which it does."""


def table() -> ad.AnnData:
    """Slices b, c and a, of which a has no image, 100 x 80 full-resolution pixels each; patients of two or one."""
    rng = np.random.default_rng(0)
    library = rng.permutation(np.repeat(["b", "c", "a"], N // 3))
    obs = pd.DataFrame({"slice": pd.Categorical(library, ["b", "c", "a"])}, index=[f"s{i}" for i in range(N)])
    obs["patient"] = np.where(library == "c", 7, 3)
    adata = ad.AnnData(np.full((N, GENES), 0.5, np.float32), obs=obs, obsm={"spatial": rng.random((N, 2)) * [100, 80]})
    adata.layers["counts"] = sp.csr_matrix(rng.poisson(1.0, (N, GENES)).astype(np.float32))
    adata.uns["spatial"] = {
        name: {
            "images": {"hires": rng.random((40, 50, 3)).astype(np.float32)} if name != "a" else {},
            "scalefactors": {"tissue_hires_scalef": 0.5, "spot_diameter_fullres": 8.0},
        }
        for name in "abc"
    }
    return adata


class Counting:
    """How often each function of the module under test is called."""

    def __init__(self, monkeypatch) -> None:
        self.calls: dict[str, int] = {}
        for name in ("library_codes", "coordinates", "spatial_graph", "check_images", "check_counts", "counts_matrix"):
            self.calls[name] = 0
            monkeypatch.setattr(home, name, self._counted(name, getattr(home, name)))

    def _counted(self, name, function):
        def counted(*args, **options):
            self.calls[name] += 1
            return function(*args, **options)

        return counted

    def total(self) -> int:
        return sum(self.calls.values())


@pytest.fixture
def counting(monkeypatch) -> Counting:
    return Counting(monkeypatch)


class Streams:
    """Counts in dask that know how many times they were read from beginning to end."""

    def __init__(self, adata: ad.AnnData) -> None:
        self.read: list[int] = []
        values = adata.layers["counts"].toarray()
        lazy = da.from_array(values, chunks=(N // BLOCKS, GENES))
        # Meta is given, or dask would call the function to know it.
        adata.layers["counts"] = lazy.map_blocks(self._seen, dtype=values.dtype, meta=values[:0])

    def _seen(self, block, block_info=None):
        self.read.append(block_info[0]["chunk-location"][0])
        return block

    def passes(self) -> int:
        """How many since the last time that one asked."""
        n = len(self.read) // BLOCKS
        assert sorted(self.read) == sorted([*range(BLOCKS)] * n)
        self.read.clear()
        return n


def test_everything_is_what_the_functions_of_the_package_give():
    adata = table()
    tissue = Tissue(adata, LAYOUT, "patient")
    codes, names = library_codes(adata, "slice")
    np.testing.assert_array_equal(tissue.codes, codes)
    assert tissue.libraries == names == ["b", "c", "a"] and tissue.n_obs == N
    np.testing.assert_array_equal(tissue.donors, library_codes(adata, "patient")[0])
    np.testing.assert_array_equal(tissue.coordinates, coordinates(adata))
    assert (tissue.graph != spatial_graph(adata, library_key="slice", n_neighbors=3)).nnz == 0
    counts = adata.layers["counts"]
    assert isinstance(tissue.counts, CountRows) and tissue.counts.matrix is counts
    np.testing.assert_array_equal(tissue.depth, counts.toarray().sum(1))
    assert tissue.depth.dtype == np.float64
    expected = counts.toarray()[:, [4, 0]] * size_factors(tissue.depth, 20.0)[:, None]
    np.testing.assert_allclose(tissue.normalised(np.array([4, 0]), 20.0).toarray(), expected, rtol=1e-6)
    assert list(tissue.images) == ["b", "c"]
    for name, image in tissue.images.items():
        assert image.pixels is tissue.image(name).pixels is adata.uns["spatial"][name]["images"]["hires"]
        assert (image.scale, image.diameter) == (0.5, 8.0)
    assert tissue.image("a") is None
    tissue.require_images()
    tissue.check_counts()


def test_by_default_there_is_one_slice_which_is_its_own_donor():
    adata = table()
    adata.uns.clear()
    adata.X = adata.layers["counts"]
    tissue = Tissue(adata)
    assert tissue.layout == Layout() and tissue.donor_key is None
    assert not tissue.codes.any() and tissue.donors is tissue.codes and tissue.libraries == [""]
    assert tissue.counts.matrix is adata.X and tissue.images == {}
    assert Tissue(adata, LAYOUT).donors.max() == 2


def test_locations_are_coordinates_and_slices():
    tissue = Tissue(table(), LAYOUT)
    assert isinstance(tissue.locations, SpotLocations)
    assert tissue.locations.xy is tissue.coordinates and tissue.locations.codes is tissue.codes


def test_nothing_is_read_before_it_is_asked_for(counting):
    adata = table()
    streams = Streams(adata)
    tissue = Tissue(adata, LAYOUT, "patient")
    assert counting.total() == 0 and not set(READ) & set(vars(tissue))
    assert tissue.graph.shape == (N, N) and tissue.donors.max() == 1 and len(tissue.images) == 2
    assert tissue.counts.shape == (N, GENES)
    assert streams.passes() == 0
    assert counting.calls["check_counts"] == 0


def test_a_tissue_that_lacks_what_nobody_asks_for_is_fine():
    adata = table()
    del adata.obsm["spatial"], adata.layers["counts"]
    tissue = Tissue(adata, LAYOUT, "nobody")
    assert tissue.libraries == ["b", "c", "a"]
    with pytest.raises(KeyError, match="spatial"):
        _ = tissue.graph
    with pytest.raises(KeyError, match="counts"):
        _ = tissue.depth
    with pytest.raises(KeyError, match="nobody"):
        _ = tissue.donors


def test_each_thing_is_made_once_and_stays_the_same_object(counting):
    tissue = Tissue(table(), LAYOUT, "patient")
    assert all(hasattr(tissue, name) for name in READ)
    before = {name: id(getattr(tissue, name)) for name in READ}
    calls = dict(counting.calls)
    assert calls == {
        "library_codes": 2,  # of slices and of donors
        "coordinates": 1,
        "spatial_graph": 1,
        "check_images": 1,
        "check_counts": 0,
        "counts_matrix": 1,
    }
    for _ in range(2):
        assert {name: id(getattr(tissue, name)) for name in READ} == before
        assert tissue.codes is tissue.locations.codes and tissue.libraries is tissue.libraries
        tissue.require_images()
    assert counting.calls == calls
    tissue.check_counts()
    tissue.check_counts()
    assert counting.calls == calls | {"check_counts": 1}


def test_images_that_are_required_are_looked_at_once(counting):
    tissue = Tissue(table(), LAYOUT)
    tissue.require_images()
    assert list(tissue.images) == ["b", "c"] and counting.calls["check_images"] == 1


def test_counts_stream_once_for_each_thing_that_is_learned_of_them():
    adata = table()
    streams, genes, others = Streams(adata), np.array([0, 5, 2]), np.array([1, 3, 4])
    tissue = Tissue(adata, LAYOUT)
    tissue.check_counts()
    assert streams.passes() == 1
    tissue.check_counts()
    assert streams.passes() == 0
    depth = tissue.depth
    assert streams.passes() == 1
    assert tissue.depth is depth and streams.passes() == 0
    first = tissue.normalised(genes, 100.0)
    assert streams.passes() == 1
    assert tissue.normalised(genes.copy(), 100.0) is first and streams.passes() == 0
    for asked in ((others, 100.0), (genes, 100.0), (genes, 50.0), (genes[::-1], 50.0)):
        found = tissue.normalised(*asked)
        assert streams.passes() == 1 and tissue.normalised(*asked) is found
        fresh = Tissue(table(), LAYOUT).normalised(*asked)
        np.testing.assert_array_equal(found.toarray(), fresh.toarray())
    assert streams.passes() == 0


def test_counts_that_are_none_are_refused_as_often_as_one_asks():
    adata = table()
    adata.layers["counts"][3, 2] = 0.25
    tissue = Tissue(adata, LAYOUT)
    for _ in range(2):
        with pytest.raises(ValueError, match="'s3'") as error:
            tissue.check_counts()
        with pytest.raises(ValueError) as same:
            check_counts(adata, "counts")
        assert str(error.value) == str(same.value)


@pytest.mark.parametrize("order", [READ, READ[::-1]])
def test_nothing_is_written_into_the_adata(order, content):
    adata = table()
    before = content(adata)
    tissue = Tissue(adata, LAYOUT, "patient")
    held = {"layer": adata.layers["counts"], "image": adata.uns["spatial"]["b"]["images"]["hires"]}
    for name in order:
        getattr(tissue, name)
    tissue.check_counts()
    tissue.require_images()
    tissue.normalised(np.arange(4), 10.0)
    assert content(adata) == before
    assert adata.layers["counts"] is held["layer"] and adata.uns["spatial"]["b"]["images"]["hires"] is held["image"]
    assert tissue.adata is adata


def test_a_graph_belongs_to_its_tissue_alone_and_a_moved_spot_needs_another(counting):
    adata = table()
    tissue = Tissue(adata, LAYOUT)
    graph = tissue.graph
    assert tissue.graph is graph and counting.calls["spatial_graph"] == 1
    for layout in (LAYOUT, Layout(library_key="slice", n_neighbors=2), Layout(n_neighbors=3)):
        adata.uns.clear()
        assert Tissue(adata, layout).graph is not graph
    assert counting.calls["spatial_graph"] == 4
    assert (Tissue(adata, Layout(library_key="slice", n_neighbors=2)).graph != graph).nnz
    assert (Tissue(adata, Layout(n_neighbors=3)).graph != graph).nnz
    kept = graph.copy()
    first, second = np.flatnonzero(adata.obs["slice"] == "b")[[0, -1]]
    adata.obsm["spatial"][first] = adata.obsm["spatial"][second] + 1e-9
    moved = Tissue(adata, LAYOUT).graph
    assert (moved != kept).nnz and moved[first, second]
    assert (graph != kept).nnz == 0 and tissue.graph is graph


def test_a_ready_graph_is_taken():
    adata = table()
    adata.obsp["mine"] = spatial_graph(adata, library_key="slice", n_neighbors=1)
    graph = Tissue(adata, Layout(library_key="slice", neighbors_key="mine")).graph
    assert (graph != adata.obsp["mine"]).nnz == 0


def test_spots_off_their_image_are_an_error_but_the_image_can_still_be_seen():
    adata = table()
    adata.obsm["spatial"][np.flatnonzero(adata.obs["slice"] == "c")[0]] = [500, 10]
    tissue = Tissue(adata, LAYOUT)
    for _ in range(2):
        with pytest.raises(ValueError, match="slice 'c'"):
            _ = tissue.images
    assert tissue.image("c").pixels is adata.uns["spatial"]["c"]["images"]["hires"]


def test_images_are_required_by_request_only():
    adata = table()
    tissue = Tissue(adata, Layout(library_key="slice", image_key="lowres"))
    assert tissue.images == {} and tissue.image("b") is None
    for _ in range(2):
        with pytest.raises(KeyError, match="lowres"):
            tissue.require_images()


def test_copies_have_what_is_made_but_make_nothing_for_the_original(counting):
    tissue = Tissue(table(), LAYOUT)
    graph = tissue.graph
    for other in (copy.copy(tissue), pickle.loads(pickle.dumps(tissue))):
        assert (other.graph != graph).nnz == 0 and counting.calls["spatial_graph"] == 1
        assert other.depth is not None and "depth" not in vars(tissue)


@pytest.mark.parametrize("library_key", [None, "slice"])
def test_a_slice_has_one_donor(library_key):
    adata = ad.AnnData(np.ones((4, 2), np.float32), obsm={"spatial": np.arange(8.0).reshape(4, 2)})
    adata.obs["slice"] = pd.Categorical(["x", "x", "y", "y"])
    adata.obs["cut"], adata.obs["same"] = ["a", "b", "c", "c"], ["a", "a", "a", "a"]
    with pytest.raises(ValueError, match=r"obs\['cut'\] has several donors on slice '.*': 'a', 'b'"):
        _ = Tissue(adata, Layout(library_key=library_key), "cut").donors
    assert Tissue(adata, Layout(library_key=library_key), "same").donors.tolist() == [0] * 4
