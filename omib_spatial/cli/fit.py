"""``omib-spatial fit``."""

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
    ModelFolder,
    ObjectiveOption,
    Overwrite,
    Seed,
    Slides,
    TableKey,
    examples,
    plain_errors,
)
from omib_spatial.cli.outputs import result, speaker, tell, write_slides

EXAMPLES = examples(
    "omib-spatial fit patient_outs/ model/ --out scored.h5ad",
    "omib-spatial fit healthy.h5ad breast/ --all-healthy --library-key section",
    "omib-spatial fit cohort/*.h5ad breast/ --reference-key healthy",
)


def fit(
    slides: Slides,
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
    counts: CountsOption = None,
    image_key: ImageKey = None,
    table_key: TableKey = None,
    modalities: Annotated[list[str] | None, typer.Option(help="gene, image, genome or an obsm key; repeat it.")] = None,
    objective: ObjectiveOption = None,
    seed: Seed = 0,
    max_epochs: MaxEpochs = None,
    resume: Annotated[Path | None, typer.Option(help="Folder that keeps the training's state, to go on from.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where to write the slides with their scores: .h5ad or .zarr.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Learn what healthy tissue looks like and save the model."""
    with plain_errors():
        # Before the training, which would be lost, and before the imports, which take seconds.
        sources = find_sources(slides)
        check_place(model_folder)
        check_out(out, sources, overwrite)
        columns = {"--library-key": library_key, "--reference-key": reference_key}
        columns |= {"--labels-key": labels_key, "--donor-key": donor_key}
        check_columns(sources, columns, joined="--library-key" if len(sources) > 1 else None)
        say = speaker(as_json)
        say(f"Reading {', '.join(path.name for path in sources)}")
        adata, own_key = read_with_key(slides, library_key=library_key, image_key=image_key, table_key=table_key)
        from omib_spatial import tl

        options: dict[str, Any] = {
            "reference_key": reference_key,
            "all_healthy": all_healthy,
            "labels_key": labels_key,
            "healthy_label": healthy_label or None,
            "donor_key": donor_key,
            "library_key": own_key,
            "layer": layer,
            "counts": "raw" if counts is None else counts.value,
            "image_key": image_key,
            "modalities": modalities or None,
            "seed": seed,
            "max_epochs": max_epochs,
            "resume": resume,
        }
        model = tl.fit(adata, **options | ({} if objective is None else {"objective": objective.value}))
        model.save(model_folder)
        say(repr(model))
        if out is not None:
            write_slides(adata, out)
        tell(result(adata, "fit", input=list(map(str, sources)), model=model_folder, out=out), as_json)
