"""Regions, exports, annotations, tables and pages from the command line."""

import json
from itertools import product

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import omib_spatial as omib
from omib_spatial.cli import app
from omib_spatial.cli.options import one_line

BARCODES = ["".join(letters) + "ACGTACGT-1" for letters in product("ACGT", repeat=4)]


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def works(*arguments):
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def fails(*arguments) -> str:
    result = run(*arguments)
    assert result.exit_code == 1 and isinstance(result.exception, SystemExit), result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    return line


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """One slide with barcodes, whose highest fifth is called."""
    path = tmp_path_factory.mktemp("scored") / "slide.h5ad"
    adata = omib.datasets.simulate_tissue(1, n_spots=120, n_genes=60, n_healthy=1)
    adata.obs_names = BARCODES[:120]
    omib.tl.fit(adata, modalities=["gene"], reference_key="healthy", max_epochs=6)
    high = adata.obs["omib_score"] > adata.obs["omib_score"].quantile(0.8)
    adata.obs["omib_anomaly"] = high
    adata.obs["omib_call"] = pd.Categorical(np.where(high, "abnormal", "not called"), ["not called", "abnormal"])
    adata.write_h5ad(path)
    return path


@pytest.fixture(scope="module")
def regions(scored):
    out = scored.parent / "regions.h5ad"
    works("regions", scored, "--out", out, "--min-spots", 2)
    return out


def test_regions_are_those_of_the_library(scored, regions, tmp_path):
    adata = ad.read_h5ad(scored)
    omib.tl.regions(adata, min_spots=2)
    expected = adata.uns["omib_regions"]
    pd.testing.assert_frame_equal(ad.read_h5ad(regions).uns["omib_regions"], expected)
    found = json.loads(works("regions", scored, "--out", tmp_path / "r.zarr", "--min-spots", 2, "--json"))
    assert [row["region"] for row in found["regions"]] == expected.index.tolist()
    assert [row["n_spots"] for row in found["regions"]] == expected["n_spots"].tolist()
    assert "outline" not in found["regions"][0]
    assert "Region 1:" in works("regions", scored, "--out", tmp_path / "s.h5ad", "--min-spots", 2)
    assert "is the input itself" in fails("regions", scored, "--out", scored)


def test_export_without_regions_names_the_command_that_finds_them(scored, tmp_path):
    assert f"omib-spatial regions {scored}" in fails("export", scored, "--qupath", tmp_path / "r.geojson")
    works("export", scored, "--qupath", tmp_path / "r.geojson", "--spots")


def test_exports_are_those_of_the_library(regions, tmp_path):
    adata = ad.read_h5ad(regions)
    name = next(iter(adata.uns["spatial"]))
    places = [
        "--qupath",
        tmp_path / "r.geojson",
        "--spots",
        "--loupe",
        tmp_path / "l",
        "--spatialdata",
        tmp_path / "s.zarr",
    ]
    found = json.loads(works("export", regions, *places, "--json"))
    assert len(found["written"]) == 3
    omib.io.to_qupath(adata, tmp_path / "own.geojson", spots=True)
    assert (tmp_path / "r.geojson").read_text() == (tmp_path / "own.geojson").read_text()
    table = pd.read_csv(tmp_path / "l" / f"{name}_omib_call.csv")
    assert table["Barcode"].tolist() == adata.obs_names.tolist()
    from spatialdata import read_zarr

    assert set(read_zarr(tmp_path / "s.zarr").tables) == {"table", "regions"}
    assert "is there already" in fails("export", regions, "--spatialdata", tmp_path / "s.zarr")


def test_what_one_program_cannot_take_the_others_get(regions, tmp_path):
    adata = ad.read_h5ad(regions)
    adata.obs_names = [f"spot{i}" for i in range(adata.n_obs)]
    adata.write_h5ad(tmp_path / "nameless.h5ad")
    places = ["--qupath", tmp_path / "r.geojson", "--loupe", tmp_path / "loupe", "--spatialdata", tmp_path / "s.zarr"]
    result = run("export", tmp_path / "nameless.h5ad", *places)
    assert result.exit_code == 1 and "arcode" in result.stderr
    assert f"Written: {tmp_path / 'r.geojson'}" in result.stdout and f"Written: {tmp_path / 's.zarr'}" in result.stdout
    assert (tmp_path / "r.geojson").is_file() and (tmp_path / "s.zarr").is_dir()


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("pass library_key= the obs column", "pass --library-key the obs column"),
        ("ask which part it is: question='part'.", "ask which part it is: --question part."),
        ("max_epochs=-1 is too few, pass all_healthy=True.", "--max-epochs -1 is too few, pass --all-healthy."),
        ("omib_spatial.tl.call(adata, question='part')", "omib_spatial.tl.call(adata, question='part')"),
        ("pass layer= one of [], or None for X.", "pass --layer one of [], or leave it out for X."),
        ("anndata.concat(..., label='library_id')", "anndata.concat(..., label='library_id')"),
    ],
)
def test_arguments_are_told_as_options(said, told):
    assert one_line(said) == told


def test_pages_and_tables_never_take_the_place_of_what_is_read(scored, tmp_path):
    own, store = tmp_path / "own.h5ad", tmp_path / "s.zarr"
    own.write_bytes(scored.read_bytes())
    for name in ("own.csv", "own.html", "own.geojson"):
        (tmp_path / name).symlink_to(own)
    store.mkdir()
    (store / "zarr.json").write_text("{}")
    ways = {"own.csv": ("summarise", "--out"), "own.html": ("report", "--out"), "own.geojson": ("export", "--qupath")}
    for name, (command, option) in ways.items():
        assert f"{name} is the input itself: pass another file." in fails(command, own, option, tmp_path / name)
        assert "lies within the zarr store" in fails(command, own, option, store / name)
    assert "does not end with .csv" in fails("summarise", own, "--out", own)
    (tmp_path / "loop.h5ad").symlink_to(tmp_path / "loop.h5ad")
    assert "no regions" in fails("export", own, "--qupath", tmp_path / "r.geojson")
    works("regions", own, "--out", tmp_path / "loop.h5ad")
    assert own.read_bytes() == scored.read_bytes()


def test_annotations_come_back(regions, tmp_path):
    works("export", regions, "--qupath", tmp_path / "r.geojson")
    works("annotate", regions, tmp_path / "r.geojson", "--out", tmp_path / "a.h5ad", "--key-added", "drawn")
    annotated = ad.read_h5ad(tmp_path / "a.h5ad").obs
    assert (annotated["drawn"].notna() == annotated["omib_region"].notna()).all() and annotated["drawn"].notna().any()
    more = ["--out", tmp_path / "b.h5ad", "--json"]
    found = json.loads(works("annotate", regions, tmp_path / "r.geojson", *more))
    assert found["spots"] == {"abnormal": int(annotated["drawn"].notna().sum())}
    assert found["n_missing"] == annotated["drawn"].isna().sum()


def test_a_table_is_printed_or_written(scored, regions, tmp_path):
    expected = omib.tl.summarise([scored, regions])
    works("summarise", scored, regions, "--out", tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text() == expected.to_csv(index=False) == works("summarise", scored, regions)
    rows = json.loads(works("summarise", scored, regions, "--json"))["slides"]
    assert [row["n_called"] for row in rows] == expected["n_called"].tolist() and rows[0]["n_regions"] is None


def test_a_report_is_that_of_the_library(regions, tmp_path):
    assert "report.html" in works("report", regions, "--out", tmp_path / "report.html", "--truth", "region")
    omib.report(regions, tmp_path / "own.html", truth_key="region")
    assert (tmp_path / "report.html").read_text() == (tmp_path / "own.html").read_text()
    found = json.loads(works("report", regions, "--out", tmp_path / "report.html", "--json"))
    assert found["n_bytes"] == (tmp_path / "report.html").stat().st_size


def test_what_cannot_be_is_told_before_anything_is_read(scored, tmp_path, monkeypatch):
    monkeypatch.setattr(ad, "read_h5ad", pytest.fail)
    assert "Say what to write" in fails("export", scored)
    assert "--spots goes with" in fails("export", scored, "--loupe", tmp_path, "--spots")
    assert "does not end with .zarr" in fails("export", scored, "--spatialdata", tmp_path / "s")
    assert "does not end with .html" in fails("report", scored, "--out", tmp_path / "report")
    assert "obs['sane'] does not exist (--truth)" in fails(
        "report", scored, "--out", tmp_path / "r.html", "--truth", "sane"
    )
    assert "(--patient-key)" in fails("summarise", scored, "--patient-key", "nobody")
    assert "a.geojson does not exist" in fails("annotate", scored, tmp_path / "a.geojson", "--out", tmp_path / "a.h5ad")
    assert "no.h5ad does not exist" in fails("report", tmp_path / "no.h5ad", "--out", tmp_path / "r.html")
    assert not list(tmp_path.iterdir())


def test_a_model_explains_from_the_command_line(tmp_path):
    adata = omib.datasets.simulate_tissue(1, n_spots=120, n_genes=60, n_healthy=0, image=False)
    adata.obs["sane"] = ~adata.obs["anomaly"]
    model = omib.tl.fit(adata, modalities=["gene"], reference_key="sane", max_epochs=6)
    omib.tl.call(adata, question="part")
    adata.write_h5ad(tmp_path / "s.h5ad")
    model.save(tmp_path / "m")
    out = tmp_path / "e.h5ad"
    found = json.loads(
        works("explain", tmp_path / "s.h5ad", tmp_path / "m", "--out", out, "--groupby", "sane", "--json")
    )
    omib.tl.explain(adata, model, groupby="sane")
    assert [group["group"] for group in found["groups"]] == ["called", "False", "True"]
    genes = omib.get.explanation(adata, "genes", group="called")
    assert found["groups"][0]["genes"] == genes.index[genes["contribution"] > 0][:10].tolist()
    assert found["groups"][0]["shares"]["gene"] == pytest.approx(
        omib.get.explanation(adata, "modalities", group="called")["share"]["gene"], abs=1e-3
    )
    pd.testing.assert_frame_equal(omib.get.explanation(ad.read_h5ad(out), "genes", group="called"), genes, atol=1e-3)
    assert "called: " in works("explain", tmp_path / "s.h5ad", tmp_path / "m", "--out", out)
    page = tmp_path / "r.html"
    works("report", tmp_path / "s.h5ad", "--model", tmp_path / "m", "--out", page)
    assert "What makes up the score" in page.read_text(encoding="utf-8")
    assert "holds no saved model" in fails("report", tmp_path / "s.h5ad", "--model", tmp_path, "--out", page)
