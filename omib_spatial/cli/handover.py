"""``omib-spatial regions``, ``explain``, ``annotate``, ``export``: from scored slides to other programs, and back."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from omib_spatial._atomic import check_folder
from omib_spatial.cli.early import check_columns, check_file, check_model, check_out, check_place
from omib_spatial.cli.inputs import find_sources, is_zarr, read_slides, read_with_key
from omib_spatial.cli.options import (
    AsJson,
    ImageKey,
    Layer,
    LibraryKey,
    ModelFolder,
    Overwrite,
    Scored,
    Slides,
    SpotDiameter,
    examples,
    plain_errors,
)
from omib_spatial.cli.outputs import result, say_json, speaker, tell, write_slides

REGIONS_EXAMPLES = examples(
    "omib-spatial regions scored.h5ad --out scored.h5ad --overwrite",
    "omib-spatial regions scored.h5ad --out regions.h5ad --spot-diameter-um 100",
)
EXPLAIN_EXAMPLES = examples(
    "omib-spatial explain regions.h5ad breast/ --out explained.h5ad",
    "omib-spatial explain regions.h5ad breast/ --groupby omib_clone --top 20 --out explained.h5ad --json",
)
ANNOTATE_EXAMPLES = examples(
    "omib-spatial annotate patient_outs/ annotations.geojson --out annotated.h5ad --key-added tissue",
    "omib-spatial annotate cohort.h5ad a1.geojson --library-id A1 --out cohort.h5ad --overwrite",
)
EXPORT_EXAMPLES = examples(
    "omib-spatial export scored.h5ad --qupath regions.geojson",
    "omib-spatial export scored.h5ad --qupath spots.geojson --spots --loupe loupe/ --spatialdata scored.zarr",
)


def regions(
    source: Scored,
    out: Annotated[Path, typer.Option(help="Where to write the slides with their regions: .h5ad or .zarr.")],
    spot_diameter_um: SpotDiameter = None,
    min_spots: Annotated[
        int | None, typer.Option(min=1, help="Called spots of the smallest region; default 5.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Join called spots into regions, with area, score and p-value."""
    with plain_errors():
        check_out(out, find_sources([source]), overwrite)
        speaker(as_json)(f"Reading {source.name}")
        adata = read_slides(source)
        from omib_spatial import tl
        from omib_spatial._keys import Written

        options: dict[str, Any] = {} if min_spots is None else {"min_spots": min_spots}
        tl.regions(adata, spot_diameter_um=spot_diameter_um, **options)
        write_slides(adata, out)
        table = adata.uns[Written().regions].drop(columns="outline")
        found = result(adata, "regions", input=[str(source)], out=out, regions=[])
        found["regions"] = [{"region": name} | row for name, row in zip(table.index, plain_rows(table), strict=True)]
        tell(found, as_json)
        for row in [] if as_json else found["regions"]:
            size = f", {row['area'] / 1e6:.3g} mm2" if row["unit"] == "um" else ""
            typer.echo(f"Region {row['region']}: {row['n_spots']} spots{size}, mean score {row['mean_score']:.2f}")


def explain(
    source: Scored,
    model_folder: ModelFolder,
    out: Annotated[Path, typer.Option(help="Where to write the slides with what was said: .h5ad or .zarr.")],
    groupby: Annotated[
        list[str] | None, typer.Option(help="obs column whose groups are explained; default: regions. Repeat it.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Genes of each group that are printed.")] = 10,
    library_key: LibraryKey = None,
    layer: Layer = None,
    image_key: ImageKey = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Say which modalities, genes and chromosome arms make up the scores of called spots and of regions."""
    with plain_errors():
        check_model(model_folder)
        sources = find_sources([source])
        check_out(out, sources, overwrite)
        for name in groupby or ():
            check_columns(sources, {"--groupby": name})
        speaker(as_json)(f"Reading {source.name}")
        adata = read_slides(source)
        from omib_spatial import get, tl

        keys: dict[str, Any] = {"library_key": library_key, "layer": layer, "image_key": image_key}
        tl.explain(adata, tl.load(model_folder), groupby=groupby or None, **keys)
        write_slides(adata, out)
        groups = []
        for name, rows in get.explanation(adata, "modalities").groupby("group", observed=True, sort=False):
            shares = {str(row["modality"]): row["share"] for row in plain_rows(rows)}
            own = {"group": str(name), "n_spots": int(rows["n_spots"].iloc[0]), "shares": shares}
            groups.append(own | {"genes": _top_genes(adata, str(name), top)})
        if as_json:
            say_json("explain", input=[str(source)], model=str(model_folder), out=str(out), groups=groups)
            return
        for group in groups:
            typer.echo(_in_words(group))
        typer.echo(f"Slides: {out}")


def _top_genes(adata: Any, group: str, n: int) -> list[str]:
    """Genes that make up most of the scores of a group; none where the model has no genes."""
    from omib_spatial import get

    try:
        genes = get.explanation(adata, "genes", group=group)
    except KeyError:
        return []
    return [str(name) for name in genes.index[(genes["contribution"] > 0).to_numpy()][:n]]


def _in_words(group: dict[str, Any]) -> str:
    shares = ", ".join(f"{name} {100 * share:.0f} %" for name, share in group["shares"].items() if share is not None)
    genes = f"; {', '.join(group['genes'])}" if group["genes"] else ""
    return f"{group['group']}: {group['n_spots']} spots; {shares}{genes}"


def annotate(
    slides: Slides,
    annotations: Annotated[Path, typer.Argument(metavar="ANNOTATIONS.geojson", help="What QuPath exported.")],
    out: Annotated[Path, typer.Option(help="Where to write the slides with the column: .h5ad or .zarr.")],
    key_added: Annotated[str, typer.Option(help="obs column to write.")] = "annotation",
    min_share: Annotated[float, typer.Option(help="Smallest share of a spot that must be inside.")] = 0.5,
    library_key: LibraryKey = None,
    library_id: Annotated[str | None, typer.Option(help="Slice whose image was annotated.")] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Take a pathologist's polygons from QuPath as an obs column, for --labels-key of fit."""
    with plain_errors():
        sources = find_sources(slides)
        check_out(out, sources, overwrite)
        if not annotations.is_file():
            raise FileNotFoundError(f"{annotations} does not exist: export the objects from QuPath as GeoJSON.")
        speaker(as_json)(f"Reading {', '.join(path.name for path in sources)}")
        adata, own_key = read_with_key(slides, library_key=library_key)
        from omib_spatial import io

        options: dict[str, Any] = {"library_key": own_key, "library_id": library_id}
        io.annotate(adata, annotations, key_added=key_added, min_share=min_share, **options)
        write_slides(adata, out)
        counts = {str(name): int(n) for name, n in adata.obs[key_added].value_counts().items()}
        outside = int(adata.obs[key_added].isna().sum())
        if as_json:
            say_json("annotate", out=str(out), key_added=key_added, spots=counts, n_missing=outside)
            return
        typer.echo(", ".join([*(f"{n} {name}" for name, n in counts.items()), f"{outside} in no polygon"]))
        typer.echo(f"Slides: {out}")


def export(
    source: Scored,
    qupath: Annotated[
        Path | None, typer.Option(help="GeoJSON to write, one of each slide: the regions that `regions` found.")
    ] = None,
    spots: Annotated[bool, typer.Option("--spots", help="With --qupath: every spot, too; needs no regions.")] = False,
    loupe: Annotated[Path | None, typer.Option(help="Folder to write CSV files for Loupe Browser into.")] = None,
    by: Annotated[str | None, typer.Option(help="With --loupe: obs column; default: the call.")] = None,
    spatialdata: Annotated[Path | None, typer.Option(help="SpatialData to write: a new .zarr folder.")] = None,
    library_id: Annotated[str | None, typer.Option(help="With --qupath and --loupe: this slice alone.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write regions, spots and calls for QuPath, Loupe Browser and everything that reads SpatialData."""
    with plain_errors():
        if qupath is None and loupe is None and spatialdata is None:
            raise ValueError("Say what to write: --qupath FILE.geojson, --loupe FOLDER or --spatialdata FOLDER.zarr.")
        if (spots and qupath is None) or (by is not None and loupe is None):
            raise ValueError("--spots goes with --qupath, and --by with --loupe.")
        _check_places(qupath, loupe, spatialdata, find_sources([source]))
        speaker(as_json)(f"Reading {source.name}")
        adata = read_slides(source)
        from omib_spatial import io
        from omib_spatial._keys import Written

        if qupath is not None and not spots and Written().regions not in adata.uns:
            raise ValueError(
                f"{source.name} has no regions: run `omib-spatial regions {source} --out FILE.h5ad` first and export "
                "that file, or pass --spots for the spots alone."
            )
        ways: list[Callable[[], list[Path]]] = []
        if qupath is not None:
            ways.append(lambda: io.to_qupath(adata, qupath, spots=spots, library_id=library_id))
        if loupe is not None:
            ways.append(lambda: io.to_loupe(adata, loupe, by=by, library_id=library_id))
        if spatialdata is not None:
            ways.append(lambda: _write_spatialdata(io.to_spatialdata(adata), spatialdata))
        written, failed = list[Path](), list[Exception]()
        # What one program cannot take the others may.
        for way in ways:
            try:
                written += way()
            except (KeyError, TypeError, ValueError, OSError) as error:
                failed.append(error)
        if as_json and not failed:
            say_json("export", input=[str(source)], written=list(map(str, written)))
        for path in [] if as_json and not failed else written:
            typer.echo(f"Written: {path}", err=as_json)
        if failed:
            raise failed[0]


def _check_places(qupath: Path | None, loupe: Path | None, spatialdata: Path | None, sources: list[Path]) -> None:
    if qupath is not None:
        check_file(qupath, sources)
    if loupe is not None:
        check_place(loupe)
    if spatialdata is not None:
        check_folder(spatialdata.parent)
        if spatialdata.suffix != ".zarr":
            raise ValueError(f"{spatialdata} does not end with .zarr: a SpatialData is written as one.")
        if spatialdata.exists():
            kind = "a zarr store" if spatialdata.is_dir() and is_zarr(spatialdata) else "something"
            raise OSError(f"{spatialdata} is there already, and is {kind}: pass a new name.")


def _write_spatialdata(sdata: Any, path: Path) -> list[Path]:
    """A new store, complete or not there."""
    import os

    from omib_spatial._atomic import scratch

    path.parent.mkdir(parents=True, exist_ok=True)
    with scratch(path) as folder:
        sdata.write(folder / path.name)
        os.replace(folder / path.name, path)
    return [path]


def plain_rows(table: Any) -> list[dict[str, Any]]:
    """Rows of a table as values that JSON can hold: what is not known is null."""
    import pandas as pd

    return [
        {
            str(key): None if pd.isna(value) else value.item() if hasattr(value, "item") else value
            for key, value in row.items()
        }
        for row in table.to_dict("records")
    ]
