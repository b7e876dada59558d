"""Weights as safetensors, everything else as JSON: a folder that executes nothing when it is read."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

WEIGHTS = "weights.safetensors"
CONFIG = "config.json"


def write(folder: str | Path, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    """Write ``tensors`` and ``config`` into ``folder``, or fail and leave the model that was there as it was.

    Parameters
    ----------
    folder
        Made if missing; an earlier model in it is replaced.
    tensors
        By name; stored contiguous, on the CPU, each by itself even if two share memory.
    config
        JSON-serialisable.

    Raises
    ------
    TypeError
        If ``config`` is not JSON-serialisable.
    ValueError
        If it holds NaN or infinity, which JSON has no word for.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    partial = {name: folder / f"{name}.partial" for name in (WEIGHTS, CONFIG)}
    own = {name: t.detach().cpu().clone(memory_format=torch.contiguous_format) for name, t in tensors.items()}
    try:
        # Both are complete before either takes its place: weights never stand beside another model's config.
        save_file(own, partial[WEIGHTS])
        partial[CONFIG].write_text(json.dumps(config, indent=1, allow_nan=False))
        for name, path in partial.items():
            os.replace(path, folder / name)
    finally:
        for path in partial.values():
            path.unlink(missing_ok=True)


def read(folder: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `write` wrote.

    Raises
    ------
    FileNotFoundError
        If ``folder`` does not hold a saved model.
    """
    folder = Path(folder)
    missing = [name for name in (WEIGHTS, CONFIG) if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(f"{folder} holds no saved model: {', '.join(missing)} is missing.")
    return load_file(folder / WEIGHTS), json.loads((folder / CONFIG).read_text())


def under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Entries whose name starts with ``prefix``, without it."""
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
