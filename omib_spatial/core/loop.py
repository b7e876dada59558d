"""Lightning's loop over a training, and what a trained network predicts."""

import logging
import math
import signal
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from omib_spatial.core.network import Batch, Network
from omib_spatial.core.progress import TimeLeft
from omib_spatial.core.resume import STATE, EveryEpoch, SafeIO
from omib_spatial.core.training import OMIBTraining

_ADVICE = (
    r".*does not have many workers.*",
    r".*torch\.utilities\.data|.*litlogger.*",
    r".*Checkpoint directory .* exists and is not empty.*",
    r".*You're resuming from a checkpoint that ended before the epoch ended.*",
    r".*GPU available but not used.*",
    r".*LeafSpec.* is deprecated.*",
)
"""How warnings of Lightning begin that come from what the package does, not from what the user gave."""


def train(
    module: OMIBTraining,
    batches: Iterable[Batch],
    *,
    max_epochs: int,
    progress_bar: bool,
    step: str = "",
    folder: str | Path | None = None,
    **trainer: Any,
) -> None:
    """Run Lightning's loop over ``batches``.

    Parameters
    ----------
    module, batches
        What is trained, and on what. Where several processes train, each is given its own part of every batch.
    max_epochs
        Epochs altogether, those before a stop included.
    progress_bar
        Whether to show one.
    step
        What the training is one of several for: its bar says so, and goes at the end.
    folder
        Keeps the state after every epoch; a training whose state is there already goes on from it.
    trainer
        To `lightning.Trainer`: accelerator, devices, strategy, precision, callbacks, ...

    Raises
    ------
    KeyboardInterrupt
        On Ctrl-C, with the state after the last complete epoch in ``folder``.
    ValueError
        If the warm-up leaves no epoch to the fusion, ``folder`` holds the state of a training with other settings, or
        losses or weights are no finite numbers at the end.

    Examples
    --------
    >>> from omib_spatial.core import Classification, Config, Samples, predict, sample_loader, train
    >>> from omib_spatial.encoders import MLP
    >>> y = torch.arange(64) % 2
    >>> samples = Samples({"a": y[:, None] + 0.1 * torch.randn(64, 3), "b": torch.randn(64, 2)}, y)
    >>> config = Config(latent_dim=8, learning_rate=1e-2, beta=1e-3, max_epochs=15, warmup_epochs=3)
    >>> network = config.network({"a": MLP(3, 8), "b": MLP(2, 8)}, Classification(2, hidden=(8,)))
    >>> training = config.training(network, seed=0)
    >>> train(training, sample_loader(samples, 16, shuffle=True), max_epochs=15, progress_bar=False)
    >>> right = predict(network, sample_loader(samples, 64, shuffle=False)).argmax(1) == y
    >>> float(right.float().mean()) > 0.9
    True
    """
    if module.warmup_epochs >= max_epochs:
        raise ValueError(
            f"warmup_epochs={module.warmup_epochs} leaves nothing of max_epochs={max_epochs}: the fusion is trained "
            "after the warm-up."
        )
    if not module.model.training:
        module.train()
    state = None if folder is None else Path(folder) / STATE
    quiet = {"logger": False, "enable_model_summary": False, "use_distributed_sampler": False}
    own = [*([] if folder is None else [EveryEpoch(folder)]), *([TimeLeft(step)] if progress_bar else [])]
    # A training with a seed sets it anew every epoch, which is nobody else's business.
    devices = list(range(torch.cuda.device_count()))
    with _interruptible(state), _without_advice(), torch.random.fork_rng(devices, enabled=module.seed is not None):
        L.Trainer(
            max_epochs=max_epochs,
            enable_progress_bar=progress_bar,
            enable_checkpointing=folder is not None,
            callbacks=[*own, *trainer.pop("callbacks", ())],
            plugins=[SafeIO(required=("omib", "state_dict"))],
            **(quiet | trainer),
        ).fit(module, batches, ckpt_path=state if state is not None and state.is_file() else None)
    refuse_diverged(module)


def refuse_diverged(module: OMIBTraining) -> None:
    """Raise ValueError where the losses of a training, or the weights that it ends with, are no finite numbers."""
    losses = module.history.get("loss", [])
    bad = [epoch for epoch, loss in enumerate(losses, 1) if not math.isfinite(loss)]
    if bad or not all(bool(torch.isfinite(value).all()) for value in module.model.state_dict().values()):
        since = f"in epoch {bad[0]} of {len(losses)}" if bad else "in its last epoch"
        raise ValueError(
            f"The training diverged {since}: its losses or weights are no finite numbers. Lower the learning rate (now "
            f"{module.learning_rate:g}) or beta (now {module.beta:g}) of the Config (config= of a fit), and look for "
            "NaN and extreme values in the inputs."
        )


@contextmanager
def _interruptible(state: Path | None) -> Iterator[None]:
    """Lightning without its chatter; Ctrl-C stays a KeyboardInterrupt, where Lightning would end Python."""
    chatter, handler = logging.getLogger("lightning.pytorch"), signal.getsignal(signal.SIGINT)
    level = chatter.level
    chatter.setLevel(logging.WARNING)
    try:
        yield
    except SystemExit as stop:
        if not isinstance(stop.__context__, KeyboardInterrupt):
            raise
        kept = f"{state} holds the state after the last complete epoch" if state is not None else "no state was kept"
        raise KeyboardInterrupt(f"Training was stopped; {kept}.") from None
    finally:
        chatter.setLevel(level)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)


@contextmanager
def _without_advice() -> Iterator[None]:
    """Without what Lightning advises on our own loader and our own use of it: a user can change neither."""
    with warnings.catch_warnings():
        for advice in _ADVICE:
            warnings.filterwarnings("ignore", advice)
        yield


@torch.no_grad()
def predict(model: Network, batches: Iterable[Batch]) -> Tensor:
    """What the task makes of all samples at inference, one row each: class probabilities, values, or distances.

    The network is as it was afterwards: one that was being trained can be trained on.

    Examples
    --------
    >>> from omib_spatial.core import OMIB, Classification, Samples, predict, sample_loader
    >>> from omib_spatial.encoders import MLP
    >>> network = OMIB({"a": MLP(3, 8)}, Classification(2), latent_dim=8)
    >>> probability = predict(network, sample_loader(Samples({"a": torch.randn(10, 3)}), 4, shuffle=False))
    >>> tuple(probability.shape), bool(probability.sum(1).allclose(torch.ones(10)))
    ((10, 2), True)
    """
    training = [part for part in model.modules() if part.training]
    model.eval()
    try:
        return torch.cat([model.task.predict(model(batch).prediction) for batch in batches])
    finally:
        for part in training:
            part.training = True
