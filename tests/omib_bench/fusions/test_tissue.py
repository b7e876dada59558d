import os
from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
import pytest

from omib_bench import Record, fusions
from omib_bench.fusions._tissue import objective_of
from omib_spatial.detector.objective import OBJECTIVES, SVDD

DATA = Path(os.environ.get("OMIB_DATA", Path(__file__).parents[3].parent / "shared" / "data")) / "her2st"
real = pytest.mark.skipif(not (DATA / "B4.h5ad").is_file(), reason=f"no her2st in {DATA}")


QUICK = replace(SVDD.config, beta=1e-3, latent_dim=8, warmup_epochs=0)


@real
def test_rivals_go_through_the_fit_of_tissue(tmp_path):
    for section in ("A1", "B4", "D1"):
        part = ad.read_h5ad(DATA / f"{section}.h5ad")
        part[:, np.asarray(part.X.sum(0)).ravel().argsort()[-300:]].copy().write_h5ad(tmp_path / f"{section}.h5ad")
    rivals = {"CMIB": fusions.RIVALS["CMIB"]}
    quick = {"modalities": ["gene", "genome"], "max_epochs": 2, "config": QUICK}
    lines: list[str] = []
    records = fusions.run_tissue(tmp_path, rivals, ours=False, patients=["B"], say=lines.append, **quick)
    auroc = [r for r in records if r.metric == "auroc"]
    assert [(r.dataset, r.method) for r in auroc] == [("B4", "CMIB")] and np.isfinite(auroc[0].value)
    distinct = next(r.value for r in records if r.metric == "distinct")
    assert distinct > 0.9
    assert next(r.value for r in records if r.metric == "parameters") > 1000
    assert len(lines) == 1 and "CMIB, without patient B: AUROC B4" in lines[0]
    assert set(OBJECTIVES) == {"reconstruction", "summaries", "svdd", "classification"}
    with pytest.raises(KeyError, match=r"no patient \['X'\]; there are \['A', 'B', 'D'\]"):
        fusions.run_tissue(tmp_path, rivals, patients=["X"])


def test_a_rival_takes_the_place_of_omib_in_an_objective_of_its_own():
    objective = objective_of(fusions.RIVALS["MISA"])
    assert objective.config.warmup_epochs == 0
    assert objective.config.max_epochs == OBJECTIVES["svdd"].config.max_epochs
    assert objective.name not in OBJECTIVES


def test_report_has_the_mean_over_sections_and_the_papers_numbers():
    records = [
        Record("fusions", section, "MISA", "", seed, "auroc", value + seed / 10)
        for section, value in (("A1", 0.4), ("B1", 0.6))
        for seed in range(2)
    ]
    records += [Record("fusions", "OMIB", "OMIB", "paper", 0, "auroc", 0.7)]
    records += [
        Record("fusions", "without A", "MISA", "", s, m, 10.0) for s in range(2) for m in ("parameters", "seconds")
    ]
    text = fusions.report_tissue(records)
    assert text.splitlines()[1].split("  ")[-1] == "0.550 ± 0.071"
    assert "The paper" in text and "0.700" in text and "parameters:" in text
