import gzip
from pathlib import Path

import anndata as ad
import numpy as np
import pytest

from omib_spatial.datasets import _gencode, gene_positions
from omib_spatial.datasets._registry import registry, remote_files
from omib_spatial.modalities import Genome
from omib_spatial.slides import Tissue

LINES = [
    "##provider: GENCODE",
    'chr1\tHAVANA\tgene\t100\t900\t.\t+\t.\tgene_id "ENSG00000000001.5"; gene_type "x"; gene_name "ABC"; level 2;',
    'chr1\tHAVANA\ttranscript\t100\t500\t.\t+\t.\tgene_id "ENSG00000000001.5"; gene_name "ABC";',
    'chr2\tHAVANA\tgene\t7\t8\t.\t-\t.\tgene_id "ENSG00000000002.1"; gene_type "x"; gene_name "DEF"; level 1;',
    'chrX\tHAVANA\tgene\t30\t40\t.\t-\t.\tgene_id "ENSG00000000003.9_PAR_Y"; gene_name "HI";',
    'chrY\tHAVANA\tgene\t50\t60\t.\t-\t.\tgene_id "ENSG00000000004.2"; gene_name "HI";',
]


def adata(names: list[str]) -> ad.AnnData:
    found = ad.AnnData(np.ones((2, len(names)), np.float32))
    found.var_names = names
    return found


@pytest.fixture(params=[True, False])
def gtf(request, tmp_path) -> Path:
    text = "\n".join(LINES) + "\n"
    path = tmp_path / ("a.gtf.gz" if request.param else "a.gtf")
    path.write_bytes(gzip.compress(text.encode()) if request.param else text.encode())
    return path


def test_genes_are_placed_by_name_in_the_order_of_var(gtf):
    found = adata(["HI", "nowhere", "ABC"])
    gene_positions(found, gtf)
    assert found.var["chromosome"].tolist()[::2] == ["chrX", "chr1"] and found.var["chromosome"].isna().tolist()[1]
    np.testing.assert_array_equal(found.var["start"], [30, np.nan, 100])
    np.testing.assert_array_equal(found.var["end"], [40, np.nan, 900])


@pytest.mark.parametrize("names", [["ENSG00000000002", "ENSG00000000001"], ["ENSG00000000002.7", "ENSG00000000001.5"]])
def test_genes_are_placed_by_id_whatever_the_version(gtf, names):
    found = adata(names)
    gene_positions(found, gtf)
    assert found.var["chromosome"].tolist() == ["chr2", "chr1"] and found.var["start"].tolist() == [7, 100]


def test_the_genome_modality_reads_them_and_files_keep_them(gtf, tmp_path):
    found = adata(["ABC", "DEF", "HI"])
    gene_positions(found, gtf)
    found.write_h5ad(tmp_path / "a.h5ad")
    back = ad.read_h5ad(tmp_path / "a.h5ad")
    assert back.var["chromosome"].tolist() == ["chr1", "chr2", "chrX"]
    assert not Genome.offered(Tissue(back))  # too few genes per chromosome, but the columns are there


def test_errors_say_what_to_do(gtf, tmp_path):
    with pytest.raises(ValueError, match="check the species"):
        gene_positions(adata(["Abc", "Def"]), gtf)
    with pytest.raises(FileNotFoundError):
        gene_positions(adata(["ABC"]), tmp_path / "none.gtf")
    with pytest.raises(ValueError, match="'human', 'mouse'"):
        gene_positions(adata(["ABC"]), species="fly")
    with pytest.raises(ValueError, match="view"):
        gene_positions(adata(["ABC", "HI"])[:, :1], gtf)


def test_without_a_file_that_of_the_registry_is_fetched(monkeypatch, tmp_path):
    asked = []

    def fetch(name):
        asked.append(name)
        (file,) = remote_files(registry()[name])
        assert file.path.endswith(".gtf.gz")
        (tmp_path / file.path).write_bytes(gzip.compress(("\n".join(LINES) + "\n").encode()))
        return tmp_path

    monkeypatch.setattr(_gencode, "fetch", fetch)
    for species in ("human", "mouse"):
        found = adata(["ABC"])
        gene_positions(found, species=species)
        assert asked[-1] == f"gencode_{species}" and found.var["start"].tolist() == [100]
