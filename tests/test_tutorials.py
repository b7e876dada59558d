from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

SMALLER = {
    "quickstart": ("n_slides=6, n_healthy=4,", "n_slides=6, n_healthy=4, n_spots=200,"),
    "your_own_modalities": ("max_epochs=15, warmup_epochs=3,", "max_epochs=4, warmup_epochs=2,"),
}
"""What is changed before a notebook runs here: committed outputs are of the whole, which takes minutes."""
NOTEBOOKS = sorted((Path(__file__).parents[1] / "tutorials").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_from_top_to_bottom(path):
    notebook = nbformat.read(path, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in cells), "commit the notebook executed, with its outputs"
    pictures = sum("image/png" in output.get("data", {}) for cell in cells for output in cell.outputs)
    assert pictures >= 1, "commit the notebook with its pictures"
    before, after = SMALLER[path.stem]
    (cell,) = [cell for cell in cells if before in cell.source]
    cell.source = cell.source.replace(before, after)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(path.parent)}}).execute()
    again = sum("image/png" in output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", []))
    assert again == pictures
