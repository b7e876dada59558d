import logging
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

from omib_spatial import datasets
from omib_spatial.detector.shifts import MIN_SPOTS, fit_shifts, measure_shifts, shift_table
from omib_spatial.modalities import Gene, Genome, Image, ObsmFeatures, Spots
from omib_spatial.slides import Layout, Tissue

DATA = Path(os.environ.get("OMIB_DATA", Path(__file__).parents[3] / "shared/data"))
KEY = "library_id"
SLIDES = [f"slide{i}" for i in range(1, 6)]


def of(adata: ad.AnnData, *names: str) -> ad.AnnData:
    some = adata[adata.obs[KEY].isin(names).to_numpy()].copy()
    some.uns["spatial"] = {name: entry for name, entry in some.uns["spatial"].items() if name in names}
    return some


def thinned(adata: ad.AnnData, factor: float) -> ad.AnnData:
    """As if sequenced less deeply: every molecule is kept with probability one by ``factor``."""
    other, counts = adata.copy(), sp.csr_matrix(adata.X, copy=True)
    counts.data = np.random.default_rng(0).binomial(counts.data.astype(int), 1 / factor).astype(np.float32)
    counts.eliminate_zeros()
    other.X = counts
    return other


def painted(adata: ad.AnnData, change) -> ad.AnnData:
    other = adata.copy()
    for entry in other.uns["spatial"].values():
        entry["images"] = {"hires": change(entry["images"]["hires"])}
    return other


def grey(image):
    return np.repeat(image.mean(2, keepdims=True).astype(np.uint8), 3, 2)


def inverted(image):
    return 255 - image


@pytest.fixture(scope="module")
def adata() -> ad.AnnData:
    """Five healthy slides, and two with anomalies."""
    adata = datasets.simulate_tissue(7, n_spots=120, n_genes=300, n_healthy=5, seed=3)
    adata.obsm["ready"] = np.random.default_rng(0).normal([5, -1, 0], [2, 1, 0.1], (adata.n_obs, 3))
    return adata


def learned(reference: ad.AnnData, modalities=None, healthy=None, donor_key=None):
    tissue = Tissue(reference, Layout(library_key=KEY), donor_key)
    mask = np.zeros(reference.n_obs, bool)
    mask[slice(None) if healthy is None else healthy] = True
    chosen = modalities or {
        "gene": Gene(),
        "image": Image(),
        "genome": Genome(window=31),
        "ready": ObsmFeatures("ready"),
    }
    for modality in chosen.values():
        modality.fit(tissue, mask)
    return chosen, fit_shifts(chosen, tissue, everywhere(chosen, tissue), mask)


def everywhere(modalities, tissue: Tissue) -> Spots:
    """Spots that have all modalities."""
    return Spots(dict.fromkeys(modalities, SimpleNamespace(present=np.ones(tissue.n_obs, bool))))


def measured(model, target: ad.AnnData):
    modalities, intervals = model
    tissue = Tissue(target, Layout(library_key=KEY))
    return measure_shifts(modalities, intervals, tissue, everywhere(modalities, tissue))


def beyond(model, target: ad.AnnData) -> dict[str, set[str]]:
    """Modalities in which each slide lies beyond."""
    shifts = measured(model, target)
    return {name: {s.modality for s in shifts if s.slice == name and s.beyond} for name in target.obs[KEY].unique()}


@pytest.fixture(scope="module")
def model(adata):
    return learned(of(adata, *SLIDES[:4]))


@pytest.fixture(scope="module")
def single(adata):
    """A model of one slide."""
    return learned(of(adata, SLIDES[0]))


def test_every_slide_has_one_row_per_modality_in_which_the_oddest_statistic_is_named(model, adata):
    found = measured(model, adata)
    assert [(s.slice, s.modality) for s in found] == [(f"slide{i}", m) for i in range(1, 8) for m in model[0]]
    for shift in found:
        assert shift.statistic in {s.name for s in model[0][shift.modality].statistics}
        assert shift.low < shift.usual < shift.high
        assert shift.beyond == (not shift.low <= shift.value <= shift.high)
        assert np.sign(shift.deviations) == np.sign(shift.value - shift.usual)


@pytest.mark.parametrize("of_one", [False, True])
def test_healthy_and_abnormal_slides_of_the_same_kind_are_not_beyond(of_one, model, single, adata):
    found = beyond(single if of_one else model, of(adata, *SLIDES, "slide6", "slide7"))
    assert not any(found.values()), found


@pytest.mark.parametrize("of_one", [False, True])
@pytest.mark.parametrize(
    ("spoil", "where"),
    [
        (lambda a: painted(a, grey), {"image"}),
        (lambda a: painted(a, inverted), {"image"}),
        (lambda a: thinned(a, 40), {"gene", "genome"}),
    ],
    ids=["grey", "inverted", "thinned"],
)
def test_a_spoiled_slide_is_beyond(spoil, where, of_one, model, single, adata):
    assert beyond(single if of_one else model, spoil(of(adata, SLIDES[4]))) == {SLIDES[4]: where}


def test_shuffled_genes_and_moved_features_are_beyond(model, adata):
    other = of(adata, SLIDES[4])
    other.X = sp.csr_matrix(other.X)[:, np.random.default_rng(0).permutation(other.n_vars)]
    other.obsm["ready"] = other.obsm["ready"] + 5 * other.obsm["ready"].std(0)
    assert beyond(model, other) == {SLIDES[4]: {"gene", "genome", "ready"}}
    gene = next(s for s in measured(model, other) if s.modality == "gene")
    assert "correlation" in gene.statistic and gene.value < 0.6


def test_fewer_spots_or_other_slides_beside_it_do_not_change_what_a_slide_is(model, adata):
    alone = of(adata, SLIDES[4])
    few = alone[np.random.default_rng(0).permutation(alone.n_obs)[:MIN_SPOTS]].copy()
    assert beyond(model, few) == {SLIDES[4]: set()} and len(measured(model, few)) == len(model[0])
    company = [s for s in measured(model, adata) if s.slice == SLIDES[4]]
    assert measured(model, alone) == company


def test_a_slide_of_a_few_spots_is_not_judged_as_a_whole(model, adata):
    assert measured(model, of(adata, SLIDES[4])[: MIN_SPOTS - 1].copy()) == []


def test_a_slide_that_lacks_a_modality_is_not_judged_by_it(model, adata):
    target = of(adata, *SLIDES[3:])
    del target.uns["spatial"][SLIDES[3]]["images"]
    target.obsm["ready"][(target.obs[KEY] == SLIDES[4]).to_numpy()] = np.nan
    found = {(s.slice, s.modality) for s in measured(model, target)}
    lacking = {(SLIDES[3], "image"), (SLIDES[4], "ready")}
    assert found == {(name, m) for name in SLIDES[3:] for m in model[0]} - lacking


def test_one_slide_says_where_healthy_slides_are_and_not_how_much_they_differ(single, adata):
    for name, interval in single[1].items():
        statistics = single[0][name].statistics
        prior = np.sqrt(2) * np.array([statistic.spread for statistic in statistics])
        # Its halves differ a little, too.
        assert (prior <= interval.spread).all() and (interval.spread < 1.5 * prior).all()
    assert all(abs(shift.deviations) < 1 for shift in measured(single, of(adata, SLIDES[0])))


def test_spots_that_are_not_reference_show_nothing_of_the_image(adata):
    one = of(adata, SLIDES[0])
    left = one.obsm["spatial"][:, 0] < np.quantile(one.obsm["spatial"][:, 0], 0.6)
    half = painted(one, lambda image: np.where(np.arange(image.shape[1])[:, None] > image.shape[1] * 0.7, 0, image))
    whole, some = (learned(a, {"image": Image()}, left)[1]["image"] for a in (one, half))
    np.testing.assert_allclose(some.location, whole.location)


def test_nothing_but_the_reference_is_learned_from(adata):
    reference = of(adata, *SLIDES[:3])
    rows = np.flatnonzero(np.arange(reference.n_obs) % 3 > 0)
    spoiled = reference.copy()
    dark = sp.csr_matrix(spoiled.X).toarray()
    dark[np.setdiff1d(np.arange(reference.n_obs), rows)] *= 50
    spoiled.X = sp.csr_matrix(dark)
    one, other = (learned(a, {"gene": Gene()}, rows)[1]["gene"] for a in (reference, spoiled))
    for name, value in vars(one).items():
        np.testing.assert_array_equal(value, getattr(other, name))


def test_without_a_slide_of_enough_reference_spots_nothing_is_said_but_that(adata, caplog):
    rows = np.concatenate([np.flatnonzero(adata.obs[KEY] == name)[: MIN_SPOTS - 1] for name in SLIDES[:3]])
    with caplog.at_level(logging.INFO, "omib_spatial"):
        found = learned(adata, {"gene": Gene()}, rows)
    assert found[1] == {} and "gene" in caplog.text and f"{MIN_SPOTS} spots" in caplog.text
    assert measured(found, adata) == []


def test_the_table_has_a_row_per_shift_and_types_that_files_keep(model, adata):
    shifts = measured(model, adata)
    table = shift_table(shifts)
    assert {len(column) for column in table.values()} == {len(shifts)}
    assert {column.dtype.kind for column in table.values()} == {"U", "f", "b"}
    assert table["beyond"].tolist() == [s.beyond for s in shifts]
    assert {len(column) for column in shift_table([]).values()} == {0}


# --------------------------------------------------------------------------------------------------------- real data


@pytest.mark.skipif(not (DATA / "her2st").is_dir(), reason=f"no her2st sections in {DATA}; set OMIB_DATA")
def test_breast_of_another_patient_is_like_the_reference_and_prostate_is_not():
    adata = datasets.her2st(DATA / "her2st")
    adata.obs[KEY] = adata.obs["section"]
    reference, target = adata[adata.obs["patient"] != "B"].copy(), of(adata, "B1", "B4")
    reference.uns["spatial"] = {}
    model = learned(reference, {"gene": Gene()}, (reference.obs["anomaly"] == 0).to_numpy(), "patient")
    assert beyond(model, target) == {"B1": set(), "B4": set()}
    assert beyond(model, thinned(target, 40)) == {"B1": {"gene"}, "B4": {"gene"}}
    if not (DATA / "prostate").is_dir():
        pytest.skip(f"no prostate in {DATA}")
    prostate = ad.read_h5ad(DATA / "prostate" / "prostate_normal_ffpe.h5ad")
    prostate.obs[KEY] = "prostate"
    assert beyond(model, prostate) == {"prostate": {"gene"}}
    # The genes that both have are the same, so it is not only the table that differs.
    backwards = learned(prostate, {"gene": Gene()})
    assert all(beyond(backwards, adata).values())


def test_intervals_are_plain_arrays(model):
    for interval in model[1].values():
        assert replace(interval) is not interval
        assert all(isinstance(value, np.ndarray) for value in vars(interval).values())


def test_a_modality_is_looked_at_in_the_spots_that_are_judged_by_it(model, adata):
    """A picture that shows no tissue is not judged by, and says nothing of the slide."""
    modalities, intervals = model
    target = of(adata, SLIDES[0])
    tissue = Tissue(target, Layout(library_key=KEY))
    spots = Spots({name: modality.prepare(tissue) for name, modality in modalities.items()})
    there = np.array([name != "image" for name in modalities])
    found = measure_shifts(modalities, intervals, tissue, spots.restricted(np.tile(there, (target.n_obs, 1))))
    assert [shift.modality for shift in found] == [name for name in modalities if name != "image"]
    some = np.ones((target.n_obs, len(modalities)), bool)
    some[:80, list(modalities).index("image")] = False
    half = {s.modality: s for s in measure_shifts(modalities, intervals, tissue, spots.restricted(some))}
    whole = {s.modality: s for s in measure_shifts(modalities, intervals, tissue, spots)}
    assert half["gene"] == whole["gene"] and half["image"].value != whole["image"].value
