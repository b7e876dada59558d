from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.neighbors import radius_neighbors_graph

import omib_spatial as omib
from omib_spatial.core import checkpoint
from omib_spatial.detector.crossing import crossed_parts, donor_groups, find_crossings, part_noise, part_values, rings
from omib_spatial.detector.distances import average_parts, independent_spots
from omib_spatial.detector.evidence import Evidence
from omib_spatial.detector.explaining import Explainer
from omib_spatial.detector.objective import FUSED, OBJECTIVES, Given, modality_of
from omib_spatial.detector.patch_terms import PatchDistance
from omib_spatial.modalities import Gene, Genome, Image
from omib_spatial.modalities.patches import slides
from omib_spatial.slides import Tissue
from omib_spatial.slides.split import SpotLocations
from omib_spatial.stats.crossed import crossed_distance
from omib_spatial.stats.distance import Distance
from omib_spatial.stats.settings import CalibrationSettings
from omib_spatial.stats.smooth import average_around, independent_share

SETTINGS = CalibrationSettings()
PAIR = Given("image", "gene")
MODALITIES = {"gene": Gene(), "image": Image()}
ROWS = np.arange(300)
GRID = radius_neighbors_graph(np.stack(np.mgrid[:7, :7], -1).reshape(-1, 2), 1.1)


def example(strength: float, donors: int = 3):
    """300 spots of which expression tells something of the image, and what is learned from them by modality."""
    rng = np.random.default_rng(0)
    gene = rng.normal(size=(300, 4))
    image = rng.normal(size=(300, 3)) + strength * gene[:, :3]
    evidence = Evidence(np.zeros((300, 2)), {FUSED: rng.normal(size=(300, 2)), "gene": gene, "image": image})
    noise = {None: np.ones(300), "gene": rng.gamma(2, size=300), "image": np.zeros(300)}
    xy = rng.uniform(size=(300, 2))
    donor = ROWS % donors
    tissue = SimpleNamespace(donors=donor, locations=SpotLocations(xy, donor))
    distances = {part: Distance.fit(values, noise[part]) for part, values in evidence.parts.items()}
    return evidence, SimpleNamespace(noise=noise.get), tissue, distances


@pytest.mark.parametrize(("strength", "donors", "expected"), [(1.0, 3, [PAIR]), (0.0, 3, []), (1.0, 1, [])])
def test_the_image_is_judged_given_genes_where_donors_left_out_bear_it_out(strength, donors, expected):
    evidence, _, tissue, _ = example(strength, donors)
    assert find_crossings(evidence, MODALITIES, tissue, ROWS, SETTINGS) == expected
    assert find_crossings(evidence, {"image": Image()}, tissue, ROWS, SETTINGS) == []
    assert find_crossings(evidence, {"gene": Gene()}, tissue, ROWS, SETTINGS) == []
    assert find_crossings(evidence, MODALITIES, tissue, ROWS, replace(SETTINGS, min_transfer=1.0)) == []


def test_donors_of_few_spots_have_no_say():
    evidence, _, tissue, _ = example(1.0, 2)
    few = np.r_[ROWS[::2], ROWS[1:18:2]]
    assert find_crossings(evidence, MODALITIES, tissue, np.sort(few), SETTINGS) == []


@pytest.mark.parametrize("donors", [1, 3])
def test_parts_given_others_are_in_place_of_the_code_and_of_the_image(donors):
    evidence, spots, tissue, distances = example(1.0, donors)
    found = crossed_parts(distances, [PAIR], evidence, spots, tissue, ROWS, SETTINGS)
    assert list(found) == ["gene", PAIR, Given("gene", "image")]
    assert found["gene"] is distances["gene"]
    assert found[PAIR].axes.shape == (7, 3) and found["gene", "image"].axes.shape == (7, 4)
    assert crossed_parts(distances, [], evidence, spots, tissue, ROWS, SETTINGS) == distances


def test_what_expression_predicts_of_an_image_is_as_noisy_as_expression():
    evidence, spots, tissue, distances = example(1.0)
    noise = spots.noise("gene")
    np.testing.assert_array_equal(part_noise(spots, PAIR), noise)
    np.testing.assert_array_equal(part_noise(spots, Given("gene", "image")), noise)
    assert part_noise(spots, "image").max() == 0 and part_noise(spots, FUSED).min() == 1
    expected = crossed_distance(evidence.parts["image"], evidence.parts["gene"], noise, tissue.donors)
    found = crossed_parts(distances, [PAIR], evidence, spots, tissue, ROWS, SETTINGS)
    np.testing.assert_allclose(found[PAIR].variance, expected.variance)


def test_a_part_given_another_one_is_of_both_and_the_image_then_not_averaged_and_the_rest_less():
    evidence, *_ = example(1.0)
    np.testing.assert_array_equal(
        part_values(evidence, PAIR, ROWS[:5]), np.hstack([evidence.parts["image"][:5], evidence.parts["gene"][:5]])
    )
    parts = [FUSED, "gene", "image", PAIR, Given("gene", "image")]
    assert rings(parts, MODALITIES, SETTINGS) == [1, 1, 1, 0, 1]
    assert rings(parts, MODALITIES, replace(SETTINGS, crossed_hops=3)) == [3, 3, 3, 0, 3]
    assert rings(parts[:3], MODALITIES, SETTINGS) == [2, 2, 2]
    assert rings([*parts, "genome"], MODALITIES | {"genome": Genome()}, SETTINGS) == [1, 1, 1, 0, 1, 2]
    assert [modality_of(part) for part in parts] == [None, "gene", "image", "image", "gene"]


def test_spots_are_worth_what_the_rings_of_their_parts_say():
    tissue = SimpleNamespace(graph=GRID)
    crossed = {"gene": None, PAIR: None, Given("gene", "image"): None}
    for parts, hops in (({"gene": None, "image": None}, 2), (crossed, 1)):
        found = independent_spots(SETTINGS, tissue, np.arange(49), parts, MODALITIES)
        np.testing.assert_array_equal(found, independent_share(GRID, np.arange(49), hops))


def test_each_part_is_averaged_over_its_own_rings():
    found = np.random.default_rng(0).random((49, 3))
    around = average_parts(found, SimpleNamespace(graph=GRID), np.arange(49), [2, 0, 1])
    for column, hops in ((0, 2), (2, 1)):
        np.testing.assert_allclose(around[:, column], average_around(found[:, column], GRID, np.arange(49), hops))
    np.testing.assert_array_equal(around[:, 1], found[:, 1])


def test_donors_are_left_out_in_so_many_groups():
    tissue = SimpleNamespace(donors=np.arange(300) // 10)
    groups = donor_groups(tissue, ROWS, replace(SETTINGS, donor_folds=4))
    assert set(groups) == set(range(4)) and all(len(set(groups[tissue.donors == d])) == 1 for d in range(30))


@pytest.fixture(scope="module")
def fitted():
    adata = omib.datasets.simulate_tissue(4, n_healthy=3, n_spots=150, n_genes=150)
    config = replace(OBJECTIVES["reconstruction"].config, warmup_epochs=1, beta=0.05)
    model = omib.tl.fit(
        adata, reference_key="healthy", library_key="library_id", modalities=["gene", "image"], config=config,
        max_epochs=2, enable_progress_bar=False, accelerator="cpu",
    )  # fmt: skip
    return adata, model


def test_a_model_keeps_and_explains_them(fitted, tmp_path):
    adata, model = fitted
    assert list(model.distances["gene", "image"]) == ["gene", PAIR, Given("gene", "image")]
    assert list(model.distances["image",]) == [FUSED, "image"]
    # All spots are judged by both; by the image alone it would be two rings.
    assert adata.uns["omib"]["params"]["pooling_hops"] == 1
    model.save(tmp_path)
    loaded, again = omib.load(tmp_path), adata.copy()
    assert list(loaded.distances["gene", "image"]) == list(model.distances["gene", "image"])
    omib.tl.score(again, loaded)
    np.testing.assert_array_equal(again.obs["omib_score"], adata.obs["omib_score"])
    tissue = Tissue(adata, model.layout)
    weights = np.ones((600, 1)) / 600
    found = Explainer(model, tissue, model.prepare(tissue), n_steps=4, device="cpu").explain(weights)
    total = found.origin + np.nansum(found.contributions, 1) + found.noise
    np.testing.assert_allclose(total, adata.obs["omib_score"], atol=1e-6)
    for column, name in enumerate(model.modalities):
        terms, said = found.features[name], weights.T @ found.contributions[:, column]
        np.testing.assert_allclose(terms.values.sum(1) + terms.rest, said, atol=1e-4)


def test_what_explanations_show_of_genes_is_averaged_as_their_distances_are(fitted):
    adata, model = fitted
    tissue = Tissue(adata, model.layout)
    spots = model.prepare(tissue)
    explainer = Explainer(model, tissue, spots, n_steps=1, device="cpu")
    shown = explainer.explain(np.ones((600, 1)) / 600).deviation[:, : model.summaries["gene"].width]
    distance, noise = model.distances["gene", "image"]["gene"], spots.noise("gene")
    for judged in explainer.slices:
        white = distance.whitened(part_values(explainer.evidence, "gene", judged.rows), noise[judged.rows])
        around = average_around(white, tissue.graph, judged.rows, 1)
        np.testing.assert_allclose(shown[judged.rows], around - judged.healthy @ around, atol=1e-4)


def test_a_patch_has_the_distances_that_its_spot_was_judged_by(fitted):
    adata, model = fitted
    tissue, row = Tissue(adata, model.layout), 500
    explainer = Explainer(model, tissue, model.prepare(tissue), n_steps=1, device="cpu")
    (judged,) = [one for one in explainer.slices if row in one.rows]
    (slide,) = [one for one in slides(tissue) if row in one.rows]
    image, at = model.modalities["image"], np.flatnonzero(judged.rows == row)
    patch = torch.from_numpy(image.cut(slide, np.array([row])).astype(np.float32))
    found = PatchDistance(explainer, judged, row, "image", image.stain_of(slide))(patch)
    expected = judged.per_unit[at] * (judged.found[at][:, 1:] @ judged.unit[1:])
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4)


@pytest.mark.parametrize("change", [["image", "other"], ["gene", "genome"]])
def test_a_stored_part_of_strange_modalities_is_damage(fitted, tmp_path, change):
    fitted[1].save(tmp_path)
    tensors, config = checkpoint.read(tmp_path)
    config["distances"][2][1][1] = change
    checkpoint.write(tmp_path, tensors, config)
    with pytest.raises(ValueError, match="of no modality there"):
        omib.load(tmp_path)
