"""CMU-MOSI, in the three forms in which it is passed around."""

import csv
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from omib_spatial.datasets._csd import SUFFIXES, Utterance, read_utterances
from omib_spatial.datasets._multimodal import Multimodal, finite, pad, trim, warn_of_replaced
from omib_spatial.datasets._pickles import read_parts

logger = logging.getLogger("omib_spatial")

_ARRAYS = "mosi_train.npz"
_TRANSCRIPTS = "transcripts.csv"
_BLOCKS = 60
_TOKENS = 512
MODALITIES = ("text", "audio", "video")


def mosi(
    source: str | Path,
    *,
    tokenizer: str | Path | None = None,
    own_split: bool = True,
    sequences: Mapping[str, str] | None = None,
) -> Multimodal:
    """Read CMU-MOSI (Zadeh et al. 2016): what people say about a film, how it sounds, how they look.

    Parameters
    ----------
    source
        - a feature pickle, ``.pkl``, of MulT, MMSA or MAG-BERT and their followers. It is read without running
          anything that it contains: only numpy's arrays are admitted.
        - a folder of CMU's computational sequences, ``.csd``, or an HDF5 file with several. Every word is a step, with
          the mean of what was measured during it.
        - a folder with ``mosi_train.npz`` and ``transcripts.csv``: one vector per utterance, binary sentiment.
    tokenizer
        A BERT by its folder or its name on the Hugging Face hub. The modality ``text`` is then the tokens of what is
        said, for `omib_spatial.encoders.Bert` of the same name, in place of the source's features.
    own_split
        Keep the split that a pickle comes with.
    sequences
        Names of the computational sequences by role, where they are not CMU's own: ``"text"`` (word vectors),
        ``"audio"``, ``"video"``, ``"words"``, ``"labels"``.

    Returns
    -------
    Samples with the modalities ``text``, ``audio`` and ``video``; target sentiment from -3 to 3 (float32), or 0 and 1
    (int64) from the arrays. Groups are the videos, each of one speaker; `Multimodal.split` keeps them together. Zeros
    before the first and after the last step are padding; features that are not finite become 0, and are counted in a
    warning.

    Raises
    ------
    FileNotFoundError
        There is nothing to read at ``source``.
    KeyError, ValueError
        What is there lacks something, which is named; or the source's split has a speaker on both sides.
    pickle.UnpicklingError
        The pickle needs more than arrays.
    OSError
        The tokenizer could not be had.
    """
    source = Path(source)
    data = _read(source, sequences)
    if not own_split:
        data = replace(data, part=None)
    elif both := _straddling(data):
        raise ValueError(
            f"The split of {source} has speakers {both[:5]} on both sides: pass own_split=False for one by speaker."
        )
    return data if tokenizer is None else with_tokens(data, tokenizer)


def _read(source: Path, names: Mapping[str, str] | None) -> Multimodal:
    if source.is_file() and source.suffix in (".pkl", ".pickle"):
        return _from_parts(source)
    if (source.is_file() and source.suffix in SUFFIXES) or any(p.suffix in SUFFIXES for p in source.glob("*")):
        return _from_utterances(read_utterances(source, names))
    if (source / _ARRAYS).is_file():
        return _from_arrays(source)
    raise FileNotFoundError(
        f"{source} is neither a feature pickle (.pkl), nor a file or folder of computational sequences "
        f"({', '.join(SUFFIXES)}), nor a folder with {_ARRAYS}."
    )


def with_tokens(data: Multimodal, tokenizer: str | Path) -> Multimodal:
    """Take the tokens of the words as ``text``, (N, T) int64, at most 512 each."""
    if data.words is None:
        raise ValueError("The source does not hold the words that were said: leave tokenizer out to use its features.")
    from transformers import AutoTokenizer

    try:
        cut = AutoTokenizer.from_pretrained(tokenizer)
    except (OSError, ValueError) as error:
        raise OSError(
            f"The tokenizer {str(tokenizer)!r} could not be loaded. Without network, fetch it elsewhere with "
            f"'hf download {tokenizer} --local-dir FOLDER' and pass FOLDER. transformers says: {error}"
        ) from error
    longest = min(cut.model_max_length, _TOKENS)
    tokens = cut(
        data.words.tolist(),
        padding=True,
        truncation=True,
        max_length=longest,
        padding_side="right",
        return_tensors="np",
    )
    text, lengths = (np.asarray(values, dtype=np.int64) for values in (tokens["input_ids"], tokens["attention_mask"]))
    others = {name: values for name, values in data.inputs.items() if name != "text"}
    return replace(data, inputs={"text": text, **others}, lengths={**data.lengths, "text": lengths.sum(1)})


def _from_parts(path: Path) -> Multimodal:
    """A feature pickle."""
    parts = read_parts(path)
    sizes = {name: len(part.ids) for name, part in parts.items()}
    modalities = [name for name in MODALITIES if all(name in part.sequences for part in parts.values())]
    said = [part.words for part in parts.values()]
    return _from_sequences(
        {name: [steps for part in parts.values() for steps in part.sequences[name]] for name in modalities},
        target=np.concatenate([part.target for part in parts.values()]),
        ids=np.array([name for part in parts.values() for name in part.ids]),
        groups=np.array([name for part in parts.values() for name in part.groups]),
        part=np.repeat(list(sizes), list(sizes.values())),
        words=None if None in said else np.array([text for words in said for text in words or ()]),
    )


def _from_utterances(utterances: Sequence[Utterance]) -> Multimodal:
    """Computational sequences; what a video lacks has no steps."""
    widths = {name: u.sequences[name].shape[1] for u in utterances for name in u.sequences}
    return _from_sequences(
        {
            name: [u.sequences.get(name, np.zeros((0, widths[name]))) for u in utterances]
            for name in MODALITIES
            if name in widths
        },
        target=np.array([u.label for u in utterances], dtype=np.float32),
        ids=np.array([f"{u.video}_{u.number}" for u in utterances]),
        groups=np.array([u.video for u in utterances]),
        words=np.array([" ".join(u.words) for u in utterances]),
    )


def _from_sequences(sequences: dict[str, list[np.ndarray]], **rest: Any) -> Multimodal:
    inputs, lengths = {}, {}
    for name, rows in sequences.items():
        values, bad = finite(pad(rows)[0])
        warn_of_replaced(name, bad)
        inputs[name], lengths[name] = trim(values)
    return Multimodal(inputs=inputs, lengths=lengths, **rest)


def _straddling(data: Multimodal) -> list[str]:
    """Groups that are in more than one part."""
    if data.part is None:
        return []
    parts = Counter(group for group, _ in set(zip(data.groups.tolist(), data.part.tolist(), strict=True)))
    return sorted(group for group, n in parts.items() if n > 1)


def _from_arrays(folder: Path) -> Multimodal:
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
