import os
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from omib_spatial.datasets import her2st
from omib_spatial.slides.counts import check_counts
from omib_spatial.slides.validation import check_coordinates, check_images

DATA = Path(os.environ.get("OMIB_DATA", Path(__file__).parents[2] / "../shared/data")) / "her2st"
REAL = pytest.mark.skipif(not DATA.is_dir(), reason=f"no her2st sections at {DATA}: set OMIB_DATA")
GENES = {"A1": ["g1", "g2", "g3"], "B1": ["g3", "g0", "g1"], "B2": ["g1", "g3", "g9"]}
FACTORS = {"spot_diameter_fullres": 2.0, "tissue_hires_scalef": 1.0}


def write(folder: Path, section: str, genes: list[str], *, entry: bool, image: bool) -> None:
    obs = pd.DataFrame(
        {"section": "wrong", "patient": section[0], "anomaly": np.array([1, 0, -1], np.int8), section: 1},
        index=[f"{section}_{i}" for i in range(3)],
    )
    counts = np.arange(9, dtype=np.float32).reshape(3, 3) + ord(section[0])
    var = pd.DataFrame({"start": [int(g[1:]) for g in genes]}, index=genes)
    adata = ad.AnnData(counts, obs=obs, var=var, obsm={"spatial": np.array([[1.0, 1], [4, 2], [6, 3]])})
    if entry:
        adata.uns["spatial"] = {section: {"images": {}, "scalefactors": dict(FACTORS)}}
    adata.write_h5ad(folder / f"{section}.h5ad")
    if image:
        Image.fromarray(np.full((4, 8), 77, np.uint8)).save(folder / f"{section}.jpg")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, "A1", GENES["A1"], entry=True, image=True)
    write(tmp_path, "B1", GENES["B1"], entry=False, image=True)
    write(tmp_path, "B2", GENES["B2"], entry=True, image=False)
    return tmp_path


def test_sections_are_joined_on_shared_genes(folder):
    adata = her2st(folder)
    assert adata.shape == (9, 2)
    assert list(adata.var_names) == ["g1", "g3"] and list(adata.var["start"]) == [1, 3]
    assert list(adata.obs["section"].cat.categories) == ["A1", "B1", "B2"]
    assert list(adata.obs["section"]) == ["A1"] * 3 + ["B1"] * 3 + ["B2"] * 3
    assert adata.obs["patient"].dtype == "category" and list(adata.obs["patient"]) == ["A"] * 3 + ["B"] * 6
    assert adata.obs["anomaly"].dtype == int and list(adata.obs["anomaly"]) == [1, 0, -1] * 3
    for section, genes in GENES.items():
        own = ad.read_h5ad(folder / f"{section}.h5ad")
        np.testing.assert_array_equal(adata[adata.obs["section"] == section].X, own[:, ["g1", "g3"]].X)
        assert genes != list(adata.var_names)


def test_uns_holds_what_a_section_has(folder):
    slides = her2st(folder).uns["spatial"]
    # B1 has a picture, but nothing says where its spots lie on it.
    assert set(slides) == {"A1", "B2"}
    assert slides["A1"]["scalefactors"] == FACTORS == slides["B2"]["scalefactors"]
    assert "images" not in slides["B2"]
    pixels = slides["A1"]["images"]["hires"]
    assert pixels.shape == (4, 8, 3) and pixels.dtype == np.uint8 and (abs(pixels.astype(int) - 77) <= 2).all()


def test_images_can_be_left_out(folder):
    assert all("images" not in slide for slide in her2st(folder, images=False).uns["spatial"].values())


def test_sections_are_chosen_in_order(folder):
    assert list(dict.fromkeys(her2st(folder, sections=["B2", "A1"]).obs["section"])) == ["B2", "A1"]


def test_result_is_written_and_read(folder, tmp_path):
    adata = her2st(folder)
    adata.write_h5ad(tmp_path / "all.h5ad")
    assert ad.read_h5ad(tmp_path / "all.h5ad").obs.equals(adata.obs)


def test_limit_of_pillow_is_lifted_and_restored(folder, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(folder / "A1.jpg")
    assert her2st(folder).uns["spatial"]["A1"]["images"]["hires"].shape == (4, 8, 3)
    assert Image.MAX_IMAGE_PIXELS == 2
    (folder / "A1.jpg").write_bytes(b"no picture")
    with pytest.raises(OSError, match="A1.jpg"):
        her2st(folder)
    assert Image.MAX_IMAGE_PIXELS == 2


def test_errors_name_what_is_missing(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        her2st(tmp_path / "nowhere")
    (empty := tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="empty holds no .h5ad"):
        her2st(empty)
    with pytest.raises(ValueError, match=r"\['Z9'\] are not in .*\['A1', 'B1', 'B2'\]"):
        her2st(folder, sections=["A1", "Z9"])
    with pytest.raises(ValueError, match=r"sections is \[\]"):
        her2st(folder, sections=[])
    adata = ad.read_h5ad(folder / "B1.h5ad")
    del adata.obs["anomaly"]
    adata.write_h5ad(folder / "B1.h5ad")
    with pytest.raises(KeyError, match=r"B1.h5ad has no obs columns \['anomaly'\]"):
        her2st(folder)


@REAL
def test_real_sections_pass_every_check():
    adata = her2st(DATA)
    assert adata.obs_names.is_unique and adata.obs["section"].nunique() == 9
    assert list(adata.obs["patient"].cat.categories) == list("ABCDEG")
    assert {1, 0, -1} == set(adata.obs["anomaly"])
    assert (adata.obs["section"].str[0] == adata.obs["patient"].astype(str)).all()
    check_counts(adata)
    check_coordinates(adata, library_key="section")
    assert list(check_images(adata, library_key="section", required=True)) == ["A1", "B4", "C2", "C3"]
