"""Algorithms 1 and 2 as a Lightning module: warm-up, then the main phase."""

import logging
import time
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import lightning as L
import torch
from torch import Tensor

from omib_spatial.core.model import OMIB, Batch, Losses
from omib_spatial.core.task import OneClass


class OMIBTraining(L.LightningModule):
    """Trains an `OMIB`: ``warmup_epochs`` of branches on noise, then everything together.

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
    optimizer
        ``"adam"`` (the paper's, except on CREMA-D) or ``"sgd"`` with momentum 0.9.
    adaptive
        False holds r at 1 (ablation).

    Attributes
    ----------
    history
        One list per quantity, one value per epoch: ``phase`` (0 warm-up, 1 main), ``loss``, ``task``,
        ``kl_<modality>``, ``branch_<modality>``, ``r_<modality>``, ``seconds``. NaN where a quantity is not defined.
    """

    def __init__(
        self,
        model: OMIB,
        *,
        beta: float,
        warmup_epochs: int,
        learning_rate: float = 1e-4,
        weight_decay: float = 0.0,
        optimizer: str = "adam",
        adaptive: bool = True,
    ) -> None:
        super().__init__()
        if optimizer not in ("adam", "sgd"):
            raise ValueError(f"optimizer is 'adam' or 'sgd', not {optimizer!r}.")
        self.model, self.beta, self.warmup_epochs = model, beta, warmup_epochs
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.optimizer, self.adaptive = optimizer, adaptive
        self.history: dict[str, list[float]] = {}
        self._sums: dict[str, Tensor] = {}
        self._steps = 0
        self._started = 0.0

    @property
    def warming_up(self) -> bool:
        """Whether the current epoch belongs to Algorithm 1."""
        return self.current_epoch < self.warmup_epochs

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """One optimiser over everything, as in Algorithm 2."""
        if self.optimizer == "sgd":
            return torch.optim.SGD(self.parameters(), self.learning_rate, momentum=0.9, weight_decay=self.weight_decay)
        return torch.optim.Adam(self.parameters(), self.learning_rate, weight_decay=self.weight_decay)

    def on_train_start(self) -> None:
        """Fix the one-class centre at the mean of the untrained branches' outputs over the training data."""
        if isinstance(self.model.task, OneClass) and self.current_epoch == 0:
            loader: Iterable[Batch] = self.trainer.train_dataloader  # type: ignore[assignment]
            batches = (self.trainer.strategy.batch_to_device(batch, self.device) for batch in loader)
            self.model.task.set_center(branch_outputs(self.model, batches))

    def on_train_epoch_start(self) -> None:
        """Forget the last epoch's sums."""
        self._sums, self._steps, self._started = {}, 0, time.perf_counter()

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """One step of the phase that the epoch belongs to."""
        output = self.model.warm_up(batch) if self.warming_up else self.model(batch)
        losses = self.model.objective(output, batch, self.beta, adaptive=self.adaptive)
        self._add(losses)
        return losses.total

    def on_train_epoch_end(self) -> None:
        """Append the epoch's means to the history: the one time that the device is waited for."""
        names = list(self._sums)
        means = (torch.stack([self._sums[n] for n in names]) / self._steps).tolist()
        row: dict[str, float] = defaultdict(lambda: float("nan"), zip(names, means, strict=True))
        row["phase"] = float(not self.warming_up)
        row["seconds"] = time.perf_counter() - self._started
        for name in history_columns(self.model.modalities):
            self.history.setdefault(name, []).append(row[name])
        self.log("loss", row["loss"], prog_bar=True)

    def _add(self, losses: Losses) -> None:
        values = {"loss": losses.total}
        if not self.warming_up:
            values["task"] = losses.task
        for prefix, parts in (("kl", losses.kl), ("branch", losses.branches), ("r", losses.r)):
            values |= {f"{prefix}_{name}": value for name, value in parts.items()}
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value.detach()
        self._steps += 1


def train(
    module: OMIBTraining, batches: Iterable[Batch], *, max_epochs: int, progress_bar: bool, **trainer: Any
) -> None:
    """Run Lightning's loop over ``batches``; ``trainer`` goes to `lightning.Trainer` (accelerator, devices, ...)."""
    chatter = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    level = chatter.level
    chatter.setLevel(logging.WARNING)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False}
    try:
        L.Trainer(max_epochs=max_epochs, enable_progress_bar=progress_bar, **(quiet | trainer)).fit(module, batches)
    finally:
        chatter.setLevel(level)


def history_columns(modalities: Iterable[str]) -> list[str]:
    """Names of the quantities that are kept for each epoch."""
    parts = [f"{prefix}_{name}" for prefix in ("branch", "kl", "r") for name in modalities]
    return ["phase", "loss", "task", *parts, "seconds"]


@torch.no_grad()
def branch_outputs(model: OMIB, batches: Iterable[Batch]) -> Tensor:
    """Outputs of all branches on noise, one row per sample and modality that it has, (n, out)."""
    rows: list[Tensor] = []
    for batch in batches:
        outputs = model.warm_up(batch).branches
        rows += [p[here] for p, here in zip(outputs.values(), batch.present.T, strict=True)]
    return torch.cat(rows)
