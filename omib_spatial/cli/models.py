"""Which model judges which slide of `omib-spatial run`: a given one, one of healthy slides, or of other patients."""

import json
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from omib_spatial import tl
from omib_spatial._atomic import replacing
from omib_spatial._keys import Written
from omib_spatial._settings import muted
from omib_spatial._version import __version__
from omib_spatial._warn import ScoredWarning
from omib_spatial.cli.inputs import read_each, read_with_key
from omib_spatial.cli.joining import join_slides
from omib_spatial.cli.options import one_line
from omib_spatial.slides.scored import file_name
from omib_spatial.tl._cross_fit import check_slides

if TYPE_CHECKING:
    from anndata import AnnData

MODEL = "model"
"""Folder of the model that was fitted on the healthy slides."""
MODELS = "models"
"""Folder of the models by cross-fitting, each under the name of the patient that it has not seen."""
_DONOR = "omib-spatial run: donor"
"""``obs`` column of patients while they are cross-fitted; no column of the user has this name."""


@dataclass(frozen=True)
class Plan:
    """What is done with every slide.

    Attributes
    ----------
    out
        Folder of the results.
    model
        Folder of a fitted model, or None.
    healthy
        Slides that a model is fitted on first; empty where there is one, or each slide is fitted by itself.
    patient_key
        Of the table, and of cross-fitting.
    options
        What else the results depend on.
    again
        Whether finished slides are done again.
    cross_fit
        Whether each patient's slides are judged by a model of the other patients'.
    """

    out: Path
    model: Path | None
    healthy: Sequence[Path]
    patient_key: str | None
    options: dict[str, Any]
    again: bool = False
    cross_fit: bool = False


Read = tuple["AnnData", str | None]
"""A slide, and the ``obs`` column that separates its slices."""
Found = tuple[tl.AnomalyModel | None, str] | ValueError
"""Model of a slide, None where it is to be fitted by itself, and what tells it from others; or why there is none."""


def models_by_slide(plan: Plan, sources: Mapping[str, Path]) -> dict[str, Found]:
    """Model of every slide.

    Parameters
    ----------
    plan
        Of `omib-spatial run`.
    sources
        Slides by the names of their folders of results.

    Raises
    ------
    KeyError, TypeError, ValueError, OSError
        Slides cannot be read or give no model.
    """
    if plan.cross_fit:
        return _cross_fitted(plan, sources)
    if plan.model is not None:
        identity = sha256((plan.model / "config.json").read_bytes()).hexdigest()
        return dict.fromkeys(sources, (tl.load(plan.model), identity))
    return dict.fromkeys(sources, _of_healthy(plan) if plan.healthy else (None, ""))


def fingerprint(sources: Sequence[Path], options: dict[str, Any]) -> str:
    """Digest of the version, of options, and of every file of some slides by its name, size and time.

    Parameters
    ----------
    sources
        Files, or folders with all that is in them.
    options
        Whatever JSON can hold.
    """
    files = []
    for source in sources:
        inside = sorted(path for path in source.rglob("*") if path.is_file()) if source.is_dir() else [source]
        for path in inside:
            state = path.stat()
            files.append([str(path.relative_to(source.parent)), state.st_size, state.st_mtime_ns])
    text = json.dumps([__version__, options, files], sort_keys=True)
    return sha256(text.encode()).hexdigest()


def _of_healthy(plan: Plan) -> tuple[tl.AnomalyModel, str]:
    """The model of the healthy slides, fitted or from before."""
    mark = fingerprint(plan.healthy, _of_the_fit(plan))
    folder, record = plan.out / MODEL, plan.out / f"{MODEL}.done.json"
    if not plan.again and _recorded(record).get("fingerprint") == mark and (folder / "config.json").is_file():
        return tl.load(folder), mark
    keys = {key: plan.options[key] for key in ("library_key", "image_key")}
    adata, library_key = read_with_key(list(plan.healthy), **keys)
    model = tl.fit(adata, all_healthy=True, library_key=library_key, **fit_arguments(plan.options))
    model.save(folder)
    _record(record, fingerprint=mark)
    return model, mark


def _cross_fitted(plan: Plan, sources: Mapping[str, Path]) -> dict[str, Found]:
    """For every slide the model of the other patients, fitted or from before."""
    mark = fingerprint(list(sources.values()), _of_the_fit(plan) | {"patient_key": plan.patient_key})
    root, record = plan.out / MODELS, plan.out / f"{MODELS}.done.json"
    known = _recorded(record)
    donors: dict[str, str] = known.get("donors", {})
    failed: dict[str, str] = known.get("failed", {})
    unreadable: dict[str, str] = known.get("unreadable", {})
    folders = {donor: root / file_name(donor) for donor in donors.values() if donor not in failed}
    there = all((folder / "config.json").is_file() for folder in folders.values())
    if not plan.again and known.get("fingerprint") == mark and there:
        models = {donor: tl.load(folder) for donor, folder in folders.items()}
    else:
        record.unlink(missing_ok=True)
        read, unreadable = _readable(plan, sources)
        if not read:
            return {name: ValueError(reason) for name, reason in unreadable.items()}
        donors, models, failed = _cross_fit(plan, {name: sources[name] for name in read}, list(read.values()))
        for donor, model in models.items():
            model.save(root / file_name(donor))
        for donor in failed:
            shutil.rmtree(root / file_name(donor), ignore_errors=True)
        _record(record, fingerprint=mark, donors=donors, failed=failed, unreadable=unreadable)
    found: dict[str, Found] = {name: ValueError(reason) for name, reason in unreadable.items()}
    for name, donor in donors.items():
        found[name] = ValueError(failed[donor]) if donor in failed else (models[donor], f"{mark} without {donor}")
    return found


def _readable(plan: Plan, sources: Mapping[str, Path]) -> tuple[dict[str, Read], dict[str, str]]:
    """Slides that can be learned from, and what is wrong with the others."""
    keys = {key: plan.options[key] for key in ("library_key", "image_key")}
    read, wrong = dict[str, Read](), dict[str, str]()
    for name, source in sources.items():
        try:
            [(adata, library_key)] = read_each([source], **keys)
            check_slides(adata, library_key, None, fit_arguments(plan.options))
            read[name] = adata, library_key
        except (KeyError, TypeError, ValueError, OSError) as error:
            wrong[name] = one_line(error.args[0] if isinstance(error, KeyError) and error.args else error)
    return read, wrong


def _cross_fit(
    plan: Plan, sources: Mapping[str, Path], read: Sequence[Read]
) -> tuple[dict[str, str], dict[str, tl.AnomalyModel], dict[str, str]]:
    """Patient of every slide, for every patient a model of the others, and for whom there is none the reason."""
    library_key = plan.options["library_key"]
    donors = {name: _donor(name, adata, plan.patient_key) for name, (adata, _) in zip(sources, read, strict=True)}
    of_spots = np.repeat(list(donors.values()), [adata.n_obs for adata, _ in read])
    if len(patients := np.unique(of_spots)) < 2:
        raise ValueError(
            f"All slides that can be used are of the patient {', '.join(patients)!r}, and --cross-fit needs two "
            "patients at least, better five: leave it out."
        )
    joined, key = join_slides(list(sources.values()), read, library_key)
    joined.obs[_DONOR] = of_spots
    # What is concluded, and what is odd, is said when the slides themselves are scored.
    with warnings.catch_warnings(), muted():
        warnings.simplefilter("ignore", ScoredWarning)
        models = tl.cross_fit(joined, library_key=key, donor_key=_DONOR, **fit_arguments(plan.options))
    reasons = joined.uns[Written().verdicts]["reason"]
    slices = joined.obs[str(key)].astype(str).to_numpy()
    failed = {donor: str(reasons[slices[of_spots == donor][0]]) for donor in patients if donor not in models}
    return donors, models, failed


def _donor(name: str, adata: "AnnData", patient_key: str | None) -> str:
    """The patient of a slide: what ``obs[patient_key]`` says, or the slide itself."""
    if patient_key is None:
        return name
    if patient_key not in adata.obs:
        raise KeyError(f"{name}: obs[{patient_key!r}] does not exist: --cross-fit must know whose slide it is.")
    found = adata.obs[patient_key].dropna().astype(str).unique()
    if len(found) != 1 or adata.obs[patient_key].isna().any():
        raise ValueError(
            f"{name}: obs[{patient_key!r}] names {len(found)} patients or leaves spots without one: give a file per "
            "patient, or use omib-spatial cross-fit."
        )
    return str(found[0])


def _of_the_fit(plan: Plan) -> dict[str, Any]:
    """Options that a model depends on."""
    return {"library_key": plan.options["library_key"], **fit_arguments(plan.options)}


def fit_arguments(options: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `omib_spatial.tl.fit` among the options of a run.

    Parameters
    ----------
    options
        Of a `Plan`.
    """
    chosen = {key: options[key] for key in ("reference_key", "layer", "image_key", "seed", "max_epochs")}
    return chosen | {"counts": options["counts"] or "raw"}


def _recorded(path: Path) -> dict[str, Any]:
    """What a record says; nothing where there is none that can be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _record(path: Path, **values: Any) -> None:
    with replacing(path) as file:
        file.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
