from dataclasses import replace
from types import SimpleNamespace

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from omib_spatial import __version__
from omib_spatial.detector.scoring import Scores, SliceGroups
from omib_spatial.slides import Layout
from omib_spatial.stats.settings import CalibrationSettings
from omib_spatial.tl._write import most_probable, run_record, write

N = 6
MODEL = SimpleNamespace(
    params={
        "fdr": 0.1,
        "beta": 0.1,
        "objective": "reconstruction",
        "modalities": ["gene", "image"],
        "class_weights": [0.5, 2.0],
    },
    layout=Layout(library_key="slide", layer="counts"),
    history={"loss": [2.0, 1.0], "task": [np.nan, 1.0]},
    classes=[],
    calibration=CalibrationSettings(),
)
PROBABILITY = np.array([[0.7, 0.3], [0.2, 0.8], [np.nan, np.nan], [0.5, 0.5], [0.0, 1.0], [1.0, 0.0]], np.float32)


def adata() -> ad.AnnData:
    return ad.AnnData(np.ones((N, 2), np.float32), obs=pd.DataFrame({"mine": range(N)}, index=list("abcdef")))


def scores(**changes) -> Scores:
    rng = np.random.default_rng(0)
    values = {name: rng.random(N) for name in ("score", "pvalue", "slice_pvalue")}
    judged_by = np.array(["gene", "gene", "", "gene+image", "gene", "gene"], object)
    groups = [
        SliceGroups("s1", name, n, -2.0, 2.0, 1.0, 0.3, 0.99, 0.01, 8, 0.5, 0.01, pooling_hops=n // 4)
        for name, n in (("gene", 4), ("gene+image", 1))
    ]
    values["score"][2] = np.nan
    return Scores(rng.random((N, 3), np.float32), **values, modalities=judged_by, groups=groups, drawn={}, **changes)


def spots(kept: list) -> SimpleNamespace:
    return SimpleNamespace(prepared={"gene": SimpleNamespace(keep=kept.append)})


def test_the_record_says_where_this_adata_was_read_and_survives_a_file(tmp_path):
    record = run_record(MODEL, Layout(library_key=None, n_neighbors=4))
    params = record["params"]
    assert record["version"] == __version__ and "classes" not in record
    assert (params["library_key"], params["layer"], params["n_neighbors"]) == ("", "", 4)
    assert params["spatial_key"] == "spatial" and params["beta"] == 0.1
    assert params["modalities"].tolist() == ["gene", "image"] and params["class_weights"].dtype == float
    here = adata()
    here.uns["omib"] = record
    here.write_h5ad(tmp_path / "record.h5ad")
    back = ad.read_h5ad(tmp_path / "record.h5ad").uns["omib"]
    np.testing.assert_array_equal(back["history"]["task"], [np.nan, 1.0])
    assert back["params"]["library_key"] == ""


def test_classes_are_recorded_where_there_are_any():
    model = SimpleNamespace(**vars(MODEL) | {"classes": ["healthy", "tumour"]})
    assert run_record(model, Layout())["classes"].tolist() == ["healthy", "tumour"]


def test_the_most_probable_class_is_none_where_nothing_is_known():
    found = most_probable(PROBABILITY, ["b", "a"])
    assert list(found.categories) == ["b", "a"]
    assert [value if isinstance(value, str) else None for value in found] == ["b", "a", None, "b", "a", "b"]


@pytest.mark.parametrize("key", ["omib", "mine"])
def test_results_are_written_under_their_keys_and_nothing_else(key):
    here, kept, found = adata(), [], scores()
    write(here, MODEL, Layout(), spots(kept), found, key)
    assert here.uns[key]["params"]["pooling_hops"] == 1 and here.uns[key]["params"]["verdict_level"] == 0.1
    written = ("score", "pvalue", "slice_pvalue", "modalities", "call", "anomaly")
    assert set(here.obs) == {"mine", *(f"{key}_{name}" for name in written)}
    assert set(here.obsm) == {f"X_{key}"} and set(here.uns) == {key, f"{key}_slides", f"{key}_call_colors"}
    assert here.obs[f"{key}_modalities"].isna().tolist() == [False, False, True, False, False, False]
    assert here.uns[key]["groups"]["modalities"].tolist() == ["gene", "gene+image"]
    for name in ("score", "pvalue", "slice_pvalue"):
        np.testing.assert_array_equal(here.obs[f"{key}_{name}"], getattr(found, name))
    np.testing.assert_array_equal(here.obsm[f"X_{key}"], found.embedding)
    assert kept == [here]


def test_probabilities_and_what_is_drawn_are_written_where_there_are_any():
    here = adata()
    found = scores(probability=PROBABILITY)
    found = replace(found, drawn={"genome": (np.ones((N, 4)), {"start": np.arange(4)})})
    model = SimpleNamespace(**vars(MODEL) | {"classes": ["healthy", "tumour"]})
    write(here, model, Layout(), spots([]), found, "omib")
    np.testing.assert_array_equal(here.obsm["omib_probability"], PROBABILITY)
    assert here.obs["omib_label"].tolist()[:2] == ["healthy", "tumour"] and here.obs["omib_label"].isna().sum() == 1
    assert here.obsm["X_omib_genome"].shape == (N, 4)
    np.testing.assert_array_equal(here.uns["omib"]["genome"]["start"], np.arange(4))
