import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix, random

from omib_spatial.datasets import cellxgene
from omib_spatial.datasets._cellxgene import is_cellxgene

SYMBOLS = ["EPCAM", "TBCE", "TBCE", None, "KRT8", "ACTB"]
"""As in CELLxGENE's files: two genes share a symbol, one has none."""


def write_section(path, name, *, n=12, seed=0, beside=3, several=False):
    """One data set of the schema: X normalised and filtered, raw.X raw, Ensembl ids, feature_name, image in uns."""
    rng = np.random.default_rng(seed)
    counts = csr_matrix(random(n, 6, 0.6, random_state=seed).toarray() * 20 // 1, dtype=np.float32)
    var = pd.DataFrame(
        {"feature_name": SYMBOLS, "feature_is_filtered": False}, index=[f"ENSG{i:011d}" for i in range(6)]
    )
    in_tissue = np.r_[np.zeros(beside, int), np.ones(n - beside, int)]
    obs = pd.DataFrame({"in_tissue": in_tissue, "donor_id": f"donor{seed}"}, index=[f"AAAC{i}-1" for i in range(n)])
    normalised = counts.copy()
    normalised.data = np.log1p(normalised.data)
    adata = ad.AnnData(normalised, obs=obs, var=var)
    adata.raw = ad.AnnData(counts, obs=obs, var=var.drop(columns="feature_is_filtered"))
    adata = adata[:, :5].copy()  # raw keeps genes that X has lost
    adata.obsm["spatial"] = rng.permutation(np.arange(2 * n)).reshape(n, 2).astype(float)
    if several:
        adata.obs["sample_id"] = np.where(np.arange(n) % 2, f"{name}b", f"{name}a")
        adata.uns["spatial"] = {"is_single": False}
    else:
        factors = {"tissue_hires_scalef": 0.1, "spot_diameter_fullres": 9.0}
        image = rng.integers(0, 255, (8, 9, 3)).astype(np.uint8)
        adata.uns["spatial"] = {"is_single": True, name: {"images": {"hires": image}, "scalefactors": factors}}
    adata.write_h5ad(path)
    return counts.toarray()[beside:]


def test_layout_of_cellxgene_becomes_sections_with_raw_counts_symbols_places_and_images(tmp_path, caplog):
    caplog.set_level("INFO", "omib_spatial")
    expected = [write_section(tmp_path / f"{i}.h5ad", name, seed=i) for i, name in enumerate(("V03", "V04"))]
    adata = cellxgene(tmp_path)
    assert adata.obs["section"].tolist() == ["V03"] * 9 + ["V04"] * 9
    np.testing.assert_array_equal(adata.X.toarray(), np.vstack(expected))
    assert adata.var_names.tolist() == [
        "EPCAM",
        "ENSG00000000001",
        "ENSG00000000002",
        "ENSG00000000003",
        "KRT8",
        "ACTB",
    ]
    assert adata.var["gene_ids"].tolist() == [f"ENSG{i:011d}" for i in range(6)]
    assert set(adata.uns["spatial"]) == {"V03", "V04"}
    assert adata.uns["spatial"]["V04"]["images"]["hires"].shape == (8, 9, 3)
    assert float(adata.uns["spatial"]["V03"]["scalefactors"]["tissue_hires_scalef"]) == 0.1
    assert adata.obs_names.is_unique and adata.obs_names[0] == "V03_AAAC3-1"
    assert adata.obs["donor_id"].unique().tolist() == ["donor0", "donor1"]
    assert "left out 3 spots that lie beside the tissue" in caplog.text
    assert cellxgene(tmp_path, sections=["V04"]).uns["spatial"].keys() == {"V04"}


def test_one_file_with_several_sections_is_told_apart_by_its_column(tmp_path):
    counts = write_section(tmp_path / "all.h5ad", "V", several=True)
    adata = cellxgene(tmp_path / "all.h5ad")
    assert set(adata.obs["section"]) == {"Va", "Vb"} and adata.uns["spatial"] == {}
    np.testing.assert_array_equal(adata.X.toarray(), counts)
    given = ad.read_h5ad(tmp_path / "all.h5ad")
    del given.obs["sample_id"]
    given.obs["which"] = ["p", "q"] * 6
    given.obsm["spatial"][:] = given.obsm["spatial"][:1]
    given.write_h5ad(tmp_path / "all.h5ad")
    with pytest.raises(ValueError, match=r"pass section_key.*'which'"):
        cellxgene(tmp_path)
    with pytest.raises(KeyError, match="no obs column 'nope'"):
        cellxgene(tmp_path, section_key="nope")


def test_what_is_wrong_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no \.h5ad file"):
        cellxgene(tmp_path)
    write_section(tmp_path / "a.h5ad", "V03")
    assert is_cellxgene(tmp_path / "a.h5ad")
    with pytest.raises(KeyError, match=r"\['V09'\].*'V03'"):
        cellxgene(tmp_path, sections=["V09"])
    (tmp_path / "b.h5ad").write_bytes((tmp_path / "a.h5ad").read_bytes())
    with pytest.raises(ValueError, match=r"\['V03'\] are in more than one file"):
        cellxgene(tmp_path)
    (tmp_path / "b.h5ad").unlink()
    given = ad.read_h5ad(tmp_path / "a.h5ad")
    given.raw = None
    given.write_h5ad(tmp_path / "a.h5ad")
    with pytest.raises(ValueError, match="X holds no counts"):
        cellxgene(tmp_path)
    del given.obsm["spatial"]
    given.write_h5ad(tmp_path / "a.h5ad")
    with pytest.raises(KeyError, match="no obsm"):
        cellxgene(tmp_path)
