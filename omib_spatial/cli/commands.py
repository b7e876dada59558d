"""The command line. Each command imports what it needs when it runs, so that ``--help`` is quick."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from omib_spatial._atomic import check_folder, check_target, replacing
from omib_spatial.cli.options import MaxEpochs, ObjectiveOption, Question, Seeds, plain_errors

if TYPE_CHECKING:
    from anndata import AnnData

app = typer.Typer(
    help="Find the part of a tissue that should not be there.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
try:
    from omib_bench.cli import bench
except ImportError:  # The package works without its benchmarks.
    pass
else:
    app.add_typer(bench, name="bench")
datasets = typer.Typer()
app.add_typer(datasets, name="datasets")

SlideIn = Annotated[Path, typer.Argument(metavar="IN.h5ad", help="Raw counts, coordinates and images.")]
ModelFolder = Annotated[Path, typer.Argument(metavar="MODEL_FOLDER", help="Folder of the fitted model.")]
LibraryKey = Annotated[str | None, typer.Option(help="obs column that separates slices.")]
Layer = Annotated[str | None, typer.Option(help="Layer with raw counts; default X.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Let --out replace IN.h5ad itself.")]


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
        import omib_bench as benchmarks
        from omib_spatial import pl
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
    reference_key: Annotated[
        str | None, typer.Option(help="Boolean obs column of healthy spots; default: found.")
    ] = None,
    all_healthy: Annotated[bool, typer.Option("--all-healthy", help="Every spot is healthy.")] = False,
    labels_key: Annotated[str | None, typer.Option(help="obs column of classes, some missing: learn them too.")] = None,
    healthy_label: Annotated[list[str] | None, typer.Option(help="Healthy class of --labels-key; repeat it.")] = None,
    donor_key: Annotated[str | None, typer.Option(help="obs column of donors.")] = None,
    library_key: LibraryKey = None,
    layer: Layer = None,
    modalities: Annotated[list[str] | None, typer.Option(help="gene, image, genome or an obsm key; repeat it.")] = None,
    objective: ObjectiveOption = None,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    max_epochs: MaxEpochs = None,
    resume: Annotated[Path | None, typer.Option(help="Folder that keeps the training's state, to go on from.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write the slides with their scores.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Learn what healthy tissue looks like and save the model."""
    with plain_errors():
        from omib_spatial import tl

        # Before the training, which would be lost.
        check_folder(model_folder)
        _check_out(out, source, overwrite)
        adata = _read(source)
        options: dict[str, Any] = {
            "reference_key": reference_key,
            "all_healthy": all_healthy,
            "labels_key": labels_key,
            "healthy_label": healthy_label or None,
            "donor_key": donor_key,
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
    overwrite: Overwrite = False,
) -> None:
    """Score slides with a saved model."""
    with plain_errors():
        import omib_spatial

        _check_out(out, source, overwrite)
        _check_out(figure, source, False)
        adata, model = _read(source), omib_spatial.load(model_folder)
        omib_spatial.tl.score(adata, model, library_key=library_key, layer=layer)
        _tell(adata, out)
        if figure is not None:
            omib_spatial.pl.anomaly_map(adata, library_key=library_key, save=figure)
            typer.echo(f"Map: {figure}")


@app.command()
def call(
    source: Annotated[Path, typer.Argument(metavar="SCORED.h5ad", help="What fit or score wrote.")],
    question: Annotated[Question, typer.Option(help="any: is there anything? part: which part is it?")],
    out: Annotated[Path, typer.Option(help="Where to write the slides with their calls.")],
    fdr: Annotated[float | None, typer.Option(help="Largest expected share of false calls; any: .1.")] = None,
    miss: Annotated[float | None, typer.Option(help="With part: largest expected share missed.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Call abnormal spots of scored slides again, by another question. Nothing is fitted or scored."""
    with plain_errors():
        from omib_spatial import tl

        _check_out(out, source, overwrite)
        adata = _read(source)
        tl.call(adata, question=question.value, fdr=fdr, miss=miss)
        _tell(adata, out)


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
        from omib_spatial.cli.report import summary

        check_folder(folder)
        adata = _read(source)
        text = json.dumps(summary(adata, library_key=library_key), indent=1, allow_nan=False)
        pl.anomaly_map(adata, truth=truth, library_key=library_key, save=folder / "anomaly_map.png")
        pl.training(adata, save=folder / "training.png")
        with replacing(folder / "summary.json") as partial:
            partial.write_text(text + "\n")
        typer.echo(f"Report: {folder}")


@datasets.callback(invoke_without_command=True)
def list_datasets(context: typer.Context) -> None:
    """List the data sets that the package knows and where each one lives."""
    if context.invoked_subcommand is not None:
        return
    with plain_errors():
        from omib_spatial.datasets._registry import registry

        for name, entry in registry().items():
            typer.echo("\n".join([name, *(f"  {key}: {_short(value)}" for key, value in entry.items())]))


@datasets.command()
def fetch(
    name: Annotated[str, typer.Argument(help="As `omib-spatial datasets` lists it.")],
    cache: Annotated[
        Path | None, typer.Option(help="Folder of all downloads; default: OMIB_CACHE, else the system's.")
    ] = None,
) -> None:
    """Download a data set and say where it is, or how to get it where it may not be downloaded directly."""
    with plain_errors():
        from omib_spatial.datasets import fetch

        typer.echo(fetch(name, cache=cache))


def _short(value: object) -> str:
    """Numbered lines of steps, and a count of files, of which there may be many."""
    if not isinstance(value, list):
        return str(value)
    if all(isinstance(step, str) for step in value):
        return "".join(f"\n    {number}. {step}" for number, step in enumerate(value, 1))
    return f"{len(value)}"


def _read(path: Path) -> "AnnData":
    import anndata

    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist.")
    return anndata.read_h5ad(path)


def _check_out(out: Path | None, source: Path, overwrite: bool) -> None:
    """Raise where ``out`` cannot be written, or is the input and that was not asked for."""
    if out is None:
        return
    check_target(out)
    if not overwrite and out.exists() and source.exists() and out.samefile(source):
        raise ValueError(
            f"{out} is the input itself: pass another file, or say --overwrite to replace it by the result."
        )


def _tell(adata: "AnnData", out: Path | None) -> None:
    """Say what was called and what is concluded of each slide, and write the scored slides if asked."""
    from omib_spatial._keys import Written

    key = Written()
    called, unscored = int(adata.obs[key.anomaly].sum()), int(adata.obs[key.score].isna().sum())
    typer.echo(f"{called} of {adata.n_obs} spots called abnormal, {unscored} could not be scored.")
    for slide in adata.uns[key.verdicts].itertuples():
        name = f"{slide.slice}: " if slide.slice else ""
        typer.echo(f"{name}{slide.verdict}. {slide.reason} {slide.n_called} of {slide.n_spots} spots called.")
    if out is not None:
        with replacing(out) as partial:
            adata.write_h5ad(partial)
        typer.echo(f"Scores: {out}")


if __name__ == "__main__":
    app()
