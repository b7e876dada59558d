"""``omib-spatial run``: a folder of slides in, reports and one table of the cohort out."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from omib_spatial.cli.early import check_model, check_place
from omib_spatial.cli.inputs import find_sources
from omib_spatial.cli.options import (
    AsJson,
    CountsOption,
    ImageKey,
    Layer,
    LibraryKey,
    MaxEpochs,
    Question,
    Seed,
    Slides,
    SpotDiameter,
    examples,
    plain_errors,
)
from omib_spatial.cli.outputs import say_json

if TYPE_CHECKING:
    from omib_spatial.cli.cohort import Outcome
    from omib_spatial.cli.models import Plan

EXAMPLES = examples(
    "omib-spatial run slides/ --out results/",
    "omib-spatial run slides/ --out results/ --cross-fit --patient-key patient",
    "omib-spatial run slides/ --out results/ --model breast/",
    "omib-spatial run patients/ --out results/ --reference healthy/ --spot-diameter-um 100",
)


def run(
    slides: Slides,
    out: Annotated[Path, typer.Option(help="Folder of the results; made if missing.")],
    model: Annotated[Path | None, typer.Option(help="Folder of a fitted model. Default: each slide by itself.")] = None,
    reference: Annotated[
        list[Path] | None, typer.Option(help="Healthy slides, or a folder of them: a model is fitted on them first.")
    ] = None,
    cross_fit: Annotated[
        bool, typer.Option("--cross-fit", help="Judge the slides of each patient by a model of the other patients'.")
    ] = False,
    reference_key: Annotated[
        str | None,
        typer.Option(help="Boolean obs column of healthy spots, where slides are fitted on; default: found."),
    ] = None,
    question: Annotated[
        Question | None, typer.Option(help="any: is there anything? part: which part is it? Default: as fitted.")
    ] = None,
    spot_diameter_um: SpotDiameter = None,
    truth: Annotated[str | None, typer.Option(help="obs column to compare with in the reports.")] = None,
    patient_key: Annotated[
        str | None, typer.Option(help="obs column of patients, for the table and --cross-fit. Default: a file is one.")
    ] = None,
    library_key: LibraryKey = None,
    layer: Layer = None,
    counts: CountsOption = None,
    image_key: ImageKey = None,
    seed: Seed = 0,
    max_epochs: MaxEpochs = None,
    again: Annotated[bool, typer.Option("--again", help="Do finished slides again, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Score every slide, and write of each a report, regions for QuPath, calls for Loupe Browser; and one table.

    Of each slide: results/NAME/ with scored.h5ad, report.html, regions.geojson and a CSV for Loupe Browser. Of all:
    results/cohort.csv and, where one model scored them, kinds of anomaly in results/subtypes.csv. What is finished for
    the same slide and options is not done again. A slide that fails does not stop the others; it is named at the end,
    and the exit code is 1.
    """
    with plain_errors():
        _refuse_two_models(model, reference, cross_fit, reference_key)
        if model is not None:
            check_model(model)
        sources = find_sources(slides)
        if cross_fit and len(sources) < 2:
            raise ValueError("--cross-fit needs files of two patients at least, better of five: leave it out.")
        healthy = find_sources(reference) if reference else []
        check_place(out)
        from omib_spatial.cli.cohort import process
        from omib_spatial.cli.models import Plan

        options: dict[str, Any] = {
            "question": None if question is None else question.value, "spot_diameter_um": spot_diameter_um,
            "truth": truth, "library_key": library_key, "layer": layer, "image_key": image_key, "seed": seed,
            "max_epochs": max_epochs, "reference_key": reference_key,
            "counts": None if counts is None else counts.value,
        }  # fmt: skip
        plan = Plan(out, model, healthy, patient_key, options, again, cross_fit)
        try:
            outcome = process(sources, plan)
        except KeyboardInterrupt:
            typer.echo(f"Stopped: slides that are finished stay in {out}, and the same command goes on.", err=True)
            raise typer.Exit(130) from None
    if as_json:
        say_json("run", out=str(out), **outcome.as_json())
    else:
        _conclude(outcome, plan, len(sources))
    for note, names in outcome.shared_notes().items():
        typer.echo(f"{', '.join(names)}: {note}", err=True)
    for name, why in outcome.failed.items():
        typer.echo(f"Failed: {name}: {why}", err=True)
    if outcome.failed:
        raise typer.Exit(1)


def _refuse_two_models(
    model: Path | None, reference: list[Path] | None, cross_fit: bool, reference_key: str | None
) -> None:
    """Raise ValueError where options say in two ways where the model comes from."""
    if (model is not None) + bool(reference) + cross_fit > 1:
        raise ValueError("Give one of --model, --reference and --cross-fit: each says where the model comes from.")
    if reference_key is not None and (model is not None or reference):
        raise ValueError("--reference-key is for slides that are fitted on: leave it out, or --model and --reference.")


def _conclude(outcome: "Outcome", plan: "Plan", n_sources: int) -> None:
    """Say what was done of how many slides, what is concluded of them, and which way would rank better."""
    from omib_spatial.cli.kinds import TABLE as KINDS

    n = len(outcome.done) + len(outcome.kept)
    kept = f", {len(outcome.kept)} of them from before" if outcome.kept else ""
    typer.echo(f"{n} of {n_sources} slides are finished{kept}: {plan.out}")
    if outcome.table is not None:
        concluded = ", ".join(f"{n} {verdict}" for verdict, n in outcome.verdicts.items())
        typer.echo(f"Verdicts: {concluded}. Reasons, calls and areas: {outcome.table}")
        typer.echo(f"No kinds of anomaly: {outcome.no_kinds}." if outcome.no_kinds else f"Kinds: {plan.out / KINDS}")
    if not (plan.model or plan.healthy or plan.cross_fit) and n_sources > 1:
        typer.echo(
            "Every slide was judged by a model of itself alone. --cross-fit judges the slides of each patient by a "
            "model of the others, which ranks better; --patient-key names the obs column of patients, where one "
            "has several slides."
        )
