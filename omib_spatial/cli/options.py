"""What the commands share: options, and how errors and warnings are told."""

import math
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from omib_spatial._warn import OmibWarning


class Objective(StrEnum):
    """Names in `omib_spatial.tl.OBJECTIVES`, which would import torch."""

    reconstruction = "reconstruction"
    summaries = "summaries"
    svdd = "svdd"


class Counts(StrEnum):
    """Kinds of counts, as `omib_spatial.tl.fit` takes them."""

    raw = "raw"
    corrected = "corrected"


class Question(StrEnum):
    """What `omib_spatial.tl.call` can be asked."""

    any = "any"
    part = "part"


def _above_0(value: float | None) -> float | None:
    """Refuse before the work what the library would refuse after it; NaN is not below any bound."""
    if value is not None and not 0 < value < math.inf:
        raise typer.BadParameter(f"{value} is not a number above 0.")
    return value


ObjectiveOption = Annotated[Objective | None, typer.Option(help="What is learned; default: the package's.")]
MaxEpochs = Annotated[
    int | None, typer.Option(min=1, max=100_000, help="Epochs of training; default: the objective's.")
]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of everything random.")]
Seeds = Annotated[int, typer.Option(min=1, help="Number of seeds.")]
Out = Annotated[Path | None, typer.Option(metavar="FILE.json", help="File to keep the numbers in.")]

Slides = Annotated[
    list[Path],
    typer.Argument(
        metavar="SLIDES...",
        help="Files .h5ad, folders .zarr (AnnData or SpatialData), Space Ranger's folders, or a folder of these.",
    ),
]
Scored = Annotated[
    Path, typer.Argument(metavar="SCORED", help="Scored slides, from fit, score or cross-fit: .h5ad or .zarr.")
]
ModelFolder = Annotated[Path, typer.Argument(metavar="MODEL_FOLDER", help="Folder of the fitted model.")]
LibraryKey = Annotated[str | None, typer.Option(help="obs column that separates slices.")]
Layer = Annotated[str | None, typer.Option(help="Layer with raw counts; default X.")]
CountsOption = Annotated[
    Counts | None,
    typer.Option(help="corrected: freed of ambient RNA (SoupX, DecontX, CellBender), may be fractions. Default: raw."),
]
ImageKey = Annotated[str | None, typer.Option(help="Image that is read, such as lowres; default: the best there is.")]
TableKey = Annotated[str | None, typer.Option(help="Table of a SpatialData with several.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Let --out replace the input itself.")]
SpotDiameter = Annotated[
    float | None,
    typer.Option(
        callback=_above_0,
        help="True diameter of spots in micrometres, where the scale is not known: 55 Visium, 100 ST arrays.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON and nothing else.")]

EXIT_CODES = (
    "Exit codes: 0 done; 1 something in the files or options is to be put right, one line on stderr says what; "
    "2 the command was called wrongly; 130 stopped by Ctrl-C."
)


def examples(*lines: str) -> str:
    """Text below the help of a command."""
    return "\n\n".join(["Examples:", *(f"  {line}" for line in lines)])


_ARGUMENTS = (
    "library_key|donor_key|reference_key|labels_key|healthy_label|patient_key|image_key|table_key|library_id|all_healthy|"
    "spot_diameter_um|min_spots|min_share|max_epochs|question|fdr|miss|counts|layer|groupby|modalities"
)
"""Of the library, which commands take as options."""


def one_line(message: object) -> str:
    """A message of the library without its line breaks, arguments as the options that they are on the command line."""

    def option(found: re.Match[str]) -> str:
        name, value = f"--{found[1].replace('_', '-')}", found[2] or ""
        return name if value == "True" else f"{name} {value}".strip()

    text = re.sub(r"\bor None(?= for |[.:,]|$)", "or leave it out", " ".join(str(message).split()))
    return re.sub(rf"(?<![\w-])({_ARGUMENTS})=(?:'?(-?[\w.]*\w)'?(?![\w'(]))?+(?!\))", option, text)


@contextmanager
def plain_errors() -> Iterator[None]:
    """One clear line on stderr and exit code 1 for what a user can put right; no warnings from other libraries."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("default", category=UserWarning, module="omib_spatial")
        warnings.filterwarnings("always", category=OmibWarning)
        warnings.showwarning = _show
        try:
            yield
        except (KeyError, ValueError, TypeError, OSError) as error:
            # A KeyError prints the repr of its message.
            message = error.args[0] if isinstance(error, KeyError) and error.args else error
            typer.echo(f"Error: {one_line(message)}", err=True)
            raise typer.Exit(1) from None


def _show(message: Warning | str, *_: Any, **__: Any) -> None:
    sys.stderr.write(f"Warning: {one_line(message)}\n")
