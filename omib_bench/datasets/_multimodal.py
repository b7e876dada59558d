"""Samples of several modalities that have nothing to do with tissue: what the readers return."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from omib_spatial.core import Samples

logger = logging.getLogger("omib_spatial")

PARTS = ("train", "valid", "test")


class Split(NamedTuple):
    """Rows to train on, to choose settings on, and to report.

    Examples
    --------
    >>> data = omib.datasets.pom("pom")
    >>> [len(rows) for rows in data.split()]
    [5, 2, 3]
    """

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray


@dataclass(frozen=True, eq=False)
class Multimodal:
    """N samples of several modalities.

    Attributes
    ----------
    inputs
        By modality an array with first axis N: vectors (N, p), padded sequences (N, T, p), tokens (N, T) int64,
        spectrograms (N, frequencies, T), frames (N, n, 3, height, width) uint8.
    target
        (N,) int64 classes, or float32 values (N,) or (N, n).
    ids
        (N,) names of the samples.
    groups
        (N,) who speaks or acts: no group may be on both sides of a split.
    lengths
        By modality that is a sequence, its steps, (N,) int64; 0 where the sample lacks the modality.
    part
        (N,) ``"train"``, ``"valid"`` or ``"test"``, where the source comes with a split.
    words
        (N,) what is said, where it is known.
    classes
        Names of the classes, where they have one.

    Examples
    --------
    >>> data = omib.datasets.Multimodal(
    ...     inputs={"text": np.zeros((6, 4), np.float32), "audio": np.zeros((6, 3), np.float32)},
    ...     target=np.array([0, 1, 0, 1, 0, 1]),
    ...     ids=np.arange(6).astype(str),
    ...     groups=np.array(["a", "a", "b", "b", "c", "c"]),
    ... )
    >>> split = data.split(folds=3)  # by group: who is tested was not trained on
    >>> len(data), set(data.groups[split.train]) & set(data.groups[split.test])
    (6, set())
    """

    inputs: Mapping[str, np.ndarray]
    target: np.ndarray
    ids: np.ndarray
    groups: np.ndarray
    lengths: Mapping[str, np.ndarray] = field(default_factory=dict)
    part: np.ndarray | None = None
    words: np.ndarray | None = None
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.target)

    @property
    def present(self) -> np.ndarray:
        """(N, M) bool, which modalities each sample has."""
        everywhere = np.ones(len(self), dtype=np.int64)
        return np.stack([self.lengths.get(name, everywhere) > 0 for name in self.inputs], axis=1)

    def split(self, fold: int = 0, folds: int = 5, seed: int = 0) -> Split:
        """Rows of train, valid and test.

        The source's own split where it has one, whatever ``fold``; a part that it lacks is empty. Otherwise groups are
        dealt into ``folds`` parts of about equal size: part ``fold`` is the test, the next one valid, the others train,
        so that over all folds every sample is tested once, and no group is ever in two of the three.

        Raises
        ------
        ValueError
            If ``fold`` is not in [0, folds), or there are fewer than ``folds`` groups.
        """
        if self.part is not None:
            return Split(*(np.flatnonzero(self.part == name) for name in PARTS))
        from sklearn.model_selection import GroupKFold

        if not 0 <= fold < folds or folds < 3:
            raise ValueError(f"fold is {fold} of {folds}: at least 3 folds are needed, and one of 0 to {folds - 1}.")
        dealt = GroupKFold(folds, shuffle=True, random_state=seed).split(self.ids, groups=self.groups)
        tests = [test for _, test in dealt]
        test, valid = tests[fold], tests[(fold + 1) % folds]
        return Split(np.setdiff1d(np.arange(len(self)), np.concatenate([test, valid])), valid, test)

    def scaled(self, rows: np.ndarray) -> "Multimodal":
        """The same with float vectors and sequences at mean 0, standard deviation 1 over all steps of ``rows``."""
        inputs = dict(self.inputs)
        for name, values in inputs.items():
            if values.dtype.kind != "f" or values.ndim != (3 if name in self.lengths else 2):
                continue
            here = _steps(self.lengths[name], values) if name in self.lengths else np.ones(len(self), dtype=bool)
            seen = values[rows][here[rows]]
            spread = seen.std(0)
            inputs[name] = (values - seen.mean(0)) / np.where(spread > 0, spread, 1) * here[..., None]
        return replace(self, inputs=inputs)

    def vectors(self) -> dict[str, np.ndarray]:
        """One vector per sample and modality, (N, p): sequences as the mean of their steps, 0 where there is none.

        Raises
        ------
        ValueError
            If a modality is neither a vector nor a sequence of features.
        """
        found = {}
        for name, values in self.inputs.items():
            if name in self.lengths and values.ndim == 3:
                steps = _steps(self.lengths[name], values)[..., None]
                found[name] = (values * steps).sum(1) / np.maximum(self.lengths[name], 1)[:, None]
            elif values.ndim == 2 and name not in self.lengths:
                found[name] = values
            else:
                raise ValueError(f"'{name}' is {values.shape} {values.dtype}: it has no mean step to take.")
        return {name: values.astype(np.float32) for name, values in found.items()}

    def select(self, modalities: Sequence[str]) -> "Multimodal":
        """Only these modalities, in this order.

        Raises
        ------
        KeyError
            If one is not there.
        """
        if unknown := [name for name in modalities if name not in self.inputs]:
            raise KeyError(f"There is no modality {unknown}; there are {list(self.inputs)}.")
        lengths = {name: self.lengths[name] for name in modalities if name in self.lengths}
        return replace(self, inputs={name: self.inputs[name] for name in modalities}, lengths=lengths)

    def with_word_counts(self, rows: np.ndarray, max_words: int = 1000) -> "Multimodal":
        """The same with weighted counts (TF-IDF) of words and pairs of words as ``text``, (N, at most ``max_words``).

        Parameters
        ----------
        rows
            Vocabulary and weights are learned on these, the training rows.
        max_words
            The most frequent ones are kept; each occurs in at least two of ``rows``.

        Raises
        ------
        ValueError
            If the words are not known.
        """
        if self.words is None:
            raise ValueError("The words of these samples are not known: there is nothing to count.")
        from sklearn.feature_extraction.text import TfidfVectorizer

        count = TfidfVectorizer(
            ngram_range=(1, 2), min_df=2, max_features=max_words, sublinear_tf=True, token_pattern=r"\b\w+\b"
        ).fit(self.words[rows])
        text = count.transform(self.words).toarray().astype(np.float32)
        lengths = {name: values for name, values in self.lengths.items() if name != "text"}
        return replace(self, inputs={**self.inputs, "text": text}, lengths=lengths)

    def samples(self, rows: np.ndarray | None = None) -> "Samples":
        """Rows, or all, as tensors for `omib_spatial.core.sample_loader`, padded sequences too."""
        import torch

        from omib_spatial.core import Samples, Sequences

        def tensor(values: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(values if rows is None else values[rows])

        inputs: dict[str, Any] = {name: tensor(values) for name, values in self.inputs.items()}
        for name, lengths in self.lengths.items():
            inputs[name] = Sequences(inputs[name], tensor(lengths))
        return Samples(inputs, tensor(self.target), tensor(self.present))


def _steps(lengths: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(N, T) bool, True within the sequence."""
    return np.arange(values.shape[1]) < lengths[:, None]


def pad(sequences: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Sequences (T_i, p) of floats in one array (N, max T, p) with zeros at the ends, and their lengths (N,)."""
    lengths = np.array([len(values) for values in sequences], dtype=np.int64)
    padded = np.zeros((len(sequences), max(int(lengths.max()), 1), sequences[0].shape[1]), dtype=np.float32)
    for row, values in zip(padded, sequences, strict=True):
        row[: len(values)] = values
    return padded, lengths


def trim(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Move zeros to the end, where padding belongs.

    Files pad at the front or at the end. Steps that are zero in every feature, before the first or after the last one
    that is not, are taken for padding; those in between stay.

    Parameters
    ----------
    values
        (N, T, p).

    Returns
    -------
    Values of the same shape, and lengths (N,) int64.
    """
    filled = (values != 0).any(2)
    first = filled.argmax(1)
    lengths = np.where(filled.any(1), values.shape[1] - filled[:, ::-1].argmax(1) - first, 0)
    order = (first[:, None] + np.arange(values.shape[1])) % values.shape[1]
    moved = np.take_along_axis(values, order[..., None], axis=1).astype(np.float32)
    return moved * _steps(lengths, values)[..., None], lengths.astype(np.int64)


def finite(values: np.ndarray) -> tuple[np.ndarray, int]:
    """``values`` with 0 for what is not finite, and how many these were."""
    good = np.isfinite(values)
    return np.where(good, values, 0), int((~good).sum())


def warn_of_replaced(name: str, number: int) -> None:
    """Say that `finite` replaced something."""
    if number:
        logger.warning("%d features of '%s' are not finite and were replaced by 0.", number, name)
