"""Feature pickles: read without letting them run anything, and brought to one form."""

import pickle
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy._core.multiarray import _reconstruct, scalar
from numpy._core.numeric import _frombuffer  # type: ignore[attr-defined]

from omib_bench.datasets._multimodal import PARTS


def _latin1(text: str, encoding: str) -> bytes:
    """What protocols before 3 call to make bytes of a string; no other codec is needed for that."""
    if encoding.lower() not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"The pickle asks for the codec {encoding!r}, which arrays do not need.")
    return text.encode("latin1")


_ADMITTED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    **{
        (f"numpy.{package}.{module}", name): call
        for package in ("core", "_core")
        for module, name, call in (
            ("multiarray", "_reconstruct", _reconstruct),
            ("multiarray", "scalar", scalar),
            ("numeric", "_frombuffer", _frombuffer),
        )
    },
    ("_codecs", "encode"): _latin1,
}
"""All that a pickle of arrays, numbers, strings, lists and dictionaries needs, of any protocol and numpy 1 or 2."""

_NAMES = {
    "text": ("text",),
    "audio": ("audio", "acoustic"),
    "video": ("vision", "visual", "video"),
    "label": ("regression_labels", "labels", "label"),
    "id": ("id", "ids", "segment", "segments"),
    "words": ("raw_text",),
}
_PART_NAMES = {"train": ("train",), "valid": ("valid", "dev", "val"), "test": ("test",)}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (found := _ADMITTED.get((module, name))) is None:
            raise pickle.UnpicklingError(
                f"The pickle asks for {module}.{name}, which is not a part of numpy arrays and could run anything. If "
                "you trust its source, load it yourself and store its arrays, lists and strings alone."
            )
        return found


def read_arrays(path: Path) -> Any:
    """Read a pickle of numpy arrays, numbers, strings, lists and dictionaries; anything else is refused.

    Raises
    ------
    pickle.UnpicklingError
        The file needs a global that is not numpy's, which is named, or it is no pickle.
    """
    with path.open("rb") as file:
        try:
            return _ArraysOnly(file, encoding="latin1").load()
        except (EOFError, ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
            raise pickle.UnpicklingError(f"{path} is not a complete pickle of arrays: {error}") from error


class Part(NamedTuple):
    """One part of a source's split: sequences (T, p) by modality, and what belongs to each."""

    sequences: dict[str, list[np.ndarray]]
    target: np.ndarray
    ids: list[str]
    groups: list[str]
    words: list[str] | None


def read_parts(path: Path) -> dict[str, Part]:
    """Train, valid and test of a feature pickle.

    Two layouts are around: for each part a dictionary of arrays (MulT, MMSA and what followed them), or a list of
    ``((words, visual, acoustic), label, id)`` (MAG-BERT and what followed it).

    Raises
    ------
    KeyError
        A part, or one of its entries, is missing.
    ValueError
        Entries of a part differ in number.
    """
    whole = read_arrays(path)
    if not isinstance(whole, Mapping):
        raise KeyError(f"{path} holds a {type(whole).__name__}, not a dictionary of train, valid and test.")
    found = {}
    for part in PARTS:
        content = _first(whole, _PART_NAMES[part], str(path))
        where = f"{path}, {part}"
        found[part] = _arrays(content, part, where) if isinstance(content, Mapping) else _tuples(content, where)
        _same_number(found[part], where)
    return found


def _arrays(content: Mapping[str, Any], part: str, where: str) -> Part:
    sequences = {name: _steps(content, name, where) for name in ("text", "audio", "video")}
    target = np.asarray(_first(content, _NAMES["label"], where), dtype=np.float32)
    target = target.reshape(len(target), -1)[:, 0]
    names = _first(content, _NAMES["id"], where, None)
    names = [f"{part}_{i}" for i in range(len(target))] if names is None else names
    words = _first(content, _NAMES["words"], where, None)
    return Part(
        sequences, target, [_name(n) for n in names], [_speaker(n) for n in names], None if words is None else [*words]
    )


def _tuples(content: Sequence[Any], where: str) -> Part:
    try:
        features, labels, names = zip(*content, strict=True)
        words, visual, acoustic = zip(*features, strict=True)
    except (TypeError, ValueError) as error:
        raise KeyError(
            f"{where} is neither a dictionary nor a list of ((words, visual, acoustic), label, id)."
        ) from error
    target = np.array([np.ravel(label)[0] for label in labels], dtype=np.float32)
    sequences = {"audio": [np.asarray(v) for v in acoustic], "video": [np.asarray(v) for v in visual]}
    text = [" ".join(map(str, spoken)) for spoken in words]
    return Part(sequences, target, [_name(n) for n in names], [_speaker(n) for n in names], text)


def _steps(content: Mapping[str, Any], name: str, where: str) -> list[np.ndarray]:
    """Sequences (T, p), cut to the length that the file states, if it does."""
    values = _first(content, _NAMES[name], where)
    stated = _first(content, tuple(f"{alias}_lengths" for alias in _NAMES[name]), where, None)
    if stated is None:
        return [np.asarray(row) for row in values]
    return [np.asarray(row)[: int(n)] for row, n in zip(values, stated, strict=True)]


def _same_number(part: Part, where: str) -> None:
    numbers = {name: len(rows) for name, rows in part.sequences.items()}
    numbers |= {"labels": len(part.target), "ids": len(part.ids)}
    numbers |= {} if part.words is None else {"raw_text": len(part.words)}
    if len(set(numbers.values())) > 1:
        raise ValueError(f"{where}: the entries differ in number: {numbers}.")


def _first(content: Mapping[str, Any], names: Sequence[str], where: str, *default: Any) -> Any:
    """The first of ``names`` that is there."""
    for name in names:
        if name in content:
            return content[name]
    if default:
        return default[0]
    raise KeyError(f"{where} has none of {list(names)}; it has {list(content)}.")


def _texts(name: Any) -> list[str]:
    """The strings of an id: one, or a video with its start and end."""
    return [v.decode() if isinstance(v, bytes) else str(v) for v in np.ravel(np.asarray(name, dtype=object))]


def _name(name: Any) -> str:
    return " ".join(_texts(name))


def _speaker(name: Any) -> str:
    """The video of an utterance: ``video_3``, ``video$_$3``, ``video[3]`` or (video, start, end)."""
    video, *rest = _texts(name)
    return video if rest else re.sub(r"(\$_\$\d+|\[\d+\]|_\d+)$", "", video)
