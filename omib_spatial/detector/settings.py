"""How a training runs, and what it learns: typed settings."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from omib_spatial.core import Config
from omib_spatial.detector.objective import Objective


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
    return {"gpu": "cuda"}.get(accelerator, accelerator)
