"""Every public name has an example in its docstring, and every example runs.

The examples know ``omib``, ``np``, ``torch``, ``ad`` (anndata), ``adata`` (three simulated slides, the third with
anomalies) and ``model`` (fitted on the first two), and small files of every kind that is read. docs/api says so.
"""

import csv
import doctest
import inspect
import json
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy import sparse

import omib_spatial as omib
from omib_spatial.datasets._registry import registry

ROOMS = ["tl", "pp", "pl", "get", "io", "datasets", "core", "encoders", "modalities", "detector", "slides"]
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def public_objects() -> Iterator[tuple[str, Any]]:
    """Functions and classes that a user can import from a room, methods with an example, each once."""
    seen: set[int] = set()
    for room in [
        "omib_spatial",
        "omib_bench",
        "omib_spatial.stats.settings",
        *(f"omib_spatial.{room}" for room in ROOMS),
    ]:
        module = import_module(room)
        names = getattr(module, "__all__", None) or [
            name for name, value in vars(module).items() if getattr(value, "__module__", "") == room
        ]
        for name in names:
            value = getattr(module, name)
            if not (inspect.isfunction(value) or inspect.isclass(value)) or id(value) in seen:
                continue
            seen.add(id(value))
            yield f"{room}.{name}", value
            if inspect.isclass(value):
                for method, code in vars(value).items():
                    if not method.startswith("_") and ">>>" in (getattr(code, "__doc__", "") or ""):
                        yield f"{room}.{name}.{method}", code


OBJECTS = dict(public_objects())


def visium(folder: Path, n: int = 12) -> None:
    (folder / "spatial").mkdir(parents=True)
    barcodes, counts = [f"AAAC{i:02d}-1" for i in range(n)], sparse.csc_matrix(np.arange(5 * n).reshape(5, n) % 4)
    with h5py.File(folder / "filtered_feature_bc_matrix.h5", "w") as file:
        file.attrs["library_ids"] = np.array([b"LIB"])
        for key in ("data", "indices", "indptr"):
            file[f"matrix/{key}"] = getattr(counts, key)
        file["matrix/shape"], file["matrix/barcodes"] = np.array(counts.shape), np.array(barcodes, "S")
        genes = np.array(["TP53", "MYC", "ACTB", "CD3E", "KRT8"], "S")
        for key, values in {
            "id": genes,
            "name": genes,
            "feature_type": ["Gene Expression"] * 5,
            "genome": [""] * 5,
        }.items():
            file[f"matrix/features/{key}"] = np.array(values, "S")
    places = {"in_tissue": 1, "array_row": range(n), "array_col": range(n)}
    pixels = {"pxl_row_in_fullres": 100 * np.arange(n) + 90, "pxl_col_in_fullres": 100 * np.arange(n) + 60}
    pd.DataFrame({"barcode": barcodes} | places | pixels).to_csv(folder / "spatial/tissue_positions.csv", index=False)
    factors = {"spot_diameter_fullres": 80.0, "tissue_hires_scalef": 0.1, "tissue_lowres_scalef": 0.03}
    (folder / "spatial/scalefactors_json.json").write_text(json.dumps(factors))
    for key, side in (("hires", 140), ("lowres", 42)):
        Image.new("RGB", (side, side), (200, 150, 180)).save(folder / f"spatial/tissue_{key}_image.png")


def sections(folder: Path, names: list[str], **obs: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        some = ad.AnnData(
            sparse.csr_matrix(np.ones((16, 4), np.float32)), obs=pd.DataFrame(obs, index=map(str, range(16)))
        )
        some.obsm["spatial"] = np.argwhere(np.ones((4, 4))) * 50.0 + 40
        some.uns["spatial"] = {name: {"scalefactors": {"spot_diameter_fullres": 25.0, "tissue_hires_scalef": 1.0}}}
        some.write_h5ad(folder / f"{name}.h5ad")
        Image.new("RGB", (260, 260), (200, 150, 180)).save(folder / f"{name}.jpg")


def section_of_cellxgene(path: Path, n: int = 16) -> None:
    """A section as CELLxGENE has it: scaled values in X, raw counts in raw.X, Ensembl ids."""
    counts = sparse.csr_matrix(np.arange(4 * n, dtype=np.float32).reshape(n, 4) % 5)
    var = pd.DataFrame({"feature_name": list("ABCD")}, index=[f"ENSG{i:011d}" for i in range(4)])
    obs = pd.DataFrame({"in_tissue": 1, "donor_id": "p1"}, index=[f"AAAC{i}-1" for i in range(n)])
    section = ad.AnnData(counts.log1p(), obs=obs, var=var, obsm={"spatial": np.argwhere(np.ones((4, n // 4))) * 50.0})
    section.raw = ad.AnnData(counts, obs=obs, var=var)
    factors = {"tissue_hires_scalef": 0.1, "spot_diameter_fullres": 30.0}
    picture = {"images": {"hires": np.zeros((20, 20, 3), np.uint8)}, "scalefactors": factors}
    section.uns["spatial"] = {"is_single": True, path.stem: picture}
    section.write_h5ad(path)


def archives_of_geo(folder: Path) -> None:
    """A sample of each archive that STANDS names, as GEO has them."""
    visium(folder / "rcc")
    for path in [folder / "rcc/filtered_feature_bc_matrix.h5", *(folder / "rcc/spatial").iterdir()]:
        path.rename(folder / f"rcc/GSM5924030_ffpe_c_2_{path.name}")
    (folder / "rcc/spatial").rmdir()
    (folder / "pdac").mkdir()
    table = pd.DataFrame(1, index=["A", "B"], columns=["10x13", "10x14", "11x13"])
    table.to_csv(folder / "pdac/GSM3036911_PDAC-A-ST1-filtered.txt.gz", sep="\t")


def write_files(folder: Path) -> None:
    """What the examples of readers read."""
    (folder / "hbca").mkdir()
    section_of_cellxgene(folder / "hbca/V03.h5ad")
    archives_of_geo(folder)
    visium(folder / "outs")
    sections(folder / "her2st", ["B1", "B4"], patient="B", anomaly=0)
    sections(folder / "mob", ["MOB1"], section="MOB1", array_row=range(16), array_col=range(16))
    cached = folder / "cache" / "-".join(["mob", *str(registry()["mob"].get("revision", "")).split()])
    sections(cached, ["MOB1"], section="MOB1", array_row=range(16), array_col=range(16))
    for file in registry()["mob"]["files"]:
        (cached / file["path"]).touch()
    (folder / "slides").mkdir()
    for seed, name in enumerate(["p1", "p2"], 1):
        slide = omib.datasets.simulate_tissue(1, n_healthy=0, n_spots=120, n_genes=100, seed=seed)
        slide.write_h5ad(folder / f"slides/{name}.h5ad")
    genes = [("17", 7661779, 7687546, "TP53"), ("8", 127735434, 127742951, "MYC")]
    (folder / "genes.gtf").write_text(
        "".join(f'chr{c}\tHAVANA\tgene\t{a}\t{b}\t.\t-\t.\tgene_id "{g}"; gene_name "{g}";\n' for c, a, b, g in genes)
    )
    (folder / "pom").mkdir()
    for part, n in {"train": 5, "valid": 2, "test": 3}.items():
        arrays = {"audio": np.ones((n, 6, 43)), "video": np.ones((n, 6, 41)), "label": np.ones((n, 17))}
        np.savez(folder / f"pom/pom_{part}.npz", **arrays)
    (folder / "mosi").mkdir()
    np.savez(
        folder / "mosi/mosi_train.npz",
        label=np.repeat([1, 0], 6),
        text=np.ones((12, 4)),
        audio=np.ones((12, 3)),
        video=np.ones((12, 2)),
    )
    with (folder / "mosi/transcripts.csv").open("w", newline="") as file:
        csv.writer(file).writerows([f"v_{i // 4}_{i}", "SO GOOD", i // 4, i % 2] for i in range(12))
    (folder / "CREMA-D/AudioWAV").mkdir(parents=True)
    (folder / "CREMA-D/VideoFlash").mkdir()
    for clip in ("AudioWAV/1001_DFA_ANG_XX.wav", "VideoFlash/1001_DFA_ANG_XX.flv"):
        (folder / "CREMA-D" / clip).touch()
    (folder / "CREMA-D/train.csv").write_text("1001_DFA_ANG_XX,ANG\n")


@pytest.fixture(scope="module")
def scored() -> tuple[ad.AnnData, Any]:
    adata = omib.datasets.simulate_tissue(3, n_healthy=2, n_spots=200, n_genes=100)
    options = {"reference_key": "healthy", "library_key": "library_id", "max_epochs": 6}
    return adata, omib.tl.fit(adata, **options, enable_progress_bar=False)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    write_files(folder)
    return folder


@pytest.mark.parametrize("name", OBJECTS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_example_of_every_public_name_runs(name, scored, files, tmp_path, monkeypatch):
    for entry in files.iterdir():
        (tmp_path / entry.name).symlink_to(entry)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMIB_CACHE", str(files / "cache"))
    adata, model = scored
    names = {"omib": omib, "np": np, "torch": torch, "ad": ad, "adata": adata.copy(), "model": model}
    tests = doctest.DocTestParser().get_doctest(inspect.getdoc(OBJECTS[name]) or "", names, name, name, 0)
    assert tests.examples, f"{name} has no example"
    assert not any(example.options.get(doctest.SKIP) for example in tests.examples), f"an example of {name} is skipped"
    failed: list[str] = []
    result = doctest.DocTestRunner(optionflags=OPTIONS).run(tests, out=failed.append)
    plt.close("all")
    assert result.failed == 0, "".join(failed)


def test_every_public_name_is_on_the_pages():
    pages = "\n".join(path.read_text() for path in Path(__file__).parents[1].glob("docs/api/*.md"))
    listed = set(re.findall(r"^\s*~?([\w.]+)$", pages, re.M))
    ends = {line.rsplit(".", 1)[-1] for line in listed}
    assert not {name for name in OBJECTS if name.count(".") == 2 and name.rsplit(".", 1)[-1] not in ends}


README = (Path(__file__).parents[1] / "README.md").read_text()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_lines_of_the_readme_run_as_they_are(tmp_path, monkeypatch):
    (lines,) = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len(lines.splitlines()) <= 11
    monkeypatch.chdir(tmp_path)
    # As they are but for the length of the training.
    exec(lines.replace('reference_key="healthy",', 'reference_key="healthy", max_epochs=6,'), {})
    assert (tmp_path / "map.png").stat().st_size > 10_000 and (tmp_path / "model/config.json").is_file()


def test_links_of_the_readme_lead_somewhere():
    links = re.findall(r"\]\((?!https?://)([^)#]+)", README)
    assert len(links) > 10 and not [link for link in links if not (Path(__file__).parents[1] / link).exists()]
