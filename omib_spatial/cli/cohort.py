"""What `omib-spatial run` does with each slide, and how it knows what is finished."""

import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from tqdm import tqdm

from omib_spatial import io, tl
from omib_spatial._atomic import replacing
from omib_spatial._warn import OmibWarning
from omib_spatial.cli import kinds
from omib_spatial.cli.inputs import read_slides, read_with_key
from omib_spatial.cli.joining import sides_of
from omib_spatial.cli.models import Plan, fingerprint, fit_arguments, models_by_slide
from omib_spatial.cli.options import one_line
from omib_spatial.cli.outputs import write_slides
from omib_spatial.reporting import report
from omib_spatial.slides.scored import file_name

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger("omib_spatial")

DONE = "done.json"
"""Written last into the folder of a slide: what it was made from, and by which options."""
TABLE = "cohort.csv"
SCORED, ASIDE = "scored.h5ad", "scored.changed.h5ad"
"""Results of a slide, and where they are kept if somebody changed them and they are made again."""


@dataclass
class Outcome:
    """Names of slides that were done now, that were finished before, and that failed, with the reason.

    ``verdicts`` counts what is concluded of the slides in the table. ``no_kinds`` says why no kinds of anomaly were
    sought in all slides together, if they were not.
    """

    done: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)
    table: Path | None = None
    verdicts: dict[str, int] = field(default_factory=dict)
    no_kinds: str = ""

    def shared_notes(self) -> dict[str, list[str]]:
        """Every note once, with the names of the slides that it is about."""
        found: dict[str, list[str]] = {}
        for name, notes in self.notes.items():
            for note in notes:
                found.setdefault(note, []).append(name)
        return found

    def as_json(self) -> dict[str, Any]:
        """Values that JSON can hold."""
        return {**vars(self), "table": None if self.table is None else str(self.table)}


def process(sources: Sequence[Path], plan: Plan) -> Outcome:
    """Do every slide that is not finished, then seek kinds of anomaly in all that are, and write their table.

    Raises
    ------
    KeyError, TypeError, ValueError, OSError
        The healthy slides give no model, or the table cannot be written. A slide that fails raises nothing.
    """
    outcome, names = Outcome(), [file_name(name) for name in sides_of(sources)]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"Slides would be written into one folder ({', '.join(sorted(twice))}): rename them.")
    by_name = dict(zip(names, sources, strict=True))
    _refuse_inputs(plan, by_name)
    models = models_by_slide(plan, by_name)
    bar = tqdm(by_name.items(), unit="slide", disable=None)
    for name, source in bar:
        bar.set_postfix_str(name)
        # Whatever is wrong with one slide, the others are worth having.
        try:
            if isinstance(found := models[name], ValueError):
                raise found
            model, identity = found
            mark = fingerprint([source], {**plan.options, "model": identity})
            if not plan.again and is_finished(plan.out / name, mark):
                outcome.kept.append(name)
                continue
            notes = one_slide(source, plan.out / name, model, plan, mark)
        except Exception as error:
            message = error.args[0] if isinstance(error, KeyError) and error.args else error
            outcome.failed[name] = one_line(message) or type(error).__name__
            # All are told at the end; who watches the bar need not wait for it.
            if not bar.disable:
                tqdm.write(f"Failed: {name}: {outcome.failed[name]}", file=sys.stderr)
            logger.debug("%s failed", name, exc_info=True)
            continue
        outcome.done.append(name)
        outcome.notes |= {name: notes} if notes else {}
    finished = [name for name in names if name in {*outcome.done, *outcome.kept}]
    if finished:
        outcome.no_kinds = _kinds(plan, finished, shared=plan.model is not None or bool(plan.healthy))
        for name in finished:  # kinds of anomaly are written into the scores
            _record(plan.out / name, json.loads((plan.out / name / DONE).read_text(encoding="utf-8")))
        outcome.table, table = plan.out / TABLE, _table(plan, finished, outcome.notes)
        outcome.verdicts = table["verdict"].value_counts().to_dict()
    return outcome


def _refuse_inputs(plan: Plan, sources: Mapping[str, Path]) -> None:
    """Raise where results would be written into a folder that is read: it would be another slide the next time."""
    model = [] if plan.model is None else [plan.model]
    read = [os.path.realpath(path) for path in [*sources.values(), *plan.healthy, *model] if path.is_dir()]
    for name in sources:
        place = Path(os.path.realpath(plan.out / name))
        if inside := [path for path in read if Path(path) in (place, *place.parents)]:
            raise ValueError(
                f"The results of {name} would be written into {inside[0]}, which is read: pass another --out."
            )


def one_slide(source: Path, folder: Path, model: "tl.AnomalyModel | None", plan: Plan, mark: str) -> list[str]:
    """Score a slide and write all that is said of it.

    Parameters
    ----------
    source
        The slide.
    folder
        Of its results; made if missing.
    model
        None fits one on the slide itself.
    plan
        Of `omib-spatial run`.
    mark
        By which it is known as finished.

    Returns
    -------
    What the user should know, a sentence each.
    """
    options, aside = plan.options, _set_aside(folder)
    (folder / DONE).unlink(missing_ok=True)
    with _heard() as notes:
        notes += aside
        # Of a SpatialData the image is chosen when it is read.
        image_key = options["image_key"] or (None if model is None else model.layout.image_key)
        adata, library_key = read_with_key(source, library_key=options["library_key"], image_key=image_key)
        own = _score(adata, model, library_key, options)
        tl.regions(adata, spot_diameter_um=options["spot_diameter_um"])
        with _tried(notes, "no clones"):
            tl.clones(adata, patient_key=plan.patient_key if plan.patient_key in adata.obs else None)
        with _tried(notes, "no explanation"):
            tl.explain(adata, own)
        write_slides(adata, folder / SCORED)
        written = [folder / SCORED, *io.to_qupath(adata, folder / "regions.geojson")]
        with _tried(notes, "nothing for Loupe Browser"):
            written += io.to_loupe(adata, folder)
        if options["truth"] and options["truth"] not in adata.obs:
            notes.append(f"obs[{options['truth']!r}] does not exist: the report compares with nothing")
        written.append(_report(plan, folder.name, adata))
    record = {"fingerprint": mark, "files": [path.name for path in written], "notes": notes, "source": source.name}
    _record(folder, record)
    return notes


def _record(folder: Path, record: dict[str, Any]) -> None:
    """Write down what a folder was made from, and the state of its scores, by which a later change is known."""
    with replacing(folder / DONE) as file:
        file.write_text(json.dumps(record | {"state": _state(folder)}, indent=1) + "\n", encoding="utf-8")


def _state(folder: Path) -> list[int]:
    """Size and time of the scores."""
    found = (folder / SCORED).stat()
    return [found.st_size, found.st_mtime_ns]


def is_finished(folder: Path, mark: str) -> bool:
    """Whether a folder holds the results of the slide and options with this fingerprint."""
    try:
        record = json.loads((folder / DONE).read_text(encoding="utf-8"))
        complete = all((folder / name).is_file() for name in record["files"])
        # What was cut off, or called in another way, does not go with the files beside it.
        return bool(record["fingerprint"] == mark and complete and not _changed(folder, record))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _changed(folder: Path, record: dict[str, Any]) -> bool:
    """Whether the scores are not as they were written; older records do not say how they were."""
    return "state" in record and record["state"] != _state(folder)


def _set_aside(folder: Path) -> list[str]:
    """Keep scores that somebody changed since they were written, as by calling them in another way; say so."""
    try:
        if not _changed(folder, json.loads((folder / DONE).read_text(encoding="utf-8"))):
            return []
        (folder / SCORED).replace(folder / ASIDE)
    except (OSError, ValueError, TypeError):
        return []
    return [f"{SCORED} had been changed since it was written: it was made again, and the changed one is {ASIDE}"]


def _score(
    adata: "AnnData", model: "tl.AnomalyModel | None", library_key: str | None, options: dict[str, Any]
) -> "tl.AnomalyModel":
    """Score and call; gives the model by which that was done."""
    if model is None:
        model = tl.fit(adata, library_key=library_key, enable_progress_bar=False, **fit_arguments(options))
    else:
        keys = {key: options[key] for key in ("layer", "counts", "image_key")}
        tl.score(adata, model, library_key=library_key, **keys)
    if options["question"] is not None:
        tl.call(adata, question=options["question"])
    return model


def _report(plan: Plan, name: str, adata: "AnnData") -> Path:
    truth = plan.options["truth"] if plan.options["truth"] in adata.obs else None
    return report(adata, plan.out / name / "report.html", truth_key=truth, title=name)


def _kinds(plan: Plan, names: Sequence[str], *, shared: bool) -> str:
    """Why no kinds of anomaly were sought; empty if they were. What cannot be done costs nothing else."""
    files = {name: plan.out / name / SCORED for name in names}
    try:
        return kinds.seek_kinds(files, plan.out, shared=shared, write_report=partial(_report, plan))
    except (KeyError, ValueError) as error:
        return one_line(error.args[0] if error.args else error)


def _table(plan: Plan, names: Sequence[str], notes: dict[str, list[str]]) -> pd.DataFrame:
    """Write the table of finished slides, by the names of their folders; add to ``notes`` who has no patient."""
    parts = []
    for name in names:
        adata = read_slides(plan.out / name / SCORED)
        # One slide without the column must not cost the table.
        known = plan.patient_key if plan.patient_key in adata.obs else None
        if plan.patient_key and known is None:
            missing = f"obs[{plan.patient_key!r}] does not exist: no patient is named in the table"
            notes.setdefault(name, []).append(missing)
        own = tl.summarise(adata, patient_key=known).assign(file=f"{name}/{SCORED}")
        parts.append(own.assign(slide=own["slide"].replace("", name)))
    table = pd.concat(parts, ignore_index=True)
    with replacing(plan.out / TABLE) as file:
        table.to_csv(file, index=False)
    return table


@contextmanager
def _heard() -> Iterator[list[str]]:
    """Take this package's warnings as notes: once each, without those of other libraries."""
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.filterwarnings("always", category=OmibWarning)
        yield notes
    notes[:0] = dict.fromkeys(one_line(warning.message) for warning in caught)


@contextmanager
def _tried(notes: list[str], what: str) -> Iterator[None]:
    """Note what could not be done, and go on: a slide of ST arrays has no barcodes, one without calls no clones."""
    try:
        yield
    except (KeyError, ValueError) as error:
        notes.append(f"{what}: {one_line(error.args[0] if error.args else error)}")
