"""The paper's synthetic data: what the label allows, what a linear model reaches, what OMIB and its ablations reach."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, ShuffleSplit
from torch import nn

from omib_bench._figures import beta_sweep, seconds_per_epoch
from omib_bench._records import Record, table
from omib_bench.datasets import TwoModalities, two_modalities
from omib_spatial.core import (
    ABLATIONS,
    Bounds,
    Classification,
    Config,
    Mine,
    OMIBTraining,
    Samples,
    predict,
    sample_loader,
    train,
)
from omib_spatial.encoders import MLP, GatedLinear

logger = logging.getLogger("omib_spatial")

__all__ = ["PRESETS", "Preset", "beta_sweep", "report", "run", "scale", "seconds_per_epoch", "sweep_beta"]

NAME = "sim"
ACCURACY = "accuracy"
MAIN = "OMIB"


@dataclass(frozen=True)
class Preset:
    """An encoder for each modality, and the settings of network and training."""

    encoder: Callable[[int], nn.Module]
    config: Config


PRESETS: dict[str, Preset] = {
    "default": Preset(
        lambda width: GatedLinear(width, 16),
        Config(
            latent_dim=16,
            beta=1e-3,
            max_epochs=60,
            warmup_epochs=5,
            batch_size=256,
            learning_rate=4e-3,
            encoder_decay=4e-2,
            schedule="cosine",
        ),
    ),
    "paper": Preset(MLP, Config()),
}
"""Ours, and the paper's where it states its own. Ours was chosen on data of other seeds than any that is reported."""


def run(
    cases: Sequence[str] = ("I",),
    *,
    seeds: int = 1,
    presets: Sequence[str] = ("default",),
    ablations: bool = True,
    missing: float = 0.0,
    say: Callable[[str], None] = logger.info,
    **options: Any,
) -> list[Record]:
    """Accuracy on test samples of the Bayes rate, logistic regression, OMIB and its ablations.

    Parameters
    ----------
    cases
        Out of ``"I"``, ``"II"``, ``"III"``.
    seeds
        Each seed has its own data and its own weights.
    presets
        Names in `PRESETS`.
    ablations
        Whether each preset is trained with each of `omib_spatial.core.ABLATIONS`, too.
    missing
        Share of the samples, in training and test alike, that lack one modality, either as often. Linear models see
        zeros for it; the Bayes rate is that of whole samples.
    say
        Takes one line per result.
    options
        Sizes for `omib_spatial.datasets.two_modalities` (``n_train``, ...), and changes of every preset's `Config`
        (``max_epochs``, ...).

    Raises
    ------
    ValueError
        A setting that no preset can have, before anything is trained.
    """
    records: list[Record] = []
    sizes, changes = _divide(options)
    # Before anything is trained: what the last preset refuses would cost all others.
    for name in presets:
        replace(PRESETS[name].config, **changes).check()
    for case in cases:
        for seed in range(seeds):
            data = without_some(two_modalities(case, seed=seed, **sizes), missing, seed)
            for method, setting, accuracy in _rows(data, seed, presets, ablations, changes):
                records.append(Record(NAME, f"SIM-{case}", method, setting, seed, ACCURACY, accuracy))
                say(f"SIM-{case}, seed {seed}, {method}, {setting}: {accuracy:.3f}")
    return records


def sweep_beta(
    case: str = "I",
    *,
    seeds: int = 1,
    betas: Sequence[float] = tuple(10.0 ** np.arange(-6, 2)),
    preset: str = "default",
    say: Callable[[str], None] = logger.info,
    **options: Any,
) -> list[Record]:
    """Accuracy against beta, with the bounds M_l and M_u that MINE gives for the same data (the paper's Figure 3).

    Parameters
    ----------
    case
        ``"I"``, ``"II"`` or ``"III"``.
    seeds
        As in `run`.
    betas
        Weights of the compression, one training each.
    preset
        A name in `PRESETS`.
    say, options
        As in `run`.
    """
    records: list[Record] = []
    sizes, changes = _divide(options)
    for seed in range(seeds):
        data = two_modalities(case, seed=seed, **sizes)
        bounds = _bounds(data, seed)
        row = (NAME, f"SIM-{case}", MAIN)
        records += [Record(*row, preset, seed, f"M_{end[0]}", getattr(bounds, end)) for end in ("lower", "upper")]
        for beta in betas:
            accuracy = _accuracy(data, PRESETS[preset], changes | {"beta": float(beta)}, seed)
            records.append(Record(*row, f"beta {beta:.3g}", seed, ACCURACY, accuracy))
            say(f"SIM-{case}, seed {seed}, beta {beta:.3g}: {accuracy:.3f}")
    return records


def scale(
    case: str = "I",
    *,
    sizes: Sequence[int] = (100_000, 300_000, 1_000_000),
    preset: str = "default",
    say: Callable[[str], None] = logger.info,
    **options: Any,
) -> list[Record]:
    """Seconds per epoch of warm-up and main phase against the number of samples (the paper's Figure 4).

    Parameters
    ----------
    case
        As in `sweep_beta`.
    sizes
        Numbers of training samples.
    preset
        As in `sweep_beta`.
    say
        Takes one line per size.
    options
        Passed to `omib_spatial.datasets.two_modalities`: ``shared``, ``superfluous``, ``seed``.
    """
    records: list[Record] = []
    for n in sizes:
        data = two_modalities(case, n_train=n, n_test=1, **options)
        changes = {"max_epochs": 2, "warmup_epochs": 1, "beta": 1e-3}
        seconds = _train(data, PRESETS[preset], changes, seed=0).history["seconds"]
        for phase, value in zip(("warm-up", "main"), seconds, strict=True):
            records.append(Record(NAME, f"SIM-{case}, n = {n}", MAIN, phase, 0, "seconds_per_epoch", value))
        say(f"SIM-{case}, {n} samples: {seconds[0]:.1f} s per epoch of warm-up, {seconds[1]:.1f} s of the main phase")
    return records


def report(records: Sequence[Record]) -> str:
    """One table of `run`: methods and settings down, cases across, mean and spread over seeds."""
    rows = [record._replace(setting=f"{record.method}: {record.setting}") for record in records]
    return table(rows, rows="setting", columns="dataset", mean=False)


def _rows(
    data: TwoModalities, seed: int, presets: Sequence[str], ablations: bool, changes: dict[str, Any]
) -> Iterator[tuple[str, str, float]]:
    """Method, setting and accuracy of every row of the table."""
    for name, blocks in {"a0": ["a0"], "[a1; a2]": ["a1", "a2"], "[a0; a1; a2]": ["a0", "a1", "a2"]}.items():
        yield "Bayes rate", name, data.bayes_accuracy(blocks)
        yield "logistic", name, logistic_accuracy(data, np.hstack([data.relevant[b] for b in blocks]), seed)
    for name, x in {"x1": data.x1, "x2": data.x2, "[x1; x2]": np.hstack([data.x1, data.x2])}.items():
        yield "logistic", name, logistic_accuracy(data, x, seed)
    for name in presets:
        label, preset = MAIN if name == "default" else f"{MAIN}, {name}'s setting", PRESETS[name]
        yield label, "all parts", _accuracy(data, preset, changes, seed)
        for ablation, change in ABLATIONS.items() if ablations else ():
            if replace(preset.config, **change) == preset.config:
                continue
            try:
                yield label, ablation, _accuracy(data, preset, changes | change, seed)
            except ValueError as error:
                if "No bound on beta" not in str(error):
                    raise
                logger.warning(
                    "%s, seed %d: left out, for MINE sees nothing in so few samples. %s", ablation, seed, error
                )


def logistic_accuracy(data: TwoModalities, x: np.ndarray, seed: int) -> float:
    """Test accuracy of L2-regularised logistic regression on ``x``, its strength chosen on a sixth of the training."""
    train_x, test_x = x[: data.n_train], x[data.n_train :]
    search = GridSearchCV(
        LogisticRegression(max_iter=1000),
        {"C": [1e-2, 1e-1, 1.0, 10.0]},
        cv=ShuffleSplit(1, test_size=1 / 6, random_state=seed),
    )
    return float(search.fit(train_x, data.y[: data.n_train]).score(test_x, data.y[data.n_train :]))


def without_some(data: TwoModalities, share: float, seed: int) -> TwoModalities:
    """Zero one modality of a ``share`` of the samples, x1 or x2 as often; which is drawn with ``seed``."""
    if not 0 <= share <= 1:
        raise ValueError(f"missing is {share}: give the share of samples that lack a modality, from 0 to 1.")
    drawn = np.random.default_rng([seed, 1]).random(len(data.y))
    lacking = {"x1": drawn < share / 2, "x2": (drawn >= share / 2) & (drawn < share)}
    kept: dict[str, Any] = {n: np.where(rows[:, None], 0, getattr(data, n)) for n, rows in lacking.items()}
    return replace(data, **kept)


def _samples(data: TwoModalities, rows: slice, *, labelled: bool) -> Samples:
    """Samples of ``rows``; a modality that is all zero is missing, as no drawn one is."""
    inputs = {"x1": data.x1[rows], "x2": data.x2[rows]}
    present = np.column_stack([x.any(1) for x in inputs.values()])
    target = torch.from_numpy(data.y[rows]) if labelled else None
    tensors = {name: torch.from_numpy(np.ascontiguousarray(x)) for name, x in inputs.items()}
    return Samples(tensors, target, None if present.all() else torch.from_numpy(present))


def _accuracy(data: TwoModalities, preset: Preset, changes: dict[str, Any], seed: int) -> float:
    network = _train(data, preset, changes, seed).model
    test = _samples(data, slice(data.n_train, None), labelled=False)
    probability = predict(network, sample_loader(test, 1000, shuffle=False))
    return float((probability.argmax(1).numpy() == data.y[data.n_train :]).mean())


def _train(data: TwoModalities, preset: Preset, changes: dict[str, Any], seed: int) -> OMIBTraining:
    config = replace(preset.config, **changes)
    samples = _samples(data, slice(data.n_train), labelled=True)
    widths = {"x1": data.x1.shape[1], "x2": data.x2.shape[1]}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = config.network({name: preset.encoder(width) for name, width in widths.items()}, Classification(2))
        beta = _bounds(data, seed).upper if config.beta is None else None
        module = config.training(network, beta=beta, seed=seed)
        loader = sample_loader(samples, config.batch_size, shuffle=True, seed=seed, drop_last=True)
        train(module, loader, max_epochs=config.max_epochs, progress_bar=False, accelerator="auto", devices=1)
    return module


@cache
def _bounds(data: TwoModalities, seed: int) -> Bounds:
    """M_l and M_u of the raw training samples with both modalities; they take longer than a training."""
    samples = _samples(data, slice(data.n_train), labelled=False)
    return Mine(seed=seed).bounds(samples.inputs, samples.present)


def _divide(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Sizes of the data, and changes of the config."""
    fields = set(Config.__dataclass_fields__)
    return {k: v for k, v in options.items() if k not in fields}, {k: v for k, v in options.items() if k in fields}
