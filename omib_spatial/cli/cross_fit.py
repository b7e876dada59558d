"""``omib-spatial cross-fit``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from omib_spatial.cli.early import check_columns, check_out, check_place
from omib_spatial.cli.inputs import find_sources, read_with_key
from omib_spatial.cli.options import (
    AsJson,
    CountsOption,
    ImageKey,
    Layer,
    LibraryKey,
    MaxEpochs,
    Overwrite,
    Seed,
    Slides,
    TableKey,
    examples,
    plain_errors,
)
from omib_spatial.cli.outputs import result, speaker, tell, write_slides

EXAMPLES = examples(
    "omib-spatial cross-fit cohort/ --out scored.h5ad",
    "omib-spatial cross-fit cohort.h5ad --library-key section --donor-key patient --out scored.h5ad --models models/",
    "omib-spatial cross-fit cohort/*.h5ad --reference-key healthy --donor-key patient --out scored.zarr --json",
)


def cross_fit(
    slides: Slides,
    out: Annotated[Path, typer.Option(help="Where to write the slides with their scores: .h5ad or .zarr.")],
    donor_key: Annotated[
        str | None, typer.Option(help="obs column of donors; default: every slice is one of its own.")
    ] = None,
    reference_key: Annotated[
        str | None, typer.Option(help="Boolean obs column of healthy spots; default: found.")
    ] = None,
    library_key: LibraryKey = None,
    layer: Layer = None,
    counts: CountsOption = None,
    image_key: ImageKey = None,
    table_key: TableKey = None,
    models: Annotated[Path | None, typer.Option(help="Folder to save a model per donor left out into.")] = None,
    seed: Seed = 0,
    max_epochs: MaxEpochs = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Score the slides of every donor by a model of the other donors: a cohort without healthy slides.

    Where the others' slides give no model for a donor, its slides have no scores, and the exit code is 1.
    """
    with plain_errors():
        sources = find_sources(slides)
        check_out(out, sources, overwrite)
        if models is not None:
            if models == out:
                raise ValueError(f"{out} is given for the slides and for the models: pass two places.")
            check_place(models)
        columns = {"--library-key": library_key, "--reference-key": reference_key, "--donor-key": donor_key}
        check_columns(sources, columns, joined="--library-key" if len(sources) > 1 else None)
        say = speaker(as_json)
        say(f"Reading {', '.join(path.name for path in sources)}")
        adata, own_key = read_with_key(slides, library_key=library_key, image_key=image_key, table_key=table_key)
        from omib_spatial import tl
        from omib_spatial.slides.scored import file_name

        options: dict[str, Any] = {"reference_key": reference_key, "layer": layer, "image_key": image_key}
        options |= {"counts": "raw" if counts is None else counts.value, "seed": seed, "max_epochs": max_epochs}
        found = tl.cross_fit(adata, library_key=own_key, donor_key=donor_key, **options)
        write_slides(adata, out)
        if models is not None:
            for donor, model in found.items():
                model.save(models / file_name(donor))
        more = {"input": list(map(str, sources)), "model": models, "out": out}
        tell(result(adata, "cross-fit", **more), as_json)
        # Warnings have said why.
        if len(found) < len(adata.uns["omib"]["params"]["cross_fit"]):
            raise typer.Exit(1)
