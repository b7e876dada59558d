"""What the fusions are compared on: folds, encoders, tasks, settings, measures, and what the paper prints."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from omib_bench import sim
from omib_bench.datasets import Multimodal, Split, mosi, pom, two_modalities
from omib_bench.fusions._linear import Scores, classes, linear_classes, linear_values, values
from omib_bench.fusions._printed import MOSI, SIM
from omib_bench.metrics import rating_scores, sentiment_scores
from omib_spatial.core import Classification, Config, Regression, Samples, Task
from omib_spatial.encoders import Bert, Conv1D, GatedLinear

TEST, VALID = "test", "valid"
FOLDS = 5
"""Parts into which speakers are dealt where the source has no split; a seed tests one of them."""
VECTORS = Config(
    latent_dim=16,
    beta=1e-3,
    max_epochs=20,
    warmup_epochs=4,
    batch_size=64,
    learning_rate=1e-3,
    encoder_decay=4e-2,
    schedule="cosine",
)
"""For few samples of ready vectors."""
SEQUENCES = replace(VECTORS, warmup_epochs=2)
"""For few samples of sequences of features; how its length was chosen is told in docs/fusions.md."""
LANGUAGE = Config(latent_dim=512, beta=1e-3, max_epochs=40, warmup_epochs=5, batch_size=32, learning_rate=1e-5)
"""The paper's for CMU-MOSI with BERT: Adam at 1e-5; length, batch and k are not stated and ours."""


class Fold(NamedTuple):
    """Samples to train on and to measure on.

    Attributes
    ----------
    train, test
        The samples; no network sees the targets of ``test``.
    encoders, task
        Make fresh encoders by modality, and a fresh task.
    measure
        Scores by metric of what `omib_spatial.core.predict` says of ``test``.
    linear
        Scores by metric of a linear model on the concatenation.
    """

    train: Samples
    test: Samples
    encoders: Callable[[], dict[str, nn.Module]]
    task: Callable[[], Task]
    measure: Callable[[np.ndarray], Scores]
    linear: Callable[[], Scores]


@dataclass(frozen=True)
class Experiment:
    """One table.

    Attributes
    ----------
    name
        Of the data.
    fold
        Data of a seed.
    config
        Settings that all methods share; the warm-up is OMIB's alone, within the same number of epochs.
    printed
        What the paper prints, by method and metric.
    note
        What to know when the printed numbers are read beside the measured ones.
    """

    name: str
    fold: Callable[[int], Fold]
    config: Config
    printed: Mapping[str, Scores] = field(default_factory=dict)
    note: str = ""


def simulated(*, part: str = TEST, case: str = "I", **sizes: Any) -> Experiment:
    """The paper's synthetic data, with encoders and settings of `omib_bench.sim`.

    Parameters
    ----------
    part
        ``"valid"`` measures on data that no reported seed makes.
    case, sizes
        As for `omib_spatial.datasets.two_modalities`.
    """
    preset = sim.PRESETS["default"]

    def fold(seed: int) -> Fold:
        seed = seed if part == TEST else seed + 1000
        data = two_modalities(case, seed=seed, **sizes)
        inputs = {"x1": torch.from_numpy(data.x1), "x2": torch.from_numpy(data.x2)}
        y, n = torch.from_numpy(data.y), data.n_train
        return Fold(
            Samples({name: x[:n] for name, x in inputs.items()}, y[:n]),
            Samples({name: x[n:] for name, x in inputs.items()}),
            lambda: {name: preset.encoder(x.shape[1]) for name, x in inputs.items()},
            lambda: Classification(2),
            partial(classes, data.y[n:]),
            lambda: {"accuracy": sim.logistic_accuracy(data, np.hstack([data.x1, data.x2]), seed)},
        )

    return Experiment(f"SIM-{case}", fold, preset.config, SIM.get(case, {}))


def sentiment(folder: str | Path, *, part: str = TEST, bert: str | None = None, words: bool = False) -> Experiment:
    """CMU-MOSI: the source's own split, or a fifth of the speakers left out, another one for every seed.

    Parameters
    ----------
    folder
        As `omib_spatial.datasets.mosi` takes it.
    part
        Measure on the ``"test"`` or, to choose settings, on the ``"valid"`` part.
    bert
        A BERT for the words, by folder or name; None takes the source's text features.
    words
        Only what is said, as counts of words (TF-IDF), and how it sounds. The arrays' own text and video features were
        learned with the labels of these very utterances.
    """
    data = mosi(folder, tokenizer=bert)
    data = data.select(["text", "audio"]) if words else data
    binary = data.target.dtype.kind == "i"

    def fold(seed: int) -> Fold:
        rows = data.split(seed % FOLDS, FOLDS)
        own = (data.with_word_counts(rows.train) if words else data).scaled(rows.train)
        if binary:
            return _choice(own, rows, part)
        return _values(own, rows, part, sentiment_scores, bert, 512 if bert else 32)

    config = LANGUAGE if bert else VECTORS if binary else SEQUENCES
    note = (
        "Binary labels and other features and splits than the paper's, whose Acc2 and F1 are shown." if binary else ""
    )
    printed = {m: {"accuracy": v["acc2"], "f1": v["f1"]} for m, v in MOSI.items()} if binary else MOSI
    return Experiment("MOSI, words" if words else "MOSI", fold, config, printed, note)


def ratings(folder: str | Path, *, part: str = TEST) -> Experiment:
    """POM: 17 ratings of speakers from how they sound and look, on the source's split; not in the paper."""
    data = pom(folder)

    def measure(target: np.ndarray, found: np.ndarray) -> Scores:
        return {metric: float(per_rating.mean()) for metric, per_rating in rating_scores(target, found).items()}

    def fold(seed: int) -> Fold:
        rows = data.split()
        return _values(data.scaled(rows.train), rows, part, measure, None, 32)

    return Experiment("POM", fold, SEQUENCES)


def _choice(data: Multimodal, rows: Split, part: str) -> Fold:
    """Classes from vectors."""
    other, n = getattr(rows, part), int(data.target.max()) + 1
    return Fold(
        data.samples(rows.train),
        data.samples(other),
        lambda: _encoders(data, None, 16),
        lambda: Classification(n),
        partial(classes, data.target[other]),
        lambda: linear_classes(_concatenated(data), data.target, rows, other),
    )


def _values(
    data: Multimodal,
    rows: Split,
    part: str,
    measure: Callable[[np.ndarray, np.ndarray], Scores],
    bert: str | None,
    width: int,
) -> Fold:
    """Values; a network sees them at mean 0 and standard deviation 1 on the training rows."""
    other, target = getattr(rows, part), data.target.reshape(len(data), -1)
    centre, spread = target[rows.train].mean(0), target[rows.train].std(0)
    aimed = replace(data, target=((target - centre) / spread).astype(np.float32))
    scores = partial(values, measure, data.target[other], centre, spread)
    return Fold(
        aimed.samples(rows.train),
        aimed.samples(other),
        lambda: _encoders(data, bert, width),
        lambda: Regression(target.shape[1]),
        scores,
        lambda: scores(linear_values(_concatenated(data.select(_featured(data))), aimed.target, rows, other)),
    )


def _encoders(data: Multimodal, bert: str | None, width: int) -> dict[str, nn.Module]:
    """Conv1D for sequences of features, BERT for tokens, a gated linear map for vectors."""
    found: dict[str, nn.Module] = {}
    for name, x in data.inputs.items():
        if name not in data.lengths:
            found[name] = GatedLinear(x.shape[1], width)
        elif x.ndim == 3:
            found[name] = Conv1D(x.shape[2], width)
        elif bert is not None:
            found[name] = Bert(bert, width)
        else:
            raise ValueError(f"'{name}' holds tokens, for which a BERT is needed.")
    return found


def _featured(data: Multimodal) -> list[str]:
    """Modalities that are no tokens, of which a linear model can be made."""
    return [name for name, x in data.inputs.items() if x.dtype.kind == "f"]


def _concatenated(data: Multimodal) -> np.ndarray:
    return np.hstack(list(data.vectors().values()))
