from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp

from omib_spatial.detector.distances import (
    all_combinations,
    learn_distances,
    measure_distances,
    smooth_logs,
    subsample_rows,
)
from omib_spatial.detector.evidence import Evidence
from omib_spatial.detector.objective import FUSED, OBJECTIVES
from omib_spatial.stats.settings import CalibrationSettings
from omib_spatial.stats.smooth import average_around, project_on_axes

HOPS = 2
RECONSTRUCTION = OBJECTIVES["reconstruction"]


def chain(n: int) -> sp.csr_matrix:
    """A row of spots, each the neighbour of the next."""
    return sp.csr_matrix(sp.diags_array([np.ones(n - 1), np.ones(n - 1)], offsets=[-1, 1]), dtype=np.float32)


TISSUE = SimpleNamespace(
    graph=sp.csr_matrix(sp.block_diag([chain(30), chain(30)]), dtype=np.float32), codes=np.repeat([0, 1], 30)
)
"""Two slices of spots in a row."""


def test_combinations_are_of_one_modality_first_and_in_the_networks_order():
    assert list(all_combinations(["gene", "image", "genome"])) == [
        ("gene",), ("image",), ("genome",),
        ("gene", "image"), ("gene", "genome"), ("image", "genome"),
        ("gene", "image", "genome"),
    ]  # fmt: skip
    assert list(all_combinations(["a", "b", "a+b"]))[2:4] == [("a+b",), ("a", "b")]


@pytest.mark.parametrize("n_axes", [0, 3])
def test_each_slice_has_axes_of_its_own_and_other_rows_play_no_part(n_axes):
    rng = np.random.default_rng(1)
    features, distance, rows = rng.normal(size=(60, 10)), rng.uniform(1, 5, 50), np.arange(5, 55)
    prepared = SimpleNamespace(features=lambda some: features[some])
    found = smooth_logs(distance, prepared, TISSUE, rows, n_axes=n_axes, hops=HOPS)
    logs = average_around(np.log(distance), TISSUE.graph, rows, HOPS)
    for own in (TISSUE.codes[rows] == 0, TISSUE.codes[rows] == 1):
        expected = project_on_axes(logs[own], features[rows[own]], n_axes) if n_axes else logs[own]
        np.testing.assert_allclose(found[own], expected, rtol=1e-5)
        alone = smooth_logs(distance[own], prepared, TISSUE, rows[own], n_axes=n_axes, hops=HOPS)
        np.testing.assert_allclose(found[own], alone, rtol=1e-5)


def example():
    """Evidence on two modalities and the code of 60 spots; the first five lack the genome."""
    rng = np.random.default_rng(2)
    code = rng.normal(size=(60, 4)).astype(np.float32)
    parts = {FUSED: code, "gene": rng.normal(size=(60, 3)), "genome": rng.normal(size=(60, 6))}
    parts["genome"][:5] = np.nan
    noise = {name: rng.gamma(2, size=60) for name in ("gene", "genome")}
    prepared = {name: SimpleNamespace(features=lambda some, own=name: parts[own][some]) for name in noise}
    mean = np.mean(list(noise.values()), 0)
    spots = SimpleNamespace(prepared=prepared, noise=lambda part: mean if part is None else noise[part])
    return Evidence(code, parts), spots


def test_distances_are_of_the_parts_that_all_have_and_ready_ones_are_kept():
    evidence, spots = example()
    rows = np.arange(10, 60)
    found = learn_distances(RECONSTRUCTION, evidence, spots, rows, {})
    assert list(found) == [FUSED, "gene", "genome"]
    for part, distance in found.items():
        expected = RECONSTRUCTION.distance(part, evidence.parts[part][rows], spots.noise(part)[rows])
        np.testing.assert_array_equal(distance.variance, expected.variance)
    kept = learn_distances(RECONSTRUCTION, evidence, spots, rows[:20], {"gene": found["gene"]})
    assert kept["gene"] is found["gene"] and kept["genome"] is not found["genome"]
    assert list(learn_distances(RECONSTRUCTION, evidence, spots, np.arange(50), {})) == [FUSED, "gene"]


@pytest.mark.parametrize("hops", [0, 1, 2])
def test_distances_are_averaged_and_clonal_ones_follow_the_axes(hops):
    evidence, spots = example()
    rows = np.arange(8, 60)
    distances = learn_distances(RECONSTRUCTION, evidence, spots, rows, {})
    modalities = {"gene": SimpleNamespace(clonal_axes=0), "genome": SimpleNamespace(clonal_axes=2)}
    found = measure_distances(
        distances, evidence, spots, TISSUE, rows, modalities=modalities, settings=CalibrationSettings(pooling_hops=hops)
    )
    assert found.shape == (52, 3)
    for column, (part, distance) in enumerate(distances.items()):
        values = distance(evidence.parts[part][rows], spots.noise(part)[rows])
        expected = average_around(values, TISSUE.graph, rows, hops)
        if part == "genome":
            prepared = spots.prepared["genome"]
            expected = np.exp(smooth_logs(expected, prepared, TISSUE, rows, n_axes=2, hops=hops))
        np.testing.assert_allclose(found[:, column], expected, rtol=1e-6)


def test_a_subsample_is_in_order_and_always_the_same():
    rows = np.random.default_rng(3).permutation(1000)[:400]
    few = subsample_rows(rows, 50)
    assert len(set(few)) == 50 and set(few) <= set(rows) and (np.diff(few) > 0).all()
    np.testing.assert_array_equal(few, subsample_rows(rows, 50))
    np.testing.assert_array_equal(subsample_rows(rows, 400), np.sort(rows))
