"""A fitted model on disk: safetensors and JSON, nothing that would be executed."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from omib_spatial._checked import Key, Seed, checked_fields, checked_value
from omib_spatial._version import __version__
from omib_spatial.core import Config, checkpoint
from omib_spatial.detector.distances import Combination
from omib_spatial.detector.evidence import TrainedNetwork
from omib_spatial.detector.integrity import check_fields, check_params, check_same_layout, check_tensors
from omib_spatial.detector.objective import OBJECTIVES, Given, Objective, Part
from omib_spatial.detector.settings import CALIBRATION_KINDS, CONFIG_KINDS, LAYOUT_KINDS, TrainingSettings
from omib_spatial.detector.storage_v2 import from_format_2
from omib_spatial.detector.storage_v3 import from_format_3
from omib_spatial.detector.storage_v5 import from_format_5
from omib_spatial.detector.training import build_network
from omib_spatial.modalities import KINDS, Modality, Summary
from omib_spatial.slides import Layout
from omib_spatial.slides.measured import MeasuredGenes
from omib_spatial.stats.distance import Distance
from omib_spatial.stats.score import ScoreCalibration
from omib_spatial.stats.settings import CalibrationSettings
from omib_spatial.stats.shift import ReferenceInterval
from omib_spatial.stats.stacking import Stacking

FORMAT = 6
"""Of the folder. What a model holds has changed before, and one of another format would score otherwise."""


class ModelFields(NamedTuple):
    """What is stored of a model; its fields are those of `omib_spatial.detector.AnomalyModel`."""

    trained: TrainedNetwork
    layout: Layout
    params: dict[str, Any]
    calibration: CalibrationSettings
    distances: dict[Combination, dict[Part, Distance]]
    scores: dict[Combination, ScoreCalibration]
    stacking: Stacking | None
    intervals: dict[str, ReferenceInterval]
    genes: MeasuredGenes | None = None


def write_model(model: ModelFields, folder: str | Path) -> None:
    """Write ``model`` to ``folder``, as `AnomalyModel.save` says."""
    checkpoint.write(folder, *_stored(model))


def _stored(model: ModelFields) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors by name and settings: all that is kept of a model."""
    trained = model.trained
    tensors = {f"network.{key}": value for key, value in trained.network.state_dict().items()}
    entries = []
    # By number: names may hold anything that a key of obsm may.
    for i, (name, modality) in enumerate(trained.modalities.items()):
        settings, learned = modality.state()
        entries.append({"name": name, "kind": type(modality).__name__, "settings": settings})
        tensors |= _under(f"modality.{i}", learned) | _under(f"summary.{i}", trained.summaries[name].state())
    for i, distances in enumerate(model.distances.values()):
        for j, distance in enumerate(distances.values()):
            tensors |= _under(f"distance.{i}.{j}", _tensors(distance))
    for i, score in enumerate(model.scores.values()):
        tensors |= _under(f"score.{i}", _tensors(score))
    if model.stacking is not None:
        tensors |= _under("stacking", _tensors(model.stacking))
    for i, interval in enumerate(model.intervals.values()):
        tensors |= _under(f"interval.{i}", _tensors(interval))
    if model.genes is not None:
        tensors["genes.share"] = torch.from_numpy(model.genes.share)
    config = {
        "version": __version__,
        "format": FORMAT,
        "layout": asdict(model.layout),
        "calibration": asdict(model.calibration),
        "params": model.params,
        "history": {name: [None if np.isnan(v) else v for v in values] for name, values in trained.history.items()},
        "modalities": entries,
        "distances": [[list(combination), list(parts)] for combination, parts in model.distances.items()],
        "scores": [list(combination) for combination in model.scores],
        "intervals": list(model.intervals),
        "genes": [] if model.genes is None else list(model.genes.names),
    }
    return tensors, config


def read_model(
    folder: str | Path,
    *,
    encoders: Mapping[str, nn.Module] | None = None,
    kinds: Sequence[type[Modality]] = (),
    objective: Objective | None = None,
    allow_download: bool = False,
) -> ModelFields:
    """Read what `write_model` wrote, as `omib_spatial.load` says.

    Parameters
    ----------
    folder, encoders, kinds, objective, allow_download
        As in `omib_spatial.load`.

    Raises
    ------
    FileNotFoundError, KeyError, ValueError
        As in `omib_spatial.load`; whatever is wrong with the folder is a ValueError that says so.
    """
    tensors, config = checkpoint.read(folder)
    with _as_damage(folder):
        current = config["format"] in (4, 5, FORMAT)
        if config["format"] == 2:
            tensors, config = from_format_2(tensors, config)
        if config["format"] == 3:
            tensors, config = from_format_3(tensors, config)
        if config["format"] in (4, 5):  # Parts of format 4 are of one modality or of the code, as some of 5 are.
            tensors, config = from_format_5(tensors, config)
    if config.get("format") != FORMAT:
        raise ValueError(
            f"The model in {folder} was saved by omib_spatial {config.get('version', '?')} in another format than "
            f"omib_spatial {__version__} reads: fit it again."
        )
    known = KINDS | {kind.__name__: kind for kind in kinds}
    with _as_damage(folder):
        own = _own_parts(config)
    _check_given(folder, own, known, encoders or {}, objective)
    if own.hubs and not allow_download:
        raise ValueError(
            f"The model in {folder} reads images with {own.hubs[0]!r}, whose weights are not stored with it and may "
            "come from a hub: pass load(..., allow_download=True) if you trust the model and that is right."
        )
    with _as_damage(folder):
        check_tensors(tensors)
        fields = _fields(tensors, config, known, encoders or {}, objective)
        if current:  # Old models may hold what is odd today: they load as they did.
            check_params(fields.params, fields.trained.modalities)
            check_fields(fields.trained, fields.distances, fields.scores, fields.intervals, fields.stacking)
            if strange := sorted(set(tensors) - set(_stored(fields)[0])):
                raise ValueError(f"{strange[0]} belongs to no part of it")
    return fields


def _fields(
    tensors: Mapping[str, Tensor],
    config: Mapping[str, Any],
    known: Mapping[str, type[Modality]],
    encoders: Mapping[str, nn.Module],
    objective: Objective | None,
) -> ModelFields:
    """The model that ``tensors`` and ``config`` describe; whatever error says that they do not."""
    params = config["params"]
    modalities: dict[str, Modality] = {}
    summaries: dict[str, Summary] = {}
    for i, entry in enumerate(config["modalities"]):
        learned = checkpoint.under(tensors, f"modality.{i}.")
        modalities[entry["name"]] = known[entry["kind"]].from_state(entry["settings"], learned)
        summaries[entry["name"]] = summary = Summary()
        summary.load_state(checkpoint.under(tensors, f"summary.{i}."))
    settings = _training_settings(params, objective)
    weights = checkpoint.under(tensors, "network.")
    # First without memory: what the settings ask for may be far more than was stored.
    if not params["own_encoders"] and objective is None:
        with torch.device("meta"):
            sketch = build_network(modalities, summaries, {}, settings)
        check_same_layout(weights, sketch.state_dict(), ())
    network = build_network(modalities, summaries, encoders, settings)
    check_same_layout(weights, network.state_dict(), params["own_encoders"])
    network.load_state_dict(weights)
    history = {name: [np.nan if v is None else v for v in values] for name, values in config["history"].items()}
    stacking = _arrays(tensors, "stacking.")
    return ModelFields(
        TrainedNetwork(network.eval(), modalities, summaries, settings.objective, settings.classes, history),
        checked_fields(Layout(**config["layout"]), LAYOUT_KINDS),
        params,
        _calibration_settings(config["calibration"]),
        {
            tuple(combination): {
                Given(*part) if isinstance(part, list) else part: Distance(**_arrays(tensors, f"distance.{i}.{j}."))
                for j, part in enumerate(parts)
            }
            for i, (combination, parts) in enumerate(config["distances"])
        },
        {tuple(c): ScoreCalibration(**_arrays(tensors, f"score.{i}.")) for i, c in enumerate(config["scores"])},
        Stacking(**stacking) if stacking else None,
        # A model that was saved before there were any says nothing of slides as a whole.
        {
            name: ReferenceInterval(**_arrays(tensors, f"interval.{i}."))
            for i, name in enumerate(config.get("intervals", ()))
        },
        MeasuredGenes(config["genes"], tensors["genes.share"].numpy()) if config.get("genes") else None,
    )


class _OwnParts(NamedTuple):
    """What of a model is not stored in it: own encoders, own kinds of modalities, own objective, networks of hubs."""

    encoders: set[str]
    kinds: set[str]
    objective: str
    hubs: list[str]


def _own_parts(config: Mapping[str, Any]) -> _OwnParts:
    params = config["params"]
    checked_value("objective", params["objective"], Key)
    return _OwnParts(
        set(params["own_encoders"]),
        {entry["kind"] for entry in config["modalities"]},
        params["objective"],
        [
            str(entry["settings"]["encoder"])
            for entry in config["modalities"]
            if ":" in str(entry["settings"].get("encoder", ""))
        ],
    )


@contextmanager
def _as_damage(folder: str | Path) -> Iterator[None]:
    """Any error that a damaged model may cause, as one that says so."""
    try:
        yield
    except KeyError as error:
        raise checkpoint.damaged(folder, f"{error} is missing in it") from error
    except (ValueError, TypeError, AttributeError, IndexError, RuntimeError) as error:
        raise checkpoint.damaged(folder, str(error).rstrip(".")) from error


def _check_given(
    folder: str | Path,
    own: _OwnParts,
    kinds: Mapping[str, type[Modality]],
    encoders: Mapping[str, nn.Module],
    objective: Objective | None,
) -> None:
    """Raise KeyError for what is the user's own and was not given."""
    if missing := sorted(own.encoders - set(encoders)):
        raise KeyError(
            f"The model in {folder} has own encoders for {missing}: pass them as load(..., encoders={{...}})."
        )
    if strange := sorted(own.kinds - set(kinds)):
        raise KeyError(
            f"The model in {folder} has modalities of own kinds: pass load(..., kinds=[{', '.join(strange)}])."
        )
    if own.objective not in OBJECTIVES and (objective is None or objective.name != own.objective):
        raise KeyError(
            f"The model in {folder} has an own objective, {own.objective!r}: pass it as load(..., objective=...)."
        )


def _training_settings(params: Mapping[str, Any], objective: Objective | None) -> TrainingSettings:
    known = {name: params[name] for name in Config.__dataclass_fields__ if name in params}
    checked_value("seed", params["seed"], Seed)
    for name, kind in CONFIG_KINDS.items():
        if name in known:
            checked_value(name, known[name], kind)
    return TrainingSettings(
        OBJECTIVES[params["objective"]] if params["objective"] in OBJECTIVES else objective,  # type: ignore[arg-type]
        Config(**known),
        params["seed"],
        params.get("classes", ()),
        params.get("class_weights", ()),
    )


def _calibration_settings(stored: Mapping[str, Any]) -> CalibrationSettings:
    values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in stored.items()}
    # A model of before scores as it did; "credible" was never read.
    values = {"min_ordered": None, "crossed_hops": values.get("pooling_hops")} | values
    values.pop("credible", None)
    return checked_fields(CalibrationSettings(**values), CALIBRATION_KINDS)


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{key}": value for key, value in tensors.items()}


def _tensors(record: Any) -> dict[str, Tensor]:
    return {key: torch.from_numpy(np.asarray(value)) for key, value in vars(record).items()}


def _arrays(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, np.ndarray]:
    return {key: value.numpy() for key, value in checkpoint.under(tensors, prefix).items()}
