"""``omib-spatial bench``: the experiments of `omib_bench` on the command line."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from omib_bench._cli_options import keep
from omib_bench._cli_paper import paper_tissue, rehearse
from omib_bench._cli_tissue import clones, embedding, explain, modalities, planted
from omib_spatial.cli.options import MaxEpochs, ObjectiveOption, Out, Seeds, plain_errors

if TYPE_CHECKING:
    pass

bench = typer.Typer(help="Measure the package.", no_args_is_help=True)


class Case(StrEnum):
    """Names in `omib_spatial.datasets.two_modalities`."""

    I = "I"  # noqa: E741
    II = "II"
    III = "III"


class PresetName(StrEnum):
    """Names in `omib_bench.sim.PRESETS`."""

    default = "default"
    paper = "paper"


class Detectors(StrEnum):
    """Whom a benchmark measures."""

    ours = "ours"
    all = "all"


@bench.command()
def her2st(
    data: Annotated[Path, typer.Option(help="What `datasets fetch her2st` leaves, or a folder of .h5ad files.")],
    seeds: Seeds = 1,
    objective: ObjectiveOption = None,
    max_epochs: MaxEpochs = None,
    supervised: Annotated[bool, typer.Option(help="Learn from the other patients' tumours too.")] = False,
    detectors: Annotated[Detectors, typer.Option(help="Whom to measure; all adds simple detectors.")] = Detectors.ours,
    alone: Annotated[bool, typer.Option("--alone", help="Fit each section by itself, told nothing, instead.")] = False,
    cohort: Annotated[
        bool, typer.Option("--cohort", help="Fit all sections together, told nothing, in several ways, instead.")
    ] = False,
    robustness: Annotated[
        bool, typer.Option("--robustness", help="Measure ours on thinned, turned and poorer data instead.")
    ] = False,
    out: Out = None,
) -> None:
    """Breast cancer sections, one patient left out at a time: tumour against other tissue."""
    with plain_errors():
        import omib_bench as benchmarks

        options: dict[str, Any] = {} if objective is None else {"objective": objective.value}
        options |= {"seeds": seeds, "max_epochs": max_epochs, "say": typer.echo}
        kinds = {"alone": alone, "cohort": cohort, "robustness": robustness}
        asked = [name for name, given in kinds.items() if given]
        if len(asked) > 1 or (asked and (supervised or detectors is Detectors.all)):
            raise ValueError(
                f"--{asked[0]} is an experiment of its own: leave out --supervised, --detectors and others."
            )
        experiment = getattr(benchmarks, asked[0] if asked else "her2st")
        if detectors is Detectors.all:
            options |= {"simple": True, "settings": benchmarks.her2st.SUBSETS}
        if supervised:
            options |= {"settings": benchmarks.her2st.SUBSETS[-1:], "supervised": True} | options
        records = experiment.run(data, **options)
        typer.echo("\n" + experiment.report(records))
        keep(records, out)


@bench.command()
def sim(
    case: Annotated[list[Case] | None, typer.Option(help="Simulated data; repeat it. Default: all three.")] = None,
    seeds: Seeds = 5,
    preset: Annotated[list[PresetName] | None, typer.Option(help="Settings; repeat it. Default: default.")] = None,
    ablations: Annotated[bool, typer.Option(help="Train without each part, too.")] = True,
    superfluous: Annotated[int, typer.Option(min=1, help="Width of the blocks b1 and b2.")] = 200,
    samples: Annotated[int, typer.Option(min=1, help="Training samples.")] = 9000,
    missing: Annotated[float, typer.Option(min=0, max=1, help="Share of the samples that lack a modality.")] = 0.0,
    max_epochs: MaxEpochs = None,
    sweep_beta: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Draw accuracy against beta.")] = None,
    scale: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Draw seconds against samples.")] = None,
    out: Out = None,
) -> None:
    """Two modalities with known truth: OMIB and its ablations beside linear models and the Bayes rate.

    With --sweep-beta or --scale only the curve is measured, of the first preset; --scale takes the first case.
    """
    with plain_errors():
        import omib_bench as benchmarks

        cases, presets = [c.value for c in case or Case], [p.value for p in preset or [PresetName.default]]
        options: dict[str, Any] = {"superfluous": superfluous, "say": typer.echo}
        if scale is not None:
            records = benchmarks.sim.scale(cases[0], preset=presets[0], **options)
            benchmarks.sim.seconds_per_epoch(records, scale)
            typer.echo(f"Figure: {scale}")
        else:
            options |= {} if max_epochs is None else {"max_epochs": max_epochs}
            if sweep_beta is not None:
                records = []
                for name in cases:
                    records += benchmarks.sim.sweep_beta(name, seeds=seeds, preset=presets[0], **options)
                benchmarks.sim.beta_sweep(records, sweep_beta)
                typer.echo(f"Figure: {sweep_beta}")
            else:
                options |= {"n_train": samples, "missing": missing, "ablations": ablations}
                records = benchmarks.sim.run(cases, seeds=seeds, presets=presets, **options)
                typer.echo("\n" + benchmarks.sim.report(records))
        keep(records, out)


class FusionTask(StrEnum):
    """What fusions are compared on."""

    sim = "sim"
    tissue = "tissue"
    mosi = "mosi"
    pom = "pom"
    cremad = "cremad"


class Part(StrEnum):
    """What is measured on."""

    test = "test"
    valid = "valid"


@bench.command()
def fusions(
    task: Annotated[FusionTask, typer.Option(help="Data; all but sim need --data.")],
    methods: Annotated[str | None, typer.Option(help="Names with commas between them; default: all.")] = None,
    seeds: Seeds = 5,
    data: Annotated[Path | None, typer.Option(help="Folder or file of the task's data.")] = None,
    part: Annotated[
        Part,
        typer.Option(help="Measure on test, or choose settings on valid, where the linear model chose its penalty."),
    ] = Part.test,
    case: Annotated[Case, typer.Option(help="Of sim.")] = Case.I,
    bert: Annotated[str | None, typer.Option(help="Of mosi: a BERT for the words, by folder or name.")] = None,
    words: Annotated[bool, typer.Option(help="Of mosi: counts of the words as the text.")] = False,
    patients: Annotated[
        str | None, typer.Option(help="Of tissue: those to hold out, with commas; default: all.")
    ] = None,
    lists: Annotated[Path | None, typer.Option(help="Of cremad: folder with train.csv and test.csv.")] = None,
    max_epochs: MaxEpochs = None,
    out: Out = None,
    figure: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Every method's mean and spread.")] = None,
) -> None:
    """OMIB and twelve other fusions on CREMA-D, MOSI, POM, simulations or tissue, beside a linear model."""
    with plain_errors():
        from omib_bench import fusions as room

        ours, rivals = room.chosen(methods)
        options: dict[str, Any] = {"seeds": seeds, "ours": ours, "say": typer.echo}
        options |= {} if max_epochs is None else {"max_epochs": max_epochs}
        if task is not FusionTask.sim and data is None:
            raise ValueError(f"--task {task.value} needs --data, the folder of its data.")
        if task is FusionTask.tissue:
            held_out = None if patients is None else patients.split(",")
            records = room.run_tissue(str(data), rivals, patients=held_out, **options)
            text = room.report_tissue(records)
        else:
            experiment = room.experiment(
                task.value, data, part=part.value, case=case.value, bert=bert, words=words, lists=lists
            )
            records = room.run(experiment, rivals, **options)
            text = "\n".join([room.report(records), *([experiment.note] if experiment.note else [])])
        typer.echo("\n" + text)
        keep(records, out)
        if figure is not None:
            room.draw(records, figure, ["auroc"] if task is FusionTask.tissue else None)
            typer.echo(f"Figure: {figure}")


@bench.command()
def scale(
    sizes: Annotated[str | None, typer.Option(help="Spots, as in 10000,30000; default: 1e4 to 1e6.")] = None,
    genes: Annotated[int, typer.Option(min=50, help="Genes of the growing slices.")] = 500,
    ratios: Annotated[bool, typer.Option(help="Measure how far the package is from the floor.")] = True,
    out: Out = None,
    figure: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Time and memory against size.")] = None,
) -> None:
    """Time and memory of fit and score on simulated slices of growing size."""
    with plain_errors():
        import omib_bench as benchmarks

        options: dict[str, Any] = {} if sizes is None else {"sizes": [int(float(n)) for n in sizes.split(",")]}
        records = benchmarks.scale.run(n_genes=genes, ratios=ratios, say=typer.echo, **options)
        typer.echo("\n" + benchmarks.table(records, rows="metric", columns="dataset", mean=False))
        keep(records, out)
        if figure is not None:
            benchmarks.scale.draw(records, figure)
            typer.echo(f"Figure: {figure}")


@bench.command()
def neighbours(
    spots: Annotated[int, typer.Option(min=100, help="Spots of each of two slides.")] = 1500,
    out: Out = None,
) -> None:
    """How much longer a fit takes where other programs keep all cores busy."""
    with plain_errors():
        import omib_bench as benchmarks

        records = benchmarks.neighbours.run(n_spots=spots, say=typer.echo)
        typer.echo("\n" + benchmarks.table(records, rows="metric", columns="setting", mean=False))
        keep(records, out)


@bench.command()
def histology(
    data: Annotated[Path, typer.Option(help="Folder with the her2st sections' .h5ad files and images.")],
    mob: Annotated[
        Path | None, typer.Option(help="Folder with the olfactory bulb's sections, for false alarms.")
    ] = None,
    seeds: Seeds = 3,
    max_epochs: MaxEpochs = None,
    cost: Annotated[bool, typer.Option(help="Measure time and memory as well.")] = True,
    out: Out = None,
) -> None:
    """H&E alone: encoders and stain settings, one patient left out at a time; false alarms; time and memory."""
    with plain_errors():
        import omib_bench as benchmarks

        records = benchmarks.histology.run(data, mob=mob, seeds=seeds, say=typer.echo, max_epochs=max_epochs, cost=cost)
        measured = [row for row in records if row.metric == "auroc"]
        typer.echo("\nAUROC from the image alone:")
        typer.echo(benchmarks.histology.auroc_table(measured))
        keep(records, out)


for command in (planted, clones, modalities, embedding, explain, rehearse):
    bench.command()(command)
bench.command(name="paper-tissue")(paper_tissue)
