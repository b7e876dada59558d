"""Evidence from inside each slide: planted clones among human genes, each slide by itself."""

import copy
import json
import logging

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from sklearn.metrics import roc_auc_score

from omib_spatial.modalities import NAMED
from omib_spatial.modalities import contrast as module
from omib_spatial.modalities.catalog import choose_modalities, slice_groups
from omib_spatial.modalities.contrast import Contrast, slide_contrasts
from omib_spatial.modalities.signatures import CARCINOMA, DIVIDING, EPITHELIUM, PROLIFERATION
from omib_spatial.slides import Layout, Tissue
from omib_spatial.slides.gene_positions import positions
from omib_spatial.slides.gene_table import gene_table
from omib_spatial.stats.contrast import SlideContrast, silent

SLIDES = Layout(library_key="slide")


def tell(adata: ad.AnnData, signatures=CARCINOMA, **options) -> SlideContrast:
    """What the only slide tells, as the modality asks it."""
    (found,) = Contrast(signatures, **options).found(Tissue(adata)).values()
    return found


def same(one: SlideContrast, other: SlideContrast, order=slice(None)) -> None:
    """Up to the last bits, which self-training carries a long way for spots near the split."""
    np.testing.assert_array_equal(one.reference, other.reference[order])
    np.testing.assert_allclose(one.score, other.score[order], atol=0.1)
    assert one.agreement == pytest.approx(other.agreement, abs=0.01)


@pytest.fixture(scope="module", autouse=True)
def fewer_replicas():
    """A third of them tell as much of such clear slides."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("omib_spatial.stats.contrast.REPLICAS", 8)
        yield


@pytest.fixture(scope="module")
def told(planted) -> SlideContrast:
    return tell(planted())


@pytest.fixture(scope="module")
def pair(planted) -> ad.AnnData:
    """Slide ``b`` has a clone, ``a`` is healthy; their spots are interleaved."""
    both = ad.concat({"a": planted(share=0.0, seed=1), "b": planted()}, label="slide", index_unique="-", merge="same")
    return both[np.random.default_rng(0).permutation(both.n_obs)].copy()


@pytest.fixture(scope="module")
def learned(pair) -> tuple[Contrast, Tissue]:
    contrast, tissue = Contrast(), Tissue(pair, SLIDES)
    contrast.fit(tissue, contrast.found(tissue)["b"].answered & (pair.obs["slide"] == "b").to_numpy())
    return contrast, tissue


# What a slide tells.


def test_a_planted_clone_is_found_the_right_way_round(planted, told):
    clone = planted().obs["clone"].to_numpy()
    assert told.answered and not clone[told.reference].any()
    assert roc_auc_score(clone, told.score) > 0.98


@pytest.mark.parametrize("seed", [1, 3])
def test_a_minority_clone_does_not_depend_on_signatures(planted, seed):
    adata = planted(seed=seed)
    clone = adata.obs["clone"].to_numpy()
    by_signature = tell(adata)
    by_rarity = tell(adata, {}, mostly_healthy=True)
    other = tell(adata, {"some": (2.0, PROLIFERATION[:9])})
    for found in (by_signature, by_rarity, other):
        assert found.answered and not clone[found.reference].any()
        assert roc_auc_score(clone, found.score) > 0.97
        assert np.corrcoef(found.score, by_signature.score)[0, 1] > 0.95


def test_a_majority_clone_is_told_by_the_signature(planted):
    adata = planted(share=0.65)
    found = tell(adata)
    assert found.answered and not adata.obs["clone"].to_numpy()[found.reference].any()


def test_the_declared_minority_wins_only_where_there_are_no_signatures(planted, told):
    found = tell(planted(), mostly_healthy=True)
    np.testing.assert_array_equal(found.score, told.score)


@pytest.mark.parametrize("seed", range(3))
def test_healthy_tissue_has_no_answer(planted, seed):
    found = tell(planted(share=0.0, seed=seed))
    assert not found.answered and found.reason.startswith("cannot tell")


def test_dividing_cells_without_gained_or_lost_arms_are_no_clone(planted, monkeypatch):
    """A germinal centre: the disc divides, and its genome is whole."""
    adata = planted(share=0.0, seed=3)
    disc = planted(share=0.35, seed=3).obs["clone"].to_numpy()
    counts = adata.X.toarray()
    counts[np.ix_(disc, adata.var_names.isin(PROLIFERATION))] *= 3
    adata.X = sp.csr_matrix(counts)
    assert not tell(adata).answered


def test_without_a_gene_of_the_signatures_it_refuses_and_is_never_reversed(planted):
    adata = planted()
    names = pd.Index([f"{name}x" if name in (*PROLIFERATION, *EPITHELIUM) else name for name in adata.var_names])
    adata.var_names = names
    found = tell(adata)
    assert not found.answered and "no signature has enough of its genes" in found.reason and np.isnan(found.score).all()
    assert tell(adata, {}, mostly_healthy=False).reason == found.reason
    strange = tell(adata, {"unknown": (1.0, ["NOSUCHGENE", "NORTHIS"])})
    assert not strange.answered and strange.reason == found.reason
    declared = tell(adata, mostly_healthy=True)
    assert declared.answered and not adata.obs["clone"].to_numpy()[declared.reference].any()


def test_signatures_whose_genes_have_no_counts_are_not_used(planted):
    """As of a panel that lacks them, filled with zeros."""
    adata = planted()
    counts = adata.X.toarray()
    counts[:, adata.var_names.isin([gene for sets in CARCINOMA for _, genes in sets.values() for gene in genes])] = 0
    adata.X = counts
    found = tell(adata)
    assert not found.answered and "no signature has enough of its genes" in found.reason


def test_genes_of_no_known_name_have_no_place_unless_the_user_gives_one(planted):
    adata = planted()
    table = positions(adata.var).table
    adata.var_names = [f"g{i}" for i in range(adata.n_vars)]
    assert "0 genes have a place" in tell(adata).reason
    adata.var = adata.var.assign(**{key: table[key].to_numpy() for key in ("chromosome", "start", "end")})
    assert "no signature has enough of its genes" in tell(adata).reason
    assert tell(adata, {}, mostly_healthy=True).answered


@pytest.mark.parametrize("spelling", ["ensembl", "versions", "mouse"])
def test_names_of_any_kind_give_the_same(planted, told, spelling):
    adata = planted()
    table = gene_table("human")
    table = table[~table["symbol"].duplicated()].set_index("symbol").loc[adata.var_names]
    if spelling == "mouse":
        adata.var = table[["chromosome", "start", "end"]]
        adata.var_names = [name.capitalize() for name in adata.var_names]
    else:
        adata.var_names = table["ensembl"].to_numpy(object) + (".7" if spelling == "versions" else "")
    found = tell(adata)
    np.testing.assert_array_equal(found.score, told.score)
    np.testing.assert_array_equal(found.reference, told.reference)


def test_order_of_spots_and_of_genes_does_not_matter(planted, told):
    adata, rng = planted(), np.random.default_rng(0)
    spots, genes = rng.permutation(adata.n_obs), rng.permutation(adata.n_vars)
    same(tell(adata[spots].copy()), told, spots)
    same(tell(adata[:, genes].copy()), told, np.arange(adata.n_obs))


def test_other_slides_change_nothing(planted, told, pair, learned):
    contrast, tissue = learned
    found = contrast.found(tissue)
    assert list(found) == ["a", "b"] and not found["a"].answered
    names = pair.obs_names[pair.obs["slide"] == "b"].str.removesuffix("-b")
    same(found["b"], told, planted().obs_names.get_indexer(names))


def test_spots_without_counts_and_other_types_of_counts_are_read(planted, told):
    adata = planted()
    adata.X = adata.X.toarray().astype(np.int64)
    same(tell(adata), told)
    adata.X[:10] = 0
    found = tell(adata)
    assert np.isfinite(found.score).all() and found.answered
    adata.X[:] = 0
    assert not tell(adata).answered


def test_one_line_of_the_log_says_what_each_slide_tells(pair, caplog, monkeypatch):
    answers = iter([SlideContrast(np.zeros(400, bool), np.zeros(400), 0.1, f"reason {i}") for i in range(2)])
    monkeypatch.setattr(module, "slide_contrast", lambda *views, **options: next(answers))
    with caplog.at_level(logging.INFO, "omib_spatial"):
        slide_contrasts(Tissue(pair, SLIDES), [{}])
    said = [record.getMessage() for record in caplog.records if "Slide" in record.getMessage()]
    assert said == ["Slide 'a': reason 0", "Slide 'b': reason 1"]


def test_the_default_signatures_are_dividing_cells_and_then_those_of_an_epithelium():
    assert CARCINOMA == (DIVIDING, DIVIDING | {"epithelium": (1.0, EPITHELIUM)})
    assert DIVIDING == {"proliferation": (1.0, PROLIFERATION)}
    for names, least in ((PROLIFERATION, 13), (EPITHELIUM, 9)):
        human = positions(pd.DataFrame(index=list(names)))
        mouse = {gene.capitalize() for gene in names} & {*gene_table("mouse")["symbol"]}
        assert human.species == "human" and human.n_placed >= least and len(mouse) >= least - 1


def answers(*agreements: float) -> list[SlideContrast]:
    """Answers to be given one after another, NaN for one that could not be tried; from .9 on there is a reference."""
    return [
        SlideContrast(np.full(400, agreement >= 0.9), np.zeros(400), agreement, f"said {agreement}")
        for agreement in agreements
    ]


@pytest.fixture(autouse=True)
def forgetful():
    """Answers of other tests are forgotten."""
    module._answers.clear()


@pytest.mark.parametrize(
    ("agreements", "taken", "tried"),
    [
        ((0.95, 0.99), 0.95, 1),
        ((0.5, 0.99), 0.99, 2),
        ((0.5, 0.7), 0.7, 2),
        ((0.5, np.nan), 0.5, 2),
        ((np.nan, 0.6), 0.6, 2),
        ((np.nan, np.nan), np.nan, 2),
    ],
)
def test_of_several_signatures_the_first_that_tells_is_taken(planted, monkeypatch, agreements, taken, tried):
    waiting = answers(*agreements)
    monkeypatch.setattr(module, "slide_contrast", lambda views, *, mostly_healthy: waiting.pop(0))
    (found,) = slide_contrasts(Tissue(planted()), CARCINOMA).values()
    assert found.reason == f"said {taken}" and len(waiting) == len(agreements) - tried


def test_a_slide_is_asked_once_however_it_comes_and_again_where_anything_differs(pair, monkeypatch):
    asked = []
    monkeypatch.setattr(module, "slide_contrast", lambda views, *, mostly_healthy: asked.append(1) or silent(400, "x"))
    slide_contrasts(Tissue(pair, SLIDES), [{}])
    assert len(asked) == 2
    one = pair[(pair.obs["slide"] == "b").to_numpy()].copy()
    one.X = sp.csr_matrix(one.X).astype(np.float64)
    slide_contrasts(Tissue(one, SLIDES), [{}])
    assert len(asked) == 2, "the same slide without the other, counts of another type"
    slide_contrasts(Tissue(one, SLIDES), [{}], mostly_healthy=True)
    moved, other, renamed = one.copy(), one.copy(), one.copy()
    moved.obsm["spatial"] = moved.obsm["spatial"][::-1].copy()
    other.X = other.X + sp.csr_matrix(([1.0], ([0], [0])), other.shape)
    renamed.var_names = renamed.var_names[::-1]
    for changed in (moved, other, renamed):
        before = len(asked)
        slide_contrasts(Tissue(changed, SLIDES), [{}])
        assert len(asked) == before + 1


def test_a_slide_of_too_many_spots_says_so_and_the_others_are_asked(pair, monkeypatch):
    monkeypatch.setattr(module, "MAX_SPOTS", 399)
    found = slide_contrasts(Tissue(pair, SLIDES), [{}])
    assert all("400 spots are more than the 399" in own.reason and not own.answered for own in found.values())
    assert all(own.score.shape == own.reference.shape == (400,) for own in found.values())
    keep = (pair.obs["slide"] == "b").to_numpy() | (np.arange(pair.n_obs) % 2 == 0)
    some = slide_contrasts(Tissue(pair[keep].copy(), SLIDES), [{}])
    assert "400 spots" in some["b"].reason and "no signature has enough of its genes" in some["a"].reason


@pytest.mark.parametrize("nothing", [None, {}, [], [{}]])
def test_no_signature_is_said_in_any_way(nothing):
    assert Contrast(nothing).signatures == [{}]


# The image.


def test_an_image_has_a_part_in_the_evidence_unless_it_is_left_out(planted, with_image, told):
    clone = planted().obs["clone"].to_numpy()
    adata = with_image(planted(), clone)
    found, without = tell(adata), tell(adata, image=False)
    same(without, told)
    assert found.agreement == without.agreement and "weight of the image 0.3" in found.reason
    assert roc_auc_score(clone, found.score) > 0.98 and not clone[found.reference].any()
    assert not np.array_equal(found.score, without.score)


def test_an_image_of_something_else_counts_little_and_one_of_nothing_not_at_all(planted, with_image, told):
    clone = planted().obs["clone"].to_numpy()
    found = tell(with_image(planted(), np.random.default_rng(1).permutation(clone)))
    weight = float(found.reason.split("weight of the image ")[1].split(")")[0])
    assert weight < 0.2 and roc_auc_score(clone, found.score) > 0.98
    blank = with_image(planted(), clone)
    blank.uns["spatial"]["slide"]["images"]["hires"][:] = 245
    assert "image" not in tell(blank).reason
    same(tell(blank), told)


def test_another_image_is_another_question(planted, with_image, monkeypatch):
    asked = []
    monkeypatch.setattr(module, "slide_contrast", lambda views, **options: asked.append(views.image) or silent(400, ""))
    clone = planted().obs["clone"].to_numpy()
    for adata in (planted(), with_image(planted(), clone), with_image(planted(), ~clone)):
        slide_contrasts(Tissue(adata), [{}])
    assert [image is None for image in asked] == [True, False, False]
    assert asked[1].shape == (400, 7) and not np.array_equal(asked[1], asked[2])


# The modality.


def test_only_slides_that_tell_have_the_modality(learned):
    contrast, tissue = learned
    np.testing.assert_array_equal(contrast.slices(tissue), [False, True])
    rows = contrast.prepare(tissue)
    np.testing.assert_array_equal(rows.present, tissue.codes == 1)
    score = contrast.found(tissue)["b"].score.astype(np.float32)
    found = rows.features(np.flatnonzero(rows.present))[:, 0]
    np.testing.assert_allclose(found, np.exp(score))
    assert len(np.unique(slice_groups(tissue, [contrast])[tissue.codes == 0])) == 1
    assert set(slice_groups(tissue, [contrast])) == {0, 1}


def test_scaling_is_that_of_the_reference(pair, learned):
    tissue = learned[1]
    contrast = copy.deepcopy(learned[0])
    reference = np.zeros(pair.n_obs, bool)
    found = contrast.found(tissue)["b"]
    reference[tissue.codes == 1] = found.reference
    reference[np.flatnonzero(tissue.codes == 0)[:50]] = True
    contrast.fit(tissue, reference)
    own = found.score[found.reference]
    assert contrast.mean.item() == pytest.approx(own.mean(), abs=1e-5)
    assert contrast.scale.item() == pytest.approx(own.std() + 1e-3, abs=1e-5)
    rows = np.flatnonzero(reference & (tissue.codes == 1))
    batch = contrast.prepare(tissue).batch(rows)
    assert batch.shape == (len(rows), 1) and abs(batch.mean().item()) < 1e-4
    assert contrast.encoder()(batch).isfinite().all()


def test_a_tissue_is_asked_once_and_another_again(pair, monkeypatch):
    asked = []

    def answer(tissue, signatures, *, mostly_healthy, image):
        asked.append((tissue.identity, signatures, mostly_healthy, image))
        return {name: SlideContrast(np.zeros(400, bool), np.zeros(400), 0.0, "") for name in tissue.libraries}

    monkeypatch.setattr(module, "slide_contrasts", answer)
    contrast, one, other = Contrast(None, mostly_healthy=True, image=False), Tissue(pair, SLIDES), Tissue(pair, SLIDES)
    contrast.slices(one), contrast.found(one), contrast.prepare(one)
    contrast.found(other)
    contrast.found(one)
    assert asked == [(tissue.identity, [{}], True, False) for tissue in (one, other, one)]


def test_slides_that_do_not_tell_are_an_error_only_where_the_modality_is_asked_for(planted, learned):
    healthy = Tissue(planted(share=0.0, seed=1), Layout())
    contrast = Contrast()
    contrast.check(healthy, required=False)
    with pytest.raises(ValueError, match="No slide tells two kinds of tissue apart.*'contrast'.*cannot tell"):
        contrast.check(healthy, required=True)
    with pytest.raises(ValueError, match="No reference spot lies on a slide that tells"):
        contrast.fit(healthy, np.ones(healthy.n_obs, bool))
    # A model that has it scores them without it.
    rows = learned[0].prepare(healthy)
    assert not rows.present.any()


def test_counts_that_are_not_raw_are_refused(planted):
    adata = planted()
    adata.X = sp.csr_matrix(adata.X * 0.5)
    with pytest.raises(ValueError, match="Raw counts are needed"):
        Contrast().check(Tissue(adata), required=False)


def test_it_is_known_by_name_and_taken_only_when_asked_for(planted):
    tissue = Tissue(planted())
    assert NAMED["contrast"] is Contrast and not Contrast.offered(tissue)
    assert "contrast" not in choose_modalities(tissue)
    (chosen,) = choose_modalities(tissue, ["contrast"]).values()
    first, second = chosen.signatures
    assert first == {"proliferation": (1.0, list(PROLIFERATION))} and not chosen.mostly_healthy
    assert second == first | {"epithelium": (1.0, list(EPITHELIUM))}


def test_a_saved_contrast_says_the_same_of_another_slide(planted, learned):
    contrast = Contrast({"mine": (0.5, PROLIFERATION[:9])}, mostly_healthy=True)
    contrast.mean, contrast.scale = learned[0].mean, learned[0].scale
    config, tensors = contrast.state()
    again = Contrast.from_state(json.loads(json.dumps(config)), tensors)
    assert again.signatures == contrast.signatures == [{"mine": (0.5, list(PROLIFERATION[:9]))}]
    assert again.mostly_healthy and again.image
    with pytest.raises(ValueError, match="development version.*fit again"):
        Contrast.from_state({k: v for k, v in config.items() if k != "image"}, tensors)
    other = Tissue(planted(seed=3))
    one, two = (modality.prepare(other) for modality in (contrast, again))
    assert one.present.all()
    torch.testing.assert_close(one.batch(np.arange(400)), two.batch(np.arange(400)), atol=0, rtol=0)


@pytest.mark.parametrize(
    ("signatures", "error", "message"),
    [
        (["EPCAM"], TypeError, "maps a name|maps names"),
        ({"a": ["EPCAM", "KRT8"]}, TypeError, r"signatures\['a'\] is a weight and a list of genes"),
        ({"a": (["EPCAM"], 1.0)}, TypeError, "is a weight and a list of genes"),
        ({"a": (1.0, "EPCAM")}, TypeError, "is a weight and a list of genes"),
        ({"a": (0.0, ["EPCAM"])}, ValueError, "has the weight 0.0"),
        ({"a": (np.nan, ["EPCAM"])}, ValueError, "has the weight nan"),
    ],
)
def test_signatures_that_are_none_are_refused_in_words(signatures, error, message):
    with pytest.raises(error, match=message):
        Contrast(signatures)


def test_a_signature_of_few_genes_is_not_used(planted):
    tissue = Tissue(planted())
    (found,) = slide_contrasts(tissue, [{"few": (1.0, list(PROLIFERATION[:2]))}]).values()
    assert not found.answered and "no signature has enough of its genes" in found.reason


def test_what_is_divided_is_the_answer_of_the_signatures_that_gave_one(planted):
    tissue = Tissue(planted())
    contrast = Contrast([{"none": (1.0, [f"NOBODY{i}" for i in range(6)])}, DIVIDING])
    (found,) = contrast.found(tissue).values()
    assert found.answered and found.attempt == 1
    parts = contrast.divided(tissue, 0, np.full(tissue.n_obs, 1 / tissue.n_obs))
    assert np.ptp(found.score - sum(part.terms.value for part in parts)) < 1e-6
