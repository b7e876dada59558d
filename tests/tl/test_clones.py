import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from omib_spatial import tl
from omib_spatial._colours import GROUPS
from omib_spatial._keys import ABNORMAL, NOT_CALLED
from omib_spatial.slides import Layout
from omib_spatial.slides.gene_positions import arm_names, positions
from omib_spatial.tl._clones import MIN_CALLED, MIN_HEALTHY
from omib_spatial.tl._write import run_record

DISC = {"1q": 1, "5p": 1, "8q": 1, "13q": -1, "16q": -1, "17q": 1}
"""Arms of the fixture's clone."""
LOST = ("2q", "6q", "12q")


def scored(adata: ad.AnnData, called: np.ndarray, library_key: str | None = None) -> ad.AnnData:
    """As `tl.score` and `tl.call` leave it, as far as clones read it."""
    model = type("Model", (), {"params": {}, "history": {}, "classes": []})()
    adata.uns["omib"] = run_record(model, Layout(library_key=library_key))
    adata.obsm["X_omib_genome"] = np.zeros((adata.n_obs, 3), np.float32)
    adata.obs["omib_call"] = pd.Categorical(np.where(called, ABNORMAL, NOT_CALLED), [NOT_CALLED, ABNORMAL])
    return adata


@pytest.fixture(scope="module")
def pair(planted) -> ad.AnnData:
    """Two slices of one patient: the disc of the second has lost arms in addition, those of the first alone in half."""
    slides = [planted(share=0.3, seed=seed, n_genes=4000, dividing=1.0) for seed in (0, 1)]
    rng = np.random.default_rng(0)
    for number, slide in enumerate(slides):
        slide.obs["slice"] = f"s{number}"
        slide.obs["truth"] = slide.obs["clone"].to_numpy() & (slide.obsm["spatial"][:, 0] > 700 * (1 - number))
        counts = slide.X.toarray().astype(int)
        genes = np.isin(arm_names(positions(slide.var)), LOST)
        own = np.ix_(slide.obs["truth"].to_numpy(), genes)
        counts[own] = rng.binomial(counts[own], 0.6)
        slide.X = sparse.csr_matrix(counts.astype(np.float32))
    both = ad.concat(slides, index_unique="-")
    both.obs["patient"] = "P1"
    return scored(both, both.obs["clone"].to_numpy(), "slice")


def calls(table: pd.DataFrame, clone: str) -> dict[str, int]:
    rows = table[(table["clone"] == clone) & (table["call"] != "none")]
    return dict(zip(rows["arm"], rows["call"].map({"gain": 1, "loss": -1}), strict=True))


@pytest.fixture(scope="module")
def found(pair) -> ad.AnnData:
    return tl.clones(pair, patient_key="patient", copy=True)


def test_clones_reach_across_the_slices_of_a_patient(pair, found):
    clone, called = found.obs["omib_clone"], pair.obs["clone"].to_numpy()
    assert list(clone.cat.categories) == ["clone 1", "clone 2"]
    np.testing.assert_array_equal(clone.notna(), called)
    second = (clone == "clone 1")[called].to_numpy()
    truth = pair.obs["truth"].to_numpy()[called]
    assert max((second == truth).mean(), (second != truth).mean()) > 0.9
    table = found.uns["omib_clones"]
    of_truth = "clone 1" if (second == truth).mean() > 0.5 else "clone 2"
    assert set(table.loc[table["clone"] == of_truth, "slices"]) == {"s0, s1"}
    assert table.groupby("clone")["n_spots"].first().to_dict() == clone.value_counts().to_dict()
    assert found.uns["omib_clone_colors"] == list(GROUPS[:2])


def test_arms_of_each_clone_are_called(pair, found):
    table, clone, called = found.uns["omib_clones"], found.obs["omib_clone"], pair.obs["clone"].to_numpy()
    for name in ("clone 1", "clone 2"):
        more = pair.obs["truth"][called & (clone == name).to_numpy()].mean() > 0.5
        expected = DISC | (dict.fromkeys(LOST, -1) if more else {})
        tested = {arm: sign for arm, sign in expected.items() if arm in set(table["arm"])}
        named = calls(table, name)
        assert len(set(tested.items()) & set(named.items())) >= 0.8 * len(tested)
        assert len(set(named.items()) - set(tested.items())) <= 1
    assert (table["standard_error"] > 0.05 / np.log(2)).all()
    np.testing.assert_array_equal(table["call"] != "none", table["pvalue_adjusted"] <= 0.05)


def test_one_clone_is_one(planted):
    adata = planted(n_genes=4000, dividing=1.0)
    scored(adata, adata.obs["clone"].to_numpy())
    tl.clones(adata)
    assert list(adata.obs["omib_clone"].cat.categories) == ["clone 1"]
    table = adata.uns["omib_clones"]
    tested = {arm: sign for arm, sign in DISC.items() if arm in set(table["arm"])}
    assert len(tested) >= 4 and calls(table, "clone 1") == tested
    assert table["patient"].nunique() == 1


def test_healthy_tissue_that_was_called_is_one_clone_without_arms(planted):
    adata = planted(n_genes=4000, dividing=1.0)
    adata = adata[~adata.obs["clone"].to_numpy()].copy()
    scored(adata, adata.obsm["spatial"][:, 1] > 1200)
    tl.clones(adata)
    assert list(adata.obs["omib_clone"].cat.categories) == ["clone 1"]
    assert calls(adata.uns["omib_clones"], "clone 1") == {}


def test_patients_are_judged_one_by_one(pair, found):
    adata = pair.copy()
    adata.obs["patient"] = adata.obs["slice"].map({"s0": "A", "s1": "B"})
    tl.clones(adata, patient_key="patient")
    categories = list(adata.obs["omib_clone"].cat.categories)
    assert [name.split(" clone ")[0] for name in categories] == sorted(name[0] for name in categories)
    alone = adata[adata.obs["patient"] == "B"].copy()
    tl.clones(alone, patient_key="patient")
    assert "clone 1" in list(alone.obs["omib_clone"].cat.categories)
    own = adata.uns["omib_clones"].query("patient == 'B'")["log2_ratio"]
    np.testing.assert_allclose(own, alone.uns["omib_clones"]["log2_ratio"])
    by_slice = pair.copy()
    tl.clones(by_slice)
    assert set(by_slice.uns["omib_clones"]["patient"]) == {"s0", "s1"}


def test_a_slice_that_is_called_as_a_whole_is_compared_with_the_patients_others(pair, caplog):
    adata = pair.copy()
    gone = (adata.obs["slice"] == "s1") & (adata.obs["omib_call"] == NOT_CALLED)
    adata = adata[~gone.to_numpy()].copy()
    with caplog.at_level("INFO", "omib_spatial"):
        tl.clones(adata, patient_key="patient")
    assert "Slice 's1' has fewer than 20 spots that are not called: it is compared with the patient's" in caplog.text
    adata.obs["patient"] = adata.obs["slice"]
    with caplog.at_level("INFO", "omib_spatial"):
        tl.clones(adata, patient_key="patient")
    assert "compared with other patients" in caplog.text


def test_spots_without_counts_or_call_have_no_clone(planted):
    adata = planted(n_genes=4000, dividing=1.0)
    scored(adata, adata.obs["clone"].to_numpy())
    called = np.flatnonzero(adata.obs["clone"])
    counts = adata.X.toarray()
    counts[called[:2]] = 0
    adata.X = sparse.csr_matrix(counts)
    adata.obs.iloc[called[2], adata.obs.columns.get_loc("omib_call")] = np.nan
    tl.clones(adata)
    np.testing.assert_array_equal(np.flatnonzero(adata.obs["omib_clone"].notna()), called[3:])


@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
def test_results_survive_a_file(found, tmp_path, kind):
    path = tmp_path / f"found.{kind}"
    getattr(found, f"write_{kind}")(path)
    back = getattr(ad, f"read_{kind}")(path)
    pd.testing.assert_frame_equal(
        back.uns["omib_clones"], found.uns["omib_clones"], check_dtype=False, check_index_type=False
    )
    assert list(back.obs["omib_clone"].cat.categories) == ["clone 1", "clone 2"]
    assert list(back.uns["omib_clone_colors"]) == list(GROUPS[:2])
    again = tl.clones(back, patient_key="patient", copy=True)
    pd.testing.assert_series_equal(again.obs["omib_clone"], found.obs["omib_clone"])


def test_the_same_key_is_read_and_written(pair):
    adata = pair.copy()
    adata.uns["mine"], adata.obsm["X_mine_genome"] = adata.uns.pop("omib"), adata.obsm.pop("X_omib_genome")
    adata.obs = adata.obs.rename(columns={"omib_call": "mine_call"})
    tl.clones(adata, key_added="mine", patient_key="patient")
    assert "mine_clone" in adata.obs and {"mine_clones", "mine_clone_colors"} <= set(adata.uns)
    assert "omib_clone" not in adata.obs


def test_errors_name_the_next_step_and_leave_adata(pair, content):
    def fails(error, match, change=lambda adata: None, **options):
        adata = pair.copy()
        change(adata)
        before = content(adata)
        with pytest.raises(error, match=match):
            tl.clones(adata, **options)
        assert content(adata) == before

    fails(KeyError, "modality 'genome'", lambda a: a.obsm.pop("X_omib_genome"))
    fails(KeyError, "modality 'genome'", key_added="other")
    fails(KeyError, "omib_spatial.tl.call", lambda a: a.obs.pop("omib_call"))
    fails(KeyError, "patient_key", patient_key="nobody")
    fails(KeyError, "library_key", library_key="nothing")
    fails(ValueError, "max_clones", max_clones=0)
    fails(ValueError, "fdr", fdr=1.0)
    fails(ValueError, r"holds \['yes'\]: it was changed", lambda a: a.obs.__setitem__("omib_call", "yes"))
    few = pd.Categorical([ABNORMAL] * (MIN_CALLED - 1) + [NOT_CALLED] * (pair.n_obs - MIN_CALLED + 1))
    fails(ValueError, "20 called spots of one patient.*19 at most", lambda a: a.obs.__setitem__("omib_call", few))
    most = pd.Categorical([NOT_CALLED] * (MIN_HEALTHY - 1) + [ABNORMAL] * (pair.n_obs - MIN_HEALTHY + 1))
    fails(ValueError, "19 spots are not called", lambda a: a.obs.__setitem__("omib_call", most))
    fails(KeyError, "chromosome", lambda a: setattr(a, "var_names", [f"x{i}" for i in range(a.n_vars)]))
    with pytest.raises(ValueError, match="view"):
        tl.clones(pair[:100])


def test_patients_with_few_called_spots_are_named(pair):
    adata = pair.copy()
    adata.obs["patient"] = "P1"
    adata.obs.iloc[np.flatnonzero(adata.obs["clone"])[:5], adata.obs.columns.get_loc("patient")] = "P2"
    with pytest.warns(UserWarning, match="No clones of 'P2'"):
        tl.clones(adata, patient_key="patient")
    assert adata.obs["omib_clone"][adata.obs["patient"] == "P2"].isna().all()


def test_too_few_molecules_for_any_arm_are_said(pair):
    adata = pair.copy()
    counts = np.random.default_rng(0).binomial(adata.X.toarray().astype(int), 0.005)
    adata.X = sparse.csr_matrix(counts.astype(np.float32))
    with pytest.warns(UserWarning, match="too few molecules"):
        tl.clones(adata, patient_key="patient")
    assert list(adata.obs["omib_clone"].cat.categories) == ["clone 1"] and len(adata.uns["omib_clones"]) == 0


def test_a_table_of_a_spatialdata_gets_the_clones(pair, found):
    from spatialdata import SpatialData
    from spatialdata.models import ShapesModel, TableModel

    library = str(pair.uns["omib"]["params"]["library_key"])
    slices = pair.obs[library].astype(str).to_numpy()
    places = {name: pair.obsm["spatial"][slices == name] for name in sorted(set(slices))}
    shapes = {name: ShapesModel.parse(xy, geometry=0, radius=1) for name, xy in places.items()}
    table = pair.copy()
    table.obs[library] = slices
    table.obs["spot"] = [int((slices[:i] == name).sum()) for i, name in enumerate(slices)]
    table = TableModel.parse(table, region=list(shapes), region_key=library, instance_key="spot")
    sdata = SpatialData(shapes=shapes, tables={"table": table})
    tl.clones(sdata, patient_key="patient" if "patient" in pair.obs else None)
    assert "omib_clone" in sdata.tables["table"].obs and len(sdata.tables["table"].uns["omib_clones"])
    assert len(sdata.tables["table"].uns["omib_clone_colors"])
