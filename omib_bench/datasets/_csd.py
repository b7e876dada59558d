"""CMU's computational sequences: HDF5 files of time-stamped features, cut into utterances and averaged over words."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from omib_bench.datasets._multimodal import finite, warn_of_replaced

SUFFIXES = (".csd", ".hdf5", ".h5")
_USUAL = {
    "words": ("timestampedwords", "words"),
    "text": ("wordvector", "glove"),
    "audio": ("covarep",),
    "video": ("facet",),
    "labels": ("label",),
}
"""What the names of CMU's files contain, without case and punctuation, by what they hold."""


class Utterance:
    """What was measured in one labelled interval.

    Attributes
    ----------
    video
        Whose utterance it is.
    number
        Of the interval in the video, from 0.
    label
        Sentiment.
    words
        Spoken words.
    sequences
        By modality (words, p).
    """

    def __init__(
        self, video: str, number: int, label: float, words: list[str], sequences: dict[str, np.ndarray]
    ) -> None:
        self.video, self.number, self.label, self.words, self.sequences = video, number, label, words, sequences


def read_utterances(source: Path, names: Mapping[str, str] | None) -> list[Utterance]:
    """Utterances of all videos that have a label, in the order of the files.

    Every word is a step. Features whose interval has its middle within the word are averaged; a word without any has
    zeros.

    Parameters
    ----------
    source
        A file with several computational sequences, or a folder of files.
    names
        Which sequence is the ``"text"``, ``"audio"``, ``"video"``, ``"words"`` and ``"labels"``, by its name or its
        file's, where that does not follow from CMU's own names.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    KeyError
        It is not clear which sequence is what.
    ValueError
        No utterance has words.
    """
    import h5py

    paths = sorted(p for p in source.iterdir() if p.suffix in SUFFIXES) if source.is_dir() else [source]
    with ExitStack() as stack:
        there: dict[str, Any] = {}
        for path in paths:
            file = stack.enter_context(h5py.File(path, "r"))
            roots = [name for name in file if "data" in file[name]]
            # A file with one sequence goes by its own name, as it is the one that users see.
            there |= {path.stem: file[roots[0]]["data"]} if len(roots) == 1 else {n: file[n]["data"] for n in roots}
        chosen = {role: there[_chosen(role, there, names or {}, source)] for role in _USUAL}
        replaced: Counter[str] = Counter()
        found = [utterance for video in chosen["labels"] for utterance in _utterances(video, chosen, replaced)]
    for role, number in replaced.items():
        warn_of_replaced(role, number)
    if not found:
        raise ValueError(
            f"No labelled interval of {source} has any word in it: do words and labels share their videos?"
        )
    return found


def _chosen(role: str, there: Mapping[str, Any], names: Mapping[str, str], source: Path) -> str:
    if role in names:
        fitting = [name for name in there if name == names[role]]
    else:
        plain = {name: "".join(filter(str.isalnum, name.lower())) for name in there}
        fitting = [name for name, text in plain.items() if any(mark in text for mark in _USUAL[role])]
        # "TimestampedWordVectors" contains "words" no less than "TimestampedWords" does.
        vectors = [name for name in fitting if any(mark in plain[name] for mark in _USUAL["text"])]
        fitting = [name for name in fitting if name not in vectors] if role == "words" else fitting
    if len(fitting) != 1:
        raise KeyError(
            f"{source} has {list(there)}, of which {fitting} may be the {role}: name it with "
            f"sequences={{'{role}': NAME}}."
        )
    return fitting[0]


def _utterances(video: str, chosen: Mapping[str, Any], replaced: Counter[str]) -> Iterator[Utterance]:
    """Utterances of one video; ``replaced`` counts features that are not finite."""
    if any(video not in group for role, group in chosen.items() if role in ("words", "text")):
        return
    labels, bounds = _read(chosen["labels"], video)
    spoken, times = _read(chosen["words"], video)
    middles = times.mean(1)
    texts = np.array([_word(value) for value in np.ravel(spoken)])
    measured = {}
    for role in ("text", "audio", "video"):
        if video in chosen[role]:
            features, intervals = _read(chosen[role], video)
            features, bad = finite(features.astype(np.float64))
            replaced[role] += bad
            measured[role] = features, intervals
    for number, (label, (start, end)) in enumerate(zip(labels, bounds, strict=True)):
        # CMU marks a pause as the word "sp".
        inside = (middles >= start) & (middles < end) & (texts != "sp")
        if inside.any():
            steps = {role: _averages(*pair, times[inside]) for role, pair in measured.items()}
            yield Utterance(video, number, float(np.ravel(label)[0]), texts[inside].tolist(), steps)


def _averages(features: np.ndarray, intervals: np.ndarray, words: np.ndarray) -> np.ndarray:
    """Mean of the ``features`` (n, p) whose interval (n, 2) has its middle in a word's (w, 2); (w, p)."""
    order = np.argsort(middles := intervals.mean(1), kind="stable")
    totals = np.concatenate([np.zeros((1, features.shape[1])), features[order].cumsum(0)])
    first, last = (np.searchsorted(middles[order], words[:, side]) for side in (0, 1))
    return ((totals[last] - totals[first]) / np.maximum(last - first, 1)[:, None]).astype(np.float32)


def _read(group: Any, video: str) -> tuple[np.ndarray, np.ndarray]:
    return group[video]["features"][:], group[video]["intervals"][:].astype(np.float64).reshape(-1, 2)


def _word(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
