"""Algorithms 1 and 2 as a Lightning module: warm-up, then the main phase."""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from omib_spatial.core.distributed import process_rank, summed
from omib_spatial.core.network import Batch, Losses, Network
from omib_spatial.core.task import OneClass

SCHEDULES: dict[str, Callable[..., float]] = {
    "cosine": lambda epoch, epochs: 0.5 * (1.0 + math.cos(math.pi * epoch / epochs)),
    "step": lambda epoch, epochs: 0.1 ** (epoch // 70),
}
"""Factor of the learning rate by epoch, of all epochs."""


class OMIBTraining(L.LightningModule):
    """Trains a `Network`, as a rule an `OMIB`: ``warmup_epochs`` of branches on noise, then everything together.

    Parameters
    ----------
    model
        The module to train.
    beta
        Weight of the compression in equation (10); take it from `Mine.bounds` or give it.
    warmup_epochs
        Length of Algorithm 1 in epochs (not stated in the paper); 0 leaves it out (ablation).
    learning_rate, weight_decay
        Of the optimiser.
    encoder_decay
        Weight decay of the encoders; None gives them ``weight_decay`` too, as the paper does.
    optimizer
        ``"adam"`` (the paper's, except on CREMA-D) or ``"sgd"`` with momentum 0.9.
    schedule
        Rate per epoch: ``"constant"``, ``"cosine"`` (falls to 0 at the end), or ``"step"`` (a tenth after every 70
        epochs, the paper's on CREMA-D).
    adaptive
        False holds r at 1 (ablation).
    seed
        Makes all noise of an epoch a function of seed, epoch and process, so that a training that is resumed goes on
        as if it had not stopped. None draws from the global generator.
    settings
        Strings and numbers that a training which is resumed must have in common with the one that was stopped, beside
        all of the above.

    Attributes
    ----------
    history
        One list per quantity, one value per epoch: ``phase`` (0 warm-up, 1 main), ``loss``, ``task``,
        ``kl_<modality>``, ``branch_<modality>``, ``r_<modality>``, ``seconds``. NaN where a quantity is not defined.

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
    >>> sorted(training.history)[:2], len(training.history["r_b"])
    (['branch_a', 'branch_b'], 15)
    """

    def __init__(
        self,
        model: Network,
        *,
        beta: float,
        warmup_epochs: int,
        learning_rate: float = 1e-4,
        weight_decay: float = 0.0,
        encoder_decay: float | None = None,
        optimizer: str = "adam",
        schedule: str = "constant",
        adaptive: bool = True,
        seed: int | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if optimizer not in ("adam", "sgd"):
            raise ValueError(f"optimizer is 'adam' or 'sgd', not {optimizer!r}.")
        if schedule not in ("constant", *SCHEDULES):
            raise ValueError(f"schedule is 'constant', {' or '.join(map(repr, SCHEDULES))}, not {schedule!r}.")
        self.model, self.beta, self.warmup_epochs = model, beta, warmup_epochs
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.encoder_decay = weight_decay if encoder_decay is None else encoder_decay
        self.optimizer, self.schedule, self.adaptive = optimizer, schedule, adaptive
        own = {"beta": beta, "warmup_epochs": warmup_epochs, "optimizer": optimizer, "schedule": schedule, "seed": seed}
        own |= {"learning_rate": learning_rate, "weight_decay": weight_decay, "encoder_decay": self.encoder_decay}
        self.seed, self.settings = seed, own | {"adaptive": adaptive} | dict(settings or {})
        self.history: dict[str, list[float]] = {}
        self._sums: dict[str, Tensor] = {}
        self._steps = 0
        self._started = 0.0

    @property
    def warming_up(self) -> bool:
        """Whether the current epoch belongs to Algorithm 1."""
        return self.current_epoch < self.warmup_epochs

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """One optimiser over everything, as in Algorithm 2, and its schedule."""
        encoders = list(self.model.encoders.parameters())
        among = set(encoders)
        groups: list[dict[str, Any]] = [
            {"params": encoders, "weight_decay": self.encoder_decay},
            {"params": [p for p in self.parameters() if p not in among], "weight_decay": self.weight_decay},
        ]
        # Fused: the network is small and has many parts, which one by one take a seventh of an epoch.
        kinds: dict[str, Callable[..., torch.optim.Optimizer]] = {
            "adam": partial(torch.optim.Adam, fused=True),
            "sgd": partial(torch.optim.SGD, momentum=0.9),
        }
        optimizer = kinds[self.optimizer](groups, lr=self.learning_rate, weight_decay=self.weight_decay)
        if self.schedule == "constant":
            return optimizer
        factor = partial(SCHEDULES[self.schedule], epochs=self.trainer.max_epochs)
        return [optimizer], [torch.optim.lr_scheduler.LambdaLR(optimizer, factor)]

    def on_train_start(self) -> None:
        """Fix the one-class centre at the mean of the untrained branches' outputs over the training data."""
        if isinstance(self.model.task, OneClass) and self.current_epoch == 0:
            loader: Iterable[Batch] = self.trainer.train_dataloader  # type: ignore[assignment]
            batches = (self.trainer.strategy.batch_to_device(batch, self.device) for batch in loader)
            self._seed(-1)
            self.model.task.set_center(mean_output(self.model, batches).unsqueeze(0))

    def on_train_epoch_start(self) -> None:
        """Forget the last epoch's sums."""
        self._sums, self._steps, self._started = {}, 0, time.perf_counter()

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """One step of the phase that the epoch belongs to."""
        if index == 0:
            # Not at the epoch's start: a loader may draw from the generator when it starts anew.
            self._seed(self.current_epoch)
        output = self.model.warm_up(batch) if self.warming_up else self.model(batch)
        losses = self.model.objective(output, batch, self.beta, adaptive=self.adaptive)
        share = self._share(batch)
        self._add(losses, share)
        return losses.total * share

    def on_train_epoch_end(self) -> None:
        """Append the epoch's means to the history: the one time that the device is waited for."""
        names = list(self._sums)
        means = (summed(torch.stack([self._sums[n] for n in names])) / (self._steps * process_rank().world)).tolist()
        row: dict[str, float] = defaultdict(lambda: float("nan"), zip(names, means, strict=True))
        row["phase"] = float(not self.warming_up)
        row["seconds"] = time.perf_counter() - self._started
        for name in history_columns(self.model.modalities):
            self.history.setdefault(name, []).append(row[name])
        self.log("loss", row["loss"], prog_bar=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the history, and what the training was set to."""
        history = {name: torch.tensor(values, dtype=torch.float64) for name, values in self.history.items()}
        checkpoint["omib"] = {"history": history, "settings": self.settings}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the history up again, if the training is the same one.

        Raises
        ------
        ValueError
            If settings differ.
        """
        found = checkpoint["omib"]["settings"]
        differ = [key for key in found | self.settings if not _alike(found.get(key), self.settings.get(key))]
        if differ:
            pairs = ", ".join(f"{key} ({found.get(key)!r} then, {self.settings.get(key)!r} now)" for key in differ)
            raise ValueError(f"The training to be resumed is another one: {pairs}. Give it a folder of its own.")
        self.history = {name: values.tolist() for name, values in checkpoint["omib"]["history"].items()}

    def _seed(self, epoch: int) -> None:
        if self.seed is not None:
            # Modulo what torch takes: seeds go up to 2**32.
            torch.manual_seed((((self.seed + 1) * 1_000_003 + epoch) * 65_537 + process_rank().rank) % 2**64)

    def _share(self, batch: Batch) -> Tensor | float:
        """Weight that makes the mean over processes, which Lightning takes of gradients, one over all samples."""
        world, n = process_rank().world, len(batch.present)
        return n * world / summed(torch.tensor(float(n), device=self.device)) if world > 1 else 1.0

    def _add(self, losses: Losses, share: Tensor | float) -> None:
        values = {"loss": losses.total}
        if not self.warming_up:
            values["task"] = losses.task
        for prefix, parts in (("kl", losses.kl), ("branch", losses.branches), ("r", losses.r)):
            values |= {f"{prefix}_{name}": value for name, value in parts.items()}
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value.detach() * share
        self._steps += 1


def _alike(one: Any, other: Any) -> bool:
    """Equal, up to rounding for what was estimated."""
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-3)
    return bool(one == other)


def history_columns(modalities: Iterable[str]) -> list[str]:
    """Names of the quantities that are kept for each epoch."""
    parts = [f"{prefix}_{name}" for prefix in ("branch", "kl", "r") for name in modalities]
    return ["phase", "loss", "task", *parts, "seconds"]


@torch.no_grad()
def mean_output(model: Network, batches: Iterable[Batch]) -> Tensor:
    """Mean output of all branches on noise, over the samples and modalities of all processes, (out,)."""
    total, n = torch.zeros(()), torch.zeros(())
    for batch in batches:
        outputs = torch.stack(list(model.warm_up(batch).branches.values()), 1)
        here = batch.present.unsqueeze(-1).to(outputs.dtype)
        total, n = total.to(here.device) + (outputs * here).sum((0, 1)), n.to(here.device) + here.sum()
    return summed(total) / summed(n)
