import logging
import os
import re
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from omib_spatial.datasets import her2st
from omib_spatial.datasets._registry import registry, remote_files

DATA = Path(os.environ.get("OMIB_DATA", Path(__file__).parents[2] / "../shared/data")) / "her2st"
REAL = pytest.mark.skipif(not DATA.is_dir(), reason=f"no her2st sections at {DATA}: set OMIB_DATA")
LABELS = ["invasive cancer", "cancer in situ", "adipose tissue", "breast glands", "connective tissue"]
LABELS += ["immune infiltrate", "undetermined"]
TUMOUR = [1, 1, 0, 0, 0, 0, -1]


def section(name: str, *, seed: int = 0) -> ad.AnnData:
    """Seven spots, one of each label, 20 pixels apart, in the form of the converted files."""
    rng = np.random.default_rng(seed)
    grid = np.array([[10, 13], [11, 13], [10, 14], [2, 7], [2, 8], [3, 7], [3, 8]])
    obs = pd.DataFrame({"array_col": grid[:, 0], "array_row": grid[:, 1], "label": LABELS, "anomaly": TUMOUR})
    obs.index = [f"{name}_{x}x{y}" for x, y in grid]
    counts = rng.poisson(2.0, (7, 4)).astype(np.float32)
    adata = ad.AnnData(counts, obs=obs, var=pd.DataFrame(index=["ERBB2", "HLA-A", "FO538757.1", f"OWN{name}"]))
    adata.obsm["spatial"] = grid * 20.0 + rng.uniform(-1, 1, grid.shape)
    return adata


def write_raw(data: Path, name: str, adata: ad.AnnData, *, labels: bool = True, size: tuple[int, int] | None = None):
    """Write a section as almaan/her2st has it."""
    for folder in ("ST-cnts", "ST-spotfiles", "ST-pat/lbl", f"ST-imgs/{name[0]}/{name}"):
        (data / folder).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    column, row = adata.obs["array_col"].to_numpy(), adata.obs["array_row"].to_numpy()
    measured = {"x": (column + rng.uniform(-0.4, 0.4, len(column))).round(3), "y": (row - 0.134).round(3)}
    pixels = dict(zip(("pixel_x", "pixel_y"), adata.obsm["spatial"].T, strict=True))
    X = adata.X if isinstance(adata.X, np.ndarray) else adata.X.toarray()
    counts = pd.DataFrame(X.astype(int), index=[f"{x}x{y}" for x, y in zip(column, row, strict=True)])
    counts.columns = adata.var_names
    counts.to_csv(data / f"ST-cnts/{name}.tsv.gz", sep="\t")
    places = {"x": column, "y": row, "new_x": measured["x"], "new_y": measured["y"], **pixels, "selected": 1}
    pd.DataFrame(places).sample(frac=1, random_state=0).to_csv(selection(data, name), sep="\t", index=False)
    if labels:
        # The pathologist's pixels are those of another picture.
        table = pd.DataFrame({"Row.names": "1002x1762", **measured, "pixel_x": 1.5, "pixel_y": 2.5})
        table["label"] = adata.obs["label"].to_numpy()
        table.sample(frac=1, random_state=1).to_csv(labelled(data, name), sep="\t", index=False)
    if size:
        Image.new("RGB", size, (200, 100, 50)).save(data / f"ST-imgs/{name[0]}/{name}/BT10737_D2_HE.jpg")


def selection(data: Path, name: str) -> Path:
    return data / f"ST-spotfiles/{name}_selection.tsv"


def labelled(data: Path, name: str) -> Path:
    return data / f"ST-pat/lbl/{name}_labeled_coordinates.tsv"


@pytest.fixture
def folder(tmp_path) -> Path:
    write_raw(tmp_path / "data", "A1", section("A1"))
    write_raw(tmp_path / "data", "B4", section("B4", seed=4), labels=False, size=(300, 320))
    return tmp_path


def test_the_repository_reads_as_the_converted_files(folder, caplog):
    with caplog.at_level(logging.INFO, "omib_spatial"):
        adata = her2st(folder)
    assert list(adata.var_names) == ["ERBB2", "HLA-A", "FO538757.1"] and adata.shape == (14, 3)
    first = adata[adata.obs["section"] == "A1"]
    own = section("A1")
    assert list(first.obs_names) == list(own.obs_names)
    np.testing.assert_array_equal(first.X.toarray(), own.X[:, :3])
    np.testing.assert_array_equal(first.obsm["spatial"], own.obsm["spatial"])
    assert first.obs["label"].tolist() == LABELS and first.obs["anomaly"].tolist() == TUMOUR
    assert first.obs["array_col"].tolist() == own.obs["array_col"].tolist()
    assert first.obs["array_row"].tolist() == own.obs["array_row"].tolist()
    assert list(adata.obs["section"].cat.categories) == ["A1", "B4"]
    assert list(adata.obs["patient"].cat.categories) == ["A", "B"]
    assert adata.obs["anomaly"].dtype == int and set(first.obs["label_source"]) == {"pathologist"}
    assert (
        caplog.text.count("omib_spatial.datasets.gene_positions(adata)") == 1 and "nobody labelled B4:" in caplog.text
    )


def test_a_section_without_labels_has_none(folder):
    obs = her2st(folder, sections=["B4"]).obs
    assert set(obs["label"]) == {"unlabelled"} and set(obs["label_source"]) == {"none"} and set(obs["anomaly"]) == {-1}


def test_the_picture_comes_with_scale_factors(folder):
    slides = her2st(folder).uns["spatial"]
    assert set(slides) == {"B4"} and slides["B4"]["images"]["hires"].shape == (320, 300, 3)
    factors = slides["B4"]["scalefactors"]
    assert factors["tissue_hires_scalef"] == 1 and factors["spot_diameter_fullres"] == pytest.approx(10, abs=1)
    bare = her2st(folder, sections=["B4"], images=False)
    assert bare.uns["spatial"]["B4"] == {"scalefactors": factors} and bare.obs["on_image"].all()


def test_the_folder_of_the_data_will_do_and_tables_may_be_unpacked(folder):
    data = folder / "data"
    packed = data / "ST-cnts/A1.tsv.gz"
    pd.read_csv(packed, sep="\t", index_col=0).to_csv(packed.with_suffix(""), sep="\t")
    packed.unlink()
    np.testing.assert_array_equal(her2st(data).X.toarray(), her2st(folder).X.toarray())
    assert her2st(data).n_obs == 14


def test_spots_off_the_picture_are_marked(folder, caplog):
    Image.new("RGB", (300, 270)).save(folder / "data/ST-imgs/B/B4/BT10737_D2_HE.jpg")
    obs = her2st(folder, sections=["B4"]).obs
    assert obs.index[~obs["on_image"]].tolist() == ["B4_10x14"] and "1 of 7 spots lie off" in caplog.text
    Image.new("RGB", (8, 8)).save(folder / "data/ST-imgs/B/B4/BT10737_D2_HE.jpg")
    with pytest.raises(ValueError, match=r"No spot of B4 lies on .*BT10737_D2_HE\.jpg of \(8, 8\) pixels"):
        her2st(folder)
    Image.new("RGB", (8, 8)).save(folder / "data/ST-imgs/B/B4/other.jpg")
    with pytest.raises(ValueError, match=r"holds \['BT10737_D2_HE\.jpg', 'other\.jpg'\]: keep the one"):
        her2st(folder)


def test_labels_need_neither_be_complete_nor_have_a_place(folder, caplog):
    path = labelled(folder / "data", "A1")
    table = pd.read_csv(path, sep="\t")
    gone = table["label"] == "breast glands"
    table.loc[gone, ["x", "y"]] = np.nan
    stray = table[table["label"] == "adipose tissue"].assign(x=30.1, y=30.2)
    pd.concat([table, stray, table.head(1)]).to_csv(path, sep="\t", index=False)
    with caplog.at_level(logging.INFO, "omib_spatial"):
        obs = her2st(folder, sections=["A1"]).obs
    assert obs["label"].tolist() == [name if name != "breast glands" else "unlabelled" for name in LABELS]
    assert obs["anomaly"].tolist() == [1, 1, 0, -1, 0, 0, -1]
    assert "A1: left out 1 labels of spots that are not in the counts" in caplog.text


def test_labels_that_cannot_be_right_are_refused(folder):
    path = labelled(folder / "data", "A1")
    table = pd.read_csv(path, sep="\t")
    table.replace("breast glands", "brest glands").to_csv(path, sep="\t", index=False)
    with pytest.raises(ValueError, match=r"A1_labeled_coordinates\.tsv has the labels \['brest glands'\]"):
        her2st(folder)
    other = table[table["label"] == "adipose tissue"].assign(label="breast glands")
    pd.concat([table, other]).to_csv(path, sep="\t", index=False)
    with pytest.raises(ValueError, match=r"A1_labeled_coordinates\.tsv gives the spots \['10x14'\] different labels"):
        her2st(folder)
    table.assign(x=table["x"] + 50).to_csv(path, sep="\t", index=False)
    with pytest.raises(ValueError, match=r"A1_labeled_coordinates\.tsv labels none of the spots of A1"):
        her2st(folder)
    table.drop(columns="label").to_csv(path, sep="\t", index=False)
    with pytest.raises(KeyError, match=r"A1_labeled_coordinates\.tsv lacks the columns \['label'\]"):
        her2st(folder)


def test_errors_name_the_file_and_the_next_step(folder):
    with pytest.raises(ValueError, match=r"\['Z9'\] are not in .*\['A1', 'B4'\]"):
        her2st(folder, sections=["Z9"])
    selection(folder / "data", "A1").unlink()
    with pytest.raises(FileNotFoundError, match=r"A1_selection\.tsv is missing: download it again"):
        her2st(folder)
    (folder / "nothing").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no data/ST-cnts/A1\.tsv\.gz .*fetch\('her2st'\)"):
        her2st(folder / "nothing")


def test_fetch_leaves_what_the_loader_reads(folder):
    paths = {file.path for file in remote_files(registry()["her2st"])}
    written = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert written == {path for path in paths if re.search(r"/(A1|B4)[._/]", path)}
    counted, placed, labelled, pictured = (
        {re.search(pattern, path)[1] for path in paths if part in path}
        for part, pattern in {
            "cnts": r"/(\w\d)\.",
            "spot": r"/(\w\d)_",
            "lbl": r"/(\w\d)_",
            "imgs": r"/(\w\d)/",
        }.items()
    )
    assert counted == placed and len(counted) == 9
    assert labelled == {"A1", "B1", "C1", "D1", "E1", "G2"} and pictured == {"B4", "C2", "C3"}


@REAL
def test_a_real_section_survives_the_way_there_and_back(tmp_path):
    adata = ad.read_h5ad(DATA / "B4.h5ad")[:, :200].copy()
    adata = adata[adata.obs["label"] != "unlabelled"].copy()
    picture = Image.open(DATA / "B4.jpg").size
    write_raw(tmp_path / "data", "B4", adata, size=picture)
    back = her2st(tmp_path)
    assert list(back.obs_names) == list(adata.obs_names) and list(back.var_names) == list(adata.var_names)
    assert (back.X != adata.X).nnz == 0
    np.testing.assert_allclose(back.obsm["spatial"], adata.obsm["spatial"], rtol=1e-12)
    for key in ("label", "anomaly", "array_row", "array_col", "patient", "on_image"):
        assert back.obs[key].tolist() == adata.obs[key].tolist(), key
    slide = back.uns["spatial"]["B4"]
    assert slide["images"]["hires"].shape == (*picture[::-1], 3)
    converted = adata.uns["spatial"]["B4"]["scalefactors"]["spot_diameter_fullres"]
    assert slide["scalefactors"]["spot_diameter_fullres"] == pytest.approx(converted, rel=0.01)
