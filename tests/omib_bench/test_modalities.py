"""Every choice of modalities with and without the code: what the rows are means of."""

import numpy as np
import pytest

from omib_bench import modalities, read_json
from omib_bench._records import Record
from omib_bench.modalities import METHODS, SummariesAlone
from omib_spatial import tl
from omib_spatial.cli import app
from omib_spatial.datasets import simulate_tissue


def row(dataset: str, setting: str, value: float, seed: int = 0) -> Record:
    return Record("her2st", dataset, "omib reconstruction", setting, seed, "auroc", value)


def test_rows_of_her2st_are_means_of_the_sections_that_have_the_modalities():
    records = [
        row("A1", "image", 0.5),
        row("A1", "gene", 0.7),
        row("E1", "gene", 0.9),
        row("A1", "gene", 0.1, seed=1),
        row("E1", "gene", 0.3, seed=1),
        row("all", "gene", 0.0),
        row("A1", "gene", 1.0)._replace(metric="recall_call"),
        row("A1", "total counts", 1.0)._replace(method="total counts"),
    ]
    found = {(r.dataset, r.setting, r.seed): r.value for r in modalities._her2st(records, "x")}
    assert found == {
        ("her2st", "gene", 0): pytest.approx(0.8),
        ("her2st", "gene", 1): pytest.approx(0.2),
        ("her2st: image", "image", 0): 0.5,
        ("her2st: image", "gene", 0): 0.7,
        ("her2st: image", "gene", 1): 0.1,
        ("her2st: E1", "gene", 0): 0.9,
        ("her2st: E1", "gene", 1): 0.3,
    }


def test_without_the_code_the_score_is_the_summaries_and_hears_nothing_of_the_network():
    adata = simulate_tissue(3, n_spots=80, n_genes=60, n_healthy=2, image=False)
    given = {"library_key": "library_id", "reference_key": "healthy", "modalities": ["gene"], "seed": 0}
    scores = []
    for rate in (1e-3, 1e-2):
        objective = SummariesAlone()
        objective.config = objective.config.__class__(**(vars(objective.config) | {"learning_rate": rate}))
        model = tl.fit(adata, objective=objective, enable_progress_bar=False, **given)
        assert all(None not in parts for parts in model.distances.values())
        scores.append(adata.obs["omib_score"].to_numpy())
    np.testing.assert_array_equal(*scores)
    tl.fit(adata, enable_progress_bar=False, max_epochs=6, **given)
    assert np.abs(adata.obs["omib_score"] - scores[0]).max() > 1e-3


def test_the_command_writes_both_tables(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    run = modalities.demo.run
    monkeypatch.setattr(
        modalities.demo,
        "run",
        lambda **given: run(n_slides=3, n_healthy=2, n_spots=80, settings=("gene", "image"), **given),
    )
    monkeypatch.setattr(modalities.demo, "SETTINGS", ("gene", "image"))
    path = tmp_path / "m.json"

    result = CliRunner().invoke(app, ["bench", "modalities", "--seeds", "1", "--max-epochs", "6", "--out", str(path)])
    assert result.exit_code == 0, result.output
    records = read_json(path)
    assert {r.method for r in records} == set(METHODS)
    assert {r.dataset for r in records} == {f"simulated: {k}" for k in ("expression", "morphology", "both")}
    assert {r.setting for r in records} == {"gene", "image"}
    assert all(text in result.output for text in ("AUROC, with the code", "AUROC, without the code"))
