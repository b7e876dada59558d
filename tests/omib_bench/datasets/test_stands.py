import gzip
import json

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from omib_spatial.datasets import stands_pdac, stands_rcc

GENES = ["A", "B", "C"]


def write_sample(folder, sample, n, seed):
    """What GEO has of one sample of GSE175540: an h5 matrix, and the files of `spatial`, gzipped, under one prefix."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 5, (n, 3)).astype(np.int32)
    barcodes = [f"AAAC{seed}{i}-1" for i in range(n)]
    with h5py.File(folder / f"{sample}_filtered_feature_bc_matrix.h5", "w") as file:
        matrix = file.create_group("matrix")
        matrix["data"], matrix["indices"] = counts.ravel(), np.tile(np.arange(3), n)
        matrix["indptr"], matrix["shape"] = np.arange(0, 3 * n + 1, 3), np.array([3, n])
        matrix["barcodes"] = np.array(barcodes, "S")
        features = matrix.create_group("features")
        features["id"], features["name"] = np.array([f"ENSG{i}" for i in range(3)], "S"), np.array(GENES, "S")
        features["feature_type"] = np.array(["Gene Expression"] * 3, "S")
        features["genome"] = np.array(["GRCh38"] * 3, "S")
    rows = [f"{b},1,{i},{i},{100 * i + seed},{50 * i}" for i, b in enumerate(barcodes)]
    factors = {"tissue_hires_scalef": 0.1, "tissue_lowres_scalef": 0.03, "spot_diameter_fullres": 30.0}
    written = {
        "tissue_positions_list.csv": "\n".join(rows).encode(),
        "scalefactors_json.json": json.dumps(factors).encode(),
    }
    for name, content in written.items():
        with gzip.open(folder / f"{sample}_{name}.gz", "wb") as file:
            file.write(content)
    Image.fromarray(rng.integers(0, 255, (20, 20, 3)).astype(np.uint8)).save(folder / "x.png")
    for name in ("tissue_hires_image.png", "tissue_lowres_image.png"):
        with gzip.open(folder / f"{sample}_{name}.gz", "wb") as file:
            file.write((folder / "x.png").read_bytes())
    (folder / "x.png").unlink()
    return counts


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_samples_of_one_folder_are_told_apart(tmp_path):
    samples = {"ffpe_c_2": 30, "frozen_a_1": 31}
    expected = {s: write_sample(tmp_path, f"GSM59240{n}_{s}", 6, n) for s, n in samples.items()}
    adata = stands_rcc(tmp_path)
    assert adata.obs["section"].tolist() == ["ffpe_c_2"] * 6 + ["frozen_a_1"] * 6 and adata.obs_names.is_unique
    for name, counts in expected.items():
        own = adata[adata.obs["section"] == name]
        np.testing.assert_array_equal(own.X.toarray(), counts)
        np.testing.assert_array_equal(own.obsm["spatial"][:, 1], 100 * np.arange(6) + samples[name])
        assert adata.uns["spatial"][name]["images"]["hires"].shape == (20, 20, 3)
    assert set(stands_rcc(tmp_path, sections=["frozen_a_1"]).obs["section"]) == {"frozen_a_1"}
    with pytest.raises(ValueError, match="nope"):
        stands_rcc(tmp_path, sections=["nope"])


def write_table(path, table):
    with gzip.open(path, "wt") as file:
        table.to_csv(file, sep="\t", index_label="Genes")


def test_arrays_are_read_either_way_round_and_cells_left_alone(tmp_path):
    first = pd.DataFrame(np.arange(12).reshape(4, 3), index=[*GENES, "B"], columns=["10x13", "11x13", "10x14"])
    second = pd.DataFrame(np.arange(6).reshape(2, 3), index=["2x3", "4x3"], columns=GENES)
    write_table(tmp_path / "GSM3036911_PDAC-A-ST1-filtered.txt.gz", first)
    write_table(tmp_path / "GSM3405534_PDAC-B-ST1-filtered.txt.gz", second)
    write_table(tmp_path / "GSE111672_PDAC-A-indrop-filtered-expMat.txt.gz", first)
    (tmp_path / "GSM3036911_PDAC-A-ST1-HE.jpg.gz").write_bytes(b"")
    adata = stands_pdac(tmp_path)
    assert list(adata.obs["section"].cat.categories) == ["PDAC-A-ST1", "PDAC-B-ST1"]
    assert list(adata.obs["patient"].cat.categories) == ["PDAC-A", "PDAC-B"]
    # The gene that stands twice is left out of the section, and so of what they share.
    assert sorted(adata.var_names) == ["A", "C"]
    own = adata[adata.obs["section"] == "PDAC-A-ST1", ["A", "C"]]
    np.testing.assert_array_equal(own.X.toarray(), [[0, 6], [1, 7], [2, 8]])
    np.testing.assert_array_equal(own.obsm["spatial"], 200.0 * np.array([[10, 13], [11, 13], [10, 14]]))
    assert adata.uns["spatial"]["PDAC-B-ST1"]["scalefactors"]["spot_diameter_fullres"] == 100.0


def test_what_is_not_there_or_no_array_is_named(tmp_path):
    for read, what in ((stands_rcc, "feature_bc_matrix"), (stands_pdac, "PDAC-A-ST1")):
        with pytest.raises(FileNotFoundError, match=what):
            read(tmp_path)
    write_table(tmp_path / "GSM1_P-ST1.txt.gz", pd.DataFrame({"cell1": [1], "cell2": [2]}, index=["A"]))
    with pytest.raises(ValueError, match=r"no places such as 10x13.*'A'"):
        stands_pdac(tmp_path)
