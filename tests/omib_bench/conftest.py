from pathlib import Path

import pytest
from PIL import Image

from omib_spatial.datasets import simulate_tissue


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """Three patients, four sections of 80 spots; A2 and C1 have no image, and no entry in uns at all."""
    folder = tmp_path_factory.mktemp("her2st")
    tissue = simulate_tissue(4, n_spots=80, n_genes=60, n_healthy=0)
    for section, slide in {"A1": "slide1", "A2": "slide2", "B1": "slide3", "C1": "slide4"}.items():
        adata = tissue[tissue.obs["library_id"] == slide].copy()
        adata.obs_names = [f"{section}_{i}" for i in range(80)]
        adata.obs = adata.obs[["anomaly"]].astype(int).assign(patient=section[0])
        adata.obs.iloc[:5, 0] = -1
        entry = adata.uns.pop("spatial")[slide]
        if section in ("A1", "B1"):
            Image.fromarray(entry.pop("images")["hires"]).save(folder / f"{section}.jpg")
            adata.uns["spatial"] = {section: entry}
        adata.write_h5ad(folder / f"{section}.h5ad")
    return folder
