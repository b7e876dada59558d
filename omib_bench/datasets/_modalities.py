"""The paper's synthetic data: two modalities with shared and own, relevant and superfluous blocks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CASES: dict[str, tuple[int, int]] = {"I": (500, 100), "II": (100, 500), "III": (300, 300)}
"""Widths of a1 and a2: what only the first and only the second modality knows of the label."""


@dataclass(frozen=True, eq=False)
class TwoModalities:
    """Simulated samples, float32.

    Attributes
    ----------
    x1, x2
        The modalities ``[b0, b1, a0, a1]`` and ``[b0, b2, a0, a2]``; ``a0`` and ``b0`` are the same in both.
    y
        Label 0 or 1 of each sample, (n,) int64.
    relevant
        The blocks ``a0``, ``a1``, ``a2``, views of ``x1`` and ``x2``.
    weights
        The parts of delta that belong to them.
    n_train
        The first so many samples are for training.

    Examples
    --------
    >>> data = omib.datasets.two_modalities("I", n_train=50, n_test=10)
    >>> data.x1.shape, data.relevant["a1"].shape, data.n_train
    ((60, 1100), (60, 500), 50)
    """

    x1: np.ndarray
    x2: np.ndarray
    y: np.ndarray
    relevant: dict[str, np.ndarray]
    weights: dict[str, np.ndarray]
    n_train: int

    def bayes_accuracy(self, known: Sequence[str]) -> float:
        """Best accuracy that any classifier reaches who sees the ``known`` blocks only.

        The label is the sign of a Gaussian of which a Gaussian part is known; the two have the correlation
        ``rho = |delta_known| / |delta|``, and their signs agree with probability ``1 - arccos(rho) / pi``.
        """
        squares = {name: float(np.square(delta).sum()) for name, delta in self.weights.items()}
        rho = np.sqrt(sum(squares[name] for name in known) / sum(squares.values()))
        return float(1.0 - np.arccos(min(rho, 1.0)) / np.pi)


def two_modalities(
    case: str = "I",
    *,
    n_train: int = 9000,
    n_test: int = 1000,
    shared: int = 200,
    superfluous: int = 200,
    seed: int = 0,
) -> TwoModalities:
    """Simulate two modalities and a label that is linear in what matters of them (OMIB paper, SIM-I to SIM-III).

    All blocks are standard normal; ``y = 1(<delta, [a0, a1, a2]> > 0)`` with one standard normal ``delta``. There is
    no label noise, so the Bayes rate on ``[a0, a1, a2]`` is 1.

    Parameters
    ----------
    case
        ``"I"``, ``"II"`` or ``"III"``: widths (500, 100), (100, 500), (300, 300) of a1 and a2.
    n_train, n_test
        Samples.
    shared
        Width of a0, and of b0.
    superfluous
        Width of b1, and of b2, which the paper does not state.
    seed
        Of blocks and delta.

    Raises
    ------
    ValueError
        If ``case`` is none of these.

    Examples
    --------
    >>> data = omib.datasets.two_modalities("III", n_train=50, n_test=10, seed=0)
    >>> data.x1.shape, data.x2.shape, np.unique(data.y).tolist()
    ((60, 900), (60, 900), [0, 1])
    """
    if case not in CASES:
        raise ValueError(f"case is one of {', '.join(CASES)}, not {case!r}.")
    rng, n = np.random.default_rng(seed), n_train + n_test
    first, second = CASES[case]
    x1 = rng.standard_normal((n, shared + superfluous + shared + first), dtype=np.float32)
    x2 = rng.standard_normal((n, shared + superfluous + shared + second), dtype=np.float32)
    relevant = slice(shared + superfluous, 2 * shared + superfluous)
    x2[:, :shared], x2[:, relevant] = x1[:, :shared], x1[:, relevant]
    blocks = {"a0": x1[:, relevant], "a1": x1[:, relevant.stop :], "a2": x2[:, relevant.stop :]}
    weights = {name: rng.standard_normal((block.shape[1],), dtype=np.float32) for name, block in blocks.items()}
    margin = np.sum([block @ weights[name] for name, block in blocks.items()], axis=0)
    return TwoModalities(x1, x2, (margin > 0).astype(np.int64), blocks, weights, n_train)
