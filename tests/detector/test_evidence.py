import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import omib_spatial as omib
from omib_spatial.detector.evidence import Evidence, with_targets
from omib_spatial.detector.objective import FUSED, OBJECTIVES
from omib_spatial.slides import Tissue

QUICK = {
    "config": replace(OBJECTIVES["reconstruction"].config, warmup_epochs=1, beta=0.05),
    "max_epochs": 2,
    "enable_progress_bar": False,
    "library_key": "library_id",
}


def simulate():
    adata = omib.datasets.simulate_tissue(n_slides=2, n_healthy=1, n_spots=150, n_genes=100)
    adata.obsm["X_extra"] = np.random.default_rng(0).normal(size=(adata.n_obs, 4))
    return adata


@pytest.fixture(scope="module")
def whole():
    """A model and the scores of every slice in one tile: the full graph."""
    adata = simulate()
    names = ["gene", "image", "X_extra"]
    return omib.tl.fit(adata, reference_key="healthy", modalities=names, **QUICK), adata


# Through the network


@settings(max_examples=12)
@given(size=st.integers(1, 400))
def test_scores_by_tiles_equal_those_of_the_full_graph(whole, size):
    model, adata = whole
    tiled = adata.copy()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("omib_spatial.detector.evidence.SCORING_TILE", size)
        omib.tl.score(tiled, model)
    np.testing.assert_allclose(tiled.obs["omib_score"], adata.obs["omib_score"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(tiled.obsm["X_omib"], adata.obsm["X_omib"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_scores_do_not_depend_on_the_number_of_threads(whole, monkeypatch, threads):
    model, adata = whole
    monkeypatch.setattr("omib_spatial.detector.evidence.SCORING_TILE", 20)
    gradients, workers = set(), set()

    def watch(*_):
        gradients.add(torch.is_grad_enabled())
        workers.add(threading.get_ident())

    watched = model.network.register_forward_pre_hook(watch)
    again, before = adata.copy(), torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
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


def test_an_error_in_a_worker_surfaces_and_nothing_is_written(whole, monkeypatch):
    model, adata = whole
    again, before = adata.copy(), torch.get_num_threads()

    def broken(*_):
        raise RuntimeError("out of paint")

    watched = model.network.register_forward_pre_hook(broken)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    torch.set_num_threads(2)
    try:
        with pytest.raises(RuntimeError, match="out of paint"):
            omib.tl.score(again, model, key_added="again", accelerator="cpu")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
        watched.remove()
    assert not any("again" in key for key in (*again.obs, *again.obsm, *again.uns))


def test_only_the_rows_asked_for_are_judged_and_the_code_is_kept_once(whole):
    model, adata = whole
    tissue = Tissue(adata, model.layout)
    spots, rows = model.prepare(tissue), np.arange(10, 60)
    found = model.trained.evidence(spots, tissue, rows, "cpu")
    assert list(found.parts) == [FUSED, "gene", "image", "X_extra"] and found.probability is None
    assert found.parts[FUSED] is found.code
    others = np.setdiff1d(np.arange(adata.n_obs), rows)
    for values in (found.code, *found.parts.values()):
        assert values.dtype == np.float32 and np.isfinite(values[rows]).all() and np.isnan(values[others]).all()
    np.testing.assert_allclose(found.code[rows], adata.obsm["X_omib"][rows], rtol=1e-5, atol=1e-5)
    for name in model.modalities:
        summary = model.summaries[name].of(spots.prepared[name], rows).numpy()
        np.testing.assert_allclose(found.parts[name][rows], summary, rtol=1e-4, atol=1e-5)


def test_where_nobody_has_any_modality_there_is_nothing_to_judge(whole):
    model, adata = whole
    tissue = Tissue(adata, model.layout)
    with pytest.raises(ValueError, match="nothing to judge"):
        model.trained.evidence(model.prepare(tissue), tissue, np.array([], int), "cpu")


# Names that parts of the evidence had once


@pytest.mark.parametrize("with_genes", [False, True])
@pytest.mark.parametrize("name", ["xi", "code", "probability", "center"])
def test_a_modality_may_have_any_name_and_the_embedding_is_the_networks_code(name, with_genes):
    adata = simulate()
    adata.obsm[name] = adata.obsm["X_extra"]
    names = ["gene", name] if with_genes else [name]
    model = omib.tl.fit(adata, reference_key="healthy", modalities=names, **QUICK)
    tissue = Tissue(adata, model.layout)
    found = model.trained.evidence(model.prepare(tissue), tissue, np.arange(adata.n_obs), "cpu")
    assert list(found.parts) == [FUSED, *names] and found.probability is None
    assert found.parts[name].shape == (adata.n_obs, 4)
    codes = []
    watched = model.network.register_forward_hook(lambda module, given, output: codes.append(output.xi.numpy()))
    try:
        model.trained.evidence(model.prepare(tissue), tissue, np.arange(150), "cpu")
    finally:
        watched.remove()
    np.testing.assert_array_equal(adata.obsm["X_omib"][:150], codes[0])
    assert adata.obsm["X_omib"].shape == (adata.n_obs, 64)


# Arrays


def test_evidence_of_some_spots_is_put_where_they_are():
    rng = np.random.default_rng(0)
    code = rng.normal(size=(6, 3)).astype(np.float32)
    parts = {FUSED: code, "gene": rng.normal(size=(6, 2)).astype(np.float32)}
    whole = Evidence(code, parts, rng.random((6, 2)).astype(np.float32))
    rows = np.array([4, 1])
    some, target = whole.take(rows), whole.unknown(9)
    assert some.parts[FUSED] is some.code and target.parts[FUSED] is target.code
    assert target.code.shape == (9, 3) and target.probability.shape == (9, 2)
    target.put(rows, some)
    there = np.isin(np.arange(9), rows)
    for before, after in (
        (whole.code, target.code),
        (whole.parts["gene"], target.parts["gene"]),
        (whole.probability, target.probability),
    ):
        np.testing.assert_array_equal(after[rows], before[rows])
        assert np.isnan(after[~there]).all()
    assert Evidence(code, parts).take(rows).probability is None


@pytest.mark.parametrize("stored", [False, True])
def test_targets_are_summaries_where_the_objective_has_them(whole, stored):
    model, adata = whole
    spots, rows = model.prepare(Tissue(adata, model.layout)), np.array([3, 7, 100])
    targets = with_targets(OBJECTIVES["reconstruction"], model.summaries, spots, stored=stored).targets
    assert list(targets) == ["gene", "image", "X_extra"]
    assert all((target.with_batch is None) == stored for target in targets.values())
    for name, target in targets.items():
        expected = model.summaries[name].of(spots.prepared[name], rows)
        assert target.width == expected.shape[1]
        torch.testing.assert_close(target.of(rows), expected, rtol=1e-4, atol=1e-5)
    assert with_targets(OBJECTIVES["svdd"], model.summaries, spots).targets == {}
