"""Arguments of a fit become typed settings, before any work is done."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from torch import nn

from omib_spatial._warn import warn
from omib_spatial.core import Config
from omib_spatial.detector.objective import Objective
from omib_spatial.detector.settings import RunOptions
from omib_spatial.stats.settings import CalibrationSettings

_TO_CONFIG = ("beta", "latent_dim", "warmup_epochs", "batch_size", "learning_rate", "weight_decay")
"""Were arguments of their own, and are in ``config`` now."""
_OWN = ("num_workers", "compile")
"""Arguments of the loader and of the network that are taken beside Lightning's."""
_SET = ("logger", "enable_checkpointing", "use_distributed_sampler")
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
    TypeError
        An argument that nobody takes.
    """
    given = dict(given)
    old = {name: given.pop(name) for name in _TO_CONFIG if name in given}
    for name in old:
        _warn(f"{name}=", f"config=replace(tl.OBJECTIVES[{objective.name!r}].config, {name}=...)")
    changes = {name: value for name, value in old.items() if value is not None}
    config = replace(config or objective.config, **changes)
    if max_epochs is not None:
        config = replace(config, max_epochs=max_epochs)
    calibration = calibration or CalibrationSettings()
    if "calibration_fraction" in given:
        _warn("calibration_fraction=", "calibration=CalibrationSettings(held_out_fraction=...)")
        calibration = replace(calibration, held_out_fraction=given.pop("calibration_fraction"))
    if "progress_bar" in given:
        _warn("progress_bar=", "enable_progress_bar=")
        given["enable_progress_bar"] = given.pop("progress_bar")
    _refuse_unknown(function, given)
    run = {name: given.pop(name) for name in _OWN if name in given}
    return config, calibration, RunOptions(given, resume=resume, **run)


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


def own_encoders(encoders: Mapping[str, nn.Module] | None, modalities: Mapping[str, Any]) -> dict[str, nn.Module]:
    """The user's encoders; KeyError where one belongs to no modality."""
    encoders = dict(encoders or {})
    if strange := sorted(set(encoders) - set(modalities)):
        raise KeyError(f"encoders has {strange}, but the modalities are {sorted(modalities)}.")
    return encoders


def _warn(old: str, new: str) -> None:
    warn(f"fit({old}) is now fit({new}); the old name goes with the next version.", FutureWarning)
