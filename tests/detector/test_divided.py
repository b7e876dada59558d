"""Evidence from inside a slide, credited to the modalities that show the same."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import omib_spatial as omib
from omib_spatial.detector.divided import DividedPart, credited_to
from omib_spatial.detector.explaining import Explainer
from omib_spatial.detector.patch_terms import PatchDistance
from omib_spatial.modalities import Contrast, Gene, Genome, Image
from omib_spatial.modalities.patches import slides
from omib_spatial.slides import Tissue

QUICK = {
    "config": replace(omib.tl.OBJECTIVES["summaries"].config, warmup_epochs=1, beta=0.05),
    "max_epochs": 2, "enable_progress_bar": False, "accelerator": "cpu",
}  # fmt: skip


@pytest.fixture(scope="module")
def fitted(planted, with_image):
    """A slide whose reference was found on it, and whose picture shows the clone."""
    with pytest.MonkeyPatch.context() as patch:
        # As many as in other tests: what a slide has answered is remembered.
        patch.setattr("omib_spatial.stats.contrast.REPLICAS", 8)
        adata = with_image(planted(), planted().obs["clone"].to_numpy())
        model = omib.tl.fit(adata, **QUICK)
        yield adata, model


@pytest.fixture(scope="module")
def explained(fitted):
    adata, model = fitted
    tissue = Tissue(adata, model.layout)
    explainer = Explainer(model, tissue, model.prepare(tissue), n_steps=1, device="cpu")
    weights = adata.obs["clone"].to_numpy(float)[:, None] / adata.obs["clone"].sum()
    return explainer, weights, explainer.explain(weights)


def test_contributions_sum_to_the_score_and_none_is_left_without_a_name(fitted, explained):
    adata, model = fitted
    _, _, found = explained
    total = found.origin + np.nansum(found.contributions, 1) + found.noise
    np.testing.assert_allclose(total, adata.obs["omib_score"], atol=1e-6)
    assert list(model.modalities) == ["gene", "image", "genome", "contrast"]
    assert not found.contributions[:, 3].any() and (np.abs(found.contributions[:, :3]).max(0) > 0.1).all()


def test_features_sum_to_their_modality_with_what_is_said_inside_the_slide(fitted, explained):
    _, weights, found = explained
    said = dict(zip(fitted[1].modalities, (weights.T @ found.contributions)[0], strict=True))
    for name, kind in (("gene", Gene), ("image", Image)):
        own, inside = found.features[name], found.inside[kind]
        total = own.values.sum() + own.rest.sum() + inside.values.sum() + inside.rest.sum()
        assert total == pytest.approx(said[name], abs=1e-4)
        assert abs(inside.rest[0]) < 0.01 * abs(inside.values.sum())
    own, inside = found.genes["genome"], found.inside[Genome]
    total = own.values.sum() + own.rest.sum() + inside.values.sum() + inside.rest.sum()
    assert total == pytest.approx(said["genome"], abs=1e-4)


def test_each_view_is_what_its_modality_would_take_away(explained):
    """Of the part by itself: without all views a spot is as the origin, without none as it is."""
    explainer, _, _ = explained
    (judged,) = explainer.slices
    divided = explainer.divided(judged)["contrast"]
    assert divided.credited == ["genome", "gene", "image"] and explainer.divided(judged)["contrast"] is divided
    found = judged.found[:, judged.parts.index("contrast")]
    np.testing.assert_allclose(divided.without("contrast"), found, rtol=1e-4, atol=1e-4)
    origin = divided.distance(divided.evidence - divided.values.sum(1))
    assert np.ptp(origin) < 1e-3
    np.testing.assert_allclose(divided.shares.sum(1), found - origin, atol=1e-3)
    for number, name in enumerate(divided.credited):
        expected = divided.distance(divided.evidence - divided.values[:, number])
        np.testing.assert_allclose(divided.without(name), expected)


def test_a_view_whose_modality_is_not_there_stays_with_the_part(fitted):
    adata, model = fitted
    genes = adata.copy()
    del genes.uns["spatial"]
    tissue = Tissue(genes, model.layout)
    spots = model.prepare(tissue)
    (judged,) = Explainer(model, tissue, spots, n_steps=1, device="cpu").slices
    divided = DividedPart.of(model, judged, "contrast", tissue, spots)
    assert judged.combination == ("gene", "genome", "contrast")
    # Without a picture there are two views, and both have a modality.
    assert divided.credited == ["genome", "gene"]
    assert DividedPart.of(model, judged, "gene", tissue, spots) is None
    alone = replace(judged, combination=("genome", "contrast"))
    assert replace(divided, judged=alone).credited == ["genome", "contrast"]


def test_a_patch_counts_inside_the_slide_as_its_statistics_do(fitted, explained):
    adata, model = fitted
    explainer, _, _ = explained
    (judged,), row = explainer.slices, int(np.flatnonzero(adata.obs["clone"])[0])
    (slide,) = slides(explainer.tissue)
    image, divided = model.modalities["image"], explainer.divided(judged)["contrast"]
    patch = torch.from_numpy(image.cut(slide, np.array([row])).astype(np.float32))
    found = PatchDistance(explainer, judged, row, "image", image.stain_of(slide))(patch)
    at = judged.parts.index("image")
    own = judged.per_unit[row] * judged.unit[at] * judged.found[row, at]
    column = judged.parts.index("contrast")
    expected = own + judged.per_unit[row] * judged.unit[column] * judged.found[row, column]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-3)
    # More nuclei in this patch alone move the evidence by the spot's own weight in the average around it.
    change = np.full((1, 7), 0.05)
    features = divided.divisions[2].terms.features[[row]] + divided.divisions[2].own[[row]] * change
    moved = divided.divisions[2].terms.at(features)[0] - divided.values[row, 2]
    expected = divided.distance(np.array([divided.evidence[row] + moved]))
    np.testing.assert_allclose(divided.shown(2, row, change), expected, rtol=1e-6)
    assert 0 < divided.divisions[2].own[row].max() and abs(moved) > 1e-4


def test_tables_name_genes_arms_and_statistics_of_what_was_found_inside(fitted):
    adata, model = fitted[0].copy(), fitted[1]
    omib.tl.call(adata, question="part")
    omib.tl.explain(adata, model, n_spot_genes=3)
    shares = omib.get.explanation(adata, "modalities", group="called")["share"]
    assert list(shares.index) == ["gene", "image", "genome", "noise"] and (shares[:3] > 0.05).all()
    assert list(adata.obsm["omib_contributions"]) == ["gene", "image", "genome", "noise"]
    arms = omib.get.explanation(adata, "arms", group="called")["contribution"]
    said = omib.get.explanation(adata, "modalities", group="called")["contribution"]
    assert arms.sum() == pytest.approx(said["genome"], rel=0.05)
    planted = ["1q", "5p", "8q", "13q", "16q", "17q"]
    assert set(arms.sort_values().index[-4:]) <= set(planted)
    genes = omib.get.explanation(adata, "genes", group="called")
    assert genes["contribution"].sum() == pytest.approx(said["gene"] + said["genome"], rel=0.05)
    assert genes["change"].notna().all()
    features = omib.get.explanation(adata, "features", group="called")
    assert len(features) == 7 and set(features["modality"]) == {"image"}
    assert features["contribution"].sum() == pytest.approx(said["image"], rel=0.05)
    called = (adata.obs["omib_call"] == "abnormal").to_numpy()
    assert (np.diff(adata.layers["omib_contributions"].indptr)[called] == 3).all()


def test_what_no_modality_shows_has_a_name_and_genes_all_the_same(fitted):
    adata = fitted[0].copy()
    model = omib.tl.fit(adata, modalities=["image", "contrast"], **QUICK)
    omib.tl.call(adata, question="part")
    omib.tl.explain(adata, model)
    said = omib.get.explanation(adata, "modalities", group="called")["contribution"]
    assert list(said.index) == ["image", "contrast", "noise"]
    features = omib.get.explanation(adata, "features", group="called")
    own = features.loc[features["modality"] == "contrast", "contribution"]
    assert list(own.index) == [f"{view} inside the slide" for view in ("chromosomes", "expression", "image")]
    assert own.sum() == pytest.approx(said["contrast"], abs=1e-4) and own["image inside the slide"] == 0
    genes = omib.get.explanation(adata, "genes", group="called")["contribution"]
    assert genes.sum() == pytest.approx(said["contrast"], rel=0.02)


def test_of_several_images_the_one_of_the_same_statistics_is_credited():
    images = {"wide": Image(patch_diameter=6), "usual": Image()}
    assert credited_to(Image, images) == "usual" and credited_to(Gene, images) is None
    assert credited_to(Image, {"wide": images["wide"]}) == "wide"


def test_a_map_of_patches_says_what_its_encoder_does_not_read(fitted, caplog):
    adata = fitted[0].copy()
    chosen = {"gene": Gene(), "image": Image("stain"), "contrast": Contrast()}
    model = omib.tl.fit(adata, modalities=chosen, **QUICK)
    omib.tl.patch_contributions(adata, model, list(adata.obs_names[:1]), n_parts=2, n_samples=2)
    assert "in no map of patches" in caplog.text
    caplog.clear()
    omib.tl.score(adata, fitted[1])
    omib.tl.patch_contributions(adata, fitted[1], list(adata.obs_names[:1]), n_parts=2, n_samples=2)
    assert "in no map of patches" not in caplog.text
