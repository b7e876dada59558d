"""``omib-spatial report`` and ``summarise``: what was found, for people."""

from pathlib import Path
from typing import Annotated, Any

import typer

from omib_spatial._atomic import replacing
from omib_spatial.cli.early import check_columns, check_file, check_model
from omib_spatial.cli.handover import plain_rows
from omib_spatial.cli.inputs import find_sources, read_slides
from omib_spatial.cli.options import AsJson, ImageKey, Scored, SpotDiameter, examples, plain_errors
from omib_spatial.cli.outputs import say_json, speaker

EXAMPLES = examples(
    "omib-spatial report scored.h5ad --out report.html",
    "omib-spatial report scored.h5ad --model breast/ --out report.html --truth pathologist",
)
SUMMARISE_EXAMPLES = examples(
    "omib-spatial summarise scored/*.h5ad --out cohort.csv",
    "omib-spatial summarise a.h5ad b.h5ad --patient-key patient --json",
)


def report(
    source: Scored,
    out: Annotated[Path, typer.Option(help="Page to write: .html.")],
    model: Annotated[
        Path | None, typer.Option(help="Folder of the model that scored: says which genes and modalities speak.")
    ] = None,
    truth: Annotated[str | None, typer.Option(help="obs column to compare with, such as an annotation.")] = None,
    library_id: Annotated[str | None, typer.Option(help="Show this slice alone.")] = None,
    image_key: ImageKey = None,
    spot_diameter_um: SpotDiameter = None,
    as_json: AsJson = False,
) -> None:
    """Write one page about scored slides that opens in any browser, without network."""
    with plain_errors():
        if out.suffix.lower() not in {".html", ".htm"}:
            raise ValueError(f"{out} does not end with .html: the report is one page.")
        sources = find_sources([source])
        check_file(out, sources)
        if model is not None:
            check_model(model)
        check_columns(sources, {"--truth": truth})
        speaker(as_json)(f"Reading {source.name}")
        adata = read_slides(source)
        from omib_spatial import tl
        from omib_spatial.reporting import report as write

        by = None if model is None else tl.load(model)
        options: dict[str, Any] = {"library_id": library_id, "image_key": image_key}
        write(adata, out, by, truth_key=truth, spot_diameter_um=spot_diameter_um, **options)
        if as_json:
            say_json("report", input=[str(source)], out=str(out), n_bytes=out.stat().st_size)
        else:
            typer.echo(f"Report: {out}")


def summarise(
    sources: Annotated[list[Path], typer.Argument(metavar="SCORED...", help="Scored slides, or a folder of them.")],
    out: Annotated[Path | None, typer.Option(help="CSV file to write; default: print the table.")] = None,
    patient_key: Annotated[str | None, typer.Option(help="obs column of patients.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say in one table what was found on each slide of a cohort."""
    with plain_errors():
        found = find_sources(sources)
        if out is not None:
            if out.suffix.lower() != ".csv":
                raise ValueError(f"{out} does not end with .csv: the table is written as one.")
            check_file(out, found)
        check_columns(found, {"--patient-key": patient_key})
        from omib_spatial import tl

        table = tl.summarise(found, patient_key=patient_key)
        if out is not None:
            with replacing(out) as partial:
                table.to_csv(partial, index=False)
        if as_json:
            say_json("summarise", out=None if out is None else str(out), slides=plain_rows(table))
        elif out is None:
            typer.echo(table.to_csv(index=False), nl=False)
        else:
            typer.echo(f"{len(table)} rows: {out}")
