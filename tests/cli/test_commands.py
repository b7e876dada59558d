import errno
import json
import logging
import subprocess
import sys
from functools import partial
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import yaml
from matplotlib import pyplot as plt
from typer.testing import CliRunner, Result

from omib_spatial._version import __version__
from omib_spatial.cli import app
from omib_spatial.datasets import simulate_tissue, two_modalities

QUICK = ["--max-epochs", "2"]


@pytest.fixture(autouse=True)
def paper():
    plt.switch_backend("agg")
    yield
    plt.close("all")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def fails(*arguments: object) -> str:
    """The one line on stderr of a command that exits with 1, without any traceback."""
    result = run(*arguments)
    assert result.exit_code == 1 and isinstance(result.exception, SystemExit), result.output
    assert "Traceback" not in result.output
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("Error: ")
    return line


@pytest.fixture(scope="module")
def tissue(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("tissue") / "slides.h5ad"
    simulate_tissue(2, n_spots=100, n_genes=60, n_healthy=1).write_h5ad(path)
    return path


@pytest.fixture(scope="module")
def fitted(tissue) -> tuple[Path, Path, Result]:
    folder, out = tissue.parent / "model", tissue.parent / "new" / "fitted.h5ad"
    keys = ["--reference-key", "healthy", "--library-key", "library_id"]
    modalities = ["--modalities", "gene", "--modalities", "image"]
    return folder, out, run("fit", tissue, folder, *keys, *modalities, "--seed", 3, *QUICK, "--out", out)


def test_calls_are_made_again_by_another_question(fitted, tmp_path):
    _, scored, result = fitted
    assert "slide2: " in result.output
    out = tmp_path / "called.h5ad"
    result = run("call", scored, "--question", "part", "--out", out)
    assert result.exit_code == 0, result.output
    called, before = ad.read_h5ad(out), ad.read_h5ad(scored)
    assert set(called.uns["omib_slides"]["question"]) == {"part"}
    assert ((called.obs["omib_call"] == "abnormal") == (called.obs["omib_score"] > 0)).all()
    assert called.obs["omib_score"].equals(before.obs["omib_score"])
    assert f"{int(called.obs['omib_anomaly'].sum())} of 200 spots called" in result.output
    assert "--miss goes with" in fails("call", scored, "--question", "any", "--miss", 0.1, "--out", out)


def test_help_names_every_command_and_loads_nothing_heavy():
    result = run("--help")
    assert result.exit_code == 0
    assert all(
        name in result.output
        for name in ("demo", "fit", "score", "call", "regions", "report", "run", "bench", "datasets")
    )
    assert "her2st" in run("bench", "--help").output
    heavy = "{'torch', 'scanpy', 'squidpy', 'anndata', 'matplotlib', 'sklearn', 'pandas', 'numpy'}"
    code = (
        f"import sys, omib_spatial.cli; sys.exit(str({heavy} & set(sys.modules)) if {heavy} & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "command",
    [
        ["demo"],
        ["fit"],
        ["score"],
        ["regions"],
        ["annotate"],
        ["export"],
        ["summarise"],
        ["report"],
        ["run"],
        ["bench", "her2st"],
        ["bench", "histology"],
        ["bench", "planted"],
        ["datasets"],
        ["datasets", "fetch"],
    ],
)
def test_every_command_has_help(command):
    assert run(*command, "--help").exit_code == 0


def test_fit_saves_a_model_and_the_scores(fitted, tissue):
    folder, out, result = fitted
    assert result.exit_code == 0, result.output
    assert "gene + image" in result.output and str(out) in result.output
    adata = ad.read_h5ad(out)
    params = adata.uns["omib"]["params"]
    assert (params["seed"], params["max_epochs"], params["reference_key"]) == (3, 2, "healthy")
    assert f"{adata.obs['omib_anomaly'].sum()} of 200 spots called" in result.output
    assert (ad.read_h5ad(tissue).X != adata.X).nnz == 0


def test_a_cohort_is_scored_by_models_of_the_others(tissue, tmp_path):
    out, models = tmp_path / "scored.h5ad", tmp_path / "models"
    options = ["--library-key", "library_id", "--reference-key", "healthy", "--max-epochs", 2]
    result = run("cross-fit", tissue, "--out", tmp_path / "part.h5ad", *options)
    assert result.exit_code == 1, "one slide alone is healthy"
    assert ad.read_h5ad(tmp_path / "part.h5ad").obs.groupby("library_id", observed=True)[
        "omib_score"
    ].count().tolist() == [0, 100]
    adata = ad.read_h5ad(tissue)
    adata.obs["healthy"] = (adata.obs["anomaly"] == 0).to_numpy()
    adata.write_h5ad(tmp_path / "cohort.h5ad")
    result = run("cross-fit", tmp_path / "cohort.h5ad", "--out", out, "--models", models, *options, "--json")
    assert result.exit_code == 0, result.output
    found, scored = json.loads(result.stdout), ad.read_h5ad(out)
    assert found["n_called"] == scored.obs["omib_anomaly"].sum() and found["command"] == "cross-fit"
    assert sorted(path.name for path in models.iterdir()) == ["slide1", "slide2"]
    assert list(scored.uns["omib"]["params"]["cross_fit"]) == ["slide1", "slide2"]
    assert "obs['nobody'] does not exist (--donor-key)" in fails(
        "cross-fit", tissue, "--out", out, "--donor-key", "nobody"
    )


def test_corrected_counts_are_taken_where_that_is_said(tissue, tmp_path):
    adata = ad.read_h5ad(tissue)
    adata.X = adata.X * np.float32(0.9)
    adata.write_h5ad(tmp_path / "corrected.h5ad")
    options = [tmp_path / "corrected.h5ad", tmp_path / "model", "--reference-key", "healthy", "--max-epochs", 2]
    options += ["--library-key", "library_id", "--modalities", "gene", "--out", tmp_path / "scored.h5ad"]
    refused = run("fit", *options)
    assert refused.exit_code == 1 and "corrected" in refused.output
    assert run("fit", *options, "--counts", "corrected").exit_code == 0
    assert ad.read_h5ad(tmp_path / "scored.h5ad").uns["omib"]["params"]["counts"] == "corrected"
    again = tmp_path / "again.h5ad"
    assert run("score", tmp_path / "corrected.h5ad", tmp_path / "model", "--out", again).exit_code == 0
    assert run("fit", *options, "--counts", "guessed").exit_code == 2


def test_score_with_the_saved_model_gives_the_scores_of_fit(fitted, tissue, tmp_path):
    folder, out, _ = fitted
    result = run("score", tissue, folder, "--out", tmp_path / "scored.h5ad", "--figure", tmp_path / "map.png")
    assert result.exit_code == 0, result.output
    again, first = ad.read_h5ad(tmp_path / "scored.h5ad"), ad.read_h5ad(out)
    np.testing.assert_allclose(again.obs["omib_score"], first.obs["omib_score"], atol=1e-6)
    for row in again.uns["omib_slides"].itertuples():
        line = f"{row.verdict}. {row.reason}"
        assert f"{row.slice}: {line}" in result.output and result.output.count(f"{row.slice}: {line}") == 1
    assert "Slide 'slide1'" not in result.output
    assert logging.getLogger("omib_spatial.verdicts").level == logging.NOTSET
    assert plt.imread(tmp_path / "map.png").ndim == 3


def test_the_pages_that_a_figure_has_are_told(fitted, tissue, tmp_path, monkeypatch):
    monkeypatch.setattr("omib_spatial.pl._panels.SLICES_PER_PAGE", 1)
    result = run("score", tissue, fitted[0], "--out", tmp_path / "s.h5ad", "--figure", tmp_path / "map.png", "--json")
    files = [str(tmp_path / f"map_{i}.png") for i in (1, 2)]
    assert json.loads(result.stdout)["figure"] == files and all(plt.imread(file).ndim == 3 for file in files)
    pdf = ["--out", tmp_path / "t.h5ad", "--figure", tmp_path / "map.pdf"]
    assert f"Map: {tmp_path / 'map.pdf'}" in run("score", tissue, fitted[0], *pdf).output
    assert (tmp_path / "map.pdf").read_bytes().startswith(b"%PDF") and not (tmp_path / "map_1.pdf").exists()


def test_version_help_and_exit_codes():
    assert run("--version").output.strip() == f"omib_spatial {__version__}"
    assert "Exit codes: 0 done; 1" in " ".join(run("--help").output.split())
    for command in ("fit", "score", "call", "regions", "explain", "annotate", "export", "summarise", "report", "run"):
        assert f"omib-spatial {command} " in run(command, "--help").output
    assert run("score", "--out").exit_code == 2


def test_the_result_as_json_is_all_of_stdout(fitted, tissue, tmp_path):
    folder, scored, _ = fitted
    result = run("score", tissue, folder, "--out", tmp_path / "s.zarr", "--json")
    found, adata = json.loads(result.stdout), ad.read_zarr(tmp_path / "s.zarr")
    assert (found["command"], found["version"], found["n_spots"]) == ("score", __version__, 200)
    assert found["n_called"] == adata.obs["omib_anomaly"].sum() and found["out"] == str(tmp_path / "s.zarr")
    assert [slide["slice"] for slide in found["slides"]] == ["slide1", "slide2"]
    assert {slide["verdict"] for slide in found["slides"]} <= {"abnormal", "nothing found", "cannot tell"}
    result = run("call", tmp_path / "s.zarr", "--question", "part", "--out", tmp_path / "c.h5ad", "--json")
    found = json.loads(result.stdout)
    assert found["n_called"] == ad.read_h5ad(tmp_path / "c.h5ad").obs["omib_anomaly"].sum() > 0
    assert found["question"] == "part" and found["fdr"] is None


def test_zarr_folders_are_replaced_whole_and_spatialdata_never(fitted, tissue, tmp_path, monkeypatch):
    folder, scored, _ = fitted
    out = tmp_path / "s.zarr"
    for _ in range(2):
        assert run("call", scored, "--question", "part", "--out", out).exit_code == 0
    assert "is the input itself" in fails("call", out, "--question", "part", "--out", out)
    assert run("call", out, "--question", "any", "--out", out, "--overwrite").exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["s.zarr"]
    assert ad.read_zarr(out).uns["omib_slides"]["question"].unique() == ["any"]

    def half(self, path):
        Path(path).mkdir()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ad.AnnData, "write_zarr", half)
    assert "No space left" in fails("call", out, "--question", "part", "--out", out, "--overwrite")
    assert ad.read_zarr(out).uns["omib_slides"]["question"].unique() == ["any"]
    assert [path.name for path in tmp_path.iterdir()] == ["s.zarr"]
    (tmp_path / "mine.zarr").mkdir()
    assert "no zarr store" in fails("call", scored, "--question", "part", "--out", tmp_path / "mine.zarr")
    (tmp_path / "mine.zarr" / "zarr.json").write_text('{"attributes": {"spatialdata_attrs": {}}}')
    assert "SpatialData" in fails("call", scored, "--question", "part", "--out", tmp_path / "mine.zarr")


def test_every_option_is_checked_before_anything_is_read(fitted, tissue, tmp_path, monkeypatch):
    folder, scored, _ = fitted
    out = ["--out", tmp_path / "o.h5ad"]
    monkeypatch.setattr(ad, "read_h5ad", pytest.fail)
    monkeypatch.setitem(sys.modules, "omib_spatial.tl", None)
    assert "holds no saved model" in fails("score", tissue, tmp_path / "none", *out)
    (tmp_path / "config.json").write_text("{}")
    assert "not of a model of omib_spatial" in fails("score", tissue, tmp_path, *out)
    (tmp_path / "config.json").write_text("{")
    assert "is damaged" in fails("score", tissue, tmp_path, *out)
    assert "does not end with .h5ad or .zarr" in fails("score", tissue, folder, "--out", tmp_path / "out.csv")
    assert "kind of picture" in fails("score", tissue, folder, *out, "--figure", tmp_path / "map.doc")
    assert "does not end with" in fails("fit", tissue, tmp_path / "m", "--out", tmp_path / "out.csv")
    wrong = fails("fit", tissue, tmp_path / "m", "--library-key", "library")
    assert "Did you mean 'library_id'?" in wrong and "(--library-key)" in wrong
    for option in ("--reference-key", "--labels-key", "--donor-key"):
        assert f"obs['nothing'] does not exist ({option})" in fails("fit", tissue, tmp_path / "m", option, "nothing")
    assert "--fdr is 2.0" in fails("call", scored, "--question", "any", "--fdr", 2, *out)
    assert "--miss goes with" in fails("call", scored, "--question", "any", "--miss", 0.1, *out)
    assert "no.h5ad does not exist" in fails("score", tmp_path / "no.h5ad", folder, *out)
    assert "for the slides and for the models" in fails("cross-fit", tissue, *out, "--models", tmp_path / "o.h5ad")


def test_an_empty_word_is_no_folder(tissue, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words in (("fit", tissue, ""), ("fit", tissue, "m", "--resume", ""), ("score", "", "m", "--out", "o.h5ad")):
        result = run(*words)
        assert result.exit_code == 2 and "word is empty" in " ".join(result.stderr.split()), result.output
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_into_a_zarr_store(fitted, tmp_path):
    (tmp_path / "s.zarr").mkdir()
    (tmp_path / "s.zarr" / "zarr.json").write_text("{}")
    for name in ("o.h5ad", "o.zarr", "obs/o.h5ad"):
        message = fails("call", fitted[1], "--question", "part", "--out", tmp_path / "s.zarr" / name)
        assert "lies within the zarr store" in message


def test_the_input_is_written_over_only_when_told(fitted, tissue, tmp_path):
    folder, _, _ = fitted
    own = tmp_path / "p.h5ad"
    own.write_bytes(tissue.read_bytes())
    (tmp_path / "link.h5ad").symlink_to(own)
    for out in (own, tmp_path / "link.h5ad", tmp_path / ".." / tmp_path.name / "p.h5ad"):
        assert "is the input itself" in fails("score", own, folder, "--out", out)
    assert "is the input itself" in fails("fit", own, tmp_path / "m", "--all-healthy", "--out", own)
    assert "is the input itself" in fails("score", own, folder, "--out", tmp_path / "o.h5ad", "--figure", own)
    assert own.read_bytes() == tissue.read_bytes() and not (tmp_path / "m").exists()
    result = run("score", own, folder, "--out", own, "--overwrite")
    assert result.exit_code == 0, result.output
    assert "omib_score" in ad.read_h5ad(own).obs and (tmp_path / "link.h5ad").is_symlink()


def test_a_disk_that_fills_up_in_the_write_leaves_the_input_as_it_was(fitted, tissue, tmp_path, monkeypatch):
    own = tmp_path / "p.h5ad"
    own.write_bytes(tissue.read_bytes())

    def half(self, path):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ad.AnnData, "write_h5ad", half)
    line = fails("score", own, fitted[0], "--out", own, "--overwrite")
    assert f"{own} could not be written, and what was there is as it was: No space left on device." in line
    assert own.read_bytes() == tissue.read_bytes() and [path.name for path in tmp_path.iterdir()] == ["p.h5ad"]


def test_places_that_cannot_be_written_are_told_before_the_work(tissue, fitted, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    monkeypatch.setattr(ad, "read_h5ad", pytest.fail)
    assert "is a file where a folder is needed" in fails("fit", tissue, tmp_path / "file", "--all-healthy")
    assert "is a folder or a device" in fails("fit", tissue, tmp_path / "m", "--all-healthy", "--out", tmp_path)
    assert "is a folder or a device" in fails("score", tissue, fitted[0], "--out", tmp_path)


def test_objective_is_passed_on(tissue, tmp_path):
    result = run(
        "fit",
        tissue,
        tmp_path / "m",
        "--library-key",
        "library_id",
        "--modalities",
        "gene",
        "--all-healthy",
        "--objective",
        "svdd",
        *QUICK,
    )
    assert result.exit_code == 0 and "objective='svdd'" in result.output
    assert run("fit", tissue, tmp_path / "m", "--objective", "wrong").exit_code == 2


def test_labels_are_learned_and_errors_of_theirs_are_told(tissue, tmp_path):
    out, folder = tmp_path / "o.h5ad", tmp_path / "m"
    keys = ["--library-key", "library_id", "--modalities", "gene", "--labels-key", "anomaly"]
    result = run("fit", tissue, folder, *keys, "--healthy-label", "False", *QUICK, "--out", out)
    assert result.exit_code == 0, result.output
    adata = ad.read_h5ad(out)
    assert adata.obsm["omib_probability"].shape == (200, 2) and adata.uns["omib"]["classes"].tolist() == [
        "False",
        "True",
    ]
    assert "'sane'] is not in obs['anomaly']" in fails("fit", tissue, folder, *keys, "--healthy-label", "sane")


def test_errors_are_one_line(tissue, fitted, tmp_path):
    folder, out, _ = fitted
    assert "no.h5ad does not exist" in fails("fit", tmp_path / "no.h5ad", tmp_path / "m")
    assert "--library-key" in fails("fit", tissue, tmp_path / "m")
    key = ["--library-key", "library_id"]
    # A KeyError prints its message, not the repr of it.
    assert "h5ad: obs['sane'] does not exist (--reference-key)" in fails(
        "fit", tissue, tmp_path / "m", *key, "--reference-key", "sane"
    )
    assert "must be boolean" in fails("fit", tissue, tmp_path / "m", *key, "--reference-key", "region")
    assert "holds no saved model" in fails("score", tissue, tmp_path / "m", "--out", tmp_path / "o.h5ad")
    assert "nowhere does not exist" in fails("bench", "her2st", "--data", tmp_path / "nowhere")
    (tmp_path / "text.h5ad").write_text("no HDF5")
    fails("score", tmp_path / "text.h5ad", folder, "--out", tmp_path / "o.h5ad")
    assert not (tmp_path / "m").exists() and not (tmp_path / "o.h5ad").exists() and not (tmp_path / "r").exists()


def test_demo_writes_one_picture_and_the_numbers(tmp_path):
    size = ["--slides", 2, "--healthy", 1, "--spots", 80, "--seeds", 2]
    files = ["--out", tmp_path / "demo.png", "--json", tmp_path / "demo.json"]
    result = run("demo", *size, *QUICK, *files)
    assert result.exit_code == 0, result.output
    assert plt.imread(tmp_path / "demo.png").ndim == 3 and str(tmp_path / "demo.png") in result.output
    rows = json.loads((tmp_path / "demo.json").read_text())
    places = {(row["setting"], row["dataset"], row["seed"]) for row in rows}
    settings, kinds = ("total counts", "gene", "image", "gene+image"), ("expression", "morphology", "both")
    assert places == {(s, k, seed) for s in settings for k in kinds for seed in (0, 1)} and len(rows) == len(places)
    lines = [line.split()[0] for line in result.output.splitlines() if "±" in line]
    assert lines == ["total", "gene", "image", "gene+image"]
    assert sum("fitted on" in line for line in result.output.splitlines()) == 6


def test_fusions_are_compared_from_the_command_line(monkeypatch, tmp_path):
    monkeypatch.setattr("omib_bench.datasets._modalities.CASES", {"I": (10, 10)})
    few = partial(two_modalities, n_train=300, n_test=100, shared=5, superfluous=5)
    monkeypatch.setattr("omib_bench.fusions._experiments.two_modalities", few)
    kept, figure = tmp_path / "r.json", tmp_path / "f.png"
    options = ["--task", "sim", "--methods", "OMIB,FiLM", "--seeds", 2, "--max-epochs", 6]
    result = run("bench", "fusions", *options, "--out", kept, "--figure", figure)
    assert result.exit_code == 0, result.output
    assert "SIM-I, seed 1, FiLM: accuracy" in result.output and "paper's accuracy" in result.output
    assert {row["method"] for row in json.loads(kept.read_text())} == {"linear", "OMIB", "FiLM"}
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_fusions_say_what_is_missing():
    assert "--task pom needs --data" in fails("bench", "fusions", "--task", "pom")
    assert "there are OMIB, Concat" in fails("bench", "fusions", "--task", "sim", "--methods", "Sum")


def test_bench_prints_and_keeps_records(monkeypatch, tmp_path):
    from omib_spatial import benchmarks

    seen = {}

    def fake(data, **options):
        seen.update(options, data=data)
        options["say"]("one line")
        return [benchmarks.Record("her2st", "A1", "omib svdd", "gene", 0, "auroc", 0.625)]

    monkeypatch.setattr(benchmarks.her2st, "run", fake)
    result = run("bench", "her2st", "--data", "here", "--seeds", 2, "--objective", "svdd", "--out", tmp_path / "r.json")
    assert result.exit_code == 0, result.output
    assert "one line" in result.output and "0.625" in result.output and "omib svdd, gene" in result.output
    assert json.loads((tmp_path / "r.json").read_text())[0]["value"] == 0.625
    assert (seen["data"], seen["seeds"], seen["objective"]) == (Path("here"), 2, "svdd")
    seen.clear()
    run("bench", "her2st", "--data", "here")
    assert seen["seeds"] == 1 and "objective" not in seen and "supervised" not in seen
    run("bench", "her2st", "--data", "here", "--supervised")
    assert seen["supervised"]


def test_bench_robustness_is_an_experiment_of_its_own(monkeypatch):
    from omib_spatial import benchmarks

    def fake(data, **options):
        assert options.keys() == {"seeds", "max_epochs", "say"}
        settings = {"gene": 0.75, "gene, mirrored": 0.625}
        return [benchmarks.Record("her2st", "all", "omib", s, 0, "mean_auroc", v) for s, v in settings.items()]

    monkeypatch.setattr(benchmarks.robustness, "run", fake)
    result = run("bench", "her2st", "--data", "here", "--robustness", "--seeds", 3)
    assert result.exit_code == 0, result.output
    assert "gene, mirrored       0.625" in result.output
    assert "experiment of its own" in fails("bench", "her2st", "--data", "here", "--robustness", "--detectors", "all")


def test_bench_scale_prints_keeps_and_draws(monkeypatch, tmp_path):
    from omib_spatial import benchmarks

    seen = {}

    def fake(**options):
        seen.update(options)
        options["say"]("one line")
        metrics = ("seconds_per_epoch", "seconds_score", "peak_rss_bytes")
        return [
            benchmarks.Record("scale", str(n), "omib", "", 0, metric, float(n))
            for n in (100, 1000)
            for metric in metrics
        ]

    monkeypatch.setattr(benchmarks.scale, "run", fake)
    files = ["--out", tmp_path / "r.json", "--figure", tmp_path / "new" / "r.png"]
    result = run("bench", "scale", "--sizes", "1e2,1000", "--genes", 60, "--no-ratios", *files)
    assert result.exit_code == 0, result.output
    assert "one line" in result.output and "seconds_per_epoch" in result.output
    assert (seen["sizes"], seen["n_genes"], seen["ratios"]) == ([100, 1000], 60, False)
    assert len(json.loads((tmp_path / "r.json").read_text())) == 6
    assert plt.imread(tmp_path / "new" / "r.png").ndim == 3


def test_bench_histology_prints_a_table_and_keeps_records(monkeypatch, tmp_path):
    from omib_spatial import benchmarks

    seen = {}

    def fake(data, **options):
        seen.update(options, data=data)
        return [benchmarks.Record("histology", s, "image", "stain", 0, "auroc", v) for s, v in (("A1", 0.5), ("B4", 1))]

    monkeypatch.setattr(benchmarks.histology, "run", fake)
    out = tmp_path / "r.json"
    result = run("bench", "histology", "--data", "here", "--mob", "there", "--seeds", 2, "--no-cost", "--out", out)
    assert result.exit_code == 0, result.output
    assert "0.750" in result.output
    assert len(json.loads(out.read_text())) == 2
    assert (seen["data"], seen["mob"], seen["seeds"], seen["cost"]) == (Path("here"), Path("there"), 2, False)


def test_datasets_lists_the_registry():
    entries = yaml.safe_load((Path(__file__).parents[2] / "data_registry.yaml").read_text())
    output = run("datasets").output
    assert [line.split()[0] for line in output.splitlines()[1:-1]] == list(entries)
    assert all(len(line) <= 160 for line in output.splitlines())
    assert json.loads(run("datasets", "--json").output).keys() == entries.keys()
    for name, entry in entries.items():
        assert entry["source"] in run("datasets", "show", name).output
    assert "Did you mean 'her2st'?" in fails("datasets", "show", "hers2t")


def test_datasets_fetch_says_where_the_files_are_or_how_to_get_them(monkeypatch, tmp_path):
    from omib_spatial import datasets

    monkeypatch.setattr(datasets, "fetch", lambda name, cache: Path(cache) / name)
    assert run("datasets", "fetch", "her2st", "--cache", tmp_path).output.strip() == str(tmp_path / "her2st")
    monkeypatch.undo()
    assert "2. Run `git clone" in fails("datasets", "fetch", "cremad", "--cache", tmp_path)
    assert "'nothing'" in fails("datasets", "fetch", "nothing")
    assert "1. Install Git LFS" in run("datasets", "show", "cremad").output
