"""A fitted model on disk: safetensors and JSON, nothing that would be executed."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from omib_spatial import __version__
from omib_spatial.core import checkpoint
from omib_spatial.data import KINDS, Layout, Modality, Summary
from omib_spatial.tl._model import AnomalyModel, build_network
from omib_spatial.tl._surprise import Distance, Surprise
from omib_spatial.tl._verdict import Verdict

FORMAT = 2
"""Of the folder. What a model holds has changed before, and one of another format would score otherwise."""


def save(model: AnomalyModel, folder: str | Path) -> None:
    """Write ``model`` to ``folder``, as `AnomalyModel.save` says."""
    tensors = {f"network.{key}": value for key, value in model.network.state_dict().items()}
    entries = []
    for name, modality in model.modalities.items():
        settings, learned = modality.state()
        entries.append({"name": name, "kind": type(modality).__name__, "settings": settings})
        tensors |= {f"modality.{name}.{key}": value for key, value in learned.items()}
        tensors |= {f"summary.{name}.{key}": value for key, value in model.summaries[name].state().items()}
    for pattern, surprise in model.surprises.items():
        tensors |= {f"surprise.{pattern}.{key}": torch.from_numpy(value) for key, value in vars(surprise).items()}
        for part, distance in model.distances[pattern].items():
            stored = {f"distance.{pattern}.{part}.{k}": torch.from_numpy(v) for k, v in vars(distance).items()}
            tensors |= stored
    if model.verdict is not None:
        tensors |= {f"verdict.{key}": torch.from_numpy(value) for key, value in vars(model.verdict).items()}
    config = {
        "version": __version__,
        "format": FORMAT,
        "layout": asdict(model.layout),
        "params": model.params,
        "history": {name: [None if np.isnan(v) else v for v in values] for name, values in model.history.items()},
        "modalities": entries,
        "parts": {pattern: list(distances) for pattern, distances in model.distances.items()},
    }
    checkpoint.write(folder, tensors, config)


def load(
    folder: str | Path,
    *,
    encoders: Mapping[str, nn.Module] | None = None,
    kinds: Sequence[type[Modality]] = (),
) -> AnomalyModel:
    """Load a model that ``model.save(folder)`` wrote. Nothing that is read is executed.

    Parameters
    ----------
    folder
        The folder given to ``save``.
    encoders
        By modality, modules of the same architecture as the own encoders that were given to `omib_spatial.tl.fit`, if
        any were. Their weights are overwritten.
    kinds
        Own subclasses of `omib_spatial.data.Modality` that the model was fitted with, if any.

    Returns
    -------
    The fitted model; it gives the scores that it gave when it was saved.

    Raises
    ------
    FileNotFoundError
        If ``folder`` holds no saved model.
    KeyError
        If the model has an own encoder, or a modality of an own kind, that is not given.
    ValueError
        If the model was saved in another format.
    """
    tensors, config = checkpoint.read(folder)
    if config.get("format") != FORMAT:
        raise ValueError(
            f"The model in {folder} was saved by omib_spatial {config.get('version', '?')} in another format than "
            f"omib_spatial {__version__} reads: fit it again."
        )
    params, encoders = config["params"], encoders or {}
    missing = sorted(set(params["own_encoders"]) - set(encoders))
    if missing:
        raise KeyError(
            f"The model in {folder} has own encoders for {missing}: pass them as load(..., encoders={{...}})."
        )
    known = KINDS | {kind.__name__: kind for kind in kinds}
    strange = sorted({entry["kind"] for entry in config["modalities"]} - set(known))
    if strange:
        raise KeyError(
            f"The model in {folder} has modalities of own kinds: pass load(..., kinds=[{', '.join(strange)}])."
        )
    modalities: dict[str, Modality] = {}
    summaries: dict[str, Summary] = {}
    for entry in config["modalities"]:
        name = entry["name"]
        modalities[name] = known[entry["kind"]].from_state(
            entry["settings"], checkpoint.under(tensors, f"modality.{name}.")
        )
        summaries[name] = Summary()
        summaries[name].load_state(checkpoint.under(tensors, f"summary.{name}."))
    network = build_network(modalities, summaries, encoders, params)
    network.load_state_dict(checkpoint.under(tensors, "network."))
    layout = Layout(**config["layout"])
    model = AnomalyModel(network.eval(), modalities, summaries, layout, params)
    model.history = {n: [np.nan if v is None else v for v in values] for n, values in config["history"].items()}
    if stored := arrays(tensors, "verdict."):
        model.verdict = Verdict(**stored)
    for pattern, parts in config["parts"].items():
        model.surprises[pattern] = Surprise(**arrays(tensors, f"surprise.{pattern}."))
        model.distances[pattern] = {p: Distance(**arrays(tensors, f"distance.{pattern}.{p}.")) for p in parts}
    return model


def arrays(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, np.ndarray]:
    """The same as arrays."""
    return {key: value.numpy() for key, value in checkpoint.under(tensors, prefix).items()}
