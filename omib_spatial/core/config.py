"""One object for all that a run of OMIB can be set to, ablations of the paper included."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from omib_spatial.core.model import OMIB
from omib_spatial.core.network import Network
from omib_spatial.core.task import Task

if TYPE_CHECKING:
    from omib_spatial.core.training import OMIBTraining

ABLATIONS: dict[str, dict[str, Any]] = {
    "no warm-up": {"warmup_epochs": 0},
    "no cross-attention": {"cross_attention": False},
    "no OMF": {"bottleneck": False},
    "no r": {"adaptive": False},
    "no compression": {"beta": 0.0},
    "fixed beta": {"beta": 1e-3},
    "beta = M_u": {"beta": None},
}
"""The paper's ablations, and the ways to choose beta, as changes of a `Config`: ``replace(config, **change)``."""


@dataclass(frozen=True)
class Config:
    """Settings of network and training; the defaults are the paper's for its simulations, where it states them.

    Attributes
    ----------
    latent_dim
        k, the width of noise, zeta and xi (not stated for the simulations).
    n_heads
        Attention heads (not stated).
    cross_attention, bottleneck, adaptive
        False leaves out the cross-attention, the OMF block, the weight r.
    beta
        Weight of the compression in equation (10); None stands for M_u of the data (`Mine.bounds`).
    max_epochs
        Epochs, warm-up included.
    warmup_epochs
        Epochs of Algorithm 1 (not stated); 0 leaves it out.
    batch_size
        Samples per step (not stated for the simulations).
    optimizer, learning_rate, weight_decay, encoder_decay, schedule
        As by `OMIBTraining`.

    Examples
    --------
    >>> from dataclasses import replace
    >>> from omib_spatial.core import Config
    >>> config = replace(Config(), latent_dim=32, beta=0.01)
    >>> config.latent_dim, config.n_heads, config.batch_size
    (32, 4, 128)
    """

    latent_dim: int = 256
    n_heads: int = 4
    cross_attention: bool = True
    bottleneck: bool = True
    adaptive: bool = True
    beta: float | None = None
    max_epochs: int = 100
    warmup_epochs: int = 20
    batch_size: int = 128
    optimizer: str = "adam"
    learning_rate: float = 1e-4
    weight_decay: float = 0.0
    encoder_decay: float | None = None
    schedule: str = "constant"

    def check(self) -> None:
        """Raise ValueError where the warm-up leaves no epoch to the main phase."""
        if self.warmup_epochs >= self.max_epochs:
            raise ValueError(f"warmup_epochs={self.warmup_epochs} leaves nothing of max_epochs={self.max_epochs}.")

    def network(self, encoders: Mapping[str, nn.Module], task: Task) -> OMIB:
        """A fresh network of ``encoders`` by modality for ``task``."""
        return OMIB(
            encoders,
            task,
            latent_dim=self.latent_dim,
            n_heads=self.n_heads,
            cross_attention=self.cross_attention,
            bottleneck=self.bottleneck,
        )

    def training(
        self,
        network: Network,
        *,
        beta: float | None = None,
        seed: int | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> "OMIBTraining":
        """The training of ``network``; ``beta`` is M_u of the data where the config leaves it open.

        Parameters
        ----------
        network, seed, settings
            As of `omib_spatial.core.OMIBTraining`.
        beta
            Weight of the compression, where ``Config.beta`` is None.

        Raises
        ------
        ValueError
            If neither gives beta, or the warm-up leaves no epoch to the main phase.
        """
        self.check()
        beta = beta if self.beta is None else self.beta
        if beta is None:
            raise ValueError("Config.beta is None, M_u of the data: pass beta=Mine(seed=...).bounds(inputs).upper.")
        # Lightning takes seconds to load: only where something is trained.
        from omib_spatial.core.training import OMIBTraining

        return OMIBTraining(
            network,
            beta=beta,
            warmup_epochs=self.warmup_epochs,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            encoder_decay=self.encoder_decay,
            optimizer=self.optimizer,
            schedule=self.schedule,
            adaptive=self.adaptive,
            seed=seed,
            settings=settings,
        )
