"""CMU-MOSI, in the three forms in which it is passed around."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from omib_bench.datasets._csd import SUFFIXES, Utterance, read_utterances
from omib_bench.datasets._mosi_arrays import TRAIN, from_arrays
from omib_bench.datasets._multimodal import Multimodal, finite, pad, trim, warn_of_replaced
from omib_bench.datasets._pickles import read_parts

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
        - a folder with ``mosi_train.npz`` and ``transcripts.csv``: one vector per utterance, binary sentiment. If it
          has a ``mosi_test.npz`` of the other speakers, that is the test, and a fifth of the speakers validates.
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

    Examples
    --------
    >>> data = omib.datasets.mosi("mosi")
    >>> list(data.inputs), len(data)
    (['text', 'audio', 'video'], 12)
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
    if (source / TRAIN).is_file():
        return from_arrays(source)
    raise FileNotFoundError(
        f"{source} is neither a feature pickle (.pkl), nor a file or folder of computational sequences "
        f"({', '.join(SUFFIXES)}), nor a folder with {TRAIN}."
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
