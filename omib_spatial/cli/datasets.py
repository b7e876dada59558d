"""``omib-spatial datasets``: a table of those that are known, all that is known of one, and downloads."""

from difflib import get_close_matches
from pathlib import Path
from shutil import get_terminal_size
from typing import Annotated, Any

import typer

from omib_spatial.cli.options import AsJson, examples, plain_errors

EXAMPLES = examples(
    "omib-spatial datasets",
    "omib-spatial datasets show her2st",
    "omib-spatial datasets fetch visium_breast_cancer",
)
datasets = typer.Typer(epilog=EXAMPLES)
_WIDE = 160
"""Columns of a table that goes into a file or a pipe, which has no width of its own."""
_LICENCE, _NARROWEST = 12, 20
"""Columns of the licence, and fewest of the description."""


@datasets.callback(invoke_without_command=True)
def list_datasets(context: typer.Context, as_json: AsJson = False) -> None:
    """List the data sets that the package knows, and whether `fetch` gets them."""
    if context.invoked_subcommand is not None:
        return
    with plain_errors():
        from omib_spatial.datasets._registry import registry

        if as_json:
            import json

            typer.echo(json.dumps(registry(), indent=1, default=str))
            return
        _table(registry())
        typer.echo("`omib-spatial datasets show NAME` says all of one, `datasets fetch NAME` gets it.")


@datasets.command()
def show(name: Annotated[str, typer.Argument(help="As `omib-spatial datasets` lists it.")]) -> None:
    """Print all that is known of a data set: source, licence, citation, reader, and how to get it."""
    with plain_errors():
        from omib_spatial.datasets._registry import registry

        known = registry()
        if name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise KeyError(f"There is no data set {name!r}.{hint} Known are {list(known)}.")
        typer.echo("\n".join([name, *(f"  {key}: {_short(value)}" for key, value in known[name].items())]))


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


def _table(entries: dict[str, dict[str, Any]]) -> None:
    """One line per data set, cut to the width of the screen."""
    rows = [("name", "get", "licence", "what")]
    for name, entry in entries.items():
        what, licence = (" ".join(str(entry.get(key, "")).split()) for key in ("description", "licence"))
        rows.append((name, "fetch" if "files" in entry else "by hand", _cut(licence, _LICENCE), what))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    left = max(_NARROWEST, get_terminal_size((_WIDE, 24)).columns - sum(widths) - 2 * len(widths))
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        typer.echo("  ".join([*cells, _cut(row[3], left)]).rstrip())


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _short(value: object) -> str:
    """Numbered lines of steps, and a count of files, of which there may be many."""
    if not isinstance(value, list):
        return str(value)
    if all(isinstance(step, str) for step in value):
        return "".join(f"\n    {number}. {step}" for number, step in enumerate(value, 1))
    return f"{len(value)}"
