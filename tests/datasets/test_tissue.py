import subprocess
import sys

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.spatial import cKDTree
from sklearn.metrics import roc_auc_score

from omib_spatial import _keys
from omib_spatial.datasets import simulate_tissue
from omib_spatial.datasets._anatomy import KINDS, REGIONS, _blob, hexagonal
from omib_spatial.datasets._expression import N_SMOOTH, draw_counts, draw_genes, draw_programmes
from omib_spatial.datasets._histology import UM_PER_PIXEL
from omib_spatial.datasets._tissue import _SIDES, draw_strengths

HIRES = "hires"


@pytest.fixture(scope="module")
def tissue() -> ad.AnnData:
    return simulate_tissue(3, n_healthy=1)


def of(adata: ad.AnnData, library: str) -> ad.AnnData:
    return adata[adata.obs[_keys.LIBRARY] == library]


def scale(adata: ad.AnnData, library: str) -> tuple[float, float]:
    factors = adata.uns[_keys.SPATIAL][library][_keys.SCALEFACTORS]
    return factors[_keys.scale_key(HIRES)], factors[_keys.SPOT_DIAMETER]


def brightness(adata: ad.AnnData, library: str) -> np.ndarray:
    """Mean red value, which haematoxylin lowers, of a window of one spot diameter around every spot."""
    to_image, diameter = scale(adata, library)
    red = adata.uns[_keys.SPATIAL][library][_keys.IMAGES][HIRES][..., 0].astype(float)
    half = int(diameter * to_image / 2)
    centres = np.floor(of(adata, library).obsm[_keys.SPATIAL] * to_image).astype(int)
    return np.array([red[y - half : y + half + 1, x - half : x + half + 1].mean() for x, y in centres])


def auroc(adata: ad.AnnData, values: np.ndarray, kind: str) -> float:
    """Separation of one kind from the healthy spots of the abnormal slices."""
    kinds, rows = adata.obs[_keys.KIND], ~adata.obs[_keys.HEALTHY].to_numpy()
    rows &= kinds.isin(["healthy", kind]).to_numpy()
    return roc_auc_score(kinds[rows] == kind, values[rows])


def test_layout(tissue):
    assert tissue.shape == (2700, 600)
    assert sparse.isspmatrix_csr(tissue.X) and tissue.X.dtype == np.float32
    assert (tissue.X.data > 0).all() and (tissue.X.data == np.round(tissue.X.data)).all()
    assert tissue.obs_names.is_unique and tissue.var_names.is_unique
    assert list(tissue.obs[_keys.LIBRARY].cat.categories) == ["slide1", "slide2", "slide3"]
    assert list(tissue.obs[_keys.KIND].cat.categories) == list(KINDS)
    assert list(tissue.obs[_keys.REGION].cat.categories) == [region.name for region in REGIONS]
    assert tissue.obsm[_keys.SPATIAL].dtype == np.float64
    assert tissue.obs[_keys.ANOMALY].dtype == bool and tissue.obs[_keys.HEALTHY].dtype == bool


def test_truth_is_consistent(tissue):
    obs = tissue.obs
    assert ((obs[_keys.KIND] != "healthy") == obs[_keys.ANOMALY]).all()
    assert (obs[_keys.HEALTHY] == (obs[_keys.LIBRARY] == "slide1")).all()
    assert not (obs[_keys.HEALTHY] & obs[_keys.ANOMALY]).any()
    planted = obs[~obs[_keys.HEALTHY]].groupby([_keys.LIBRARY, _keys.KIND], observed=True).size().unstack()
    assert planted[list(KINDS[1:])].to_numpy().min() >= 25
    assert planted[list(KINDS[1:])].to_numpy().max() <= 45


@pytest.mark.parametrize("seed", range(3))
def test_blobs_are_compact_and_cross_layers(seed):
    adata = simulate_tissue(3, n_healthy=0, n_genes=50, image=False, seed=seed)
    for library in adata.obs[_keys.LIBRARY].cat.categories:
        slide = of(adata, library)
        kind, xy = slide.obs[_keys.KIND].to_numpy(), slide.obsm[_keys.SPATIAL]
        _, near = cKDTree(xy).query(xy, k=7)
        for name in KINDS[1:]:
            members = kind == name
            assert (kind[near[members, 1:]] == name).mean() > 0.5
            assert slide.obs[_keys.REGION][members].nunique() >= 2
    layers = pd.crosstab(adata.obs[_keys.KIND], adata.obs[_keys.REGION], normalize="index")
    assert layers.loc[list(KINDS[1:])].to_numpy().max() < 0.6


def test_a_blob_takes_free_spots_only():
    xy = hexagonal(np.array([1500.0, 1500.0]), 100.0)
    kind = np.zeros(len(xy), dtype=int)
    kind[:-20] = 1
    blob = _blob(np.random.default_rng(0), xy, cKDTree(xy), np.zeros(len(xy), dtype=int), kind, 2, 15)
    assert len(set(blob)) == 15 and (kind[blob] == 0).all()


def test_grid_is_hexagonal_and_pixel_sizes_differ(tissue):
    pixel_sizes = []
    for library in tissue.obs[_keys.LIBRARY].cat.categories:
        to_image, diameter = scale(tissue, library)
        um_per_pixel = 55 / diameter
        assert to_image == pytest.approx(um_per_pixel / UM_PER_PIXEL) and to_image < 0.9
        xy = of(tissue, library).obsm[_keys.SPATIAL] * um_per_pixel
        gaps, _ = cKDTree(xy).query(xy, k=7)
        np.testing.assert_allclose(gaps[:, 1], 100)
        assert (np.isclose(gaps[:, 6], 100)).mean() > 0.8
        pixel_sizes.append(um_per_pixel)
    assert np.diff(np.sort(pixel_sizes)).min() > 0.02


def test_spots_lie_on_tissue_within_the_image(tissue):
    for library, entry in tissue.uns[_keys.SPATIAL].items():
        image = entry[_keys.IMAGES][HIRES]
        assert image.dtype == np.uint8 and image.shape[2] == 3
        assert 1400 < min(image.shape[:2]) and max(image.shape[:2]) < 2000
        to_image, diameter = scale(tissue, library)
        xy, half = of(tissue, library).obsm[_keys.SPATIAL] * to_image, diameter * to_image / 2
        assert (xy > half).all() and (xy < np.array(image.shape[1::-1]) - half).all()
        corner = image[:40, :40].reshape(-1, 3)
        assert corner.mean() > 240 and corner.std() < 4
        column, row = xy.astype(int).T
        stained = np.array([image[y - 8 : y + 9, x - 8 : x + 9, 1].mean() for x, y in zip(column, row, strict=True)])
        assert (stained < 225).mean() > 0.98


def test_layers_are_bands(tissue):
    for library in tissue.obs[_keys.LIBRARY].cat.categories:
        slide = of(tissue, library)
        region = slide.obs[_keys.REGION].cat.codes.to_numpy()
        assert set(region) == set(range(len(REGIONS)))
        gaps, near = cKDTree(slide.obsm[_keys.SPATIAL]).query(slide.obsm[_keys.SPATIAL], k=7)
        step = np.abs(region[near[:, 1:]] - region[:, None])[gaps[:, 1:] < 1.1 * gaps[:, 1].min()]
        assert (step == 0).mean() > 0.75
        assert (step <= 1).mean() > 0.98


def test_counts_look_like_visium(tissue):
    totals = np.asarray(tissue.X.sum(1)).ravel()
    assert 2000 < np.median(totals) < 4500
    assert 0.6 < 1 - tissue.X.nnz / np.prod(tissue.shape) < 0.85
    assert totals.std() / totals.mean() > 0.2
    by_region = pd.Series(totals).groupby(tissue.obs[_keys.REGION].to_numpy(), observed=True).median()
    assert by_region["mucosa"] > 1.3 * by_region["serosa"]


@pytest.mark.parametrize("seed", range(5))
def test_depth_does_not_give_anomalies_away(seed):
    adata = simulate_tissue(seed=seed, image=False)
    totals = np.asarray(adata.X.sum(1)).ravel()
    for kind in KINDS[1:]:
        assert 0.4 <= auroc(adata, totals, kind) <= 0.6
        for library in ("slide3", "slide4"):
            rows = (adata.obs[_keys.LIBRARY] == library).to_numpy()
            assert 0.35 <= auroc(adata[rows], totals[rows], kind) <= 0.65


@pytest.mark.parametrize("block", [8192, 700])
def test_totals_are_poisson_around_depth_whatever_the_profile(monkeypatch, block):
    monkeypatch.setattr("omib_spatial.datasets._expression._BLOCK", block)
    rng = np.random.default_rng(0)
    programmes = draw_programmes(rng, rng.integers(0, 23, 200))
    tumour, depth = np.repeat([0.0, 1.0, 2.0], 1000), rng.uniform(500, 5000, 3000)
    counts = draw_counts(rng, programmes, rng.integers(0, 5, 3000), rng.normal(size=(3000, N_SMOOTH)), tumour, depth)
    z = (np.asarray(counts.sum(1)).ravel() - depth) / np.sqrt(depth)
    for strength in (0.0, 1.0, 2.0):
        assert abs(z[tumour == strength].mean()) < 0.15
        assert z[tumour == strength].std() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("block", [8192, 700])
def test_counts_are_overdispersed(monkeypatch, block):
    monkeypatch.setattr("omib_spatial.datasets._expression._BLOCK", block)
    rng = np.random.default_rng(0)
    programmes = draw_programmes(rng, rng.integers(0, 23, 200))
    alike, nowhere = np.zeros(4000, dtype=int), np.zeros((4000, N_SMOOTH))
    counts = draw_counts(rng, programmes, alike, nowhere, np.zeros(4000), np.full(4000, 3000.0)).toarray()
    mean, variance = counts.mean(0), counts.var(0)
    # A gene that is a small part of the total keeps the variance of its negative binomial.
    rare = (mean > 1) & (mean < 30)
    assert rare.sum() > 20
    np.testing.assert_allclose(np.median(variance[rare] / (mean + mean**2 / programmes.size)[rare]), 1, atol=0.25)


def test_expression_changes_where_it_should(tissue):
    counts = np.log1p(tissue.X.toarray() / np.asarray(tissue.X.sum(1)) * 3000)
    truth = tissue.obs[~tissue.obs[_keys.HEALTHY]]
    counts = counts[~tissue.obs[_keys.HEALTHY].to_numpy()]
    counts = counts - pd.DataFrame(counts).groupby(truth[_keys.REGION].to_numpy(), observed=True).transform("mean")
    kind = truth[_keys.KIND].to_numpy()
    change = {name: counts[kind == name].mean(0) - counts[kind == "healthy"].mean(0) for name in KINDS[1:]}
    size = {name: np.abs(values).mean() for name, values in change.items()}
    assert np.corrcoef(change["expression"], change["both"])[0, 1] > 0.6
    assert abs(np.corrcoef(change["expression"], change["morphology"])[0, 1]) < 0.3
    assert size["expression"] > 1.2 * size["both"] > 1.5 * size["morphology"]


def test_nuclei_change_where_they_should(tissue):
    for library in ("slide2", "slide3"):
        truth = of(tissue, library).obs
        values = pd.Series(brightness(tissue, library), index=truth.index)
        values -= values.groupby(truth[_keys.REGION], observed=True).transform("median")
        mean = values.groupby(truth[_keys.KIND], observed=True).mean()
        noise = values[truth[_keys.KIND] == "healthy"].std() / 5
        assert mean["morphology"] < mean["both"] - noise / 2 < mean["healthy"] - 2 * noise
        assert abs(mean["expression"] - mean["healthy"]) < 2 * noise


def test_sides_are_independent_given_the_kind():
    kind = np.repeat(np.arange(4), 20_000)
    strengths = draw_strengths(np.random.default_rng(0), kind, 1.5)
    for code in range(4):
        side = strengths[:, kind == code]
        np.testing.assert_allclose(side.mean(1), 1.5 * _SIDES[:, code], rtol=0.02)
    assert abs(np.corrcoef(strengths[:, kind == 3])[0, 1]) < 0.03
    assert (strengths[:, kind == 3].std(1) > 0.2).all()


def test_no_effect_leaves_the_picture_of_a_healthy_slice():
    options = {"n_spots": 80, "n_genes": 50}
    named = simulate_tissue(1, n_healthy=0, effect=0, **options)
    healthy = simulate_tissue(1, n_healthy=1, **options)
    strong = simulate_tissue(1, n_healthy=0, effect=2, **options)
    pictures = [adata.uns[_keys.SPATIAL]["slide1"][_keys.IMAGES][HIRES] for adata in (named, healthy, strong)]
    assert named.obs[_keys.ANOMALY].any()
    np.testing.assert_array_equal(pictures[0], pictures[1])
    assert (pictures[0] != pictures[2]).any()


def test_genes_lie_on_their_chromosomes(tissue):
    assert tissue.var["chromosome"].isin([f"chr{number}" for number in (*range(1, 23), "X")]).all()
    assert (tissue.var["start"] >= 1).all() and (tissue.var["end"] > tissue.var["start"]).all()
    var = draw_genes(np.random.default_rng(1), 20_000)
    reach = var.groupby("chromosome", observed=True)["end"].max()
    assert len(reach) == 23 and reach["chr21"] <= 46_000_000 < reach["chr1"] <= 248_000_000
    assert not var["start"].is_monotonic_increasing


def test_seed_settles_everything():
    options = {"n_slides": 2, "n_spots": 80, "n_genes": 60, "n_healthy": 1}
    first, again, other = (simulate_tissue(**options, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.X.toarray(), again.X.toarray())
    pd.testing.assert_frame_equal(first.obs, again.obs)
    np.testing.assert_array_equal(first.obsm[_keys.SPATIAL], again.obsm[_keys.SPATIAL])
    picture = [adata.uns[_keys.SPATIAL]["slide2"][_keys.IMAGES][HIRES] for adata in (first, again, other)]
    np.testing.assert_array_equal(picture[0], picture[1])
    assert picture[0].shape != picture[2].shape or (picture[0] != picture[2]).any()
    assert (first.X != other.X).nnz > 0


def test_slices_do_not_depend_on_their_company_nor_counts_on_the_image():
    options = {"n_spots": 80, "n_genes": 60, "n_healthy": 1}
    few, many = simulate_tissue(2, **options), simulate_tissue(3, image=False, **options)
    many = many[: few.n_obs]
    np.testing.assert_array_equal(few.X.toarray(), many.X.toarray())
    assert list(few.obs[_keys.KIND]) == list(many.obs[_keys.KIND])
    np.testing.assert_array_equal(few.obsm[_keys.SPATIAL], many.obsm[_keys.SPATIAL])
    assert _keys.IMAGES not in many.uns[_keys.SPATIAL]["slide1"]
    assert scale(few, "slide2") == scale(many, "slide2")


@pytest.mark.parametrize("form", ["h5ad", "zarr"])
@pytest.mark.parametrize("image", [True, False])
def test_round_trip(tmp_path, form, image):
    adata = simulate_tissue(2, n_spots=80, n_genes=60, n_healthy=2, image=image)
    path = tmp_path / f"tissue.{form}"
    getattr(adata, f"write_{form}")(path)
    back = getattr(ad, f"read_{form}")(path)
    np.testing.assert_array_equal(back.X.toarray(), adata.X.toarray())
    pd.testing.assert_frame_equal(back.obs, adata.obs)
    pd.testing.assert_frame_equal(back.var, adata.var)
    np.testing.assert_array_equal(back.obsm[_keys.SPATIAL], adata.obsm[_keys.SPATIAL])
    for library, entry in adata.uns[_keys.SPATIAL].items():
        assert back.uns[_keys.SPATIAL][library][_keys.SCALEFACTORS] == entry[_keys.SCALEFACTORS]
        if image:
            picture = back.uns[_keys.SPATIAL][library][_keys.IMAGES][HIRES]
            np.testing.assert_array_equal(picture, entry[_keys.IMAGES][HIRES])


@pytest.mark.parametrize("n_spots", [60, 61, 137, 400])
@pytest.mark.parametrize("seed", range(4))
def test_any_size_holds_every_kind(n_spots, seed):
    adata = simulate_tissue(1, n_spots=n_spots, n_genes=50, n_healthy=0, image=n_spots < 100, seed=seed)
    assert adata.n_obs == n_spots
    assert set(adata.obs[_keys.KIND]) == set(KINDS)
    assert adata.obs[_keys.ANOMALY].mean() < 0.25


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"n_slides": 0}, "n_slides"),
        ({"n_slides": 1, "n_healthy": 2}, "n_healthy"),
        ({"n_healthy": -1}, "n_healthy"),
        ({"n_spots": 10}, "n_spots"),
        ({"n_genes": 3}, "n_genes"),
        ({"effect": -1}, "effect"),
        ({"effect": float("nan")}, "effect"),
        ({"depth": 0}, "depth"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_arguments_are_named(options, name):
    with pytest.raises(ValueError, match=name):
        simulate_tissue(**options)


def test_import_is_light():
    code = "import sys, omib_spatial.datasets; print(sorted({'torch', 'scanpy', 'squidpy'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
