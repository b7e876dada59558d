"""How far a mean AUROC would move with other spots, or with other patients."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score

from omib_bench._records import Record

ALL = "all"
"""Dataset of what is measured over all sections."""
DRAWS = 200


@dataclass(frozen=True)
class Ranking:
    """Scores of one section's spots.

    Attributes
    ----------
    section, patient, method, setting, seed
        What was scored, and how.
    truth
        1 anomalous, 0 not, -1 unknown, (n,).
    score
        Higher is more anomalous, NaN where there is none, (n,).
    """

    section: str
    patient: str
    method: str
    setting: str
    seed: int
    truth: np.ndarray
    score: np.ndarray

    @cached_property
    def known(self) -> tuple[np.ndarray, np.ndarray]:
        """Truth and score of the spots that have both."""
        there = (self.truth >= 0) & np.isfinite(self.score)
        return self.truth[there] == 1, self.score[there]

    @property
    def auroc(self) -> float:
        """NaN with one class only."""
        y, score = self.known
        return float(roc_auc_score(y, score)) if y.any() and not y.all() else float("nan")


def interval_records(benchmark: str, rankings: Iterable[Ranking], seed: int = 0) -> Iterator[Record]:
    """Mean AUROC over the sections of each method, setting and seed, with 95 % bootstrap intervals.

    ``mean_auroc``; ``pooled_auroc``, of all spots of all sections at once; ``spots_low`` and ``spots_high``, drawing
    spots of each section anew, anomalous and other apart; ``patients_low`` and ``patients_high``, drawing patients
    anew. `DRAWS` draws each.
    """
    groups: dict[tuple[str, str, int], list[Ranking]] = defaultdict(list)
    for ranking in rankings:
        if np.isfinite(ranking.auroc):
            groups[ranking.method, ranking.setting, ranking.seed].append(ranking)
    for (method, setting, run), found in groups.items():
        rng = np.random.default_rng(seed)
        spots = np.mean([_spots(*ranking.known, rng) for ranking in found], 0)
        patients = _patients(found, rng)
        pooled = roc_auc_score(*(np.concatenate(column) for column in zip(*(r.known for r in found), strict=True)))
        values = {"pooled_auroc": float(pooled)} | {
            "mean_auroc": float(np.mean([ranking.auroc for ranking in found])),
            "sections": float(len(found)),
        }
        for name, draws in (("spots", spots), ("patients", patients)):
            values[f"{name}_low"], values[f"{name}_high"] = map(float, np.quantile(draws, [0.025, 0.975]))
        for metric, value in values.items():
            yield Record(benchmark, ALL, method, setting, run, metric, value)


def _spots(y: np.ndarray, score: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """AUROC of `DRAWS` draws of spots, (DRAWS,): the rank sum of Mann and Whitney."""
    high, low = score[y], score[~y]
    drawn = [part[rng.integers(len(part), size=(DRAWS, len(part)))] for part in (high, low)]
    ranks = rankdata(np.concatenate(drawn, 1), axis=1)[:, : len(high)]
    return (ranks.sum(1) / len(high) - (len(high) + 1) / 2) / len(low)


def _patients(found: Sequence[Ranking], rng: np.random.Generator) -> np.ndarray:
    """Mean over sections of `DRAWS` draws of patients, (DRAWS,)."""
    by: dict[str, list[float]] = defaultdict(list)
    for ranking in found:
        by[ranking.patient].append(ranking.auroc)
    names = list(by)
    chosen = rng.integers(len(names), size=(DRAWS, len(names)))
    return np.array([np.mean([value for i in draw for value in by[names[i]]]) for draw in chosen])
