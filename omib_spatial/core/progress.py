"""How far the training is and how long it will take."""

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar
from tqdm.auto import tqdm


class TimeLeft(ProgressBar):
    """One bar over all epochs, with the time left; Lightning's own starts anew with every epoch.

    Parameters
    ----------
    step
        What the training is one of several for: named by the bar, which does not stay on the screen then.
    """

    def __init__(self, step: str = "") -> None:
        super().__init__()
        self.step = step
        self._shown = True
        self._bar: Any = None

    def enable(self) -> None:
        """Show the bar."""
        self._shown = True

    def disable(self) -> None:
        """Show nothing, as on all processes but the first."""
        self._shown = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Open the bar where a resumed training stands."""
        per_epoch, epochs = int(trainer.num_training_batches), trainer.max_epochs or 0
        self._bar = tqdm(
            total=per_epoch * epochs,
            initial=per_epoch * trainer.current_epoch,
            desc=f"training ({self.step})" if self.step else "training",
            leave=not self.step,
            bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed} passed, {remaining} left{postfix}",
            disable=not self._shown,
            mininterval=0.5,
        )

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """One step further."""
        self._bar.update()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say which epoch this was."""
        self._bar.set_postfix_str(f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}", refresh=False)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave the bar on the screen, complete."""
        self._close()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Leave the bar on the screen where the training stopped."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
