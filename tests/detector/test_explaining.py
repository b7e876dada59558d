from dataclasses import replace

import numpy as np
import pytest
import torch

import omib_spatial as omib
from omib_spatial.detector.attribution import FusedDistance
from omib_spatial.detector.explained_slice import ExplainedSlice
from omib_spatial.detector.explaining import Explainer
from omib_spatial.detector.explanation import FeatureSums
from omib_spatial.detector.objective import Given
from omib_spatial.detector.scoring import score_tissue
from omib_spatial.modalities import Gene, Image, ObsmFeatures
from omib_spatial.modalities.sources import source_of
from omib_spatial.slides import Tissue
from omib_spatial.stats.settings import CalibrationSettings


def gaps():
    """A slide of which some spots lack one modality or the other."""
    adata = omib.datasets.simulate_tissue(3, n_healthy=2, n_spots=100, n_genes=80, image=False)
    adata.obsm["X_extra"] = np.random.default_rng(0).normal(size=(adata.n_obs, 4))
    return adata


@pytest.fixture(scope="module", params=[None, 20], ids=["as they are", "in the slide's order"])
def explained(request):
    with pytest.MonkeyPatch.context() as patched:
        # Simulated tissue has no clones.
        patched.setattr("omib_spatial.detector.ordering.clone_pvalue", lambda *_: 0.0)
        yield explain(request.param)


def explain(min_ordered):
    adata = gaps()
    config = replace(omib.tl.OBJECTIVES["reconstruction"].config, warmup_epochs=1, beta=0.05)
    model = omib.tl.fit(
        adata, reference_key="healthy", modalities=["gene", "genome", "X_extra"], config=config, max_epochs=2,
        enable_progress_bar=False, library_key="library_id", accelerator="cpu",
        calibration=CalibrationSettings(min_ordered=min_ordered),
    )  # fmt: skip
    adata.obsm["X_extra"][200:220] = np.nan
    tissue = Tissue(adata, model.layout)
    spots = model.prepare(tissue)
    explainer = Explainer(model, tissue, spots, n_steps=16, device="cpu")
    weights = np.zeros((300, 2))
    weights[205:215, 0], weights[250:290, 1] = 1 / 10, 1 / 40
    return model, tissue, spots, explainer, weights, explainer.explain(weights)


def test_contributions_sum_to_the_score(explained):
    model, tissue, spots, _, _, found = explained
    scores = score_tissue(model, tissue, spots, "cpu")
    np.testing.assert_allclose(found.score, scores.score, atol=1e-9)
    total = np.nansum(found.contributions, 1) + found.noise
    np.testing.assert_allclose(found.origin + total, found.score, atol=1e-9)
    np.testing.assert_array_equal(np.isnan(found.contributions), ~spots.present)


def test_the_mean_spot_of_the_healthy_side_has_no_contributions_in_the_sum(explained):
    *_, explainer, _, found = explained
    for judged in explainer.slices:
        inside = judged.per_odds * (judged.odds - judged.healthy @ judged.odds)
        assert inside.any() == (judged.order is not None)
        share = judged.healthy @ ((np.nansum(found.contributions[judged.rows], 1) - inside) / judged.per_unit)
        noise = judged.healthy @ (found.noise[judged.rows] / judged.per_unit)
        assert share + noise == pytest.approx(0, abs=1e-9)
        # All spots where none lies on the healthy side.
        inner = found.score[judged.rows] < 0
        np.testing.assert_array_equal(judged.healthy > 0, inner | (not inner.any()))
    assert any((judged.healthy == 0).any() for judged in explainer.slices)


def test_features_sum_to_their_modality(explained):
    model, _, _, _, weights, found = explained
    said = weights.T @ np.nan_to_num(found.contributions)
    for column, name in enumerate(model.modalities):
        terms = found.features[name]
        np.testing.assert_allclose(terms.values.sum(1) + terms.rest, said[:, column], atol=1e-4)
    genes = found.genes["genome"]
    np.testing.assert_allclose(genes.values.sum(1) + genes.rest, said[:, 1], atol=1e-4)


def test_where_modalities_are_judged_given_each_other_features_sum_to_them_but_for_noise():
    adata = omib.datasets.simulate_tissue(5, n_healthy=4, n_spots=150, n_genes=200, seed=1)
    model = omib.tl.fit(
        adata, reference_key="healthy", library_key="library_id", modalities=["gene", "image"], max_epochs=6,
        enable_progress_bar=False, accelerator="cpu",
    )  # fmt: skip
    assert sum(isinstance(part, Given) for part in model.distances["gene", "image"]) == 2
    tissue = Tissue(adata, model.layout)
    explainer = Explainer(model, tissue, model.prepare(tissue), n_steps=4, device="cpu")
    weights = (adata.obs["anomaly"].to_numpy() / adata.obs["anomaly"].sum())[:, None]
    found = explainer.explain(weights)
    np.testing.assert_allclose(found.origin + found.contributions.sum(1) + found.noise, found.score, atol=1e-9)
    said = weights[:, 0] @ found.contributions
    for column, name in enumerate(("gene", "image")):
        terms = found.features[name]
        assert terms.values.sum() + terms.rest[0] == pytest.approx(said[column], abs=1e-6)
        assert abs(terms.rest[0]) < 0.1 * np.abs(said).max()


def test_what_features_make_up_does_not_depend_on_other_slides(explained):
    model, tissue, _, _, weights, found = explained
    own = Tissue(tissue.adata[200:].copy(), model.layout)
    alone = Explainer(model, own, model.prepare(own), n_steps=16, device="cpu").explain(weights[200:])
    for name in ("gene", "genome"):
        np.testing.assert_allclose(alone.features[name].values, found.features[name].values, atol=1e-5)
    np.testing.assert_allclose(alone.genes["genome"].values, found.genes["genome"].values, atol=1e-5)


def test_a_group_has_the_mean_contributions_of_its_spots(explained):
    model, _, _, explainer, _, found = explained
    (judged,) = [s for s in explainer.slices if 260 in s.rows]
    each = explainer.of_spots(judged, np.arange(250, 290))
    np.testing.assert_allclose(each.features["gene"].values.mean(0), found.features["gene"].values[1], atol=1e-5)
    np.testing.assert_allclose(each.genes["genome"].values.mean(0), found.genes["genome"].values[1], atol=1e-5)


def test_the_order_is_divided_among_genes_as_a_classifier_of_their_profiles_is(explained):
    """Odds at other profiles, and of a change of expression in every gene, by the slide's own classifier."""
    model, _, spots, explainer, _, _ = explained
    ordered = [judged for judged in explainer.slices if judged.order is not None]
    assert len(ordered) == (0 if model.calibration.min_ordered is None else 4)
    for judged in ordered:
        data = spots.prepared["genome"]
        profiles = data.features(judged.rows)
        np.testing.assert_allclose(judged.order.odds_of(profiles), judged.odds, atol=1e-4)
        genes = ExplainedSlice(explainer, judged, np.eye(len(judged.rows))[:, :1], FeatureSums()).healthy_genes(
            "genome"
        )
        along = genes @ data.averages
        np.testing.assert_allclose(along - along.mean(), judged.healthy @ profiles, atol=1e-4)


def test_the_network_is_followed_exactly(explained):
    """Codes are the encoder's, distances the detector's, integrated gradients sum to what lies between both ends."""
    model, _, spots, explainer, _, _ = explained
    rows, combination = np.arange(230, 260), tuple(model.modalities)
    fused = FusedDistance(model, combination, model.distances[combination][None], {}, "cpu")
    sources, noise = fused.sources(spots, rows), torch.from_numpy(spots.noise(None)[rows]).double()
    for name, source in sources.items():
        encoder = model.network.encoders[name]
        torch.testing.assert_close(
            source.code(source.values, *source.beside), encoder(spots.prepared[name].batch(rows))
        )
    (judged,) = [s for s in explainer.slices if 260 in s.rows]
    distance = judged.found[np.isin(judged.rows, rows), judged.parts.index(None)]
    with torch.no_grad():
        beside = (noise, *(extra for s in sources.values() for extra in s.beside))
        now = fused(sources, [s.values for s in sources.values()], beside).numpy()
        before = fused(sources, [s.origin.expand_as(s.values) for s in sources.values()], beside).numpy()
    np.testing.assert_allclose(now, distance, rtol=1e-4)
    gradients = fused.integrated(sources, noise, 64)
    total = sum((gradients[name] * source.change).flatten(1).sum(1).numpy() for name, source in sources.items())
    np.testing.assert_allclose(total, now - before, atol=0.01 * np.abs(now - before).max())


def test_gradients_before_the_first_activation_are_those_of_the_genes(explained):
    model, _, spots, *_ = explained
    rows, encoder, data = np.array([240]), model.network.encoders["gene"], spots.prepared["gene"]
    batch = data.batch(rows)
    x = batch.x.clone().requires_grad_()
    direction = torch.ones(encoder.out_features)
    encoder(batch._replace(features=x)).matmul(direction).sum().backward()
    expected = (x.grad * x.detach()).sum(0).numpy()
    source = source_of(encoder, data, model.summaries["gene"], rows, "cpu")
    values = source.values.clone().requires_grad_()
    source.code(values, *source.beside).matmul(direction).sum().backward()
    np.testing.assert_allclose(source.terms(values.grad)[0], expected, atol=1e-4)


def test_removing_a_modality_changes_the_score_about_as_said(explained):
    *_, found = explained
    beyond = found.score - found.origin > 1
    said, removed = found.contributions[beyond], found.removed[beyond]
    known = np.isfinite(said)
    assert np.corrcoef(said[known], removed[known])[0, 1] > 0.9


def test_a_modality_whose_features_are_not_known_is_explained_as_a_whole():
    """Patches of a network that is trained: their codes are compared with those of the healthy side."""
    adata = omib.datasets.simulate_tissue(3, n_healthy=2, n_spots=60, n_genes=60)
    config = replace(omib.tl.OBJECTIVES["reconstruction"].config, warmup_epochs=1, beta=0.05)
    modalities = {"gene": Gene(), "image": Image("small", patch_size=8)}
    model = omib.tl.fit(
        adata, reference_key="healthy", modalities=modalities, config=config, max_epochs=2,
        enable_progress_bar=False, library_key="library_id", accelerator="cpu",
    )  # fmt: skip
    tissue = Tissue(adata, model.layout)
    found = Explainer(model, tissue, model.prepare(tissue), n_steps=16, device="cpu").explain(np.ones((180, 1)) / 180)
    np.testing.assert_allclose(
        found.origin + np.nansum(found.contributions, 1) + found.noise, adata.obs["omib_score"], atol=1e-6
    )
    assert found.features["image"].values.shape == (1, 6)


class Lineage(ObsmFeatures):
    """Own features whose anomalies are clonal, and that are made of no genes."""

    clonal_axes = 2


def test_an_own_clonal_modality_puts_spots_in_order_and_is_explained():
    adata = gaps()
    config = replace(omib.tl.OBJECTIVES["reconstruction"].config, warmup_epochs=1, beta=0.05)
    modalities = {"gene": Gene(), "lineage": Lineage("X_extra")}
    model = omib.tl.fit(
        adata, reference_key="healthy", modalities=modalities, config=config, max_epochs=2,
        enable_progress_bar=False, library_key="library_id", accelerator="cpu",
        calibration=CalibrationSettings(min_ordered=20),
    )  # fmt: skip
    tissue = Tissue(adata, model.layout)
    explainer = Explainer(model, tissue, model.prepare(tissue), n_steps=16, device="cpu")
    found = explainer.explain(np.ones((300, 1)) / 300)
    assert all(judged.order is not None for judged in explainer.slices)
    np.testing.assert_allclose(
        found.origin + np.nansum(found.contributions, 1) + found.noise, adata.obs["omib_score"], atol=1e-6
    )
    terms = found.features["lineage"]
    np.testing.assert_allclose(terms.values.sum() + terms.rest, found.contributions[:, 1].mean(), atol=1e-4)
