"""Weights as safetensors, everything else as JSON: a folder that executes nothing when it is read."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

WEIGHTS = "weights.safetensors"
CONFIG = "config.json"


def write(folder: str | Path, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    """Write ``tensors`` and ``config`` into ``folder``, each file in one atomic step, the config last.

    Parameters
    ----------
    folder
        Made if missing; an earlier model in it is replaced.
    tensors
        By name; stored contiguous, on the CPU.
    config
        JSON-serialisable.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / (WEIGHTS + ".partial")
    save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, partial)
    os.replace(partial, folder / WEIGHTS)
    partial = folder / (CONFIG + ".partial")
    partial.write_text(json.dumps(config, indent=1))
    os.replace(partial, folder / CONFIG)


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
