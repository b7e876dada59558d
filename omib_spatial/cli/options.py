"""What the commands share: options, and how errors are told."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Objective(StrEnum):
    """Names in `omib_spatial.tl.OBJECTIVES`, which would import torch."""

    reconstruction = "reconstruction"
    svdd = "svdd"


class Question(StrEnum):
    """What `omib_spatial.tl.call` can be asked."""

    any = "any"
    part = "part"


ObjectiveOption = Annotated[Objective | None, typer.Option(help="What is learned; default: the package's.")]
MaxEpochs = Annotated[int | None, typer.Option(help="Epochs of training; default: the objective's.")]
Seeds = Annotated[int, typer.Option(min=1, help="Number of seeds.")]
Out = Annotated[Path | None, typer.Option(metavar="FILE.json", help="File to keep the numbers in.")]


@contextmanager
def plain_errors() -> Iterator[None]:
    """One clear line on stderr and exit code 1 for what a user can put right; no warnings from other libraries."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("default", category=UserWarning, module="omib_spatial")
        try:
            yield
        except (KeyError, ValueError, TypeError, OSError) as error:
            # A KeyError prints the repr of its message.
            message = error.args[0] if isinstance(error, KeyError) and error.args else error
            typer.echo(f"Error: {' '.join(str(message).split())}", err=True)
            raise typer.Exit(1) from None
