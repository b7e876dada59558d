"""Trains every method on the same folds and lays the numbers out beside those that the paper prints."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any

import pandas as pd
import torch

from omib_bench._records import Record, aligned, cell
from omib_bench.fusions._experiments import Experiment, Fold
from omib_bench.fusions._rival import Rival, build
from omib_spatial.core import Config, Network, predict, sample_loader, train

logger = logging.getLogger("omib_spatial")

NAME = "fusions"
OURS, LINEAR = "OMIB", "linear"
PAPER = "paper"
PARAMETERS, SECONDS = "parameters", "seconds"


def run(
    experiment: Experiment,
    rivals: dict[str, type[Rival]],
    *,
    seeds: int = 5,
    ours: bool = True,
    say: Callable[[str], None] = logger.info,
    **changes: Any,
) -> list[Record]:
    """Train OMIB and its ``rivals`` with the same encoders, settings, samples and number of epochs.

    Parameters
    ----------
    experiment
        What they are compared on.
    rivals
        By name.
    seeds
        Number of seeds, 0, 1, ...: of the fold, the weights and the order of samples.
    ours
        Whether OMIB is trained, too.
    say
        Takes one line per training.
    changes
        Of the experiment's `omib_spatial.core.Config`.

    Returns
    -------
    Records per method and seed: the experiment's metrics, ``parameters`` (number) and ``seconds`` (of training). The
    method ``linear`` is a linear model on the concatenation. What the paper prints has the setting ``paper``.

    Raises
    ------
    ValueError
        A setting that OMIB cannot have, before anything is trained.
    """
    config, records = replace(experiment.config, **changes), []
    if ours:
        config.check()
    for seed in range(seeds):
        fold = experiment.fold(seed)
        for method in [LINEAR, *([OURS] if ours else []), *rivals]:
            scores = fold.linear() if method == LINEAR else fit(fold, rivals.get(method), config, seed)
            records += [Record(NAME, experiment.name, method, "", seed, name, v) for name, v in scores.items()]
            told = ", ".join(f"{name} {value:.3f}" for name, value in scores.items() if name != PARAMETERS)
            say(f"{experiment.name}, seed {seed}, {method}: {told}")
    trained = {record.method for record in records}
    for method in [name for name in experiment.printed if name in trained]:
        found = experiment.printed[method].items()
        records += [Record(NAME, experiment.name, method, PAPER, 0, metric, value) for metric, value in found]
    return records


def fit(fold: Fold, rival: type[Rival] | None, config: Config, seed: int) -> dict[str, float]:
    """Scores, parameters and seconds of one training; ``rival`` None is OMIB.

    Parameters
    ----------
    fold
        Samples to train on and to measure on.
    rival
        Class of the fusion.
    config
        Settings of network and training; rivals have no warm-up.
    seed
        Of the weights, the order of samples and all noise.

    Returns
    -------
    By metric: the fold's scores, ``parameters`` (number) and ``seconds`` (of training).
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = make(fold, rival, config)
        # Rivals have no warm-up; their epochs are as many as OMIB's with it.
        settings = config if rival is None else replace(config, warmup_epochs=0)
        module, started = settings.training(network, seed=seed), perf_counter()
        loader = sample_loader(fold.train, config.batch_size, shuffle=True, seed=seed, drop_last=True)
        train(module, loader, max_epochs=config.max_epochs, progress_bar=False, accelerator="auto", devices=1)
        seconds = perf_counter() - started
        found = predict(network, sample_loader(fold.test, 256, shuffle=False)).cpu().numpy()
    return fold.measure(found) | {PARAMETERS: float(n_parameters(network)), SECONDS: seconds}


def make(fold: Fold, rival: type[Rival] | None, config: Config) -> Network:
    """A fresh network."""
    encoders, task = fold.encoders(), fold.task()
    return config.network(encoders, task) if rival is None else build(rival, encoders, task, config.latent_dim)


def n_parameters(network: Network) -> int:
    """Numbers that are trained; OMIB's branches, which rest at inference, are among them."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def report(records: Sequence[Record]) -> str:
    """One row per method: mean ± standard deviation over seeds of each metric, what the paper prints behind it."""
    frame = pd.DataFrame(records)
    printed = frame[frame["setting"] == PAPER]
    measured = frame[frame["setting"] != PAPER]
    columns = [(metric, False) for metric in dict.fromkeys(measured["metric"])]
    shown = [
        pair
        for column in columns
        for pair in (column, (column[0], True))
        if not pair[1] or pair[0] in set(printed["metric"])
    ]
    head = ["method", *(f"paper's {metric}" if theirs else metric for metric, theirs in shown)]
    lines = [head]
    for method in dict.fromkeys(measured["method"]):
        line = [method]
        for metric, theirs in shown:
            rows = printed if theirs else measured
            values = rows[(rows["method"] == method) & (rows["metric"] == metric)]["value"].tolist()
            line.append(cell(values, {PARAMETERS: 0, SECONDS: 1}.get(metric, 3)) if values else "-")
        lines.append(line)
    return aligned(lines)
