import json
import subprocess
import sys
import threading

import anndata as ad
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import omib_spatial as omib
from omib_spatial.modalities import Matrix
from omib_spatial.encoders import MLP

WITHOUT_LABELS = [name for name, objective in omib.tl.OBJECTIVES.items() if not objective.needs_labels]
QUICK = {"max_epochs": 2, "warmup_epochs": 1, "progress_bar": False, "library_key": "library_id", "beta": 0.05}
SCORE_ELSEWHERE = """
import sys, anndata as ad, omib_spatial as omib
adata = ad.read_h5ad(sys.argv[2])
omib.tl.score(adata, omib.load(sys.argv[1]), key_added="again")
adata.write_h5ad(sys.argv[2])
"""


@pytest.fixture(scope="module")
def adata():
    adata = omib.datasets.simulate_tissue(n_slides=2, n_healthy=1, n_spots=150, n_genes=100)
    adata.obsm["X_extra"] = np.random.default_rng(0).normal(size=(adata.n_obs, 4))
    return adata


@pytest.mark.parametrize("objective", WITHOUT_LABELS)
def test_a_fresh_process_gives_the_same_scores(adata, objective, tmp_path):
    adata = adata.copy()
    names = ["gene", "image", "X_extra"]
    model = omib.tl.fit(adata, reference_key="healthy", modalities=names, objective=objective, **QUICK)
    model.save(tmp_path / "model")
    adata.write_h5ad(tmp_path / "slide.h5ad")
    command = [sys.executable, "-c", SCORE_ELSEWHERE, str(tmp_path / "model"), str(tmp_path / "slide.h5ad")]
    subprocess.run(command, check=True, capture_output=True)
    again = ad.read_h5ad(tmp_path / "slide.h5ad")
    np.testing.assert_allclose(again.obs["again_score"], adata.obs["omib_score"], atol=1e-6, rtol=1e-6)
    for name in ("pvalue", "slice_pvalue"):
        np.testing.assert_allclose(again.obs[f"again_{name}"], adata.obs[f"omib_{name}"], atol=1e-6)
    np.testing.assert_allclose(again.obsm["X_again"], adata.obsm["X_omib"], atol=1e-6)
    back = omib.load(tmp_path / "model")
    assert repr(back) == repr(model)
    np.testing.assert_array_equal(back.history["task"], model.history["task"])


@pytest.fixture(scope="module")
def whole(adata):
    """A model and the scores of every slice in one tile: the full graph."""
    adata = adata.copy()
    names = ["gene", "image", "X_extra"]
    return omib.tl.fit(adata, reference_key="healthy", modalities=names, **QUICK), adata


@settings(max_examples=12, deadline=None)
@given(size=st.integers(1, 400))
def test_scores_by_tiles_equal_those_of_the_full_graph(whole, size):
    model, adata = whole
    tiled = adata.copy()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("omib_spatial.detector.model.SCORING_TILE", size)
        omib.tl.score(tiled, model)
    np.testing.assert_allclose(tiled.obs["omib_score"], adata.obs["omib_score"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(tiled.obsm["X_omib"], adata.obsm["X_omib"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_scores_do_not_depend_on_the_number_of_threads(whole, monkeypatch, threads):
    model, adata = whole
    monkeypatch.setattr("omib_spatial.detector.model.SCORING_TILE", 20)
    gradients, workers = set(), set()

    def watch(*_):
        gradients.add(torch.is_grad_enabled())
        workers.add(threading.get_ident())

    watched = model.network.register_forward_pre_hook(watch)
    again, before = adata.copy(), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        omib.tl.score(again, model, accelerator="cpu")
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
        watched.remove()
    np.testing.assert_allclose(again.obs["omib_score"], adata.obs["omib_score"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(again.obsm["X_omib"], adata.obsm["X_omib"], rtol=1e-5, atol=1e-5)
    assert gradients == {False}
    assert (threading.get_ident() in workers) == (threads == 1)


def test_an_error_in_a_worker_surfaces_and_nothing_is_written(whole):
    model, adata = whole
    again, before = adata.copy(), torch.get_num_threads()

    def broken(*_):
        raise RuntimeError("out of paint")

    watched = model.network.register_forward_pre_hook(broken)
    torch.set_num_threads(2)
    try:
        with pytest.raises(RuntimeError, match="out of paint"):
            omib.tl.score(again, model, key_added="again", accelerator="cpu")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
        watched.remove()
    assert not any("again" in key for key in (*again.obs, *again.obsm, *again.uns))


def test_the_folder_holds_weights_and_json_only(adata, tmp_path):
    model = omib.tl.fit(adata.copy(), reference_key="healthy", modalities=["gene"], **QUICK)
    model.save(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "weights.safetensors"]
    config = json.loads((tmp_path / "config.json").read_text(), parse_constant=pytest.fail)
    assert config["modalities"][0]["settings"]["genes"] == model.modalities["gene"].genes


def test_own_encoders_must_come_along(adata, tmp_path):
    encoder = MLP(4, 16)
    own = adata.copy()
    model = omib.tl.fit(own, reference_key="healthy", modalities=["X_extra"], encoders={"X_extra": encoder}, **QUICK)
    model.save(tmp_path)
    with pytest.raises(KeyError, match="X_extra"):
        omib.load(tmp_path)
    back = omib.load(tmp_path, encoders={"X_extra": MLP(4, 16)})
    other = adata.copy()
    omib.tl.score(other, back)
    np.testing.assert_allclose(other.obs["omib_score"], own.obs["omib_score"], atol=1e-6)


class Halved(Matrix):
    """An own kind of modality."""

    def values(self, adata):
        return super().values(adata) / 2


def test_own_kinds_of_modalities_must_come_along(adata, tmp_path):
    own, other = adata.copy(), adata.copy()
    model = omib.tl.fit(own, reference_key="healthy", modalities={"mine": Halved("X_extra")}, **QUICK)
    model.save(tmp_path)
    with pytest.raises(KeyError, match=r"kinds=\[Halved\]"):
        omib.load(tmp_path)
    back = omib.load(tmp_path, kinds=[Halved])
    assert type(back.modalities["mine"]) is Halved
    omib.tl.score(other, back)
    np.testing.assert_allclose(other.obs["omib_score"], own.obs["omib_score"], atol=1e-6)


def test_a_model_of_another_format_is_refused(adata, tmp_path):
    model = omib.tl.fit(adata.copy(), reference_key="healthy", modalities=["X_extra"], **QUICK)
    model.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"format": 1, "version": "0.0.7"}))
    with pytest.raises(ValueError, match=r"saved by omib_spatial 0.0.7.*fit it again"):
        omib.load(tmp_path)


def test_an_empty_folder_is_no_model(tmp_path):
    with pytest.raises(FileNotFoundError, match="no saved model"):
        omib.load(tmp_path)
