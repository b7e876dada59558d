import warnings
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest

import omib_spatial as omib

QUICK = {
    "config": replace(omib.tl.OBJECTIVES["reconstruction"].config, warmup_epochs=1, beta=0.05),
    "max_epochs": 3,
    "enable_progress_bar": False,
    "library_key": "library_id",
}


def simulate(**options):
    return omib.datasets.simulate_tissue(**({"n_slides": 3, "n_healthy": 2, "n_spots": 150, "n_genes": 120} | options))


@pytest.fixture(scope="module")
def fitted():
    adata = simulate()
    model = omib.tl.fit(adata, reference_key="healthy", **QUICK)
    return adata, model


def test_scoring_again_gives_the_scores_of_fit(fitted):
    adata, model = fitted
    raw = simulate()
    copied = omib.tl.score(raw, model, copy=True)
    assert "omib_score" not in raw.obs
    np.testing.assert_allclose(copied.obs["omib_score"], adata.obs["omib_score"], atol=1e-6)


def test_a_slice_scores_the_same_alone_shuffled_and_in_company(fitted):
    adata, model = fitted
    alone = simulate()[adata.obs["library_id"] == adata.obs["library_id"].iloc[-1]].copy()
    shuffled = alone[np.random.default_rng(0).permutation(alone.n_obs)].copy()
    for other in (alone, shuffled):
        omib.tl.score(other, model)
        np.testing.assert_allclose(other.obs["omib_score"], adata.obs["omib_score"][other.obs_names], atol=1e-4)
        assert other.obs["omib_anomaly"].equals(adata.obs["omib_anomaly"][other.obs_names])


def test_a_spot_without_image_is_scored_on_genes_and_one_without_anything_is_nan(fitted):
    _, model = fitted
    adata = simulate()
    names = adata.obs["library_id"].cat.categories
    del adata.uns["spatial"][names[0]]
    adata.X[5] = 0
    adata.X.eliminate_zeros()
    omib.tl.score(adata, model)
    first = (adata.obs["library_id"] == names[0]).to_numpy()
    nan = adata.obs["omib_score"].isna().to_numpy()
    assert np.flatnonzero(nan).tolist() == [5] and first[5]
    assert not adata.obs["omib_anomaly"].iloc[5]
    assert np.isnan(adata.obsm["X_omib"][5]).all() and np.isfinite(adata.obsm["X_omib"][~nan]).all()
    # The healthy slice without its image is still near what is typical of the reference, not off the scale.
    assert abs(adata.obs["omib_score"][first & ~nan].median()) < 3


def test_a_slide_without_any_counts_is_all_nan():
    model = omib.tl.fit(simulate(image=False), reference_key="healthy", **QUICK)
    empty = simulate(image=False)
    empty.X = empty.X * 0
    omib.tl.score(empty, model)
    assert empty.obs["omib_score"].isna().all() and not empty.obs["omib_anomaly"].any()
    assert np.isnan(empty.obsm["X_omib"]).all()


def test_target_genes_are_matched_by_name(fitted):
    _, model = fitted
    full, shuffled = simulate(), simulate()
    shuffled = shuffled[:, np.random.default_rng(0).permutation(shuffled.n_vars)].copy()
    for adata in (full, shuffled):
        omib.tl.score(adata, model)
    np.testing.assert_allclose(full.obs["omib_score"], shuffled.obs["omib_score"], atol=1e-4)
    with pytest.warns(UserWarning, match="%"):
        omib.tl.score(simulate()[:, :60].copy(), model)
    stranger = simulate()
    stranger.var_names = [f"other{i}" for i in range(stranger.n_vars)]
    with pytest.raises(ValueError, match="gene"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        omib.tl.score(stranger, model)
    assert "omib_score" not in stranger.obs


@pytest.fixture(scope="module")
def of_many():
    """A model of several slides, which a column ``slide`` separates."""
    adata = simulate()
    adata.obs["slide"] = adata.obs.pop("library_id")
    return omib.tl.fit(adata, reference_key="healthy", **(QUICK | {"library_key": "slide"}))


def one_slide():
    """The last slide, without a column that says which it is."""
    adata = simulate()
    target = adata[adata.obs["library_id"] == "slide3"].copy()
    target.uns["spatial"] = {"slide3": adata.uns["spatial"]["slide3"]}
    del target.obs["library_id"]
    return target


def test_a_single_slide_needs_no_column_and_is_drawn_as_it_was_scored(of_many):
    target = one_slide()
    omib.tl.score(target, of_many)
    assert target.uns["omib"]["params"]["library_key"] == ""
    assert of_many.layout.library_key == "slide"
    panels = omib.pl.anomaly_map(target, show=False)
    assert len(panels) == 3  # image, score, call
    plt.close("all")


def test_slices_may_have_a_column_of_another_name_and_are_drawn_by_it(of_many):
    target = simulate()
    target.obs["sample"] = target.obs.pop("library_id")
    omib.tl.score(target, of_many, library_key="sample")
    assert target.uns["omib"]["params"]["library_key"] == "sample"
    panels = omib.pl.anomaly_map(target, show=False)
    assert len(panels) == 9
    plt.close("all")
    expected = simulate()
    expected.obs["slide"] = expected.obs.pop("library_id")
    omib.tl.score(expected, of_many)
    assert expected.uns["omib"]["params"]["library_key"] == "slide"
    np.testing.assert_array_equal(target.obs["omib_score"], expected.obs["omib_score"])


def test_what_was_read_is_recorded_and_not_what_the_model_read(fitted, tmp_path):
    _, model = fitted
    target = simulate()
    target.layers["raw"] = target.X.copy()
    omib.tl.score(target, model, layer="raw")
    params = target.uns["omib"]["params"]
    assert params["layer"] == "raw" and model.layout.layer is None
    assert params["spatial_key"] == "spatial" and params["image_key"] == "hires" and params["n_neighbors"] == 6
    target.write_h5ad(tmp_path / "scored.h5ad")


def test_the_models_layer_is_taken_where_there_is_one():
    adata = simulate(image=False)
    adata.layers["raw"] = adata.X.copy()
    model = omib.tl.fit(adata, reference_key="healthy", layer="raw", **QUICK)
    here, elsewhere = adata.copy(), simulate(image=False)
    here.X = here.X * 0
    for target, layer in ((here, "raw"), (elsewhere, "")):
        omib.tl.score(target, model)
        assert target.uns["omib"]["params"]["layer"] == layer
        np.testing.assert_allclose(target.obs["omib_score"], adata.obs["omib_score"], atol=1e-6)


def test_scores_do_not_depend_on_which_other_genes_are_in_the_table(tmp_path):
    """Reference and patient are often of different tables: depth means the same in both."""
    adata = omib.datasets.simulate_tissue(4, n_healthy=3, n_spots=150, n_genes=800, seed=3, image=False)
    half = np.sort(np.random.default_rng(0).permutation(adata.n_vars)[:400])
    reference = adata[adata.obs["library_id"] != "slide4", half].copy()
    options = {"library_key": "library_id", "max_epochs": 6, "enable_progress_bar": False}
    omib.tl.fit(reference, all_healthy=True, **options).save(tmp_path / "model")
    model = omib.load(tmp_path / "model")
    whole = adata[adata.obs["library_id"] == "slide4"].copy()
    same, fewer = whole[:, half].copy(), whole[:, half[::2]].copy()
    for target in (whole, same):
        omib.tl.score(target, model)
    np.testing.assert_allclose(whole.obs["omib_score"], same.obs["omib_score"], rtol=0, atol=1e-4)
    found = [omib.tl.explain(target, model, copy=True).obsm["omib_contributions"] for target in (whole, same)]
    np.testing.assert_allclose(*found, rtol=0, atol=1e-3)
    with pytest.warns(UserWarning, match="Only 5.% of the model's"):
        omib.tl.score(fewer, model)
    level, cut = (target.obs["omib_score"].median() for target in (same, fewer))
    # A model of before has no genes, and takes the total: far off, with more genes and with fewer.
    before = replace(model, genes=None)
    for target in (whole, fewer):
        omib.tl.score(target, before)
    assert min(abs(target.obs["omib_score"].median() - level) for target in (whole, fewer)) > 1.5 * abs(cut - level)
