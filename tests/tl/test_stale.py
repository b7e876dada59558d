"""What is left of other runs is not trusted, and does not stay."""

from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import omib_spatial as omib
from omib_spatial.core.training import OMIBTraining
from omib_spatial.detector.objective import OBJECTIVES
from omib_spatial.tl import _write

CONFIG = replace(OBJECTIVES["reconstruction"].config, warmup_epochs=1, beta=0.05)
QUICK = {
    "all_healthy": True,
    "config": CONFIG,
    "max_epochs": 2,
    "enable_progress_bar": False,
    "library_key": "library_id",
    "accelerator": "cpu",
}


def simulated(**options) -> ad.AnnData:
    return omib.datasets.simulate_tissue(
        **({"n_slides": 2, "n_healthy": 2, "n_spots": 60, "n_genes": 60, "image": False} | options)
    )


def with_features(adata: ad.AnnData) -> ad.AnnData:
    values = np.random.default_rng(0).normal(size=(adata.n_obs, 3)) * [1, 5, 20]
    adata.obsm["X_extra"] = pd.DataFrame(values, adata.obs_names, ["a", "b", "c"])
    return adata


@pytest.fixture(scope="module")
def plain():
    adata = with_features(simulated())
    return adata, omib.tl.fit(adata.copy(), modalities=["X_extra"], **QUICK)


def test_named_columns_are_taken_by_their_names(plain, tmp_path):
    adata, model = plain
    want = omib.tl.score(adata, model, copy=True).obs["omib_score"]
    model.save(tmp_path)
    for known in (model, omib.load(tmp_path)):
        other = adata.copy()
        other.obsm["X_extra"] = adata.obsm["X_extra"][["c", "a", "b"]]
        omib.tl.score(other, known)
        np.testing.assert_array_equal(other.obs["omib_score"], want)
    other.obsm["X_extra"] = adata.obsm["X_extra"].to_numpy()
    omib.tl.score(other, model)
    np.testing.assert_array_equal(other.obs["omib_score"], want)


def test_other_columns_than_the_models_are_refused(plain, content):
    adata, model = plain
    other = adata.copy()
    other.obsm["X_extra"] = adata.obsm["X_extra"].rename(columns={"b": "B"})
    before = content(other)
    with pytest.raises(ValueError, match=r"other columns than the model was fitted on: 'b' missing, 'B' new"):
        omib.tl.score(other, model)
    assert content(other) == before


def test_results_that_a_run_does_not_write_again_are_removed(plain):
    adata, model = plain
    scored = omib.tl.score(adata, model, copy=True)
    alone = set(scored.obs), set(scored.obsm)
    scored.obs["omib_label"] = "tumour"
    scored.obsm["omib_probability"] = np.ones((adata.n_obs, 2))
    scored.obsm["X_omib_genome"] = np.ones((adata.n_obs, 2))
    scored.uns["omib"]["params"]["modalities"] = np.array(["X_extra", "genome"])
    scored.obsm["X_other"] = np.ones((adata.n_obs, 2))
    omib.tl.score(scored, model)
    assert (set(scored.obs), set(scored.obsm) - {"X_other"}) == alone


def test_a_write_that_fails_leaves_everything_as_it_was(plain, monkeypatch):
    adata, model = plain
    scored = omib.tl.score(adata, model, copy=True)
    del scored.obs["omib_pvalue"], scored.obsm["X_omib"]
    scored.layers["omib_contributions"] = scored.X.copy()
    scored.obs["omib_score"] = 7.0
    before = scored.copy()

    def broken(*args, **options):
        raise RuntimeError("no more")

    monkeypatch.setattr(_write, "write_calls", broken)
    with pytest.raises(RuntimeError, match="no more"):
        omib.tl.score(scored, model)
    pd.testing.assert_frame_equal(scored.obs, before.obs)
    assert set(scored.obsm) == set(before.obsm) and set(scored.uns) == set(before.uns)
    assert set(scored.layers) == set(before.layers)
    np.testing.assert_array_equal(scored.uns["omib"]["groups"]["pvalue"], before.uns["omib"]["groups"]["pvalue"])


def test_image_features_that_were_changed_are_computed_again():
    adata = simulated(image=True)
    model = omib.tl.fit(adata, modalities=["image"], **QUICK)
    want, kept = adata.obs["omib_score"].copy(), adata.obsm["X_image"].copy()
    omib.tl.score(adata, model)
    np.testing.assert_array_equal(adata.obs["omib_score"], want)
    adata.obsm["X_image"] = kept * 2 + 1
    omib.tl.score(adata, model)
    np.testing.assert_array_equal(adata.obs["omib_score"], want)
    np.testing.assert_array_equal(adata.obsm["X_image"], kept)


def stopped(adata: ad.AnnData, folder, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        step = OMIBTraining.training_step

        def stop(self, batch, index):
            if self.current_epoch == 1:
                raise KeyboardInterrupt
            return step(self, batch, index)

        patch.setattr(OMIBTraining, "training_step", stop)
        with pytest.raises(KeyboardInterrupt):
            omib.tl.fit(adata, resume=folder, modalities=["X_extra", "gene"], **QUICK)


def other_counts(adata):
    adata.X = sp.csr_matrix(adata.X.toarray()[:, ::-1])


def other_genes(adata):
    adata.var_names = [f"other{i}" for i in range(adata.n_vars)]


def other_features(adata):
    adata.obsm["X_extra"] = adata.obsm["X_extra"] * 2


def other_places(adata):
    adata.obsm["spatial"] = adata.obsm["spatial"] * 1.5


def other_kind_of_matrix(adata):
    adata.X = adata.X.toarray().astype(np.int64)


@pytest.mark.parametrize(
    ("change", "named"),
    [(other_counts, "counts"), (other_genes, "genes"), (other_features, "X_extra"), (other_places, "places")],
)
def test_a_training_is_not_resumed_on_other_data(tmp_path, monkeypatch, change, named):
    adata = with_features(simulated())
    stopped(adata.copy(), tmp_path, monkeypatch)
    other = adata.copy()
    change(other)
    with pytest.raises(ValueError, match=f"another one: .*digest of {named} .*Give it a folder of its own"):
        omib.tl.fit(other, resume=tmp_path, modalities=["X_extra", "gene"], **QUICK)


def test_a_training_is_not_resumed_on_another_graph_and_is_on_the_same_counts_in_another_matrix(tmp_path, monkeypatch):
    adata = with_features(simulated())
    stopped(adata.copy(), tmp_path, monkeypatch)
    with pytest.raises(ValueError, match="digest of graph"):
        omib.tl.fit(adata.copy(), resume=tmp_path, modalities=["X_extra", "gene"], n_neighbors=4, **QUICK)
    other_kind_of_matrix(adata)
    omib.tl.fit(adata, resume=tmp_path, modalities=["X_extra", "gene"], **QUICK)
    assert adata.obs["omib_score"].notna().all()


def test_a_state_that_is_damaged_is_told_as_one(tmp_path, monkeypatch):
    adata = with_features(simulated())
    stopped(adata.copy(), tmp_path, monkeypatch)
    (state,) = tmp_path.glob("*.safetensors")
    state.write_bytes(state.read_bytes()[:200])
    with pytest.raises(ValueError, match="is no state of a training, or is damaged .*delete it"):
        omib.tl.fit(adata, resume=tmp_path, modalities=["X_extra", "gene"], **QUICK)


def test_raw_counts_called_corrected_are_scored_as_raw_ones():
    one, other = simulated(), simulated()
    omib.tl.fit(one, modalities=["gene"], **QUICK)
    model = omib.tl.fit(other, modalities=["gene"], counts="corrected", **QUICK)
    np.testing.assert_allclose(one.obs["omib_score"], other.obs["omib_score"], rtol=1e-4, atol=1e-4)
    assert model.layout.counts == "corrected" and other.uns["omib"]["params"]["counts"] == "corrected"


def test_corrected_counts_are_taken_where_the_user_says_so_and_the_model_remembers(tmp_path):
    adata = simulated()
    ambient = np.asarray(adata.X.mean(0))
    counts = adata.X.toarray()
    adata.X = sp.csr_matrix(np.maximum(counts - 0.3 * ambient * (counts > 0), 0).astype(np.float32))
    with pytest.raises(ValueError, match="no integers.*SoupX.*counts='corrected'"):
        omib.tl.fit(adata, modalities=["gene"], **QUICK)
    assert len(omib.pp.check(adata, library_key="library_id", modalities=["gene"], counts="corrected")) == 2
    model = omib.tl.fit(adata, modalities=["gene"], counts="corrected", **QUICK)
    model.save(tmp_path)
    before = adata.obs["omib_score"].copy()
    omib.tl.score(adata, omib.load(tmp_path))
    np.testing.assert_allclose(adata.obs["omib_score"], before, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="no integers"):
        omib.tl.score(adata, model, counts="raw")
    with pytest.raises(ValueError, match="counts is 'soupx': it is 'raw' or 'corrected'"):
        omib.tl.fit(adata, counts="soupx", **QUICK)


@pytest.mark.parametrize("logarithm", [False, True])
def test_normalised_values_are_no_corrected_counts(logarithm):
    adata = simulated()
    adata.X = adata.X.toarray()
    adata.X = adata.X / adata.X.sum(1, keepdims=True) * 100
    adata.X = sp.csr_matrix(np.log1p(adata.X) if logarithm else adata.X)
    with pytest.raises(ValueError, match="All spots have the same total"):
        omib.tl.fit(adata, modalities=["gene"], counts="corrected", **QUICK)


def test_a_lazily_read_slide_stays_one_where_a_fit_fails(tmp_path):
    simulated().write_h5ad(tmp_path / "raw.h5ad")
    adata = ad.experimental.read_lazy(tmp_path / "raw.h5ad")
    kind = type(adata.obs)
    with pytest.raises(ValueError, match="n_neighbors=60"):
        omib.tl.fit(adata, n_neighbors=60, **QUICK)
    assert type(adata.obs) is kind and type(adata.var) is kind and not issubclass(kind, pd.DataFrame)
    omib.tl.fit(adata, modalities=["gene"], **QUICK)
    assert np.isfinite(adata.obs["omib_score"]).all()


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_results_of_a_lazily_read_slide_are_read(tmp_path, suffix):
    adata = simulated()
    model = omib.tl.fit(adata, modalities=["gene"], **QUICK)
    omib.tl.call(adata, question="part")
    omib.tl.regions(adata, n_fields=9, min_spots=1)
    path = tmp_path / f"scored.{suffix}"
    adata.write_h5ad(path) if suffix == "h5ad" else adata.write_zarr(path)
    for again in (
        lambda some: omib.tl.call(some, question="part"),
        lambda some: omib.tl.regions(some, n_fields=9, min_spots=1),
        lambda some: omib.tl.explain(some, model),
        omib.pl.regions,
    ):
        lazy = ad.experimental.read_lazy(path)
        again(lazy)
        pd.testing.assert_series_equal(lazy.obs["omib_call"], adata.obs["omib_call"], check_names=False)
        assert lazy.uns["omib_slides"]["n_called"].tolist() == adata.uns["omib_slides"]["n_called"].tolist()
    lazy = ad.experimental.read_lazy(path)
    kind = type(lazy.uns["omib_slides"])
    with pytest.raises(ValueError, match="question is"):
        omib.tl.call(lazy, question="whether")
    assert type(lazy.uns["omib_slides"]) is kind and not issubclass(kind, pd.DataFrame)
