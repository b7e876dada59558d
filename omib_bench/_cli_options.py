"""What the commands of ``omib-spatial bench`` share."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from omib_bench import Record


def keep(records: "list[Record]", out: Path | None) -> None:
    """Write the records of a benchmark, if asked."""
    if out is not None:
        import omib_bench as benchmarks

        benchmarks.write_json(records, out)
        typer.echo(f"\nRecords: {out}")
