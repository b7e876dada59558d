import re
import warnings
from dataclasses import replace

import anndata as ad
import numpy as np
import pytest

import omib_spatial as omib
from omib_spatial._warn import ScoredWarning
from omib_spatial.detector.shifts import Shift
from omib_spatial.tl._shifts import in_words, warn_of_shifts

QUICK = {
    "config": replace(omib.tl.OBJECTIVES["reconstruction"].config, warmup_epochs=1, beta=0.05),
    "max_epochs": 2,
    "enable_progress_bar": False,
    "library_key": "library_id",
    "accelerator": "cpu",
}
COLUMNS = {"slice", "modality", "statistic", "value", "usual", "low", "high", "deviations", "beyond"}


def simulate(*names: str) -> ad.AnnData:
    adata = omib.datasets.simulate_tissue(4, n_healthy=3, n_spots=100, n_genes=150)
    if names:
        adata = adata[adata.obs["library_id"].isin(names).to_numpy()].copy()
        adata.uns["spatial"] = {name: adata.uns["spatial"][name] for name in names}
    return adata


def spoiled(*names: str) -> ad.AnnData:
    """An inverted image, and a fiftieth of the counts."""
    adata = simulate(*names)
    adata.X.data = np.random.default_rng(0).binomial(adata.X.data.astype(int), 1 / 50).astype(np.float32)
    adata.X.eliminate_zeros()
    for entry in adata.uns["spatial"].values():
        entry["images"]["hires"] = 255 - entry["images"]["hires"]
    return adata


@pytest.fixture(scope="module")
def fitted():
    adata = simulate()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = omib.tl.fit(adata, reference_key="healthy", **QUICK)
    assert not [w for w in caught if "unlike" in str(w.message)]
    return adata, model


def said(adata: ad.AnnData, model) -> list[str]:
    """What score says of slides as a whole."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        omib.tl.score(adata, model)
    here = [w for w in caught if "unlike the healthy" in str(w.message)]
    assert all(issubclass(w.category, UserWarning) and w.filename == __file__ for w in here)
    return [str(w.message) for w in here]


def test_fit_and_score_record_the_same_of_a_slide(fitted):
    adata, model = fitted
    again = simulate("slide3", "slide4")
    assert said(again, model) == []
    one, other = adata.uns["omib"]["shifts"], again.uns["omib"]["shifts"]
    assert set(one) == set(other) == COLUMNS
    assert set(one["slice"]) == {f"slide{i}" for i in range(1, 5)} and set(one["modality"]) == set(model.modalities)
    rows = np.isin(one["slice"], ["slide3", "slide4"])
    for name, column in one.items():
        np.testing.assert_array_equal(column[rows], other[name])
    assert not one["beyond"].any()


def test_a_slide_that_is_unlike_the_reference_is_said_once_in_words(fitted):
    _, model = fitted
    found = said(spoiled("slide3", "slide4"), model)
    assert len(found) == 2
    for name, message in zip(("slide3", "slide4"), found, strict=True):
        assert message.startswith(f"Slide '{name}' is unlike the healthy reference: ")
        # Genes and genome say it of the same counts.
        assert message.count("counts per spot") == 1 and "times lower counts" in message
        assert "lower image pinkness" in message and "fit a model on healthy slides" in message


def test_what_is_found_of_slides_outlives_files_and_the_model_the_disk(fitted, tmp_path):
    _, model = fitted
    model.save(tmp_path / "model")
    adata, other = spoiled("slide3"), spoiled("slide3")
    assert said(adata, omib.load(tmp_path / "model")) == said(other, model)
    adata.write_h5ad(tmp_path / "scored.h5ad")
    adata.write_zarr(tmp_path / "scored.zarr")
    backs = ad.read_h5ad(tmp_path / "scored.h5ad"), ad.read_zarr(tmp_path / "scored.zarr")
    for back in backs:
        for key in ("shifts", "modalities"):
            for name, column in other.uns["omib"][key].items():
                np.testing.assert_array_equal(np.asarray(back.uns["omib"][key][name]), column)


def test_a_model_without_intervals_says_nothing(fitted, tmp_path):
    _, model = fitted
    old, adata = replace(model, intervals={}), spoiled("slide3")
    assert said(adata, old) == []
    assert {len(column) for column in adata.uns["omib"]["shifts"].values()} == {0}
    adata.write_h5ad(tmp_path / "scored.h5ad")


def test_modalities_are_recorded_per_slice(fitted):
    _, model = fitted
    adata = simulate("slide2", "slide3")
    del adata.uns["spatial"]["slide2"]["images"]
    lost = (adata.obs["library_id"] == "slide3").to_numpy() & (np.arange(adata.n_obs) % 4 == 0)
    counts = adata.X.toarray()
    counts[lost] = 0
    adata.X = counts
    with pytest.warns(ScoredWarning, match="'slide2' without 'image'"):
        omib.tl.score(adata, model)
    found = adata.uns["omib"]["modalities"]
    assert found["slice"].tolist() == ["slide2", "slide3"] and found["modality"].tolist() == list(model.modalities)
    share = dict(zip(found["modality"].tolist(), found["share"].T.tolist(), strict=True))
    kept = 1 - lost.sum() / (adata.obs["library_id"] == "slide3").sum()
    assert share["image"] == [0, 1] and share["gene"] == share["genome"] == pytest.approx([1, kept])


def test_a_spot_was_judged_by_what_was_calibrated_and_without_that_by_nothing(fitted):
    _, model = fitted
    adata = simulate("slide2")
    for names, share in ((["gene", "genome"], {"gene": 1, "image": 0, "genome": 1}), ([], {})):
        kept = {c: score for c, score in model.scores.items() if set(c) <= set(names)}
        omib.tl.score(adata, replace(model, scores=kept))
        said = adata.uns["omib"]["modalities"]
        found = dict(zip(said["modality"].tolist(), said["share"][0].tolist(), strict=True))
        assert adata.obs["omib_score"].notna().all() == bool(kept)
        assert found == (share or dict.fromkeys(model.modalities, 0))


def test_a_table_of_a_few_genes_is_refused_and_stays_as_it_was(fitted, content):
    _, model = fitted
    few = simulate("slide3")[:, model.modalities["gene"].genes[:7]].copy()
    before = content(few)
    with pytest.raises(ValueError, match=r"Only 7 of the model's \d+ genes .* 10% are needed.*7 genes only"):
        omib.tl.score(few, model)
    assert content(few) == before


def shift(value: float, low: float, high: float, *, logarithmic: bool = False, name: str = "s", **names) -> Shift:
    names = {"modality": "gene", "statistic": "counts", "advice": "Look."} | names
    return Shift(
        name, value=value, usual=4000, low=low, high=high, deviations=-9, beyond=True, logarithmic=logarithmic, **names
    )


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        (shift(100, 1000, 16000, logarithmic=True), "40 times lower counts (100; .* 4,000, .* 1,000 to 16,000)"),
        (shift(40000, 1000, 16000, logarithmic=True), "10 times higher counts (40,000; "),
        (shift(0.25, 0.625, np.inf), "lower counts (0.25; .* 0.62 or more)"),
        (shift(9000, -np.inf, 8000), "higher counts (9,000; .* 8,000 or less)"),
    ],
)
def test_words(odd, words):
    # Only ".*" is a pattern.
    assert re.search(".*".join(map(re.escape, words.split(".*"))), in_words(odd))


def test_one_warning_per_slide_and_advice_said_once():
    shifts = [
        shift(1, 2, 3, name=""),
        shift(1, 2, 3, name="b", statistic="genes"),
        shift(1, 2, 3, name="b", modality="image", statistic="colour"),
        shift(1, 2, 3, name="c")._replace(beyond=False),
    ]
    with pytest.warns(UserWarning) as caught:
        warn_of_shifts(shifts)
    messages = [str(w.message) for w in caught]
    assert [m.split(" is unlike")[0] for m in messages] == ["The slide", "Slide 'b'"]
    assert "lower counts" in messages[0] and "genes" not in messages[0]
    assert "genes" in messages[1] and "colour" in messages[1] and messages[1].count("Look.") == 1
