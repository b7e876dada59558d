"""Commands of ``omib-spatial bench`` that look at one part of the package: on planted, simulated and real tissue."""

from pathlib import Path
from typing import Annotated, Any

import typer

from omib_bench._cli_options import keep
from omib_spatial.cli.options import MaxEpochs, Out, Seeds, plain_errors


def planted(
    data: Annotated[Path, typer.Option(help="What `datasets fetch mob` leaves, or .h5ad files and images.")],
    seeds: Seeds = 3,
    spots: Annotated[int, typer.Option(min=1, help="Spots of the region that is planted.")] = 30,
    max_epochs: MaxEpochs = None,
    out: Out = None,
    figure: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Detection against strength.")] = None,
) -> None:
    """Foreign molecules and pixels of known strength planted in healthy tissue: from where on they are found."""
    with plain_errors():
        import omib_bench as benchmarks

        records = benchmarks.planted.run(data, seeds=seeds, n_spots=spots, say=typer.echo, max_epochs=max_epochs)
        for metric in ("auroc", "auroc_donor", "called", "called_rest"):
            typer.echo("\n" + benchmarks.planted.report(records, metric))
        keep(records, out)
        if figure is not None:
            benchmarks.planted.draw(records, figure)
            typer.echo(f"Figure: {figure}")


def clones(
    data: Annotated[Path, typer.Option(help="What `datasets fetch her2st` leaves, or a folder of .h5ad files.")],
    seeds: Seeds = 3,
    out: Out = None,
) -> None:
    """Clones planted in healthy tissue of breast cancer sections, and those of the tumours: how many, which arms."""
    with plain_errors():
        import omib_bench as benchmarks

        records = benchmarks.clones.run(data, seeds=seeds, say=typer.echo)
        typer.echo("\n" + benchmarks.clones.report(records))
        keep(records, out)


def modalities(
    data: Annotated[Path | None, typer.Option(help="What `datasets fetch her2st` leaves; default: left out.")] = None,
    mob: Annotated[Path | None, typer.Option(help="What `datasets fetch mob` leaves; default: left out.")] = None,
    seeds: Seeds = 3,
    max_epochs: MaxEpochs = None,
    out: Out = None,
) -> None:
    """Every modality alone, every pair, all: with and without the fused code, on simulated, planted and real tissue."""
    with plain_errors():
        import omib_bench as benchmarks

        options: dict[str, Any] = {} if max_epochs is None else {"max_epochs": max_epochs}
        records = benchmarks.modalities.run(data, mob=mob, seeds=seeds, say=typer.echo, **options)
        typer.echo("\n" + benchmarks.modalities.report(records))
        keep(records, out)


def embedding(
    data: Annotated[Path, typer.Option(help="What `datasets fetch her2st` leaves, or a folder of .h5ad files.")],
    seeds: Seeds = 3,
    scvi: Annotated[bool, typer.Option(help="Compare scVI too, where scvi-tools is installed.")] = True,
    max_epochs: MaxEpochs = None,
    out: Out = None,
) -> None:
    """X_omib beside PCA, smoothed PCA, the spatial graph and scVI: clusters, transfer of labels, mixing of sections."""
    with plain_errors():
        import omib_bench as benchmarks

        records = benchmarks.embedding.run(data, seeds=seeds, scvi=scvi, say=typer.echo, max_epochs=max_epochs)
        typer.echo("\n" + benchmarks.embedding.report(records))
        keep(records, out)


def explain(
    data: Annotated[Path, typer.Option(help="What `datasets fetch her2st` leaves, or a folder of .h5ad files.")],
    seeds: Seeds = 3,
    out: Out = None,
) -> None:
    """Remove the genes that make up the scores of breast cancer sections: what is left, beside random genes."""
    with plain_errors():
        import omib_bench as benchmarks

        records = benchmarks.explain.run(data, seeds=seeds, say=typer.echo)
        typer.echo("\n" + benchmarks.explain.report(records))
        keep(records, out)
