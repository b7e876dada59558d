"""How a training runs, and what it learns: typed settings."""

import math
import os
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from numbers import Integral
from pathlib import Path
from typing import Annotated, Any, Literal

import torch

from omib_spatial._checked import (
    Accelerator,
    Count,
    CountsKind,
    Flag,
    InnerShare,
    Integers,
    Key,
    Many,
    NotNegative,
    Numbers,
    Positive,
    PositivePair,
    Share,
    Whole,
    checked_fields,
    checked_value,
)
from omib_spatial.core import Config
from omib_spatial.detector.objective import Objective
from omib_spatial.stats.settings import CalibrationSettings

CONFIG_KINDS: dict[str, Any] = {
    **dict.fromkeys(("latent_dim", "n_heads"), Annotated[int, Integers(1, 2**14)]),
    **dict.fromkeys(("cross_attention", "bottleneck", "adaptive"), Flag),
    "max_epochs": Many,
    "batch_size": Count,
    **dict.fromkeys(("beta", "encoder_decay"), NotNegative | None),
    "warmup_epochs": Whole,
    "optimizer": Literal["adam", "sgd"],
    "learning_rate": Positive,
    "weight_decay": NotNegative,
    "schedule": Literal["constant", "cosine", "step"],
}
"""What each field of a `Config` may be."""
CALIBRATION_KINDS: dict[str, Any] = {
    "held_out_fraction": InnerShare,
    **dict.fromkeys(("min_slices", "max_distance_spots", "min_spots"), Count),
    **dict.fromkeys(("n_blocks", "donor_folds", "n_quantiles"), Annotated[int, Integers(2, 10_000)]),
    "min_log_spread": Annotated[float, Numbers("a spread of logarithms, above 0 and up to 100", gt=0, le=100)],
    "min_relative_distance": Positive,
    **dict.fromkeys(("pooling_hops", "crossed_hops"), Annotated[int, Integers(0, 100)]),
    "pooled_spots": Positive | None,
    "min_ordered": Count | None,
    "spread_prior_weight": Positive,
    "tail_power": Annotated[float, Numbers("a power from 1 to 16", ge=1, le=16)] | None,
    **dict.fromkeys(("verdict_level", "min_transfer"), Share),
    "between_slice_sd": PositivePair,
}
"""What each field of `CalibrationSettings` may be."""
LAYOUT_KINDS: dict[str, Any] = {
    **dict.fromkeys(("layer", "library_key", "image_key", "neighbors_key"), Key | None),
    "spatial_key": Key,
    "n_neighbors": Count,
    "counts": CountsKind,
}
"""What each field of a `Layout` may be."""


@dataclass(frozen=True)
class RunOptions:
    """How a training runs: nothing here changes what is learned, up to rounding.

    Attributes
    ----------
    trainer
        Arguments of `lightning.Trainer`.
    num_workers
        Processes that prepare batches.
    compile
        Whether `torch.compile` translates the network first.
    resume
        Folder that keeps the state of the training.
    step
        What the training is one of several for, as the progress bar says it; empty for the one that is kept.
    """

    trainer: Mapping[str, Any] = field(default_factory=dict)
    num_workers: int = 0
    compile: bool = False
    resume: str | Path | None = None
    step: str = ""

    def below(self, name: str) -> "RunOptions":
        """The same with a folder of its own, in that of these."""
        return replace(self, resume=None if self.resume is None else Path(self.resume) / name, step=name)

    @property
    def device(self) -> str:
        """Where scoring runs."""
        return device_for(self.trainer.get("accelerator", "auto"))

    def for_lightning(self) -> dict[str, Any]:
        """Arguments of `lightning.Trainer`, with what several processes need."""
        devices, strategy = self.trainer.get("devices", 1), self.trainer.get("strategy", "auto")
        one = devices in (1, "1") or (isinstance(devices, Sequence) and len(devices) == 1)
        many = self.trainer.get("num_nodes", 1) > 1 or not one
        # In warm-up the fusion rests, and a process may be dealt spots that all lack a modality: plain DDP would wait
        # for their gradients forever.
        ddp = many and strategy in ("auto", "ddp")
        return {
            **self.trainer,
            "devices": devices,
            "strategy": "ddp_find_unused_parameters_true" if ddp else strategy,
            "sync_batchnorm": self.trainer.get("sync_batchnorm", many and torch.cuda.is_available()),
        }


@dataclass(frozen=True)
class TrainingSettings:
    """What is trained: all that decides what is learned, beside the data.

    Attributes
    ----------
    objective
        What the network learns.
    config
        Settings of network and training; ``beta`` None stands for M_u of the data.
    seed
        Of everything random.
    classes, class_weights
        Names of the labels' classes and what each weighs; empty without labels.
    """

    objective: Objective
    config: Config
    seed: int = 0
    classes: Sequence[str] = ()
    class_weights: Sequence[float] = ()

    def record(self) -> dict[str, Any]:
        """The same as plain values."""
        labels = {"classes": list(self.classes), "class_weights": list(self.class_weights)} if self.classes else {}
        return {"objective": self.objective.name, "seed": self.seed, **asdict(self.config), **labels}


def device_for(accelerator: str) -> str:
    """Where scoring runs for Lightning's ``accelerator``."""
    if accelerator == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if accelerator == "gpu":
        return "mps" if torch.backends.mps.is_available() and not torch.cuda.is_available() else "cuda"
    return accelerator


def check_settings(config: Config, calibration: CalibrationSettings) -> tuple[Config, CalibrationSettings]:
    """Settings with numbers of Python's own types, each in its range.

    Raises
    ------
    TypeError, ValueError
        A field that is of a wrong kind or out of its range; a warm-up that leaves no epoch; widths that do not divide.
    """
    config = checked_fields(config, CONFIG_KINDS)
    calibration = checked_fields(calibration, CALIBRATION_KINDS)
    if config.warmup_epochs >= config.max_epochs:
        raise ValueError(
            f"max_epochs={config.max_epochs} leaves nothing after the warm-up of {config.warmup_epochs} epochs, and "
            f"the bottleneck would not be trained: give at least max_epochs={config.warmup_epochs + 1}, or a shorter "
            "warm-up by config=replace(tl.OBJECTIVES[...].config, warmup_epochs=...)."
        )
    if config.bottleneck and config.cross_attention and config.latent_dim % config.n_heads:
        raise ValueError(f"latent_dim={config.latent_dim} cannot be divided among n_heads={config.n_heads}.")
    return config, calibration


_PRECISIONS = (None, 32, "32", "32-true", 16, "16", "16-mixed", "bf16", "bf16-mixed")


def check_run(options: RunOptions) -> RunOptions:
    """Raise what this machine cannot do, or Lightning would answer late or in other words."""
    trainer = options.trainer
    accelerator = checked_value("accelerator", trainer.get("accelerator", "auto"), Accelerator)
    refuse_missing_device(accelerator)
    precision = trainer.get("precision")
    if not isinstance(precision, int | str | None) or precision not in _PRECISIONS:
        raise ValueError(
            f"precision is {trainer['precision']!r}: it is one of {', '.join(map(repr, _PRECISIONS[3::3]))}. "
            "Inputs are float32, and no network is turned into another type as a whole."
        )
    _check_devices(trainer.get("devices", 1), device_for(accelerator))
    checked_value("enable_progress_bar", trainer.get("enable_progress_bar"), Flag | None)
    checked_value("num_nodes", trainer.get("num_nodes", 1), Count)
    if options.resume is not None and not isinstance(options.resume, str | Path):
        raise TypeError(f"resume is {options.resume!r}: it is the path of a folder.")
    if options.resume is not None and Path(options.resume).is_file():
        raise ValueError(f"resume={str(options.resume)!r} is a file: give a folder, which is made if missing.")
    if isinstance(devices := trainer.get("devices"), Integral):
        # Lightning knows no other type of integer.
        options = replace(options, trainer={**trainer, "devices": int(devices)})
    options = checked_fields(options, {"num_workers": Whole, "compile": Flag})
    if nan := [name for name, value in trainer.items() if isinstance(value, float) and math.isnan(value)]:
        raise ValueError(f"{nan[0]} is nan: it is a number, or leave it out.")
    if others := trainer.keys() - {"accelerator", "devices", "enable_progress_bar", "num_nodes", "precision"}:
        options = _with_listed_callbacks(options)
        _try_trainer(options, sorted(others))
    return options


def _with_listed_callbacks(options: RunOptions) -> RunOptions:
    """Callbacks as a list: none, one, or several, as Lightning takes them."""
    import lightning as L

    found = options.trainer.get("callbacks")
    listed = [] if found is None else [found] if isinstance(found, L.Callback) else found
    if not (isinstance(listed, list | tuple) and all(isinstance(each, L.Callback) for each in listed)):
        raise TypeError(f"callbacks is {reprlib.repr(found)}: it is a lightning.Callback, or a list of these.")
    return replace(options, trainer={**options.trainer, "callbacks": list(listed)})


def _try_trainer(options: RunOptions, names: Sequence[str]) -> None:
    """Raise ValueError where Lightning refuses arguments that are its own, ``names``; it would do so late."""
    import lightning as L

    try:
        L.Trainer(logger=False, enable_checkpointing=False, **options.for_lightning())
    except Exception as error:
        given = ", ".join(f"{name}={reprlib.repr(options.trainer[name])}" for name in names)
        raise ValueError(f"lightning.Trainer does not take {given}: {error}") from error


def refuse_missing_device(accelerator: str) -> None:
    """Raise ValueError where ``accelerator`` asks for a device that torch does not see."""
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    there = {"auto": True, "cpu": True, "gpu": cuda or mps, "cuda": cuda, "mps": mps}
    if not there[accelerator]:
        raise ValueError(
            f"accelerator={accelerator!r}, and torch sees no such device here: leave it out or pass 'cpu', or install "
            "the build of torch for this machine's GPU."
        )


def _check_devices(devices: Any, device: str) -> None:
    if devices in ("auto", -1, "-1"):
        return
    there = torch.cuda.device_count() if device == "cuda" else max(os.cpu_count() or 1, 2)
    if isinstance(devices, str) and all(part.strip().isdigit() for part in devices.split(",")):
        numbers = [int(part) for part in devices.split(",")]
        devices = numbers[0] if len(numbers) == 1 else numbers
    if isinstance(devices, Sequence) and not isinstance(devices, str):
        wanted = [checked_value("devices", number, Annotated[int, Integers(0, there - 1)]) for number in devices]
        if len(wanted) == len(set(wanted)) > 0:
            return
        raise ValueError(f"devices is {devices!r}: name each device once, and at least one.")
    checked_value("devices", devices, Annotated[int, Integers(1, there)])
