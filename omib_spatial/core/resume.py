"""State of a running training in one file that executes nothing when it is read, so that long work can stop."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch.callbacks import Checkpoint
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from omib_spatial._atomic import replacing

STATE = "training.safetensors"


class SafeIO(CheckpointIO):
    """Lightning's checkpoints as safetensors, everything else as JSON in its header.

    One file, replaced in one step: whenever the work stops, either the last state is there or the one before.

    Parameters
    ----------
    required
        Entries without which a file is not the state that is meant.
    """

    def __init__(self, required: Sequence[str] = ()) -> None:
        self.required = required

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write ``checkpoint`` (nested dicts and lists of tensors, strings and numbers) to the file ``path``."""
        tensors: dict[str, Tensor] = {}
        header = {"state": json.dumps(_pack(checkpoint, tensors), allow_nan=False)}
        with replacing(path) as partial:
            save_file(tensors, partial, header)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read what `save_checkpoint` wrote, onto the CPU; ValueError if it is damaged or something else."""
        try:
            with safe_open(path, "pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}
                state = _unpack(json.loads(file.metadata()["state"]), tensors)
            if missing := [name for name in self.required if name not in state]:
                raise KeyError(missing[0])
        except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path} is no state of a training, or is damaged ({error}): delete it to train from the start, or "
                "give another folder."
            ) from error
        return dict(state)

    def remove_checkpoint(self, path: Any) -> None:
        """Delete the file."""
        Path(path).unlink(missing_ok=True)


class EveryEpoch(Checkpoint):
    """Saves the state of the training into ``folder`` after every epoch, over the last one."""

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder) / STATE

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save; as a `Checkpoint`, after the module has closed its books on the epoch."""
        trainer.save_checkpoint(self.path)


def _pack(value: Any, tensors: dict[str, Tensor]) -> Any:
    """``value`` as JSON, its tensors moved to ``tensors``."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if isinstance(value, dict):
        return {"dict": [[key, _pack(item, tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return {"list": [_pack(item, tensors) for item in value]}
    if value is None or isinstance(value, str | int | float):
        return value
    raise TypeError(f"A checkpoint holds tensors, strings and numbers, not {type(value).__name__}.")


def _unpack(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Inverse of `_pack`; tuples come back as lists."""
    if not isinstance(value, dict):
        return value
    (kind, content), *_ = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _unpack(item, tensors) for key, item in content}
    return [_unpack(item, tensors) for item in content]
