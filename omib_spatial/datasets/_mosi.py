"""CMU-MOSI, in the three forms in which it is passed around."""

import csv
import logging
from pathlib import Path

import numpy as np

from omib_spatial.datasets._multimodal import Multimodal

logger = logging.getLogger("omib_spatial")

_ARRAYS = "mosi_train.npz"
_TRANSCRIPTS = "transcripts.csv"
_BLOCKS = 60


def mosi_arrays(folder: Path) -> Multimodal:
    """Vectors and binary sentiment (github.com/declare-lab/contextual-utterance-level-multimodal-sentiment-analysis).

    The rows of ``mosi_train.npz`` have no names. Its positive utterances come first, then its negative ones; within
    each they follow ``transcripts.csv``, of which they are the speakers up to some index.
    """
    with np.load(folder / _ARRAYS, allow_pickle=False) as file:
        if missing := [key for key in ("text", "audio", "video", "label") if key not in file]:
            raise KeyError(f"{folder / _ARRAYS} lacks {missing}; it has {file.files}.")
        inputs = {key: file[key].astype(np.float32) for key in ("text", "audio", "video")}
        target = file["label"].astype(np.int64)
    named = _aligned(folder / _TRANSCRIPTS, target)
    if named is None:
        logger.warning("%s cannot be aligned with %s: rows are split by blocks, not by speaker.", _TRANSCRIPTS, _ARRAYS)
        ids, groups, words = np.array([f"row_{i}" for i in range(len(target))]), _blocks(target), None
    else:
        ids, words = named
        groups = np.array([name.rsplit("_", 1)[0] for name in ids])
    return Multimodal(inputs, target, ids, groups, words=words, classes=("negative", "positive"))


def _aligned(path: Path, target: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Ids and words of the rows, if the utterances of the first so many speakers have exactly these labels."""
    if not path.is_file():
        return None
    with path.open(newline="", encoding="utf-8") as file:
        lines = [(name, words, int(speaker), int(label)) for name, words, speaker, label in csv.reader(file)]
    last = max(speaker for *_, speaker, _ in lines)
    for limit in range(1, last + 1):
        rows = [line for line in lines if line[2] <= limit]
        if len(rows) >= len(target):
            break
    rows.sort(key=lambda line: -line[3])
    if [line[3] for line in rows] != target.tolist():
        return None
    return np.array([line[0] for line in rows]), np.array([line[1] for line in rows])


def _blocks(target: np.ndarray) -> np.ndarray:
    """Neighbouring rows of either label, which follow the speakers, in the same one of 60 blocks."""
    groups = np.empty(len(target), dtype=object)
    for label in np.unique(target):
        rows = np.flatnonzero(target == label)
        groups[rows] = [f"block_{i * _BLOCKS // len(rows)}" for i in range(len(rows))]
    return groups.astype(str)


def mosi(source: str | Path) -> Multimodal:
    """Read CMU-MOSI (Zadeh et al. 2016).

    Parameters
    ----------
    source
        A folder with ``mosi_train.npz`` and ``transcripts.csv``.

    Returns
    -------
    Samples with the modalities ``text``, ``audio`` and ``video``.
    """
    source = Path(source)
    if (source / _ARRAYS).is_file():
        return mosi_arrays(source)
    raise FileNotFoundError(f"{source} has no {_ARRAYS}.")
