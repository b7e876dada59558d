import json
import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

from omib_spatial.modalities import ObsmFeatures
from omib_spatial.modalities.obsm_features import warn_of_noise
from omib_spatial.slides import Layout, Tissue

LAYOUT = Layout()
REFERENCE = np.arange(30) % 3 > 0


def make_tissue() -> ad.AnnData:
    values = np.random.default_rng(0).normal([1, -50, 0.01], [3, 20, 0.001], (30, 3))
    adata = ad.AnnData(obs=pd.DataFrame(index=[f"s{i}" for i in range(30)]), obsm={"uni": values})
    adata.obsm["uni"][[4, 9]] = np.nan
    adata.obsm["uni"][10, 1] = np.nan
    adata.obsm["uni"][11, 2] = np.inf
    return adata


def fitted(adata: ad.AnnData, key: str = "uni") -> ObsmFeatures:
    matrix = ObsmFeatures(key)
    matrix.fit(Tissue(adata, LAYOUT), REFERENCE)
    return matrix


@pytest.fixture
def tissue() -> ad.AnnData:
    return make_tissue()


WHOLE = np.setdiff1d(np.arange(30), [4, 9, 10, 11])


def test_columns_are_scaled_by_whole_rows_of_the_reference(tissue):
    values = tissue.obsm["uni"]
    seen = values[np.intersect1d(np.flatnonzero(REFERENCE), WHOLE)]
    matrix = fitted(tissue)
    np.testing.assert_allclose(matrix.mean, seen.mean(0), rtol=1e-5)
    np.testing.assert_allclose(matrix.scale, seen.std(0), rtol=1e-4)
    batch = matrix.prepare(Tissue(tissue, LAYOUT)).batch(WHOLE[::-1].copy())
    assert batch.dtype == torch.float32
    np.testing.assert_allclose(batch, ((values - seen.mean(0)) / seen.std(0))[WHOLE[::-1]], rtol=1e-3, atol=1e-3)


def test_other_spots_teach_nothing(tissue):
    changed = make_tissue()
    changed.obsm["uni"][~REFERENCE] *= -7
    one, other = fitted(tissue), fitted(changed)
    assert torch.equal(one.mean, other.mean)
    assert torch.equal(one.scale, other.scale)


def test_rows_with_nan_or_infinity_are_missing(tissue):
    assert np.array_equal(np.flatnonzero(fitted(tissue).prepare(Tissue(tissue, LAYOUT)).present), WHOLE)


def test_features_are_the_values(tissue):
    features = fitted(tissue).prepare(Tissue(tissue, LAYOUT)).features(np.array([3, 0]))
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, tissue.obsm["uni"][[3, 0]], rtol=1e-6)


@pytest.mark.parametrize(
    "convert",
    [
        lambda x: pd.DataFrame(x, columns=list("abc"), index=[f"s{i}" for i in range(30)]),
        lambda x: x.astype(np.float32),
        np.asfortranarray,
    ],
    ids=["frame", "float32", "fortran"],
)
def test_frames_and_other_layouts_give_the_same(tissue, convert):
    other = make_tissue()
    other.obsm["uni"] = convert(tissue.obsm["uni"])
    one, two = fitted(tissue), fitted(other)
    torch.testing.assert_close(one.mean, two.mean)
    torch.testing.assert_close(
        one.prepare(Tissue(tissue, LAYOUT)).batch(WHOLE), two.prepare(Tissue(other, LAYOUT)).batch(WHOLE)
    )


def test_integers_are_fine_and_a_constant_column_is_centred_only(tissue):
    tissue.obsm["counts"] = np.tile([[3, 8], [5, 7], [10, 7]], (10, 1))
    data = fitted(tissue, "counts").prepare(Tissue(tissue, LAYOUT))
    assert data.present.all()
    torch.testing.assert_close(data.batch(np.arange(3)), torch.tensor([[-1.8, 1], [-1, 0], [1, 0]]))


def test_many_rows_far_from_zero_are_measured_exactly():
    far = np.stack([np.full(20_000, 1000.1), np.random.default_rng(0).normal(3000, 1, 20_000)], 1)
    matrix = ObsmFeatures("far")
    matrix.fit(Tissue(ad.AnnData(obsm={"far": far}), LAYOUT), np.ones(20_000, bool))
    np.testing.assert_allclose(matrix.mean, far.mean(0), rtol=1e-6)
    np.testing.assert_allclose(matrix.scale, [1, far[:, 1].std()], rtol=1e-3)


@pytest.mark.parametrize(
    "values",
    [
        sp.random(30, 3, 0.5, format="csr"),
        np.full((30, 2), "x"),
        pd.DataFrame({"a": ["x"] * 30}, index=[f"s{i}" for i in range(30)]),
    ],
    ids=["sparse", "text", "frame of text"],
)
def test_what_is_no_dense_array_of_numbers_is_named(tissue, values):
    tissue.obsm["odd"] = values
    with pytest.raises(TypeError, match=r"obsm\['odd'\] must be a dense array or DataFrame of real numbers"):
        fitted(tissue, "odd")


def test_errors_name_the_key(tissue):
    with pytest.raises(KeyError, match=r"obsm\['nope'\] is missing; obsm holds \['uni'\]"):
        fitted(tissue, "nope")
    tissue.obsm["cube"] = np.zeros((30, 2, 2))
    with pytest.raises(ValueError, match=r"obsm\['cube'\] must be two-dimensional, not of shape \(30, 2, 2\)"):
        fitted(tissue, "cube")
    tissue.obsm["void"] = np.full((30, 2), np.nan)
    with pytest.raises(ValueError, match=r"obsm\['void'\] has no reference row without NaN"):
        fitted(tissue, "void")
    matrix = fitted(tissue)
    tissue.obsm["uni"] = np.zeros((30, 4))
    with pytest.raises(ValueError, match=r"obsm\['uni'\] has 4 columns; the model was fitted on 3"):
        matrix.prepare(Tissue(tissue, LAYOUT))


def test_nothing_is_written(tissue):
    before = tissue.obsm["uni"].copy()
    data = fitted(tissue).prepare(Tissue(tissue, LAYOUT))
    data.batch(WHOLE)
    assert np.array_equal(tissue.obsm["uni"], before, equal_nan=True)
    assert list(tissue.obsm) == ["uni"]


def test_state_survives_json(tissue):
    matrix = fitted(tissue)
    config, tensors = matrix.state()
    again = ObsmFeatures.from_state(json.loads(json.dumps(config)), {k: v.clone() for k, v in tensors.items()})
    assert again.key == "uni"
    assert torch.equal(
        again.prepare(Tissue(tissue, LAYOUT)).batch(WHOLE), matrix.prepare(Tissue(tissue, LAYOUT)).batch(WHOLE)
    )
    assert again.encoder()(again.prepare(Tissue(tissue, LAYOUT)).batch(WHOLE)).shape == (
        26,
        again.encoder().out_features,
    )


def test_columns_of_noise_are_told_and_others_are_not():
    places = np.argwhere(np.ones((20, 20))) * 10.0
    rng = np.random.default_rng(1)
    smooth = np.sin(places @ rng.normal(size=(2, 12)) / 50) + 0.5 * rng.normal(size=(400, 12))
    adata = ad.AnnData(obsm={"spatial": places, "noise": rng.normal(size=(400, 12)), "smooth": smooth})
    adata.obsm["noise"][3] = np.nan
    tissue, chosen = Tissue(adata, Layout()), [ObsmFeatures("smooth"), ObsmFeatures("noise")]
    with pytest.warns(UserWarning, match=r"^obsm\['noise'\] may be noise: .* leave it out of modalities"):
        warn_of_noise(tissue, chosen, np.ones(400, bool))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_noise(tissue, chosen[:1], np.ones(400, bool))
        warn_of_noise(tissue, chosen, np.arange(400) < 100)  # too few to tell


def test_columns_of_one_name_and_values_beyond_single_precision_are_named(tissue):
    tissue.obsm["twice"] = pd.DataFrame(np.ones((30, 2)), columns=["a", "a"], index=tissue.obs_names)
    with pytest.raises(ValueError, match=r"obsm\['twice'\] has columns of one name \('a'\)"):
        ObsmFeatures("twice").values(tissue)
    tissue.obsm["huge"] = np.where(np.arange(30)[:, None] == 7, 1e30, np.ones((30, 2)))
    with pytest.raises(ValueError, match=r"obsm\['huge'\] has values beyond 1e\+15, among others in spots 's7'"):
        ObsmFeatures("huge").values(tissue)
