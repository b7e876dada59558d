"""A folder of slides in, reports and one table out; what is finished is kept, and one failure stops nothing."""

import json
import os
from unittest.mock import Mock

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import omib_spatial as omib
from omib_spatial.cli import app, cohort, models

QUICK = ["--max-epochs", 6]


def run(*arguments):
    return CliRunner().invoke(app, ["run", *map(str, arguments)])


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    """Two raw slides of known patients, one with barcodes; and healthy ones beside them."""
    root = tmp_path_factory.mktemp("cohort")
    adata = omib.datasets.simulate_tissue(4, n_spots=100, n_genes=60, n_healthy=2, image=False)
    for i, name in enumerate(adata.obs["library_id"].cat.categories):
        own = adata[adata.obs["library_id"] == name].copy()
        own.obs = own.obs.drop(columns="library_id")
        own.obs["patient"] = f"P{i}"
        own.uns["spatial"] = {name: adata.uns["spatial"][name]}
        if i == 3:
            own.obs_names = [
                f"{np.base_repr(k, 4).zfill(5).translate(str.maketrans('0123', 'ACGT'))}ACGTACGTA-1" for k in range(100)
            ]
        folder = root / ("healthy" if i < 2 else "patients")
        folder.mkdir(exist_ok=True)
        own.write_h5ad(folder / f"{name}.h5ad")
    return root


@pytest.fixture(scope="module")
def finished(slides):
    out = slides / "results"
    result = run(
        slides / "patients", "--out", out, "--reference", slides / "healthy", "--patient-key", "patient", *QUICK
    )
    assert result.exit_code == 0, result.output
    return out, result


def test_every_slide_has_all_its_files_and_the_cohort_a_table(finished):
    out, result = finished
    assert "2 of 2 slides are finished" in result.stdout
    assert {path.name for path in out.iterdir()} == {"slide3", "slide4", "model", "model.done.json", "cohort.csv"}
    named = {"scored.h5ad", "report.html", "regions.geojson", "done.json"}
    assert {path.name for path in (out / "slide3").iterdir()} == named
    assert {path.name for path in (out / "slide4").iterdir()} == {*named, "slide4_omib_call.csv"}
    assert "slide3: nothing for Loupe Browser: no name of a spot holds a barcode" in result.stderr
    # A slide that has no name of its own has that of its file, so that pages can be told apart.
    assert "<h2>slide3: " in (out / "slide3" / "report.html").read_text(encoding="utf-8")
    table = pd.read_csv(out / "cohort.csv")
    verdicts = ", ".join(f"{n} {verdict}" for verdict, n in table["verdict"].value_counts().items())
    assert f"Verdicts: {verdicts}. " in result.stdout
    assert table["file"].tolist() == ["slide3/scored.h5ad", "slide4/scored.h5ad"]
    assert table["patient"].tolist() == ["P2", "P3"] and (table["n_spots"] == 100).all()
    for name in ("slide3", "slide4"):
        scored = ad.read_h5ad(out / name / "scored.h5ad")
        assert table.set_index("slide").loc[name, "n_called"] == (scored.obs["omib_call"] == "abnormal").sum()


def test_scores_are_those_of_the_library(finished, slides):
    out, _ = finished
    adata = ad.read_h5ad(slides / "patients" / "slide3.h5ad")
    omib.tl.score(adata, omib.load(out / "model"))
    np.testing.assert_allclose(ad.read_h5ad(out / "slide3" / "scored.h5ad").obs["omib_score"], adata.obs["omib_score"])


def test_what_is_finished_is_kept_and_what_changed_is_done_again(finished, slides, monkeypatch):
    out, _ = finished
    command = [slides / "patients", "--out", out, "--reference", slides / "healthy", *QUICK, "--json"]
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.h5ad")}

    def again(*more):
        return json.loads(run(*command, *more).stdout)

    found = again()
    assert (found["done"], found["kept"]) == ([], ["slide3", "slide4"])
    assert {path: path.stat().st_mtime_ns for path in times} == times
    # A file that went missing, a slide that changed, another option.
    (out / "slide3" / "report.html").unlink()
    assert again()["done"] == ["slide3"]
    os.utime(slides / "patients" / "slide4.h5ad", ns=(1, 1))
    assert again()["done"] == ["slide4"]
    # One that was cut off.
    scored = out / "slide3" / "scored.h5ad"
    scored.write_bytes(scored.read_bytes()[:1000])
    assert again()["done"] == ["slide3"]
    # Calls of another kind, with which outlines and report do not go.
    call = ["call", scored, "--question", "part", "--out", scored, "--overwrite"]
    assert CliRunner().invoke(app, list(map(str, call))).exit_code == 0
    found, changed = again(), out / "slide3" / "scored.changed.h5ad"
    assert found["done"] == ["slide3"] and again()["done"] == []
    # They are kept, for somebody made them.
    assert set(ad.read_h5ad(changed).uns["omib_slides"]["question"]) == {"part"}
    assert "had been changed since it was written" in found["notes"]["slide3"][0]
    # Who has no patient is said of slides that were kept, too.
    kept = again("--patient-key", "who")
    assert kept["kept"] == ["slide3", "slide4"] and "obs['who'] does not exist" in kept["notes"]["slide4"][-1]
    found = again("--question", "part")
    assert found["done"] == ["slide3", "slide4"]
    mark = models.fingerprint([slides / "patients"], {})
    assert models.fingerprint([slides / "patients"], {}) == mark != models.fingerprint([slides / "healthy"], {})
    assert set(ad.read_h5ad(out / "slide3" / "scored.h5ad").uns["omib_slides"]["question"]) == {"part"}
    monkeypatch.setattr(models, "__version__", "0.0.0")
    assert models.fingerprint([slides / "patients"], {}) != mark


def test_kinds_that_are_written_into_scores_change_nothing_of_what_is_finished(finished, slides, tmp_path, monkeypatch):
    def touch(files, *_, **__):
        for path in files.values():
            os.utime(path, ns=(7, 7))
        return ""

    monkeypatch.setattr(cohort.kinds, "seek_kinds", touch)
    model = finished[0] / "model"
    command = [slides / "patients" / "slide3.h5ad", "--out", tmp_path / "out", "--model", model, "--json"]
    assert json.loads(run(*command).stdout)["done"] == ["slide3"]
    assert json.loads(run(*command).stdout)["kept"] == ["slide3"]


def test_a_slide_that_fails_is_named_and_stops_nothing(slides, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a_broken.h5ad").write_text("no HDF5")
    adata = ad.read_h5ad(slides / "patients" / "slide3.h5ad")
    adata.obs = adata.obs.drop(columns="patient")
    adata.write_h5ad(folder / "b_good.h5ad")
    del adata.obsm["spatial"]
    adata.write_h5ad(folder / "c_nowhere.h5ad")
    model = tmp_path / "model"
    omib.tl.fit(adata := ad.read_h5ad(slides / "healthy" / "slide1.h5ad"), all_healthy=True, max_epochs=6).save(model)
    options = ["--out", tmp_path / "out", "--model", model, "--patient-key", "patient", "--truth", "anomaly"]
    result = run(folder, *options)
    assert result.exit_code == 1
    assert "1 of 3 slides are finished" in result.stdout
    lines = [line for line in result.stderr.splitlines() if line.startswith("Failed: ")]
    assert any("a_broken: " in line and "cannot be read" in line for line in lines)
    assert any("c_nowhere: obsm['spatial'] does not exist" in line for line in lines)
    table = pd.read_csv(tmp_path / "out" / "cohort.csv")
    assert table["file"].tolist() == ["b_good/scored.h5ad"] and table["patient"].isna().all()
    assert "b_good: obs['patient'] does not exist" in result.stderr
    assert not (tmp_path / "out" / "c_nowhere" / "done.json").exists()
    found = json.loads(run(folder, *options, "--json").stdout)
    assert found["kept"] == ["b_good"] and set(found["failed"]) == {"a_broken", "c_nowhere"}


def test_each_slide_is_fitted_by_itself_without_a_model(planted, tmp_path):
    planted(side=14, n_genes=600).write_h5ad(tmp_path / "one.h5ad")
    result = run(tmp_path / "one.h5ad", "--out", tmp_path / "out", *QUICK)
    assert result.exit_code == 0, result.output
    scored = ad.read_h5ad(tmp_path / "out" / "one" / "scored.h5ad")
    assert scored.uns["omib"]["params"]["reference_key"] == "omib_reference" and "omib_reference" in scored.obs
    assert "No kinds of anomaly: slides were judged by different models" in result.stdout


def test_the_slides_of_each_patient_are_judged_by_a_model_of_the_others(planted, tmp_path, monkeypatch):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for seed, (name, patient) in enumerate({"a": "P1", "c": "P2"}.items()):
        adata = planted(side=11, n_genes=200, seed=seed)
        adata.obs["patient"], adata.obs["normal"] = patient, ~adata.obs["clone"]
        adata.write_h5ad(folder / f"{name}.h5ad")
    command = [folder, "--out", out, "--cross-fit", "--patient-key", "patient", *QUICK, "--json"]
    command += ["--reference-key", "normal"]
    result = run(*command)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["done"] == ["a", "c"]
    assert {path.name for path in (out / "models").iterdir()} == {"P1", "P2"}
    # The models of P1 and P2 are named by whom they have not seen, and are what the library fits.
    adata = ad.read_h5ad(folder / "c.h5ad")
    omib.tl.score(adata, omib.load(out / "models" / "P2"))
    np.testing.assert_allclose(ad.read_h5ad(out / "c" / "scored.h5ad").obs["omib_score"], adata.obs["omib_score"])
    times = {path: path.stat().st_mtime_ns for path in (out / "models").rglob("*")}
    (out / "c" / "report.html").unlink()
    found = json.loads(run(*command).stdout)
    assert (found["done"], found["kept"]) == (["c"], ["a"])
    assert {path: path.stat().st_mtime_ns for path in times} == times
    # A slide that changed gives other models, and so other scores of all.
    os.utime(folder / "a.h5ad", ns=(1, 1))
    monkeypatch.setattr(omib.tl, "cross_fit", Mock(side_effect=ValueError("fits again")))
    assert "fits again" in run(*command).stderr


def test_a_patient_whose_others_give_no_model_does_not_stop_the_others(planted, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for seed, name in enumerate("abc"):
        adata = planted(side=11, n_genes=200, seed=seed)
        adata.obs["normal"] = ~adata.obs["clone"] & (name == "a")
        adata.write_h5ad(folder / f"{name}.h5ad")
    command = [folder, "--out", out, "--cross-fit", *QUICK, "--reference-key", "normal", "--json"]
    for kept in ([], ["b", "c"]):
        result = run(*command)
        found = json.loads(result.stdout)
        assert result.exit_code == 1 and (found["done"] or found["kept"]) == ["b", "c"] and found["kept"] == kept
        assert found["failed"]["a"].startswith("Without donor 'a': ")
    assert {path.name for path in (out / "models").iterdir()} == {"b", "c"} and not (out / "a").exists()


def test_a_slide_that_cannot_be_learned_from_does_not_stop_the_others(planted, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for seed, name in enumerate("abc"):
        adata = planted(side=11, n_genes=200, seed=seed)
        adata.obs["normal"] = ~adata.obs["clone"]
        adata.X = adata.X * 0.5 if name == "b" else adata.X
        adata.write_h5ad(folder / f"{name}.h5ad")
    (folder / "d.h5ad").write_text("no HDF5")
    command = [folder, "--out", out, "--cross-fit", *QUICK, "--reference-key", "normal", "--json"]
    for kept in ([], ["a", "c"]):
        result = run(*command)
        found = json.loads(result.stdout)
        assert result.exit_code == 1 and (found["done"] or found["kept"]) == ["a", "c"] and found["kept"] == kept
        assert set(found["failed"]) == {"b", "d"} and "no integers" in found["failed"]["b"]


def test_who_stops_it_is_told_how_to_go_on(slides, tmp_path, monkeypatch):
    monkeypatch.setattr(cohort, "process", Mock(side_effect=KeyboardInterrupt))
    result = run(slides / "patients", "--out", tmp_path / "out")
    assert result.exit_code == 130 and "Stopped: slides that are finished stay in" in result.stderr


def test_cross_fitting_must_know_whose_slides_they_are(slides, tmp_path):
    patients = slides / "patients"

    def error(*arguments):
        result = run(*arguments, "--out", tmp_path / "o", "--cross-fit", *QUICK)
        assert result.exit_code == 1, result.output
        return " ".join(result.stderr.split())

    assert "needs files of two patients" in error(patients / "slide3.h5ad")
    assert "Give one of --model, --reference and --cross-fit" in error(patients, "--model", tmp_path)
    assert "slide3: obs['who'] does not exist: --cross-fit must know" in error(patients, "--patient-key", "who")
    together = "All slides that can be used are of the patient 'False', and --cross-fit needs two patients"
    assert together in error(patients, "--patient-key", "healthy")
    assert "slide3: obs['anomaly'] names 2 patients" in error(patients, "--patient-key", "anomaly")


def test_what_cannot_be_is_told_before_the_work(slides, tmp_path, monkeypatch):
    monkeypatch.setattr(ad, "read_h5ad", pytest.fail)

    def error(*arguments):
        result = run(*arguments)
        assert result.exit_code == 1 and isinstance(result.exception, SystemExit)
        return result.stderr

    patients = slides / "patients"
    marked = ["--reference-key", "healthy", "--reference", slides / "healthy"]
    assert "--reference-key is for slides that are fitted on" in error(patients, "--out", tmp_path / "o", *marked)
    both = ["--model", tmp_path, "--reference", slides / "healthy"]
    assert "Give one of --model, --reference" in error(patients, "--out", tmp_path / "o", *both)
    assert "holds no saved model" in error(patients, "--out", tmp_path / "o", "--model", tmp_path)
    assert "does not exist" in error(tmp_path / "none", "--out", tmp_path / "o")
    (tmp_path / "file").write_text("mine")
    assert "is a file where a folder is needed" in error(patients, "--out", tmp_path / "file")
    assert not (tmp_path / "o").exists()


def test_numbers_that_cannot_be_are_told_before_the_work(slides, tmp_path, monkeypatch):
    monkeypatch.setattr(ad, "read_h5ad", pytest.fail)
    values = {"--spot-diameter-um": ["nan", "inf", "0", "-1"], "--seed": [-1, 10**20], "--max-epochs": [0, 10**20]}
    for option, wrong in values.items():
        for value in wrong:
            result = run(slides / "patients", "--out", tmp_path / "o", option, value)
            assert result.exit_code == 2 and option in result.stderr, result.output
    (tmp_path / "zarr.json").write_text("{}")
    assert "is a zarr store" in run(slides / "patients", "--out", tmp_path).stderr
    assert [path.name for path in tmp_path.iterdir()] == ["zarr.json"]


@pytest.mark.parametrize("out", ["", "sample/results"])
def test_results_are_not_written_into_what_is_read(tmp_path, out):
    (tmp_path / "sample" / "spatial").mkdir(parents=True)
    result = run(tmp_path, "--out", tmp_path / out, *QUICK)
    assert result.exit_code == 1 and "sample, which is read: pass another --out." in " ".join(result.stderr.split())
    assert not list((tmp_path / "sample" / "spatial").iterdir()) and len(list((tmp_path / "sample").iterdir())) == 1


def test_a_note_of_several_slides_is_told_once():
    outcome = cohort.Outcome(notes={"a": ["No barcodes.", "Shallow."], "b": ["No barcodes."]})
    assert outcome.shared_notes() == {"No barcodes.": ["a", "b"], "Shallow.": ["a"]}
