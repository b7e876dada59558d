"""What the commands write: scored slides, and what is said of them, for people or for programs."""

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from omib_spatial._atomic import replacing, scratch
from omib_spatial._keys import Written
from omib_spatial._version import __version__

if TYPE_CHECKING:
    from anndata import AnnData


def speaker(as_json: bool) -> Callable[[str], None]:
    """Takes lines for people; drops them where the result is for programs."""
    return (lambda _: None) if as_json else typer.echo


def write_slides(adata: "AnnData", out: Path) -> None:
    """Write ``.h5ad`` or ``.zarr``, complete or not at all."""
    if out.suffix == ".h5ad":
        with replacing(out) as partial:
            adata.write_h5ad(partial)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    with scratch(out) as folder:
        adata.write_zarr(folder / "new")
        if out.exists():
            # A folder cannot be replaced in one step: the old one is put aside, and back where the new one does not go.
            os.replace(out, folder / "old")
        try:
            os.replace(folder / "new", out)
        except OSError:
            if (folder / "old").exists():
                os.replace(folder / "old", out)
            raise


def result(adata: "AnnData", command: str, **more: Any) -> dict[str, Any]:
    """What was called and what is concluded of each slide, as values that JSON can hold."""
    key = Written()
    return {
        "command": command,
        "version": __version__,
        "n_spots": adata.n_obs,
        "n_called": int(adata.obs[key.anomaly].sum()),
        "n_unscored": int(adata.obs[key.score].isna().sum()),
        "slides": [_plain(row) for row in adata.uns[key.verdicts].to_dict("records")],
        **{name: str(value) if isinstance(value, Path) else value for name, value in more.items()},
    }


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    values = {name: value.item() if hasattr(value, "item") else value for name, value in row.items()}
    return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in values.items()}


def say_json(command: str, **found: Any) -> None:
    """Print a result for programs."""
    typer.echo(json.dumps({"command": command, "version": __version__, **found}, indent=1, allow_nan=False))


def tell(found: dict[str, Any], as_json: bool) -> None:
    """Print a result: one line per slide and file, or all as JSON."""
    if as_json:
        typer.echo(json.dumps(found, indent=1, allow_nan=False))
        return
    from omib_spatial.tl._call import verdict_line

    asked = " and ".join(f"'{question}'" for question in sorted({slide["question"] for slide in found["slides"]}))
    typer.echo(
        f"Asked {asked}: {found['n_called']} of {found['n_spots']} spots called abnormal, {found['n_unscored']} could "
        "not be scored."
    )
    for slide in found["slides"]:
        name = f"{slide['slice']}: " if slide["slice"] else ""
        line = verdict_line(**{key: slide[key] for key in ("verdict", "reason", "n_called", "n_spots", "question")})
        typer.echo(f"{name}{line}")
    for label, name in (("Model", "model"), ("Scores", "out"), ("Map", "figure")):
        if found.get(name) is not None:
            files = found[name] if isinstance(found[name], list) else [found[name]]
            typer.echo(f"{label}: {', '.join(map(str, files))}")
