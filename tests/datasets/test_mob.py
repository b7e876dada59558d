import os
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from omib_spatial.datasets import mob
from omib_spatial.datasets._mob import ANIMALS

DATA = Path(os.environ.get("OMIB_DATA", Path(__file__).parents[2] / "../shared/data")) / "mob"
REAL = pytest.mark.skipif(not DATA.is_dir(), reason=f"no mob sections at {DATA}: set OMIB_DATA")
FACTORS = {"spot_diameter_fullres": 2.0, "tissue_hires_scalef": 1.0}


@pytest.fixture
def folder(tmp_path) -> Path:
    for number, genes in {1: ["a", "b"], 2: ["b", "c"]}.items():
        name = f"MOB{number}"
        obs = pd.DataFrame({"section": name}, index=["1x1", "1x3"])
        counts = np.full((2, 2), number, np.float32)
        adata = ad.AnnData(counts, obs=obs, var=pd.DataFrame(index=genes), obsm={"spatial": np.ones((2, 2))})
        adata.uns["spatial"] = {name: {"images": {}, "scalefactors": dict(FACTORS)}}
        adata.write_h5ad(tmp_path / f"{name}.h5ad")
        Image.fromarray(np.full((4, 8, 3), 50 * number, np.uint8)).save(tmp_path / f"{name}.jpg")
    return tmp_path


def test_sections_keep_their_counts_and_images(folder):
    adata = mob(folder)
    assert adata.shape == (4, 1) and list(adata.var_names) == ["b"]
    assert list(adata.obs["section"].cat.categories) == ["MOB1", "MOB2"] and adata.obs_names.is_unique
    np.testing.assert_array_equal(adata.X, [[1], [1], [2], [2]])
    for number in (1, 2):
        entry = adata.uns["spatial"][f"MOB{number}"]
        assert entry["images"]["hires"].shape == (4, 8, 3) and (entry["images"]["hires"] == 50 * number).all()
        assert entry["scalefactors"] == FACTORS


def test_sections_can_be_chosen_and_must_be_there(folder):
    assert list(mob(folder, sections=["MOB2"]).uns["spatial"]) == ["MOB2"]
    with pytest.raises(ValueError, match="MOB3"):
        mob(folder, sections=["MOB3"])
    (folder / "MOB1.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"MOB1\.jpg"):
        mob(folder)


@REAL
def test_the_real_sections_are_two_animals():
    adata = mob(DATA)
    assert list(adata.obs["section"].cat.categories) == [*ANIMALS[0], *ANIMALS[1]]
    assert adata.shape == (1627, 1000) and (adata.X.data == adata.X.data.round()).all()
    assert set(adata.uns["spatial"]) == {*ANIMALS[0], *ANIMALS[1]}
