"""What holds of every modality. A kind with settings that it must be given has them in `MADE`; others need nothing."""

import copy
import json
from functools import partial
from typing import Any, NamedTuple

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
import torch

from omib_spatial.datasets import simulate_tissue
from omib_spatial.modalities import KINDS, Gene, Genome, Image, Modality, ObsmFeatures, Prepared
from omib_spatial.modalities.contrast import Contrast
from omib_spatial.slides import Layout, Tissue
from omib_spatial.stats.contrast import SlideContrast

LAYOUT = Layout(library_key="library_id")
SPOTS, SLIDES = 80, 4
MADE = {
    "Gene": [partial(Gene, n_top_genes=60), partial(Gene, n_top_genes=5000, min_spots=1)],
    "Genome": [partial(Genome, window=15), partial(Genome, window=31, hops=0)],
    "Image": [Image, partial(Image, "small", patch_size=16), partial(Image, "small", stain=None, patch_size=12)],
    "ObsmFeatures": [partial(ObsmFeatures, "ready")],
    "Contrast": [Contrast, partial(Contrast, None, mostly_healthy=True)],
}
"""Ways to make a modality, by the name of its kind; one that is not here is made without arguments."""
WAYS = {
    f"{name}{number or ''}": make for name, kind in KINDS.items() for number, make in enumerate(MADE.get(name, [kind]))
}
REACH = 4
"""Steps on the spatial graph beyond which no spot's code depends on another."""


def make_adata(seed: int = 0) -> ad.AnnData:
    """Four slides with ready features; some spots have no counts, some no features, and the last has no image."""
    adata = simulate_tissue(SLIDES, n_spots=SPOTS, n_genes=400, n_healthy=SLIDES, seed=seed)
    rng = np.random.default_rng(seed)
    adata.X = sp.csr_matrix(sp.diags_array((rng.random(adata.n_obs) > 0.05).astype(np.float32)) @ adata.X)
    adata.obsm["ready"] = rng.normal([1, -50, 0.01], [3, 20, 0.001], (adata.n_obs, 3))
    adata.obsm["ready"][rng.random(adata.n_obs) < 0.2, rng.integers(3)] = np.nan
    adata.uns["spatial"]["slide4"]["images"] = {}
    return adata


def on(adata: ad.AnnData, *slides: int) -> np.ndarray:
    return adata.obs["library_id"].isin([f"slide{number}" for number in slides]).to_numpy()


def changed(adata: ad.AnnData, spots: np.ndarray) -> ad.AnnData:
    """The same, but ``spots`` have other counts and features; so has the image of a slide all of whose spots do."""
    other = adata.copy()
    counts = adata.X.toarray()
    counts[spots] = counts[spots][:, ::-1] * 3 + 1
    other.X = sp.csr_matrix(counts)
    other.obsm["ready"][spots] = other.obsm["ready"][spots] * 5 + 2
    for name, entry in other.uns["spatial"].items():
        if spots[(adata.obs["library_id"] == name).to_numpy()].all() and entry["images"]:
            entry["images"]["hires"] = entry["images"]["hires"][::-1] // 2 + 60
    return other


def same(one: Any, other: Any) -> bool:
    """Whether two batches are equal, whatever they are made of."""
    if isinstance(one, torch.Tensor):
        return torch.equal(torch.nan_to_num(one, nan=-1e9), torch.nan_to_num(other, nan=-1e9))
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return type(one) is type(other) and one == other


def same_state(one: Modality, other: Modality) -> bool:
    return same(one.state(), other.state())


def check_same_rows(one: Prepared, other: Prepared, rows: np.ndarray | None = None) -> None:
    """Of all spots, or of some, which must all be present then."""
    if rows is None:
        np.testing.assert_array_equal(one.present, other.present)
        rows = np.flatnonzero(one.present)
    assert same(one.batch(rows), other.batch(rows))
    np.testing.assert_array_equal(one.features(rows), other.features(rows))
    np.testing.assert_array_equal(one.noise[rows], other.noise[rows])


def codes(modality: Modality, data: Prepared, rows: np.ndarray) -> torch.Tensor:
    torch.manual_seed(0)
    with torch.no_grad():
        return modality.encoder().eval()(data.batch(rows))


class Fitted(NamedTuple):
    modality: Modality
    data: Prepared
    make: Any


def slides_tell(tissue: Tissue, signatures: Any, **options: bool) -> dict[str, SlideContrast]:
    """In place of `omib_spatial.modalities.contrast.slide_contrasts`, for slides of 80 spots do not tell.

    A spot's evidence is here of its own counts. In truth it is of its whole slide, which is the point of the modality
    (tests/modalities/test_contrast.py); all else of the contract holds of it as of any other.
    """
    found, share = {}, np.log1p(tissue.counts[np.arange(tissue.n_obs)][:, :40].sum(1)).A1
    for code, name in enumerate(tissue.libraries):
        own = tissue.codes == code
        tells = name != "slide4" and bool(tissue.depth[own].any())
        score = share[own] if tells else np.full(own.sum(), np.nan)
        found[name] = SlideContrast(tells & (score < np.median(score)), score, 1.0 * tells, "")
    return found


@pytest.fixture(scope="module", autouse=True)
def telling():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("omib_spatial.modalities.contrast.slide_contrasts", slides_tell)
        yield


@pytest.fixture(scope="module")
def adata() -> ad.AnnData:
    return make_adata()


@pytest.fixture(scope="module")
def other_adata() -> ad.AnnData:
    """Other tissue, whose spots are not as many."""
    other = make_adata(seed=7)
    return other[np.arange(other.n_obs) % 9 > 0].copy()


@pytest.fixture(scope="module")
def reference(adata) -> np.ndarray:
    return on(adata, 1, 2) & (np.arange(adata.n_obs) % 5 > 0)


@pytest.fixture(scope="module", params=WAYS)
def fitted(request, adata, reference) -> Fitted:
    modality, tissue = WAYS[request.param](), Tissue(adata, LAYOUT)
    modality.fit(tissue, reference)
    return Fitted(modality, modality.prepare(tissue), WAYS[request.param])


def test_every_modality_of_the_package_is_among_the_kinds():
    found, waiting = set(), [Modality]
    while waiting:
        waiting += (below := waiting.pop().__subclasses__())
        found |= {kind for kind in below if kind.__module__.startswith("omib_spatial.")}
    assert found == set(KINDS.values())


def test_presence_is_a_mask_of_spots_on_slices_that_have_the_modality(adata, fitted):
    tissue = Tissue(adata, LAYOUT)
    there, present = fitted.modality.slices(tissue), fitted.data.present
    assert there.shape == (SLIDES,) and there.dtype == bool
    assert present.shape == (adata.n_obs,) and present.dtype == bool
    assert 0 < present.sum() < adata.n_obs
    assert not present[~there[tissue.codes]].any()
    assert all(present[tissue.codes == code].any() for code in np.flatnonzero(there))


def test_noise_is_a_number_for_every_spot(adata, fitted):
    for data in (fitted.data, fitted.data.masked(np.arange(adata.n_obs) % 2 == 0)):
        assert data.noise.shape == (adata.n_obs,)
        assert np.isfinite(data.noise).all() and (data.noise >= 0).all()


def test_batches_and_features_are_of_the_rows_in_their_order_and_the_encoder_reads_them(fitted):
    rows = np.flatnonzero(fitted.data.present)
    features, width = fitted.data.features(rows), fitted.modality.encoder().out_features
    assert features.dtype == np.float32 and len(features) == len(rows) and np.isfinite(features).all()
    whole = codes(fitted.modality, fitted.data, rows)
    assert whole.shape == (len(rows), width) and whole.isfinite().all()
    some = np.random.default_rng(0).permutation(len(rows))[:30]
    np.testing.assert_allclose(fitted.data.features(rows[some]), features[some], atol=1e-5)
    torch.testing.assert_close(codes(fitted.modality, fitted.data, rows[some]), whole[some], atol=1e-4, rtol=1e-4)


def test_a_batch_with_its_summary_is_the_batch_and_the_projection(fitted):
    rng = np.random.default_rng(0)
    rows = rng.permutation(np.flatnonzero(fitted.data.present))[:50]
    features = fitted.data.features(rows)
    origin = features.mean(0)
    axes = rng.normal(size=(features.shape[1], 4)).astype(np.float32)
    batch, projected = fitted.data.batch_with_summary(rows, origin, axes)
    assert same(batch, fitted.data.batch(rows))
    scale = np.abs(features).max() * np.abs(axes).sum(0).max()
    np.testing.assert_allclose(projected, fitted.data.project(rows, origin, axes), atol=1e-6 * scale)
    np.testing.assert_allclose(projected, (features - origin) @ axes, atol=1e-5 * scale)


def test_masked_is_blind_to_what_is_not_visible(adata, fitted):
    rng = np.random.default_rng(1)
    visible = (rng.random(adata.n_obs) < 0.7) & ~on(adata, 3)
    other = changed(adata, ~visible)
    one, two = (fitted.modality.prepare(Tissue(a, LAYOUT)).masked(visible) for a in (adata, other))
    np.testing.assert_array_equal(one.present, fitted.data.present & visible)
    check_same_rows(one, two)


def test_masked_leaves_the_original_and_can_be_repeated(adata, fitted):
    first, second = np.arange(adata.n_obs) % 3 > 0, np.arange(adata.n_obs) % 4 > 0
    before = fitted.data.present.copy()
    check_same_rows(fitted.data.masked(first).masked(second), fitted.data.masked(first & second))
    np.testing.assert_array_equal(fitted.data.present, before)
    check_same_rows(fitted.data, fitted.modality.prepare(Tissue(adata, LAYOUT)))
    check_same_rows(fitted.data.masked(np.ones(adata.n_obs, bool)), fitted.data)
    assert not fitted.data.masked(np.zeros(adata.n_obs, bool)).present.any()


def test_beyond_cut_edges_a_spot_that_is_not_visible_changes_nothing(adata, fitted):
    graph = Tissue(adata, LAYOUT).graph
    hidden = on(adata, 2)
    hidden[np.flatnonzero(on(adata, 1))[:1]] = True
    near = hidden.astype(float)
    for _ in range(REACH):
        near = near + graph @ near
    far = np.flatnonzero((near == 0) & fitted.data.present)
    assert np.isin(far, np.flatnonzero(on(adata, 1))).sum() > 5 and on(adata, 3)[far].any()
    some = fitted.data.masked(~hidden)
    np.testing.assert_array_equal(some.features(far), fitted.data.features(far))
    np.testing.assert_array_equal(some.noise[far], fitted.data.noise[far])
    before, after = (codes(fitted.modality, data, far) for data in (fitted.data, some))
    torch.testing.assert_close(after, before, atol=1e-6, rtol=1e-6)


def test_other_spots_teach_nothing(adata, reference, fitted):
    other = fitted.make()
    other.fit(Tissue(changed(adata, ~reference), LAYOUT), reference)
    assert same_state(other, fitted.modality)


def test_a_copy_is_independent(adata, other_adata, fitted):
    original, kept = copy.deepcopy(fitted.modality), fitted.modality.state()
    twin = copy.deepcopy(original)
    assert same_state(twin, original)
    twin.fit(Tissue(other_adata, LAYOUT), on(other_adata, 1, 2, 3))
    assert not same_state(twin, original)
    assert same(original.state(), kept)
    check_same_rows(original.prepare(Tissue(adata, LAYOUT)), fitted.data)


def test_a_second_fit_replaces_the_first(adata, other_adata, reference, fitted):
    again, tissue = copy.deepcopy(fitted.modality), Tissue(other_adata, LAYOUT)
    again.fit(tissue, on(other_adata, 1, 3))
    fresh = fitted.make()
    fresh.fit(Tissue(other_adata, LAYOUT), on(other_adata, 1, 3))
    assert same_state(again, fresh) and not same_state(again, fitted.modality)
    check_same_rows(again.prepare(tissue), fresh.prepare(Tissue(other_adata, LAYOUT)))
    back = Tissue(adata, LAYOUT)
    again.fit(back, reference)
    assert same_state(again, fitted.modality)
    check_same_rows(again.prepare(back), fitted.data)


def test_a_modality_is_the_same_from_its_state(adata, other_adata, fitted):
    config, tensors = fitted.modality.state()
    assert all(isinstance(tensor, torch.Tensor) for tensor in tensors.values())
    kind = KINDS[type(fitted.modality).__name__]
    again = kind.from_state(json.loads(json.dumps(config)), {key: value.clone() for key, value in tensors.items()})
    assert type(again) is type(fitted.modality) and same_state(again, fitted.modality)
    check_same_rows(again.prepare(Tissue(adata, LAYOUT)), fitted.data)
    one, other = (m.prepare(Tissue(other_adata, LAYOUT)) for m in (fitted.modality, again))
    check_same_rows(one, other)
    rows = np.flatnonzero(one.present)
    assert torch.equal(codes(fitted.modality, one, rows), codes(again, other, rows))


def test_a_picture_has_a_row_for_every_spot(adata, fitted):
    if (drawn := fitted.modality.drawn(fitted.data)) is not None:
        values, columns = drawn
        assert len(values) == adata.n_obs and columns
        assert all(len(described) == values.shape[1] for described in columns.values())


def test_slides_are_described_by_their_visible_spots_alone(adata, fitted):
    modality = fitted.modality
    visible = (np.random.default_rng(2).random(adata.n_obs) < 0.7) & ~on(adata, 3)
    found = modality.describe_slides(Tissue(adata, LAYOUT), visible)
    if not modality.statistics:
        assert found == {}
        return
    there = modality.slices(Tissue(adata, LAYOUT))
    assert set(found) == set(np.flatnonzero(there)) - {2}
    other = modality.describe_slides(Tissue(changed(adata, ~visible), LAYOUT), visible)
    compared = np.array([statistic.compare is not None for statistic in modality.statistics])
    for code, (values, profile) in found.items():
        np.testing.assert_array_equal(np.isnan(values), compared)
        assert (len(profile) > 0) == compared.any()
        np.testing.assert_array_equal(values, other[code].values)
        np.testing.assert_array_equal(profile, other[code].profile)
    assert modality.describe_slides(Tissue(adata, LAYOUT), np.zeros(adata.n_obs, bool)) == {}


def test_nothing_is_written_into_the_adata(adata, reference, fitted, content):
    before = content(adata)
    modality, tissue = fitted.make(), Tissue(adata, LAYOUT)
    assert isinstance(modality.offered(tissue), bool)
    modality.check(tissue, required=True)
    modality.slices(tissue)
    modality.fit(tissue, reference, ~reference)
    data = modality.prepare(tissue)
    data.noise, data.masked(reference).noise
    rows = np.flatnonzero(data.present)
    data.batch(rows)
    data.features(rows)
    modality.drawn(data)
    modality.describe_slides(tissue, reference)
    modality.state()
    assert content(adata) == before


def test_one_tissue_serves_fit_and_prepare_as_two_do(adata, reference, fitted):
    modality, tissue = fitted.make(), Tissue(adata, LAYOUT)
    modality.check(tissue, required=True)
    modality.fit(tissue, reference)
    check_same_rows(modality.prepare(tissue), fitted.data)


@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:invalid value")
def test_tissue_that_lacks_the_modality_is_refused_by_check_or_fit(adata, reference, fitted):
    bare = adata.copy()
    bare.X = sp.csr_matrix(adata.shape, dtype=np.float32)
    bare.var, bare.uns = bare.var[[]], {}
    bare.obsm["ready"] = np.full((adata.n_obs, 3), np.nan)
    modality, tissue = fitted.make(), Tissue(bare, LAYOUT)
    with pytest.raises((KeyError, ValueError)):
        modality.check(tissue, required=True)
        modality.fit(tissue, reference)
    assert not fitted.modality.prepare(tissue).present.any()
