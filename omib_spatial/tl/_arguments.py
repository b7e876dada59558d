"""Arguments of a fit become typed settings, before any work is done."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from torch import nn

from omib_spatial._checked import Count, checked_value
from omib_spatial._warn import warn
from omib_spatial.core import Config
from omib_spatial.detector.objective import Objective
from omib_spatial.detector.settings import RunOptions, check_run, check_settings
from omib_spatial.modalities import Modality, ObsmFeatures
from omib_spatial.slides import Layout
from omib_spatial.stats.settings import CalibrationSettings

C = TypeVar("C")

_TO_CONFIG = ("beta", "latent_dim", "warmup_epochs", "batch_size", "learning_rate", "weight_decay")
"""Were arguments of their own, and are in ``config`` now."""
_OWN = ("num_workers", "compile", "counts")
"""Arguments of loader, network and counts that are taken beside Lightning's."""
_SET = ("logger", "enable_checkpointing", "use_distributed_sampler", "plugins")
"""Arguments of `lightning.Trainer` that a training sets itself."""


def chosen_settings(
    function: Callable[..., Any],
    objective: Objective,
    config: Config | None,
    calibration: CalibrationSettings | None,
    max_epochs: int | None,
    resume: str | Path | None,
    given: Mapping[str, Any],
) -> tuple[Config, CalibrationSettings, RunOptions]:
    """Settings of network, calibration and run, from what the user gave.

    Parameters
    ----------
    function
        That was called.
    objective
        Whose config is taken where there is none.
    config, calibration, max_epochs, resume
        As of `omib_spatial.tl.fit`.
    given
        All other arguments by name: Lightning's, `_OWN`, and old names.

    Raises
    ------
    TypeError, ValueError
        An argument that nobody takes, of a wrong kind or out of its range, or that this machine cannot serve.
    """
    for name, value, kind in (("config", config, Config), ("calibration", calibration, CalibrationSettings)):
        if not isinstance(value, kind | None):
            raise TypeError(f"{name} is {type(value).__name__}, and a {kind.__name__} is needed: {value!r}.")
    given = dict(given)
    old = {name: given.pop(name) for name in _TO_CONFIG if name in given}
    for name in old:
        _warn(f"{name}=", f"config=replace(tl.OBJECTIVES[{objective.name!r}].config, {name}=...)")
    changes = {name: value for name, value in old.items() if value is not None}
    given_config, config = config, objective.config if config is None else config
    config = replace(config, **changes) if changes else config
    if max_epochs is not None:
        own = given_config is None and "warmup_epochs" not in changes
        warmup = _shorter_warmup(config, max_epochs) if own else config.warmup_epochs
        config = replace(config, max_epochs=max_epochs, warmup_epochs=warmup)
    calibration = CalibrationSettings() if calibration is None else calibration
    if "calibration_fraction" in given:
        _warn("calibration_fraction=", "calibration=CalibrationSettings(held_out_fraction=...)")
        calibration = replace(calibration, held_out_fraction=given.pop("calibration_fraction"))
    if "progress_bar" in given:
        _warn("progress_bar=", "enable_progress_bar=")
        given["enable_progress_bar"] = given.pop("progress_bar")
    _refuse_unknown(function, given)
    run = {name: given.pop(name) for name in _OWN if name in given and name != "counts"}
    config, calibration = check_settings(config, calibration)
    return config, calibration, check_run(RunOptions(given, resume=resume, **run))


def _shorter_warmup(config: Config, max_epochs: int) -> int:
    """The usual warm-up or, where it would leave no other epoch, one in proportion, which is said."""
    if not 0 < max_epochs <= config.warmup_epochs:
        return config.warmup_epochs
    shorter = config.warmup_epochs * max_epochs // config.max_epochs
    warn(
        f"max_epochs={max_epochs} leaves nothing after the usual warm-up of {config.warmup_epochs} epochs: it is "
        f"shortened to {shorter}. So few epochs do for a trial; the usual number is {config.max_epochs}."
    )
    return shorter


def _refuse_unknown(function: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Raise TypeError for an argument that nobody takes, with the closest one that is known, or that is set here."""
    if not given:
        return
    # Lightning takes seconds to load.
    import lightning as L

    trainer = tuple(name for name in inspect.signature(L.Trainer).parameters if name not in _SET)
    own = [name for name in inspect.signature(function).parameters if name != "trainer_kwargs"]
    for name in given:
        if name in _SET:
            raise TypeError(f"{function.__name__}() sets {name}= of lightning.Trainer itself.")
        if name not in (*trainer, *_OWN):
            close = get_close_matches(name, [*own, *trainer, *_OWN], n=1)
            hint = f" Did you mean {close[0]}=?" if close else ""
            raise TypeError(f"{function.__name__}() has no argument {name}=, and neither has lightning.Trainer.{hint}")


def fresh_seed() -> int:
    """A seed that nobody chose."""
    return int(np.random.SeedSequence().generate_state(1)[0])


def own_encoders(encoders: Mapping[str, nn.Module] | None, modalities: Mapping[str, Any]) -> dict[str, nn.Module]:
    """Copies of the user's encoders, so that a fit leaves theirs as they are.

    Raises
    ------
    KeyError
        One belongs to no modality.
    TypeError
        One is no module, has no integer ``out_features``, or cannot be copied.
    """
    if not isinstance(encoders, Mapping | None):
        raise TypeError(f"encoders is {type(encoders).__name__}: pass a mapping from modality to module.")
    encoders = dict(encoders or {})
    for name, encoder in encoders.items():
        if not isinstance(encoder, nn.Module):
            raise TypeError(f"The encoder of {name!r} is {type(encoder).__name__}: pass a torch.nn.Module.")
        width = getattr(encoder, "out_features", None)
        checked_value(f"out_features of the encoder of {name!r}", width, Count)
    if strange := sorted(set(encoders) - set(modalities)):
        raise KeyError(f"encoders has {strange}, but the modalities are {sorted(modalities)}.")
    return copied(encoders, "encoders")


def copied(parts: Mapping[str, C], argument: str) -> dict[str, C]:
    """Copies of what the user gave, so that a fit changes none of it: two fits may be given the same."""
    try:
        return {name: deepcopy(part) for name, part in parts.items()}
    except (TypeError, RuntimeError) as error:
        raise TypeError(f"{argument} cannot be copied, and a fit must not change them: {error}.") from error


def read_keys(layout: Layout, modalities: Iterable[Modality]) -> Iterator[str]:
    """Keys of ``obs`` and ``obsm`` that are read."""
    yield layout.spatial_key
    if layout.library_key is not None:
        yield layout.library_key
    yield from (modality.key for modality in modalities if isinstance(modality, ObsmFeatures))


def _warn(old: str, new: str) -> None:
    warn(f"fit({old}) is now fit({new}); the old name goes with the next version.", FutureWarning)
