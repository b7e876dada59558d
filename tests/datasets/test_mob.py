import os
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.sparse import csr_matrix

from omib_spatial.datasets import mob
from omib_spatial.datasets._mob import ANIMALS
from omib_spatial.datasets._registry import registry, remote_files

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


def write_raw(folder: Path, name: str, adata: ad.AnnData) -> None:
    """Write a section as STUtility has it: all spots of the array, those under tissue selected."""
    column, row = adata.obs["array_col"].to_numpy(), adata.obs["array_row"].to_numpy()
    index = [f"{x}x{y}" for x, y in zip(column, row, strict=True)]
    counts = pd.DataFrame(adata.X.toarray().astype(int), index=index, columns=[f"{gene}.1" for gene in adata.var_names])
    outside = pd.DataFrame(7, index=["1x2"], columns=counts.columns)
    pd.concat([outside, counts]).to_csv(folder / f"{name}.tsv", sep="\t")
    x, y = adata.obsm["spatial"].T
    places = {"x": column, "y": row, "new_x": column, "new_y": row, "pixel_x": x, "pixel_y": y, "selected": 1}
    outside = {"x": 1, "y": 2, "new_x": 1.02, "new_y": 1.98, "pixel_x": 20.0, "pixel_y": 40.0, "selected": 0}
    pd.DataFrame([outside, *pd.DataFrame(places).to_dict("records")]).to_csv(
        folder / f"alignment_table_{name}.tsv", sep="\t", index=False
    )
    Image.new("RGB", (64, 48)).save(folder / f"{name}.jpg")


@pytest.fixture
def section() -> ad.AnnData:
    grid = np.array([[12, 28], [12, 30], [13, 27], [13, 29], [14, 28]])
    adata = ad.AnnData(csr_matrix(np.arange(15, dtype=np.float32).reshape(5, 3)))
    adata.obs["array_col"], adata.obs["array_row"] = grid.T
    adata.var_names = ["ENSMUSG00000064339", "ENSMUSG00000064337", "ENSMUSG00000002985"]
    adata.obsm["spatial"] = grid * [21.5, 24.0]
    return adata


def test_the_files_of_the_repository_read_as_the_converted_ones(section, tmp_path):
    for name in ("MOB1", "MOB3"):
        write_raw(tmp_path, name, section)
    paths = {file.path for file in remote_files(registry()["mob"])}
    assert {path.name for path in tmp_path.iterdir()} == {path for path in paths if "MOB1" in path or "MOB3" in path}
    adata = mob(tmp_path)
    first = adata[adata.obs["section"] == "MOB1"]
    assert list(first.obs_names) == [f"MOB1-MOB1_{x}" for x in ("12x28", "12x30", "13x27", "13x29", "14x28")]
    assert list(adata.var_names) == list(section.var_names) and adata.n_obs == 10
    np.testing.assert_array_equal(first.X.toarray(), section.X.toarray())
    np.testing.assert_array_equal(first.obsm["spatial"], section.obsm["spatial"])
    entry = adata.uns["spatial"]["MOB3"]
    assert entry["scalefactors"] == {"spot_diameter_fullres": pytest.approx(24), "tissue_hires_scalef": 1.0}
    assert entry["images"]["hires"].shape == (48, 64, 3)


def test_what_the_repository_should_have_is_named(section, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"neither MOB1\.h5ad nor MOB1\.tsv.*fetch\('mob'\)"):
        mob(tmp_path)
    write_raw(tmp_path, "MOB1", section)
    (tmp_path / "alignment_table_MOB1.tsv").unlink()
    with pytest.raises(FileNotFoundError, match=r"alignment_table_MOB1\.tsv is missing"):
        mob(tmp_path)


@REAL
def test_a_real_section_survives_the_way_there_and_back(tmp_path):
    own = ad.read_h5ad(DATA / "MOB2.h5ad")
    write_raw(tmp_path, "MOB2", own)
    (tmp_path / "MOB2.jpg").write_bytes((DATA / "MOB2.jpg").read_bytes())
    back, converted = mob(tmp_path), mob(DATA, sections=["MOB2"])
    assert list(back.obs_names) == list(converted.obs_names) and list(back.var_names) == list(converted.var_names)
    assert (back.X != converted.X).nnz == 0
    np.testing.assert_allclose(back.obsm["spatial"], converted.obsm["spatial"], rtol=1e-12)
    slide, known = back.uns["spatial"]["MOB2"], converted.uns["spatial"]["MOB2"]
    assert (slide["images"]["hires"] == known["images"]["hires"]).all()
    diameter = known["scalefactors"]["spot_diameter_fullres"]
    assert slide["scalefactors"]["spot_diameter_fullres"] == pytest.approx(diameter, rel=0.01)


@REAL
def test_the_real_sections_are_two_animals():
    adata = mob(DATA)
    assert list(adata.obs["section"].cat.categories) == [*ANIMALS[0], *ANIMALS[1]]
    assert adata.shape == (1627, 1000) and (adata.X.data == adata.X.data.round()).all()
    assert set(adata.uns["spatial"]) == {*ANIMALS[0], *ANIMALS[1]}
