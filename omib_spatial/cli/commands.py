"""The command line. Each command imports what it needs when it runs, so that ``--help`` is quick."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from omib_spatial._settings import muted
from omib_spatial._version import __version__
from omib_spatial.cli import call, cross_fit, fit, handover, report, run, score
from omib_spatial.cli.datasets import datasets
from omib_spatial.cli.options import EXIT_CODES, MaxEpochs, Seeds, plain_errors


class FilledIn(TyperGroup):
    """Refuses empty words, which variables of the shell leave that are not set: as a path one is the folder at hand."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Look at all words, then read them."""
        if any(not word.strip() for word in args):
            raise typer.BadParameter("a word is empty, perhaps of a variable of the shell that is not set.", ctx)
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=FilledIn,
    epilog=EXIT_CODES,
    add_completion=False,
    rich_markup_mode="markdown",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
try:
    from omib_bench.cli import bench
except ImportError:  # The package works without its benchmarks.
    pass
else:
    app.add_typer(bench, name="bench")
app.add_typer(datasets, name="datasets")

app.command(epilog=fit.EXAMPLES)(fit.fit)
app.command("cross-fit", epilog=cross_fit.EXAMPLES)(cross_fit.cross_fit)
app.command(epilog=score.EXAMPLES)(score.score)
app.command(epilog=call.EXAMPLES)(call.call)
app.command(epilog=handover.REGIONS_EXAMPLES)(handover.regions)
app.command(epilog=handover.EXPLAIN_EXAMPLES)(handover.explain)
app.command(epilog=handover.ANNOTATE_EXAMPLES)(handover.annotate)
app.command(epilog=handover.EXPORT_EXAMPLES)(handover.export)
app.command(epilog=report.SUMMARISE_EXAMPLES)(report.summarise)
app.command(epilog=report.EXAMPLES)(report.report)
app.command(epilog=run.EXAMPLES)(run.run)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"omib_spatial {__version__}")
        raise typer.Exit


@app.callback()
def main(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Find the part of a tissue that should not be there."""
    # Commands print verdicts as their result.
    context.with_resource(muted())


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


if __name__ == "__main__":
    app()
