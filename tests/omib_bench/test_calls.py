import numpy as np
import pytest

import omib_spatial as omib
from omib_bench.calls import QUESTIONS, call_records
from omib_spatial._keys import ABNORMAL

QUICK = {"max_epochs": 4, "enable_progress_bar": False, "library_key": "section", "modalities": ["gene"]}


@pytest.fixture(scope="module")
def scored():
    """One healthy slide and one with anomalies, of which some spots are unknown, by a model of three healthy ones."""
    adata = omib.datasets.simulate_tissue(5, n_healthy=4, n_spots=150, n_genes=150, image=False, seed=3)
    adata.obs["section"] = adata.obs["library_id"].astype(str)
    adata.obs["anomaly"] = adata.obs["anomaly"].astype(int)
    train = adata[~adata.obs["section"].isin(["slide4", "slide5"])].copy()
    model = omib.tl.fit(train, all_healthy=True, **QUICK)
    target = adata[adata.obs["section"].isin(["slide4", "slide5"])].copy()
    target.obs.iloc[-20:, target.obs.columns.get_loc("anomaly")] = -1
    omib.tl.score(target, model)
    return target, model


def test_questions_are_measured_on_slides_as_they_are_and_without_their_anomalies(scored):
    target, model = scored
    values = {(r.dataset, r.method, r.metric): r.value for r in call_records("b", target, model, "ours", "gene")}
    assert {method for _, method, _ in values} == {f"ours, {asked}" for asked in QUESTIONS}
    for asked, arguments in QUESTIONS.items():
        name, found = f"ours, {asked}", target.copy()
        omib.tl.call(found, **arguments)
        rows = (found.obs["section"] == "slide5").to_numpy()
        called = (found.obs["omib_call"][rows] == ABNORMAL).to_numpy()
        truth = found.obs["anomaly"].to_numpy()[rows]
        assert values["slide5", name, "found"] == called[truth == 1].mean()
        wrong = (called & (truth == 0)).sum() / max((called & (truth >= 0)).sum(), 1)
        assert values["slide5", name, "false"] == pytest.approx(wrong)
        assert np.isnan(values["slide4", name, "found"])
        healthy = found[(found.obs["anomaly"] == 0).to_numpy()].copy()
        omib.tl.score(healthy, model)
        omib.tl.call(healthy, **arguments)
        expected = healthy.obs["omib_anomaly"][healthy.obs["section"] == "slide5"].mean()
        assert values["slide5", name, "healthy_called"] == expected
        # Of the slide that has no anomaly nothing is taken away.
        assert values["slide4", name, "abnormal"] == values["slide4", name, "healthy_abnormal"]
