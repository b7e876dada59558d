"""``omib-spatial score``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from omib_spatial.cli.early import check_columns, check_figure, check_model, check_out, columns_of
from omib_spatial.cli.inputs import find_sources, read_with_key
from omib_spatial.cli.options import (
    AsJson,
    CountsOption,
    ImageKey,
    Layer,
    LibraryKey,
    ModelFolder,
    Overwrite,
    Slides,
    TableKey,
    examples,
    plain_errors,
)
from omib_spatial.cli.outputs import result, speaker, tell, write_slides

EXAMPLES = examples(
    "omib-spatial score patient_outs/ breast/ --out scored.h5ad --figure map.png",
    "omib-spatial score a.h5ad b.zarr c_outs/ breast/ --out scored.zarr --figure maps.pdf",
    "omib-spatial score patient.h5ad breast/ --out scored.h5ad --json",
)


def score(
    slides: Slides,
    model_folder: ModelFolder,
    out: Annotated[Path, typer.Option(help="Where to write the slides with their scores: .h5ad or .zarr.")],
    library_key: LibraryKey = None,
    layer: Layer = None,
    counts: CountsOption = None,
    image_key: ImageKey = None,
    table_key: TableKey = None,
    figure: Annotated[
        Path | None,
        typer.Option(help="Anomaly map to draw, six slides to a page; a .pdf has pages, other files are numbered."),
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Score slides with a saved model."""
    with plain_errors():
        # Before the imports, which take seconds.
        layout = check_model(model_folder).get("layout") or {}
        sources = find_sources(slides)
        check_out(out, sources, overwrite)
        check_figure(figure, sources)
        several = len(sources) > 1
        check_columns(sources, {"--library-key": library_key}, joined="--library-key" if several else None)
        if library_key is None and several and any(layout.get("library_key") in (columns_of(s) or ()) for s in sources):
            library_key = layout["library_key"]
        say = speaker(as_json)
        say(f"Reading {', '.join(path.name for path in sources)}")
        adata, own_key = read_with_key(
            slides, library_key=library_key, image_key=image_key or layout.get("image_key"), table_key=table_key
        )
        from omib_spatial import tl

        model = tl.load(model_folder)
        kind: Any = None if counts is None else counts.value
        tl.score(adata, model, library_key=own_key, layer=layer, image_key=image_key, counts=kind)
        write_slides(adata, out)
        drawn: list[str] = []
        if figure is not None:
            from omib_spatial import pl
            from omib_spatial.pl._figure import page_files

            axes = pl.anomaly_map(adata, library_key=own_key, save=figure)
            pages = {ax.figure for ax in (axes if isinstance(axes, list) else [axes])}
            drawn = [str(path) for path in page_files(figure, len(pages))]
        found = {
            "input": list(map(str, sources)),
            "model": str(model_folder),
            "out": out,
            "figure": drawn[0] if len(drawn) == 1 else drawn or None,
        }
        tell(result(adata, "score", **found), as_json)
