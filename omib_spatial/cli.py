"""The command line. Each command imports what it needs when it runs, so that ``--help`` is quick."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from anndata import AnnData

    from omib_spatial.benchmarks import Record

app = typer.Typer(
    help="Find the part of a tissue that should not be there.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
bench = typer.Typer(help="Measure the package on annotated data.", no_args_is_help=True)
app.add_typer(bench, name="bench")


class Case(StrEnum):
    """Names in `omib_spatial.datasets.two_modalities`."""

    I = "I"  # noqa: E741
    II = "II"
    III = "III"


class PresetName(StrEnum):
    """Names in `omib_spatial.benchmarks.sim.PRESETS`."""

    default = "default"
    paper = "paper"


class Objective(StrEnum):
    """Names in `omib_spatial.tl.OBJECTIVES`, which would import torch."""

    reconstruction = "reconstruction"
    svdd = "svdd"


class Detectors(StrEnum):
    """Whom a benchmark measures."""

    ours = "ours"
    all = "all"


SlideIn = Annotated[Path, typer.Argument(metavar="IN.h5ad", help="Raw counts, coordinates and images.")]
ModelFolder = Annotated[Path, typer.Argument(metavar="MODEL_FOLDER", help="Folder of the fitted model.")]
LibraryKey = Annotated[str | None, typer.Option(help="obs column that separates slices.")]
Layer = Annotated[str | None, typer.Option(help="Layer with raw counts; default X.")]
ObjectiveOption = Annotated[Objective | None, typer.Option(help="What is learned; default: the package's.")]
MaxEpochs = Annotated[int | None, typer.Option(help="Epochs of training; default: the objective's.")]
Seeds = Annotated[int, typer.Option(min=1, help="Number of seeds.")]
Out = Annotated[Path | None, typer.Option(metavar="FILE.json", help="File to keep the numbers in.")]


@contextmanager
def plain_errors() -> Iterator[None]:
    """One clear line on stderr and exit code 1 for what a user can put right; no warnings from other libraries."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("default", category=UserWarning, module="omib_spatial")
        try:
            yield
        except (KeyError, ValueError, TypeError, OSError) as error:
            # A KeyError prints the repr of its message.
            message = error.args[0] if isinstance(error, KeyError) and error.args else error
            typer.echo(f"Error: {' '.join(str(message).split())}", err=True)
            raise typer.Exit(1) from None


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Picture to write.")] = Path("omib_demo.png"),
    seeds: Seeds = 1,
    json: Annotated[Path | None, typer.Option(help="File to keep the numbers in.")] = None,
    slides: Annotated[int, typer.Option(help="Number of slides.")] = 6,
    healthy: Annotated[int, typer.Option(help="How many of them are healthy and fitted on.")] = 4,
    spots: Annotated[int, typer.Option(help="Spots per slide.")] = 900,
    max_epochs: MaxEpochs = None,
) -> None:
    """Simulate tissue, fit on healthy slides, find the planted anomalies, draw them. Takes one or two minutes."""
    with plain_errors():
        from omib_spatial import benchmarks, pl
        from omib_spatial._keys import HEALTHY, KIND, LIBRARY

        size: dict[str, Any] = {"n_slides": slides, "n_healthy": healthy, "n_spots": spots}
        adata, records = benchmarks.demo.run(say=typer.echo, max_epochs=max_epochs, **size)
        for seed in range(1, seeds):
            records += benchmarks.demo.run(seed=seed, say=typer.echo, max_epochs=max_epochs, **size)[1]
        typer.echo("\nAUROC per kind of anomaly, against the healthy spots of the same slides:")
        typer.echo(benchmarks.table(records, rows="setting", columns="dataset", mean=False))
        if json is not None:
            benchmarks.write_json(records, json)
        abnormal = adata.obs.loc[~adata.obs[HEALTHY], LIBRARY].unique()
        pl.anomaly_map(adata, truth=KIND, library_id=list(abnormal), save=out)
        typer.echo(f"\nH&E, truth, score and call of {', '.join(abnormal)}: {out.resolve()}")


@app.command()
def fit(
    source: SlideIn,
    model_folder: ModelFolder,
    reference_key: Annotated[str | None, typer.Option(help="Boolean obs column of healthy spots; default all.")] = None,
    library_key: LibraryKey = None,
    layer: Layer = None,
    modalities: Annotated[list[str] | None, typer.Option(help="gene, image, genome or an obsm key; repeat it.")] = None,
    objective: ObjectiveOption = None,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    max_epochs: MaxEpochs = None,
    resume: Annotated[Path | None, typer.Option(help="Folder that keeps the training's state, to go on from.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write the slides with their scores.")] = None,
) -> None:
    """Learn what healthy tissue looks like and save the model."""
    with plain_errors():
        from omib_spatial import tl

        adata = _read(source)
        options: dict[str, Any] = {
            "reference_key": reference_key,
            "library_key": library_key,
            "layer": layer,
            "modalities": modalities or None,
            "seed": seed,
            "max_epochs": max_epochs,
            "resume": resume,
        }
        model = tl.fit(adata, **options | ({} if objective is None else {"objective": objective.value}))
        model.save(model_folder)
        typer.echo(f"{model!r}\nModel: {model_folder}")
        _tell(adata, out)


@app.command()
def score(
    source: SlideIn,
    model_folder: ModelFolder,
    out: Annotated[Path, typer.Option(help="Where to write the slides with their scores.")],
    library_key: LibraryKey = None,
    layer: Layer = None,
    figure: Annotated[Path | None, typer.Option(help="Anomaly map to draw.")] = None,
) -> None:
    """Score slides with a saved model."""
    with plain_errors():
        import omib_spatial

        adata, model = _read(source), omib_spatial.load(model_folder)
        omib_spatial.tl.score(adata, model, library_key=library_key, layer=layer)
        _tell(adata, out)
        if figure is not None:
            omib_spatial.pl.anomaly_map(adata, library_key=library_key, save=figure)
            typer.echo(f"Map: {figure}")


@app.command()
def report(
    source: Annotated[Path, typer.Argument(metavar="SCORED.h5ad", help="What fit or score wrote.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Made if missing.")],
    truth: Annotated[str | None, typer.Option(help="obs column to compare with on the map.")] = None,
    library_key: Annotated[str | None, typer.Option(help="obs column of slices; default: as in the run.")] = None,
) -> None:
    """Write a folder with the anomaly map, the course of the training and a summary per slice."""
    with plain_errors():
        import json

        from omib_spatial import pl
        from omib_spatial._report import summary

        adata = _read(source)
        text = json.dumps(summary(adata, library_key=library_key), indent=1, allow_nan=False)
        pl.anomaly_map(adata, truth=truth, library_key=library_key, save=folder / "anomaly_map.png")
        pl.training(adata, save=folder / "training.png")
        (folder / "summary.json").write_text(text + "\n")
        typer.echo(f"Report: {folder}")


@bench.command()
def her2st(
    data: Annotated[Path, typer.Option(help="Folder with the sections' .h5ad files.")],
    seeds: Seeds = 1,
    objective: ObjectiveOption = None,
    max_epochs: MaxEpochs = None,
    detectors: Annotated[Detectors, typer.Option(help="Whom to measure; all adds simple detectors.")] = Detectors.ours,
    out: Out = None,
) -> None:
    """Breast cancer sections, one patient left out at a time: tumour against other tissue."""
    with plain_errors():
        from omib_spatial import benchmarks

        options: dict[str, Any] = {} if objective is None else {"objective": objective.value}
        if detectors is Detectors.all:
            options |= {"simple": True, "settings": benchmarks.her2st.SUBSETS}
        records = benchmarks.her2st.run(data, seeds=seeds, say=typer.echo, max_epochs=max_epochs, **options)
        typer.echo("\n" + benchmarks.her2st.report(records))
        _keep(records, out)


@bench.command()
def sim(
    case: Annotated[list[Case] | None, typer.Option(help="Simulated data; repeat it. Default: all three.")] = None,
    seeds: Seeds = 5,
    preset: Annotated[list[PresetName] | None, typer.Option(help="Settings; repeat it. Default: default.")] = None,
    ablations: Annotated[bool, typer.Option(help="Train without each part, too.")] = True,
    superfluous: Annotated[int, typer.Option(min=1, help="Width of the blocks b1 and b2.")] = 200,
    max_epochs: MaxEpochs = None,
    sweep_beta: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Draw accuracy against beta.")] = None,
    scale: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Draw seconds against samples.")] = None,
    out: Out = None,
) -> None:
    """Two modalities with known truth: OMIB and its ablations beside linear models and the Bayes rate.

    With --sweep-beta or --scale only the curve is measured, on the first case and preset.
    """
    with plain_errors():
        from omib_spatial import benchmarks

        cases, presets = [c.value for c in case or Case], [p.value for p in preset or [PresetName.default]]
        options: dict[str, Any] = {"superfluous": superfluous, "say": typer.echo}
        if scale is not None:
            records = benchmarks.sim.scale(cases[0], preset=presets[0], **options)
            benchmarks.sim.seconds_per_epoch(records, scale)
            typer.echo(f"Figure: {scale}")
        else:
            options |= {} if max_epochs is None else {"max_epochs": max_epochs}
            if sweep_beta is not None:
                records = benchmarks.sim.sweep_beta(cases[0], seeds=seeds, preset=presets[0], **options)
                benchmarks.sim.beta_sweep(records, sweep_beta)
                typer.echo(f"Figure: {sweep_beta}")
            else:
                records = benchmarks.sim.run(cases, seeds=seeds, presets=presets, ablations=ablations, **options)
                typer.echo("\n" + benchmarks.sim.report(records))
        _keep(records, out)


@bench.command()
def scale(
    sizes: Annotated[str | None, typer.Option(help="Spots, as in 10000,30000; default: 1e4 to 1e6.")] = None,
    genes: Annotated[int, typer.Option(min=50, help="Genes of the growing slices.")] = 500,
    ratios: Annotated[bool, typer.Option(help="Measure how far the package is from the floor.")] = True,
    out: Annotated[Path | None, typer.Option(metavar="FILE.json", help="File to keep the numbers in.")] = None,
    figure: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Time and memory against size.")] = None,
) -> None:
    """Time and memory of fit and score on simulated slices of growing size."""
    with plain_errors():
        from omib_spatial import benchmarks

        options: dict[str, Any] = {} if sizes is None else {"sizes": [int(float(n)) for n in sizes.split(",")]}
        records = benchmarks.scale.run(n_genes=genes, ratios=ratios, say=typer.echo, **options)
        typer.echo("\n" + benchmarks.table(records, rows="metric", columns="dataset", mean=False))
        if out is not None:
            benchmarks.write_json(records, out)
            typer.echo(f"\nRecords: {out}")
        if figure is not None:
            benchmarks.scale.draw(records, figure)
            typer.echo(f"Figure: {figure}")


@bench.command()
def histology(
    data: Annotated[Path, typer.Option(help="Folder with the her2st sections' .h5ad files and images.")],
    mob: Annotated[
        Path | None, typer.Option(help="Folder with the olfactory bulb's sections, for false alarms.")
    ] = None,
    seeds: Seeds = 3,
    max_epochs: MaxEpochs = None,
    cost: Annotated[bool, typer.Option(help="Measure time and memory as well.")] = True,
    out: Annotated[Path | None, typer.Option(metavar="FILE.json", help="File to keep the numbers in.")] = None,
) -> None:
    """H&E alone: encoders and stain settings, one patient left out at a time; false alarms; time and memory."""
    with plain_errors():
        from omib_spatial import benchmarks

        records = benchmarks.histology.run(data, mob=mob, seeds=seeds, say=typer.echo, max_epochs=max_epochs, cost=cost)
        measured = [row for row in records if row.metric == "auroc"]
        typer.echo("\nAUROC from the image alone:")
        typer.echo(benchmarks.histology.auroc_table(measured))
        if out is not None:
            benchmarks.write_json(records, out)
            typer.echo(f"\nRecords: {out}")


@app.command()
def datasets() -> None:
    """List the data sets that the package knows and where each one lives."""
    with plain_errors():
        from omib_spatial.datasets._registry import registry

        for name, entry in registry().items():
            typer.echo("\n".join([name, *(f"  {key}: {value}" for key, value in entry.items())]))


def _read(path: Path) -> "AnnData":
    import anndata

    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist.")
    return anndata.read_h5ad(path)


def _keep(records: "list[Record]", out: Path | None) -> None:
    """Write the records of a benchmark, if asked."""
    if out is not None:
        from omib_spatial import benchmarks

        benchmarks.write_json(records, out)
        typer.echo(f"\nRecords: {out}")


def _tell(adata: "AnnData", out: Path | None) -> None:
    """Say what was called, and write the scored slides if asked."""
    from omib_spatial._keys import Written

    key = Written()
    called, unscored = int(adata.obs[key.anomaly].sum()), int(adata.obs[key.score].isna().sum())
    typer.echo(f"{called} of {adata.n_obs} spots called anomalous, {unscored} could not be scored.")
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        adata.write_h5ad(out)
        typer.echo(f"Scores: {out}")


if __name__ == "__main__":
    app()
