"""Tutorials are committed executed, and run again: the quick ones here, all with ``OMIB_TUTORIALS=all`` set."""

import os
import re
from pathlib import Path

import anndata as ad
import nbformat
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from nbclient import NotebookClient

import omib_spatial as omib
from omib_spatial.slides.gene_table import gene_table

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("OMIB_DATA", ROOT / "../shared/data")).resolve()
NOTEBOOKS = sorted((ROOT / "tutorials").glob("*.ipynb"))
EPOCHS = ("EPOCHS = None", "EPOCHS = 6")
SMALLER = {
    "explaining": [EPOCHS],
    "healthy_reference_and_patients": [EPOCHS],
    "histology_with_a_pathology_model": [EPOCHS],
    "pathologist_in_the_loop": [EPOCHS],
    "quickstart": [("n_slides=6, n_healthy=4,", "n_slides=6, n_healthy=4, n_spots=200,")],
    "ten_slides_one_cohort": [EPOCHS],
    "the_paper": [("--max-epochs 20", "--max-epochs 6")],
    "visium_from_space_ranger": [EPOCHS],
    "visium_hd": [("N_REFERENCE, N_BINS = 10_000, 60_000", "N_REFERENCE, N_BINS = 1_000, 3_000")],
    "your_own_modalities": [("max_epochs=15, warmup_epochs=3,", "max_epochs=4, warmup_epochs=2,")],
}
"""What is changed before a notebook runs here: committed outputs are of the whole, which takes minutes."""
NEEDS = {
    "explaining": "her2st",
    "healthy_reference_and_patients": "her2st",
    "histology_with_a_pathology_model": "her2st",
    "pathologist_in_the_loop": "her2st",
    "ten_slides_one_cohort": "her2st",
    "visium_from_space_ranger": "crc16_outs",
}
QUICK = {"quickstart", "your_own_modalities"}


def execute(path: Path, changes: list[tuple[str, str]]) -> nbformat.NotebookNode:
    """Run a notebook with some of its text exchanged, on this checkout's package."""
    notebook = nbformat.read(path, as_version=4)
    for before, after in changes:
        (cell,) = [cell for cell in notebook.cells if cell.cell_type == "code" and before in cell.source]
        cell.source = cell.source.replace(before, after)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(path.parent)}}).execute()
    return notebook


def pictures(notebook: nbformat.NotebookNode) -> int:
    return sum("image/png" in output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", []))


@pytest.fixture(autouse=True)
def this_checkout(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMIB_DATA", str(DATA))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_is_committed_executed_small_and_in_form(path):
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code), "commit the notebook executed, with its outputs"
    assert pictures(notebook) >= 1, "commit the notebook with its pictures"
    assert path.stat().st_size < 1_500_000, "draw with a lower figure.dpi"
    words = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    for part in (
        "**What it shows.**",
        "**What it needs.**",
        "**How long.**",
        "**What to conclude.**",
        "## What to conclude",
    ):
        assert part in words, f"say {part}"
    assert "datasets.fetch(" in "\n".join(cell.source for cell in notebook.cells), "say how the real data are fetched"
    outputs = str([cell.outputs for cell in code])
    assert not re.search(r"/(home|work|root|tmp|usr)/\w+", re.sub(r"'image/png': '[^']*'", "", outputs)), (
        "no machine paths"
    )
    assert not [cell for cell in code for output in cell.outputs if output.output_type == "error"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_from_top_to_bottom(path):
    name = path.stem
    if name in NEEDS and not (DATA / NEEDS[name]).is_dir():
        pytest.skip(f"no {NEEDS[name]} in {DATA}: set OMIB_DATA")
    if name not in QUICK and os.environ.get("OMIB_TUTORIALS") != "all":
        pytest.skip("takes a minute or more: set OMIB_TUTORIALS=all, or run make tutorials")
    again = execute(path, SMALLER[name])
    assert pictures(again) == pictures(nbformat.read(path, as_version=4))


def write_hbca(folder: Path, n: int = 100) -> None:
    """Two small files as CELLxGENE has HBCA's sections: scaled values in X, raw counts in raw.X, Ensembl ids."""
    genes = gene_table("human").query("chromosome == '1' or chromosome == '8'").head(300)
    ids = genes["ensembl"]
    for seed, (name, donor) in enumerate({"V03": "p1", "V04": "p2"}.items()):
        counts = sp.csr_matrix(np.random.default_rng(seed).poisson(1.5, (n, len(ids))), dtype=np.float32)
        section = ad.AnnData(
            counts, var=pd.DataFrame({"feature_name": genes["symbol"].to_numpy()}, index=ids.to_numpy(object))
        )
        section.obs_names = [f"{i:016d}-1" for i in range(n)]
        section.raw = section
        section.X = np.log1p(counts.toarray())
        section.obs["donor_id"] = donor
        section.obsm["spatial"] = 100.0 * np.argwhere(np.ones((10, n // 10)))
        picture = np.full((110, 110, 3), 220, np.uint8)
        factors = {"spot_diameter_fullres": 60.0, "tissue_hires_scalef": 0.1}
        section.uns["spatial"] = {"is_single": np.True_, name: {"images": {"hires": picture}, "scalefactors": factors}}
        section.write_h5ad(folder / f"{name}.h5ad")


def test_the_cells_for_hbca_read_its_layout(tmp_path):
    write_hbca(tmp_path)
    notebook = nbformat.read(ROOT / "tutorials/healthy_reference_and_patients.ipynb", as_version=4)
    (cell,) = [cell for cell in notebook.cells if "def read_hbca" in cell.source]
    source = cell.source.split("def part(")[0]
    names: dict = {"omib": omib}
    exec(source, names)
    adata = names["read_hbca"](tmp_path)
    assert adata.shape == (200, 300) and set(adata.uns["spatial"]) == {"V03", "V04"}
    assert (adata.X.data % 1 == 0).all() and adata.obs["healthy"].all()
    assert adata.obs.groupby("patient", observed=True)["section"].unique().map(list).to_dict() == {
        "p1": ["V03"],
        "p2": ["V04"],
    }
    assert adata.obs_names.is_unique and adata.var["gene_ids"].iloc[0].startswith("ENSG")
