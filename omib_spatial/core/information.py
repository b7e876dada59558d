"""How much one thing says about another: Gaussian KL, the weight r, MINE, and the bounds on beta."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

FEWEST_ROWS = 30
"""Samples from which on MINE gives an estimate; the last third of them is what it is read off."""


def gaussian_kl(mu: Tensor, sigma: Tensor) -> Tensor:
    """KL divergence of a diagonal Gaussian from the standard normal, the compression term of equation (10).

    Parameters
    ----------
    mu, sigma
        Mean and standard deviation, each (N, k); ``sigma`` is positive.

    Returns
    -------
    ``KL(N(mu, sigma^2) || N(0, I))`` in nats, summed over k, shape (N,).

    Examples
    --------
    >>> from omib_spatial.core import gaussian_kl
    >>> gaussian_kl(torch.tensor([[0.0, 0.0], [3.0, 4.0]]), torch.ones(2, 2))
    tensor([ 0.0000, 12.5000])
    """
    return 0.5 * (mu.square() + sigma.square() - 1.0 - 2.0 * sigma.log()).sum(-1)


def relevance(divergence: Tensor, divergence_first: Tensor) -> Tensor:
    """Weight r of a modality's compression term, equation (11).

    With ``q = divergence / divergence_first``, ``r = 1 - tanh(ln q) = 2 / (1 + q^2)``: a modality whose branch
    is further from the fused prediction than the first modality's still has something to say, and is
    compressed less. It stands for the ratio of what the modalities still say about y given xi, equation (18), whose
    supremum u is 2. Both means are taken before the ratio (the proof's form, not the printed one), and no
    gradient flows through r.

    Parameters
    ----------
    divergence, divergence_first
        Mean predictive divergence of this modality and of the first one, in nats, scalars, not negative.

    Returns
    -------
    r in [0, 2], detached; 1 where both divergences are equal.

    Examples
    --------
    >>> from omib_spatial.core import relevance
    >>> relevance(torch.tensor(1.0), torch.tensor(1.0)), relevance(torch.tensor(3.0), torch.tensor(1.0))
    (tensor(1.), tensor(0.2000))
    """
    tiny = torch.finfo(divergence.dtype).tiny
    q = (divergence.detach() + tiny) / (divergence_first.detach() + tiny)
    return 2.0 / (1.0 + q.square())


class Bounds(NamedTuple):
    """The interval from which beta is taken, and the estimates in nats that it follows from.

    Examples
    --------
    >>> from omib_spatial.core import beta_bounds
    >>> bounds = beta_bounds({"gene": 2.0, "image": 3.0}, {frozenset({"gene", "image"}): 1.0})
    >>> round(bounds.lower, 4), round(bounds.upper, 4)
    (0.0667, 0.0833)
    """

    lower: float
    upper: float
    entropies: dict[str, float]
    mutual_information: dict[str, float]


def beta_bounds(entropies: Mapping[str, float], mutual_information: Mapping[frozenset[str], float]) -> Bounds:
    """M_l and M_u, the bounds on beta that the paper uses in practice: Lemma 5.5 with every r at its supremum 2.

    The paper gives them no equation number.

    ``M_u = 1 / ((2n-1) (sum_i H_i - 2/n sum_{i<j} I_ij))`` and ``M_l = 1 / ((2n-1) sum_i H_i)``. For n = 2 and
    n = 3 these are the two printed cases; the general form is ours.

    Parameters
    ----------
    entropies
        ``H_i`` in nats by modality.
    mutual_information
        ``I_ij`` in nats by unordered pair of modalities.

    Raises
    ------
    ValueError
        If there is no modality, or the information left after subtracting what is shared is not positive, so that no
        bound exists.

    Examples
    --------
    >>> from omib_spatial.core import beta_bounds
    >>> bounds = beta_bounds({"gene": 2.0, "image": 3.0}, {frozenset({"gene", "image"}): 1.0})
    >>> round(bounds.lower * 3 * 5, 6), round(bounds.upper * 3 * (5 - 1), 6)
    (1.0, 1.0)
    """
    if not entropies:
        raise ValueError("No bound on beta follows from no modality.")
    n = len(entropies)
    total = sum(entropies.values())
    distinct = total - 2.0 / n * sum(mutual_information.values())
    if not distinct > 0:
        raise ValueError(
            f"No bound on beta follows from entropies {dict(entropies)} and mutual information "
            f"{ {' & '.join(sorted(k)): v for k, v in mutual_information.items()} }: "
            "what the modalities do not share must be positive. Give beta yourself, or train MINE for longer."
        )
    factor = 2 * n - 1
    shared = {" & ".join(sorted(pair)): value for pair, value in mutual_information.items()}
    return Bounds(1.0 / (factor * total), 1.0 / (factor * distinct), dict(entropies), shared)


def donsker_varadhan(joint: Tensor, marginal: Tensor) -> Tensor:
    """Donsker-Varadhan lower bound on mutual information, ``E_joint[T] - ln E_marginal[exp T]``, in nats.

    Parameters
    ----------
    joint, marginal
        Critic values on paired and on shuffled samples, each (N,).
    """
    return joint.mean() - (marginal.logsumexp(0) - math.log(len(marginal)))


@dataclass(frozen=True)
class Mine:
    """Mutual information by a trained critic (Belghazi et al. 2018), as the paper's appendix uses it.

    The critic is a two-layer ReLU network on the concatenated pair; marginals are made by shuffling. It is
    trained on two thirds of the samples and the bound is read off the rest, so that independent
    inputs give about 0 instead of the overfit. For continuous X the entropy proxy ``H(X) := I(X; X)`` is infinite
    and every estimate of it is a property of this setting, which is why the setting is one frozen object. No
    estimate far above ln of the held-out sample size can be trusted (McAllester & Stratos 2020).

    Parameters
    ----------
    hidden
        Width of the critic.
    steps
        Optimiser steps.
    batch_size
        Samples per step.
    learning_rate
        Adam's rate.
    max_samples
        At most this many samples are used, drawn with ``seed``.
    seed
        Of the draw, the split, the weights and the shuffles.

    Examples
    --------
    >>> from omib_spatial.core import Mine
    >>> x = torch.randn(2000, 1, generator=torch.Generator().manual_seed(0))
    >>> noise = torch.randn(2000, 1, generator=torch.Generator().manual_seed(1))
    >>> Mine(steps=100).estimate(x, noise) < 0.1 < Mine(steps=100).estimate(x, x + 0.3 * noise)
    True
    """

    hidden: int = 128
    steps: int = 400
    batch_size: int = 256
    learning_rate: float = 1e-3
    max_samples: int = 10_000
    seed: int = 0

    def estimate(self, x: Tensor, y: Tensor) -> float:
        """Mutual information between the rows of ``x`` (N, p) and ``y`` (N, q) in nats, not below 0.

        Raises
        ------
        ValueError
            If these are no two tables of the same rows, 30 or more.
        """
        for table in (x, y):
            if table.ndim != 2 or len(table) != len(x) or len(table) < FEWEST_ROWS:
                raise ValueError(
                    f"MINE takes two tables of the same {FEWEST_ROWS} rows or more, not shapes {tuple(x.shape)} and "
                    f"{tuple(y.shape)}: pass (N, p) and (N, q)."
                )
        generator = torch.Generator().manual_seed(self.seed)
        order = torch.randperm(len(x), generator=generator)[: self.max_samples]
        x, y = _standardise(x[order].float()), _standardise(y[order].float())
        cut = 2 * len(x) // 3
        critic = self._critic(x.shape[1] + y.shape[1])
        optimiser = torch.optim.Adam(critic.parameters(), lr=self.learning_rate)
        for _ in range(self.steps):
            rows = torch.randint(cut, (min(self.batch_size, cut),), generator=generator)
            loss = -self._bound(critic, x[rows], y[rows], generator)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        with torch.no_grad():
            held_out = [self._bound(critic, x[cut:], y[cut:], generator) for _ in range(10)]
        return max(float(torch.stack(held_out).mean()), 0.0)

    def bounds(self, modalities: Mapping[str, Tensor], present: Tensor | None = None) -> Bounds:
        """M_l and M_u of the raw ``modalities``.

        Parameters
        ----------
        modalities
            By name, (N, ...) each with the same rows; what follows the first axis is flattened.
        present
            (N, M) bool, which modalities each sample has; None if all have all. Those that have all are used.

        Raises
        ------
        TypeError
            If a modality is no tensor, as `Sequences` are none.
        ValueError
            If rows differ, fewer than 30 samples have all, one is constant or holds NaN, or no bound follows.

        Examples
        --------
        >>> from omib_spatial.core import Mine
        >>> a, b = torch.randn(2, 500, 3, generator=torch.Generator().manual_seed(0))
        >>> have = torch.arange(500)[:, None] % 5 != torch.tensor([0, 1])
        >>> bounds = Mine(steps=100).bounds({"a": a, "b": b}, have)
        >>> bounds.lower <= bounds.upper
        True
        """
        whole = slice(None) if present is None else present.bool().all(1)
        flat = {name: _table(name, x, whole) for name, x in modalities.items()}
        entropies = {name: self.estimate(x, x) for name, x in flat.items()}
        shared = {frozenset(pair): self.estimate(flat[pair[0]], flat[pair[1]]) for pair in combinations(flat, 2)}
        return beta_bounds(entropies, shared)

    def _critic(self, width: int) -> nn.Sequential:
        with torch.random.fork_rng(list(range(torch.cuda.device_count()))):
            torch.manual_seed(self.seed)
            return nn.Sequential(nn.Linear(width, self.hidden), nn.ReLU(), nn.Linear(self.hidden, 1), nn.Flatten(0))

    @staticmethod
    def _bound(critic: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        shuffled = y[torch.randperm(len(y), generator=generator)]
        return donsker_varadhan(critic(torch.cat([x, y], 1)), critic(torch.cat([x, shuffled], 1)))


def _table(name: str, values: Any, rows: Any) -> Tensor:
    """Some rows of a modality, flattened, (n, p) float32."""
    if not isinstance(values, Tensor):
        raise TypeError(
            f"{name!r} is {type(values).__name__}: bounds on beta follow from tensors. Give beta yourself, or of "
            "sequences the means over their steps."
        )
    table = values[rows].flatten(1).float() if values.ndim > 1 else values[rows, None].float()
    if not bool(torch.isfinite(table).all()):
        raise ValueError(f"{name!r} has values that are no finite numbers: say by present= which samples lack it.")
    if len(table) >= FEWEST_ROWS and not bool((table != table[:1]).any()):
        raise ValueError(f"{name!r} is the same in all samples, so no bound on beta follows: leave it out.")
    return table


def _standardise(x: Tensor) -> Tensor:
    return (x - x.mean(0)) / (x.std(0) + 1e-6)
