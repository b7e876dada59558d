"""Clones whose arms are known, planted in healthy tissue: how many are found, with which arms; and those of tumours."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse
from sklearn.metrics import adjusted_rand_score

from omib_bench._planting import dense_counts, plant_arms
from omib_bench._records import Record, table
from omib_spatial import tl
from omib_spatial._keys import ABNORMAL, ANOMALY, NOT_CALLED, SPATIAL, Written
from omib_spatial.datasets import her2st
from omib_spatial.datasets._her2st import SECTION
from omib_spatial.slides.gene_positions import arm_names, positions
from omib_spatial.tl._clones import MIN_CALLED

logger = logging.getLogger("omib_spatial")

NAME = "clones"
TRUNK = {"1q": 1.4, "16q": 0.6}
FIRST, SECOND = {**TRUNK, "8q": 1.4, "13q": 0.6}, {**TRUNK, "17q": 1.4, "3p": 0.6}
"""Ratios of the arms: one copy more or less in four of five cells."""
PLANTED: Mapping[str, Sequence[Mapping[str, float]]] = {"none": [{}], "one": [FIRST], "two": [FIRST, SECOND]}
"""Clones of each case, side by side in one region."""
TUMOUR = "tumour"
ERBB2 = "17q"
"""Arm of the gene that HER2-positive tumours have amplified."""
SHARE = 0.4
"""Of the spots of a section, the part that clones are planted in."""


def run(folder: str | Path, *, seeds: int = 3, say: Callable[[str], None] = logger.info) -> list[Record]:
    """Plant no clone, one and two in the healthy spots of every section, and look for them; then look at the tumours.

    The spots of the region are told to be called, so that this measures clones alone. The region is compact and is
    healthy tissue of its own kind: where nothing is planted, an arm that is called is an error.

    Parameters
    ----------
    folder
        As `omib_spatial.datasets.her2st` takes it.
    seeds
        Number of seeds, 0, 1, ...
    say
        Takes one line per section.

    Returns
    -------
    Records with the cases as settings. ``clones_right`` (the number is), ``arms_found`` (share of the planted arms that
    are called with the right sign in the clone that they are in), ``false_arms`` (share of the called arms that are
    not planted), ``rand`` (adjusted Rand index of two planted clones), and for tumours ``clones``, ``arms`` and those
    of `ERBB2`: ``log2_ratio``, ``standard_error``, ``pvalue_adjusted``.
    """
    adata, records = her2st(folder), list[Record]()
    for section in adata.obs[SECTION].cat.categories:
        own = adata[(adata.obs[SECTION] == section).to_numpy()].copy()
        healthy = own[(own.obs[ANOMALY] == 0).to_numpy()].copy()
        new = list(_of_tumour(own, section))
        if SHARE * healthy.n_obs >= MIN_CALLED:
            new += [r for kind in PLANTED for seed in range(seeds) for r in _of_planted(healthy, section, kind, seed)]
        say(f"{section}: {len(new)} numbers")
        records += new
    return records


def report(records: Sequence[Record]) -> str:
    """Planted clones, mean over sections and seeds; then the tumours, section by section."""
    planted = pd.DataFrame([r for r in records if r.setting != TUMOUR], columns=list(Record._fields))
    means = planted.groupby(["setting", "metric", "seed"], sort=False)["value"].mean().reset_index()
    rows = [Record(NAME, r.setting, "", "", int(r.seed), r.metric, float(r.value)) for r in means.itertuples()]
    tumours = table([r for r in records if r.setting == TUMOUR], mean=False)
    return "\n\n".join([*([table(rows, mean=False)] if rows else []), tumours])


def _of_planted(healthy: AnnData, section: str, kind: str, seed: int) -> Iterator[Record]:
    rng = np.random.default_rng([seed, 2])
    region, side = halved_region(healthy.obsm[SPATIAL].astype(float), int(SHARE * healthy.n_obs), rng)
    truth, counts = PLANTED[kind], dense_counts(healthy)
    placed = positions(healthy.var)
    if placed is None:
        raise KeyError("var places no gene: her2st has chromosome, start and end.")
    arm = arm_names(placed)
    clone = side * (len(truth) - 1)
    for number, ratios in enumerate(truth):
        counts = plant_arms(counts, arm, region[clone == number], ratios, rng)
    planted = healthy.copy()
    planted.X = sparse.csr_matrix(counts.astype(np.float32))
    found = called(planted, np.isin(np.arange(planted.n_obs), region))
    groups = found.obs[Written().clone].iloc[region]
    known = groups.notna().to_numpy()
    values = judged(found.uns[Written().clones], groups[known], clone[known], truth)
    for metric, value in values.items():
        yield Record(NAME, section, "clones", kind, seed, metric, value)


def _of_tumour(own: AnnData, section: str) -> Iterator[Record]:
    truth = own.obs[ANOMALY].to_numpy()
    found = called(own[truth >= 0].copy(), truth[truth >= 0] == 1)
    arms = found.uns[Written().clones]
    largest = arms[(arms["clone"] == "clone 1") & (arms["arm"] == ERBB2)]
    values = {"clones": arms["clone"].nunique(), "arms": int((arms["call"] != "none").sum())}
    values |= {name: largest[name].iloc[0] for name in ("log2_ratio", "standard_error", "pvalue_adjusted")}
    for metric, value in values.items():
        yield Record(NAME, section, "clones", TUMOUR, 0, metric, float(value))


def halved_region(xy: np.ndarray, n_spots: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a random spot and those nearest to it, (n_spots,), and on which side of a random line each lies, 0 or 1.

    Parameters
    ----------
    xy
        Spot centres, (n_obs, 2).
    n_spots
        Of the region.
    rng
        Draws its middle and the line through its mean.
    """
    far = np.linalg.norm(xy - xy[rng.integers(len(xy))], axis=1)
    region = np.argsort(far, kind="stable")[:n_spots]
    angle = rng.uniform(0, np.pi)
    along = (xy[region] - xy[region].mean(0)) @ [np.cos(angle), np.sin(angle)]
    return region, (along > np.median(along)).astype(int)


def called(adata: AnnData, abnormal: np.ndarray) -> AnnData:
    """``adata`` with the results of `omib_spatial.tl.clones`, the spots ``abnormal`` (n_obs,) bool being called."""
    keys = Written()
    adata.obs[keys.call] = pd.Categorical(np.where(abnormal, ABNORMAL, NOT_CALLED), [NOT_CALLED, ABNORMAL])
    adata.obsm[keys.drawn("genome")] = np.zeros((adata.n_obs, 1))
    adata.uns[keys.uns] = {
        "params": {"layer": "", "spatial_key": SPATIAL, "library_key": SECTION, "neighbors_key": "", "n_neighbors": 6}
    }
    tl.clones(adata)
    return adata


def judged(
    arms: pd.DataFrame, groups: pd.Series, clone: np.ndarray, truth: Sequence[Mapping[str, float]]
) -> dict[str, float]:
    """How many clones and arms are right.

    Parameters
    ----------
    arms
        As `omib_spatial.tl.clones` writes it.
    groups
        Clone that each spot was found in, (n,).
    clone
        Clone that each was planted in, (n,); of the spots of a clone that was found most decide whose arms are true.
    truth
        Ratios of the arms of each planted clone.
    """
    hit = planted = wrong = 0
    for name, rows in arms.groupby("clone"):
        inside = clone[(groups == name).to_numpy()]
        # A clone found in place of two has the arms of both.
        whose = range(len(truth)) if arms["clone"].nunique() < len(truth) else [int(np.bincount(inside).argmax())]
        sign = {arm: np.sign(ratio - 1) for number in whose for arm, ratio in truth[number].items()}
        call = rows["call"].map({"gain": 1, "loss": -1, "none": 0}).to_numpy()
        expected = rows["arm"].map(sign).fillna(0).to_numpy()
        hit += int(((call == expected) & (call != 0)).sum())
        planted += len(sign)
        wrong += int(((call != expected) & (call != 0)).sum())
    nan = float("nan")
    return {
        "clones_right": float(arms["clone"].nunique() == len(truth)),
        "arms_found": hit / planted if planted else nan,
        "false_arms": wrong / max(hit + wrong, 1),
        "rand": float(adjusted_rand_score(clone, groups.astype(str))) if len(truth) > 1 else nan,
    }
