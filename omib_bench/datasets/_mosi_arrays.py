"""CMU-MOSI as one vector per utterance, in arrays whose rows have no names."""

import csv
import logging
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from omib_bench.datasets._multimodal import Multimodal

logger = logging.getLogger("omib_spatial")

TRAIN, _TEST, _TRANSCRIPTS = "mosi_train.npz", "mosi_test.npz", "transcripts.csv"
_MODALITIES = ("text", "audio", "video")
_BLOCKS = 60


class _Line(NamedTuple):
    """A line of the transcripts."""

    name: str
    words: str
    speaker: int
    label: int


class _Rows(NamedTuple):
    """What is known of the rows of a file, (n,) each."""

    ids: np.ndarray
    groups: np.ndarray
    words: np.ndarray | None


def from_arrays(folder: Path) -> Multimodal:
    """Vectors and binary sentiment (github.com/declare-lab/contextual-utterance-level-multimodal-sentiment-analysis).

    In each file the positive utterances come first, then the negative ones; within each they follow
    ``transcripts.csv``. The speakers up to some index are in ``mosi_train.npz``, the others in ``mosi_test.npz``, which
    need not be there.
    """
    files = {"train": _arrays(folder / TRAIN)}
    if (folder / _TEST).is_file():
        files["test"] = _arrays(folder / _TEST)
    lines = _lines(folder / _TRANSCRIPTS, len(files["train"]["label"]))
    rows = [_aligned(lines[part], arrays["label"]) or _blocks(part, arrays["label"]) for part, arrays in files.items()]
    said = [part.words for part in rows if part.words is not None]
    data = Multimodal(
        inputs={key: np.concatenate([arrays[key] for arrays in files.values()]) for key in _MODALITIES},
        target=np.concatenate([arrays["label"] for arrays in files.values()]),
        ids=np.concatenate([part.ids for part in rows]),
        groups=np.concatenate([part.groups for part in rows]),
        words=np.concatenate(said) if len(said) == len(rows) else None,
        classes=("negative", "positive"),
    )
    return data if len(files) == 1 else replace(data, part=_parts(data.groups, len(files["train"]["label"])))


def _arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        if missing := [key for key in (*_MODALITIES, "label") if key not in file]:
            raise KeyError(f"{path} lacks {missing}; it has {file.files}.")
        return {key: file[key].astype(np.float32) for key in _MODALITIES} | {"label": file["label"].astype(np.int64)}


def _lines(path: Path, n_train: int) -> dict[str, list[_Line]]:
    """Transcripts of as many of the first speakers as make up ``n_train`` utterances, and of the others."""
    if not path.is_file():
        return {"train": [], "test": []}
    with path.open(newline="", encoding="utf-8") as file:
        lines = [_Line(name, words, int(speaker), int(label)) for name, words, speaker, label in csv.reader(file)]
    speakers = np.sort([line.speaker for line in lines])
    last = speakers[min(n_train, len(speakers)) - 1]
    return {
        "train": [line for line in lines if line.speaker <= last],
        "test": [line for line in lines if line.speaker > last],
    }


def _aligned(lines: list[_Line], target: np.ndarray) -> _Rows | None:
    """What the lines say of the rows, if their labels are exactly these."""
    lines = sorted(lines, key=lambda line: -line.label)
    if [line.label for line in lines] != target.tolist():
        return None
    ids = np.array([line.name for line in lines])
    return _Rows(ids, np.array([name.rsplit("_", 1)[0] for name in ids]), np.array([line.words for line in lines]))


def _blocks(part: str, target: np.ndarray) -> _Rows:
    """Neighbouring rows of either label, which follow the speakers, in the same one of 60 blocks."""
    logger.warning(
        "%s cannot be aligned with the rows of mosi_%s.npz: they are split by blocks, not by speaker.",
        _TRANSCRIPTS,
        part,
    )
    groups = np.empty(len(target), dtype=object)
    for label in np.unique(target):
        rows = np.flatnonzero(target == label)
        groups[rows] = [f"{part}_block_{i * _BLOCKS // len(rows)}" for i in range(len(rows))]
    return _Rows(np.array([f"{part}_{i}" for i in range(len(target))]), groups.astype(str), None)


def _parts(groups: np.ndarray, n_train: int) -> np.ndarray:
    """Part of each row: a fifth of the training groups validates, always the same."""
    from sklearn.model_selection import GroupShuffleSplit

    deal = GroupShuffleSplit(1, test_size=0.2, random_state=0)
    _, validating = next(deal.split(groups[:n_train], groups=groups[:n_train]))
    part = np.repeat(["train", "test"], [n_train, len(groups) - n_train]).astype("U5")
    part[validating] = "valid"
    return part
