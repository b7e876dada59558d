from dataclasses import replace

import numpy as np
import pytest

import omib_spatial as omib
from omib_spatial.slides.slides import coordinates, library_codes
from omib_spatial.detector.calibration import compare

QUICK = {"max_epochs": 2, "warmup_epochs": 1, "progress_bar": False, "library_key": "library_id", "beta": 0.05}


def simulate(n_slides: int = 4):
    return omib.datasets.simulate_tissue(n_slides, n_healthy=n_slides, n_spots=80, n_genes=80, image=False)


@pytest.fixture(scope="module")
def fitted():
    adata = simulate()
    adata.obs["animal"] = adata.obs["library_id"].astype(str).isin(["slide1", "slide2"]).map({True: "a", False: "b"})
    return adata, omib.tl.fit(adata, donor_key="animal", **QUICK)


def test_strangers_are_what_distances_of_the_other_donors_say(fitted):
    adata, model = fitted
    everyone, donors = np.ones(adata.n_obs, bool), (adata.obs["animal"] == "b").to_numpy().astype(int)
    place, graph = (coordinates(adata, "spatial"), library_codes(adata, "library_id")[0]), model.layout.graph(adata)
    spots = model.prepare(adata, model.layout)
    found = compare(model, spots, place, everyone, ~everyone, graph, donors)
    assert set(found) == {"gene", "genome", "gene+genome"}
    for donor in (0, 1):
        own = donors == donor
        alone = compare(replace(model, distances={}), spots, place, ~own, own, graph)
        for pattern, seen in found.items():
            assert len(alone[pattern].strangers.codes) == 0
            np.testing.assert_array_equal(seen.strangers.codes, place[1])
            np.testing.assert_allclose(seen.strangers.distances[own], alone[pattern].others, rtol=1e-5)


def test_slides_of_a_donor_are_left_out_together_and_each_counts(fitted):
    adata, model = fitted
    for surprise in model.surprises.values():
        assert surprise.slides.shape == (4, 2) and (surprise.slides[:, 1] > 0).all()
    by_slide = omib.tl.fit(simulate(), **QUICK)
    for pattern, surprise in by_slide.surprises.items():
        assert (surprise.slides[:, 0] != model.surprises[pattern].slides[:, 0]).all()
        np.testing.assert_allclose(surprise.location, model.surprises[pattern].location)


def test_left_out_slides_are_farther_than_spots_that_were_learned_from(fitted):
    _, model = fitted
    assert all(surprise.slides[:, 0].mean() > 0.05 for surprise in model.surprises.values())


def test_one_slide_is_judged_by_blocks_of_it():
    adata = simulate(1)
    model = omib.tl.fit(adata, **QUICK)
    assert all(surprise.slides.shape == (1, 2) for surprise in model.surprises.values())
    assert adata.obs["omib_slice_pvalue"].between(0, 1).all() and adata.obs["omib_anomaly"].mean() < 0.2
