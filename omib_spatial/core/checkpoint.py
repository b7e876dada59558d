"""Weights as safetensors, everything else as JSON: a folder that executes nothing when it is read."""

import hashlib
import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from omib_spatial._atomic import check_folder, scratch, settle

WEIGHTS = "weights.safetensors"
"""Name of the weights in models of earlier versions; today each save has a name of its own, which the config says."""
CONFIG = "config.json"
FILES, DIGEST = "weights", "sha256"
"""Entries of the config that `write` adds: name, digest and size of the weights, and the digest of all the rest."""
_OWN_NAME = re.compile(r"weights-(\w+)\.safetensors")
_MAX_CONFIG = 1 << 28  # bytes: a megabyte is usual
_RETRIES = 100
_NUMBER = "__float__"


def write(folder: str | Path, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    """Write ``tensors`` and ``config`` into ``folder``, or fail and leave the model that was there as it was.

    Weights get a name that was never used, and the config, which names them and holds their digest, takes its place in
    one step: whoever reads meanwhile, or after a kill, finds one model or the other. Several may write at once; one of
    them stays.

    Parameters
    ----------
    folder
        Made if missing; an earlier model in it is replaced.
    tensors
        By name; stored contiguous, on the CPU, each by itself even if two share memory.
    config
        JSON-serialisable, without the entries ``"weights"`` and ``"sha256"``; NaN and infinity are kept too.

    Raises
    ------
    FileExistsError
        If ``folder`` holds another program's ``config.json``.
    TypeError
        If ``config`` is not JSON-serialisable.
    OSError
        If it cannot be written.
    """
    folder = Path(folder)
    check_folder(folder)
    legacy = _check_ours(folder)
    plain = json.loads(json.dumps(_encoded(config), allow_nan=False))
    own = {name: t.detach().cpu().clone(memory_format=torch.contiguous_format) for name, t in tensors.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with scratch(folder / CONFIG) as new:
            weights, final = new / WEIGHTS, folder / f"weights-{new.name.split('.')[-2]}.safetensors"
            save_file(own, weights)
            settle(weights)
            plain[FILES] = {"file": final.name, DIGEST: _file_digest(weights), "bytes": weights.stat().st_size}
            (new / CONFIG).write_text(json.dumps(plain | {DIGEST: _digest(plain)}, indent=1))
            settle(new / CONFIG)
            os.replace(weights, final)
            try:
                os.replace(new / CONFIG, folder / CONFIG)
            except BaseException:
                final.unlink()
                raise
        _remove_others(folder, legacy)
    except (OSError, SafetensorError) as error:
        raise OSError(
            f"The model could not be saved in {folder}, and what was there is as it was ({error}): make room or save "
            "it in another folder."
        ) from error


def read(folder: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `write` wrote, after a look at the digests; models of earlier versions have none.

    Raises
    ------
    FileNotFoundError
        If ``folder`` does not hold a saved model.
    ValueError
        If files are missing, cut short or changed.
    """
    folder = Path(folder)
    for _ in range(_RETRIES):
        text = _config_text(folder)
        config = _opened(folder, text)
        stored = config.pop(FILES, None)
        path = folder / (WEIGHTS if stored is None else stored["file"])
        try:
            size = path.stat().st_size
            if stored is not None and size != stored["bytes"]:
                raise damaged(folder, f"{path.name} has {size} bytes in place of {stored['bytes']}")
            data = path.read_bytes()
        except FileNotFoundError:
            # Another save may have come between: then there is another config now.
            if _config_text(folder) != text:
                continue
            raise damaged(folder, f"{path.name} is missing") from None
        if stored is not None and hashlib.sha256(data).hexdigest() != stored[DIGEST]:
            raise damaged(folder, f"{path.name} was changed after it was written")
        try:
            return load(data), _decoded(config)
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise damaged(folder, f"{path.name} cannot be read ({error})") from error
    raise damaged(folder, "it is being replaced faster than it can be read")


def damaged(folder: str | Path, reason: str) -> ValueError:
    """The error of whatever is wrong with a saved model, and the way out."""
    return ValueError(f"The model in {folder} is damaged: {reason}. Save it again, or fit again.")


def under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Entries whose name starts with ``prefix``, without it."""
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _config_text(folder: Path) -> str:
    path = folder / CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no saved model: {CONFIG} is missing.")
    if path.stat().st_size > _MAX_CONFIG:
        raise damaged(folder, f"{CONFIG} has {path.stat().st_size} bytes, too many to be one")
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError:
        raise damaged(folder, f"{CONFIG} is no text") from None


def _opened(folder: Path, text: str) -> dict[str, Any]:
    """The config, without its digest once that is right."""
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise damaged(folder, f"{CONFIG} is cut short or no JSON ({error})") from None
    if not isinstance(config, dict):
        raise damaged(folder, f"{CONFIG} holds no settings")
    if not {FILES, DIGEST} & config.keys():
        return config
    if config.pop(DIGEST, None) != _digest(config):
        raise damaged(folder, f"{CONFIG} was changed after it was written")
    stored = config.get(FILES)
    if not (
        isinstance(stored, dict)
        and stored.keys() == {"file", DIGEST, "bytes"}
        and _OWN_NAME.fullmatch(str(stored["file"]))
    ):
        raise damaged(folder, f"{CONFIG} names no weights")
    return config


def _check_ours(folder: Path) -> bool:
    """Raise unless ``folder`` is free for a model; whether one of an earlier version is in it."""
    if not os.path.lexists(folder / CONFIG):
        return False
    try:
        config = json.loads((folder / CONFIG).read_bytes())
    except (ValueError, RecursionError, OSError):
        config = None
    if isinstance(config, dict) and {FILES, DIGEST} <= config.keys():
        return False
    if isinstance(config, dict) and {"format", "modalities", "params"} <= config.keys():
        return True
    raise FileExistsError(
        f"{folder} holds a {CONFIG} that is not of a model of omib_spatial, or is damaged: save the model in another "
        "folder, or move that file away."
    )


def _remove_others(folder: Path, legacy: bool) -> None:
    """Remove weights that no config names any more, as replaced models and killed writers leave them."""
    for path in folder.iterdir():
        own = _OWN_NAME.fullmatch(path.name)
        # In this order: a writer that is no longer at work has put its config in place by now, if it ever will.
        if own and not (folder / f".{CONFIG}.{own[1]}.partial").exists() and _named(folder) != path.name:
            path.unlink(missing_ok=True)
    if legacy:
        (folder / WEIGHTS).unlink(missing_ok=True)


def _named(folder: Path) -> str:
    return str(json.loads((folder / CONFIG).read_bytes())[FILES]["file"])


def _encoded(value: Any) -> Any:
    """``value`` with words for the floats that JSON has none for."""
    if isinstance(value, float) and not math.isfinite(value):
        return {_NUMBER: str(float(value))}
    if isinstance(value, Mapping):
        return {key: _encoded(item) for key, item in value.items()}
    return [_encoded(item) for item in value] if isinstance(value, list | tuple) else value


def _decoded(value: Any) -> Any:
    """Inverse of `_encoded`; tuples come back as lists."""
    if isinstance(value, dict):
        if value.keys() == {_NUMBER}:
            return float(value[_NUMBER])
        return {key: _decoded(item) for key, item in value.items()}
    return [_decoded(item) for item in value] if isinstance(value, list) else value


def _digest(config: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
