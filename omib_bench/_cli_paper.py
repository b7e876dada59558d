"""Commands of ``omib-spatial bench`` that are the paper's own experiments on data which one must have."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from omib_bench._cli_options import keep
from omib_spatial.cli.options import MaxEpochs, Out, Seeds, plain_errors

if TYPE_CHECKING:
    pass


class Rehearsed(StrEnum):
    """Names in `omib_bench.rehearsal.TASKS`."""

    cremad = "cremad"
    mosi = "mosi"


def rehearse(
    task: Annotated[Rehearsed, typer.Option(help="Whose files are made up.")],
    folder: Annotated[Path, typer.Option(help="An empty folder for the files.")],
    methods: Annotated[str | None, typer.Option(help="Names with commas between them; default: all.")] = None,
    seeds: Seeds = 1,
    max_epochs: Annotated[int, typer.Option(min=2, help="Epochs.")] = 8,
    out: Out = None,
) -> None:
    """CREMA-D, or MOSI with a BERT, from made-up files to the table; then the command for the real ones."""
    with plain_errors():
        import omib_bench as benchmarks
        from omib_bench import fusions as room

        ours, rivals = room.chosen(methods)
        options: dict[str, Any] = {"seeds": seeds, "ours": ours, "max_epochs": max_epochs, "say": typer.echo}
        records = benchmarks.rehearsal.run(task.value, folder, rivals, **options)
        typer.echo("\n" + room.report(records))
        typer.echo(
            f"\nMade-up data: only that it runs is shown. With the real ones:\n"
            f"{benchmarks.rehearsal.COMMANDS[task.value]}"
        )
        keep(records, out)


def paper_tissue(
    reference: Annotated[Path, typer.Option(help="Healthy sections: a folder, CELLxGENE's or her2st's, or one .h5ad.")],
    target: Annotated[Path, typer.Option(help="Sections to find tumour in: a folder such as her2st's, or one .h5ad.")],
    sections: Annotated[str | None, typer.Option(help="Of the target, with commas; default: all.")] = None,
    methods: Annotated[str | None, typer.Option(help="Names with commas between them; default: all.")] = None,
    seeds: Seeds = 1,
    image_encoder: Annotated[str, typer.Option(help="Of all but our defaults: resnet18, small or stain.")] = "resnet18",
    max_epochs: MaxEpochs = None,
    out: Out = None,
) -> None:
    """The paper's tissue experiment: models of healthy sections find the tumour of others, beside its Table 5."""
    with plain_errors():
        import omib_bench as benchmarks
        from omib_bench import fusions as room

        ours, rivals = room.chosen(methods)
        options: dict[str, Any] = {} if max_epochs is None else {"max_epochs": max_epochs}
        options |= {"seeds": seeds, "ours": ours, "image_encoder": image_encoder, "say": typer.echo}
        wanted = None if sections is None else sections.split(",")
        records = benchmarks.paper_tissue.run(reference, target, rivals, sections=wanted, **options)
        typer.echo("\n" + benchmarks.paper_tissue.report(records))
        keep(records, out)
