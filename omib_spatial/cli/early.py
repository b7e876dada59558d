"""What can be said before anything is read: missing models, unknown columns, places that cannot be written."""

import json
import os
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from omib_spatial._atomic import check_folder, check_target
from omib_spatial._settings import FIGURE_FORMATS
from omib_spatial.cli.inputs import attributes_of, is_spatialdata, is_zarr

SLIDE_ENDINGS = (".h5ad", ".zarr")


def check_model(folder: Path) -> dict[str, Any]:
    """Settings of the model in ``folder``, without loading it.

    Raises
    ------
    FileNotFoundError, ValueError
        There is none.
    """
    path = folder / "config.json"
    if not path.is_file():
        why = "is a file" if folder.exists() else "does not exist"
        what = "holds no saved model" if folder.is_dir() else f"{why}, so it holds no saved model"
        raise FileNotFoundError(f"{folder} {what}: config.json is missing. Give the folder that `fit` wrote.")
    try:
        config = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"The model in {folder} is damaged: config.json cannot be read ({error}).") from error
    if not isinstance(config, dict) or "format" not in config:
        raise ValueError(f"{folder} holds a config.json that is not of a model of omib_spatial.")
    return config


def check_out(out: Path | None, sources: Sequence[Path], overwrite: bool = False) -> None:
    """Raise where slides cannot be written to ``out``, or it is the input and that was not asked for."""
    if out is None:
        return
    if out.suffix != ".zarr":
        check_target(out)
    if out.suffix not in SLIDE_ENDINGS:
        raise ValueError(f"{out} does not end with .h5ad or .zarr: slides are written as one of these.")
    _refuse_input(out, sources, overwrite)
    if out.suffix == ".h5ad":
        return
    if out.exists() and not (out.is_dir() and is_zarr(out)):
        raise OSError(f"{out} is there and is no zarr store: pass another name.")
    if out.exists() and is_spatialdata(out):
        raise ValueError(f"{out} is a SpatialData, of which its table alone would be left: pass another name.")
    check_folder(out.parent)


def check_file(out: Path, sources: Sequence[Path]) -> None:
    """Raise where a file that is no slide, such as a page or a table, cannot be written to ``out``."""
    _refuse_input(out, sources, False, or_overwrite=False)
    check_target(out)


def check_place(folder: Path) -> None:
    """Raise where files cannot be written into ``folder``."""
    check_folder(folder)
    if is_zarr(folder):
        raise ValueError(f"{folder} is a zarr store: pass a place outside of it.")
    _refuse_within_zarr(folder)


def check_figure(figure: Path | None, sources: Sequence[Path]) -> None:
    """Raise where no picture can be written."""
    if figure is None:
        return
    check_file(figure, sources)
    if figure.suffix.lower().lstrip(".") not in FIGURE_FORMATS:
        raise ValueError(f"{figure} does not end with a kind of picture: pass one of {', '.join(FIGURE_FORMATS)}.")


def _refuse_input(out: Path, sources: Sequence[Path], overwrite: bool, *, or_overwrite: bool = True) -> None:
    if not overwrite and out.exists() and any(source.exists() and out.samefile(source) for source in sources):
        way = ", or say --overwrite to replace it by the result" if or_overwrite else ""
        raise ValueError(f"{out} is the input itself: pass another file{way}.")
    if overwrite and len(sources) > 1 and out.exists() and any(out.samefile(source) for source in sources):
        raise ValueError(f"{out} is one of several inputs, which all would be written into it: pass another file.")
    _refuse_within_zarr(out)


def _refuse_within_zarr(out: Path) -> None:
    # pathlib's resolve() fails on a link that leads to itself.
    if inside := [parent for parent in Path(os.path.realpath(out)).parents if is_zarr(parent)]:
        raise ValueError(f"{out} lies within the zarr store {inside[0]}: pass a place outside of it.")


def check_columns(sources: Iterable[Path], options: dict[str, str | None], *, joined: str | None = None) -> None:
    """Raise KeyError for an option that names an ``obs`` column which a slide does not have.

    Parameters
    ----------
    sources
        Single slides; those whose columns cannot be seen without reading them are passed over.
    options
        Column by option.
    joined
        Option that need not be in every slide, since several are joined.
    """
    for source in sources:
        if (columns := columns_of(source)) is None:
            continue
        for option, column in options.items():
            if column is not None and column not in columns and option != joined:
                close = get_close_matches(column, columns, n=1)
                hint = f" Did you mean {close[0]!r}?" if close else ""
                raise KeyError(f"{source}: obs[{column!r}] does not exist ({option}).{hint} There are {columns}.")


def columns_of(source: Path) -> list[str] | None:
    """Names of the ``obs`` columns of an ``.h5ad`` file or a zarr AnnData; None where only reading would tell."""
    if source.is_dir():
        if not is_zarr(source) or is_spatialdata(source):
            return None
        found = attributes_of(source / "obs").get("column-order")
        return None if found is None else list(map(str, found))
    if source.suffix != ".h5ad":
        return None
    import h5py

    try:
        with h5py.File(os.fspath(source)) as file:
            return [str(name) for name in file["obs"].attrs["column-order"]]
    except (OSError, KeyError, AttributeError):
        return None
