"""A cohort of which nothing is known, scored in several ways."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from omib_bench import Record, cohort
from omib_spatial import pp, tl
from omib_spatial.datasets import her2st

QUICK = {"config": replace(tl.OBJECTIVES["reconstruction"].config, beta=0.01, warmup_epochs=1), "max_epochs": 2}


@pytest.fixture(scope="module")
def folder(planted, tmp_path_factory):
    """Sections of two patients with clones; some spots have no label."""
    folder = tmp_path_factory.mktemp("cohort")
    for seed, name in enumerate(["A1", "B1"]):
        adata = planted(seed=seed)
        adata.obs_names = [f"{name}_{i}" for i in range(adata.n_obs)]
        adata.obs["anomaly"] = np.where(np.arange(adata.n_obs) % 7 == 0, -1, adata.obs.pop("clone").astype(int))
        adata.obs["patient"] = name[0]
        adata.uns["spatial"] = {name: {"scalefactors": {"tissue_hires_scalef": 1.0, "spot_diameter_fullres": 60.0}}}
        adata.write_h5ad(folder / f"{name}.h5ad")
    return folder


@pytest.fixture(scope="module")
def records(folder) -> list[Record]:
    return cohort.run(folder, seeds=1, say=lambda _: None, **QUICK)


def test_every_way_is_measured_on_every_section_and_on_all(records):
    aurocs = {(r.method, r.setting, r.dataset): r.value for r in records if r.metric == "auroc"}
    ways = [(cohort.EVIDENCE, ""), (cohort.CROSS_FIT, ""), (cohort.TOGETHER, ""), (cohort.MARKED, "")]
    ways += [(cohort.TAUGHT, "score"), (cohort.TAUGHT, "probability")]
    assert list(aurocs) == [(*way, name) for way in ways for name in ("A1", "B1", cohort.POOLED)]
    assert all(0 <= value <= 1 for value in aurocs.values())
    said = cohort.report(records)
    assert all(way in said for way, _ in ways) and "recall_call" in said


def test_tails_are_the_reference_and_as_many_spots_at_the_other_end(folder):
    adata = her2st(folder)
    pp.find_reference(adata, library_key="section")
    classes, evidence = np.asarray(cohort.tails(adata).astype(object)), adata.obs["omib_reference_score"].to_numpy()
    healthy, tumour = classes == "healthy", classes == "tumour"
    assert (healthy == adata.obs["omib_reference"]).all() and healthy.sum() == tumour.sum() > 0
    for section in ("A1", "B1"):
        own = (adata.obs["section"] == section).to_numpy()
        assert evidence[own & tumour].min() >= evidence[own & ~tumour].max()


def test_the_evidence_is_what_find_reference_gives(records, folder):
    adata = her2st(folder)
    pp.find_reference(adata, library_key="section")
    known = (adata.obs["anomaly"] >= 0).to_numpy()
    expected = roc_auc_score(adata.obs["anomaly"][known] == 1, adata.obs["omib_reference_score"][known])
    (value,) = [r.value for r in records if (r.method, r.dataset) == (cohort.EVIDENCE, cohort.POOLED)]
    assert value == pytest.approx(expected)
