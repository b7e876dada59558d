import anndata as ad
import numpy as np
import pytest
from typer.testing import CliRunner

from omib_bench import fusions, paper_tissue
from omib_bench.fusions._printed import TISSUE, TISSUE_F1
from omib_spatial.cli.commands import app
from omib_spatial.datasets import simulate_tissue

QUICK = {"max_epochs": 2, "image_encoder": "stain"}


@pytest.fixture(scope="module")
def hbca(tmp_path_factory):
    """Healthy sections in CELLxGENE's layout: normalised X, raw.X, Ensembl ids, feature_name, image in uns."""
    folder = tmp_path_factory.mktemp("hbca")
    tissue = simulate_tissue(2, n_spots=90, n_genes=60, n_healthy=2, seed=5)
    for section, slide in {"V03": "slide1", "V04": "slide2"}.items():
        part = tissue[tissue.obs["library_id"] == slide].copy()
        var = part.var[[]].assign(feature_name=part.var_names)
        var.index = [f"ENSG{i:011d}" for i in range(part.n_vars)]
        obs = part.obs[[]].assign(donor_id=f"donor of {section}", in_tissue=1)
        adata = ad.AnnData(part.X.copy(), obs=obs, var=var, obsm={"spatial": part.obsm["spatial"]})
        adata.raw = adata.copy()
        adata.X.data = np.log1p(adata.X.data)
        adata.uns["spatial"] = {"is_single": True, section: part.uns["spatial"][slide]}
        adata.write_h5ad(folder / f"{section}.h5ad")
    return folder


def test_command_from_cellxgene_files_to_the_tables(hbca, folder, tmp_path):
    arguments = ["bench", "paper-tissue", "--reference", str(hbca), "--target", str(folder), "--sections", "A1,B1"]
    arguments += ["--methods", "OMIB,DMIB,MMIBCui", "--max-epochs", "2", "--image-encoder", "stain"]
    result = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "out.json")])
    assert result.exit_code == 0, result.output
    assert "every spot of it is taken for healthy" in result.output
    for text in ("OMIB, paper's settings", "OMIB, our defaults", "an oracle", "Prevalence", "Table 5 prints", "0.754"):
        assert text in result.output
    assert (tmp_path / "out.json").is_file()


def test_records_are_per_section_and_method_and_the_printed_stand_beside(hbca, folder):
    records = paper_tissue.run(
        hbca, folder, {"Concat": fusions.RIVALS["Concat"]}, ours=False, sections=["A1"], say=lambda _: None, **QUICK
    )
    measured = {r.metric: r for r in records if r.setting == "" and r.dataset == "A1"}
    assert {"auroc", "average_precision", "prevalence", "f1_oracle", "f1_call"} <= set(measured)
    assert {r.method for r in records} == {"Concat"} and measured["auroc"].value >= 0
    printed = {r.dataset: r.value for r in records if r.setting == "paper" and r.metric == "f1_oracle"}
    assert printed == TISSUE_F1["Concat"]
    for name, by_section in TISSUE_F1.items():
        *each, mean = by_section.values()
        assert np.mean(each) == pytest.approx(mean, abs=0.0011) and name in TISSUE


def test_one_folder_may_be_both_and_nobody_is_scored_by_a_model_of_himself(folder):
    healthy, scored = paper_tissue._read_both(folder, folder, None, lambda _: None)
    told: list[str] = []
    folds = list(paper_tissue._folds(healthy, scored, told.append))
    assert [fold.target.obs["patient"].unique().tolist() for fold in folds] == [["A"], ["B"], ["C"]]
    assert all(set(f.reference.obs["patient"]).isdisjoint(f.target.obs["patient"]) for f in folds)
    assert "['A', 'B', 'C'] are in the reference too" in told[0]


def test_plain_files_without_image_or_label_use_genes_and_measure_calls(folder, tmp_path):
    tissue = simulate_tissue(2, n_spots=80, n_genes=60, n_healthy=1, image=False)
    for name, slide in {"normal": "slide1", "cancer": "slide2"}.items():
        part = tissue[tissue.obs["library_id"] == slide].copy()
        part.obs = part.obs[[]]
        part.write_h5ad(tmp_path / f"{name}.h5ad")
    told: list[str] = []
    rivals = {name: fusions.RIVALS[name] for name in ("Concat", "MMIBCui")}
    records = paper_tissue.run(
        tmp_path / "normal.h5ad", tmp_path / "cancer.h5ad", rivals, ours=False, say=told.append, **QUICK
    )
    said = " ".join(told)
    for sentence in ("genes alone are used", "MMIBCui fuses 2 modalities or more", "No spot of", "taken for healthy"):
        assert sentence in said
    assert {r.method for r in records} == {"Concat"}
    values = {r.metric: r.value for r in records if r.setting == ""}
    assert np.isnan(values["auroc"]) and 0 <= values["called"] <= 1
    text = paper_tissue.report(records)
    assert text.startswith("Share of the spots") and "AUROC" not in text


def test_what_does_not_fit_together_is_named(hbca, folder, tmp_path):
    with pytest.raises(KeyError, match=r"no section \['Z9'\]"):
        paper_tissue.run(hbca, folder, {}, sections=["Z9"])
    other = ad.read_h5ad(folder / "A1.h5ad")
    other.var_names = [f"other{i}" for i in range(other.n_vars)]
    other.write_h5ad(tmp_path / "A1.h5ad")
    with pytest.raises(ValueError, match="share no gene"):
        paper_tissue.run(hbca, tmp_path, {})
