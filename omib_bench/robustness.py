"""What detection rests on: the same her2st folds with thinner, turned or poorer targets, and with less reference."""

import logging
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.stats import spearmanr

from omib_bench import her2st
from omib_bench._bootstrap import ALL, Ranking, interval_records
from omib_bench._records import Record, table
from omib_spatial import tl
from omib_spatial._keys import HEALTHY, IMAGES, SCALEFACTORS, SPATIAL, Written, scale_key
from omib_spatial.datasets._her2st import PATIENT, SECTION
from omib_spatial.slides.slides import slide_entries
from omib_spatial.slides.split import SpotLocations, spatial_tiles

logger = logging.getLogger("omib_spatial")

SETTING = "gene+image+genome"
QUANTILE = 0.1
"""Of the depths of a section's spots, the one that all of them are thinned to."""
TILT = 30.0
"""Degrees by which sections without an image are turned as well."""
_IMAGE = "hires"

Change = Callable[[AnnData, np.random.Generator], AnnData]
"""Spots and a source of chance to new spots; what is given stays as it is."""


def thinned(adata: AnnData, rng: np.random.Generator) -> AnnData:
    """Draw counts without replacement, so that no spot of a section has more than the `QUANTILE` of its depths."""
    import scanpy as sc

    new = adata.copy()
    depth = pd.Series(her2st.total_counts(new)).groupby(new.obs[SECTION].to_numpy())
    wanted = depth.transform(lambda d: np.floor(d.quantile(QUANTILE))).to_numpy(int)
    sc.pp.downsample_counts(new, counts_per_cell=wanted, random_state=int(rng.integers(2**31)), replace=False)
    return new


def without_genes(adata: AnnData, rng: np.random.Generator) -> AnnData:
    """Drop half of the genes."""
    return adata[:, np.sort(rng.permutation(adata.n_vars)[: adata.n_vars // 2])].copy()


def turned(adata: AnnData, rng: np.random.Generator) -> AnnData:
    """Turn places and images counter-clockwise by 90 degrees."""
    return _moved(adata, lambda xy, width: np.stack([xy[:, 1], width - xy[:, 0]], 1), np.rot90)


def mirrored(adata: AnnData, rng: np.random.Generator) -> AnnData:
    """Exchange left and right of places and images."""
    return _moved(adata, lambda xy, width: np.stack([width - xy[:, 0], xy[:, 1]], 1), np.fliplr)


def tilted(adata: AnnData, rng: np.random.Generator) -> AnnData:
    """Turn the places of sections without an image by `TILT` degrees, and leave out the others."""
    new = adata[~adata.obs[SECTION].isin(_pictured(adata)).to_numpy()].copy()
    c, s = np.cos(np.radians(TILT)), np.sin(np.radians(TILT))
    new.obsm[SPATIAL] = new.obsm[SPATIAL] @ np.array([[c, s], [-s, c]])
    return new


def half_reference(train: AnnData, rng: np.random.Generator) -> AnnData:
    """Cut the healthy spots of every section in two across their longer side, and keep one half as reference."""
    codes, healthy = train.obs[SECTION].cat.codes.to_numpy(), train.obs[HEALTHY].to_numpy()
    kept = np.zeros(train.n_obs, bool)
    for code in np.unique(codes[healthy]):
        rows = np.flatnonzero(healthy & (codes == code))
        halves = spatial_tiles(SpotLocations(train.obsm[SPATIAL], codes), rows, -(-len(rows) // 2))
        kept[halves[rng.integers(len(halves))]] = True
    new = train.copy()
    new.obs[HEALTHY] = kept
    return new


def without_patient(train: AnnData, rng: np.random.Generator) -> AnnData:
    """Drop one patient, but not the only one with an image."""
    pictured = train.obs[PATIENT][train.obs[SECTION].isin(_pictured(train)).to_numpy()].unique()
    able = [name for name in train.obs[PATIENT].unique() if list(pictured) != [name]]
    return train[(train.obs[PATIENT] != rng.choice(able)).to_numpy()].copy()


def _pictured(adata: AnnData) -> list[str]:
    """Sections with an image."""
    return [name for name, entry in slide_entries(adata).items() if _IMAGE in entry.get(IMAGES, {})]


def _moved(adata: AnnData, places: Callable[..., np.ndarray], image: Callable[[np.ndarray], np.ndarray]) -> AnnData:
    """Change the ``places`` (n, 2) of every section, given its width in full-resolution pixels, and its ``image``."""
    new = adata.copy()
    xy, pictured = np.asarray(new.obsm[SPATIAL], np.float64), _pictured(new)
    for name in new.obs[SECTION].unique():
        rows, width = (new.obs[SECTION] == name).to_numpy(), 0.0
        if name in pictured:
            entry = new.uns[SPATIAL][name]
            width = entry[IMAGES][_IMAGE].shape[1] / float(entry[SCALEFACTORS][scale_key(_IMAGE)])
            entry[IMAGES][_IMAGE] = np.ascontiguousarray(image(entry[IMAGES][_IMAGE]))
        xy[rows] = places(xy[rows], width)
    new.obsm[SPATIAL] = xy
    return new


TARGETS: dict[str, Change] = {
    "thinned to equal depth": thinned,
    "half of the genes": without_genes,
    "turned by 90 degrees": turned,
    "mirrored": mirrored,
    f"turned by {TILT:.0f} degrees": tilted,
}
"""Changes of the sections that are scored; the model stays."""
REFERENCES: dict[str, Change] = {"half of the reference": half_reference, "one patient fewer": without_patient}
"""Changes of what a model is fitted on."""


def run(
    folder: str | Path,
    *,
    seeds: int = 3,
    setting: str = SETTING,
    say: Callable[[str], None] = logger.info,
    **options: Any,
) -> list[Record]:
    """Fit on the other patients as `omib_bench.her2st.run` does, and see what changes when data do.

    One model per held-out patient and seed scores the patient's sections as they are and after each of `TARGETS`;
    one more is fitted for each of `REFERENCES`. What is left to chance follows from the seed.

    Parameters
    ----------
    folder
        As `omib_spatial.datasets.her2st` takes it.
    seeds
        Number of seeds, 0, 1, ...
    setting
        Modalities, joined by ``+``.
    say
        Takes one line per patient and seed.
    options
        Passed to `omib_spatial.tl.fit`.

    Returns
    -------
    Records per section and seed; the setting is that of the models, followed by the change:

    - ``auroc``, and for changes ``rank_correlation`` (Spearman, with the scores without the change).
    - ``score_change`` where the model stayed: largest absolute difference of a spot's score, in standard deviations.
    - ``seed_correlation``: mean Spearman correlation of the scores of each two seeds, once.

    The dataset ``all`` has what `omib_bench.her2st.run` has, and ``difference``: the mean AUROC minus that
    of the same sections without the change. ``total counts`` has its rows where a change touches counts.

    Raises
    ------
    FileNotFoundError, KeyError, ValueError
        As `omib_bench.her2st.run`; ValueError also with fewer than three patients.
    """
    adata, patients = her2st.read(folder)
    if len(patients) < 3:
        raise ValueError(f"{folder} has sections of {patients} only: to leave out two, three patients are needed.")
    rankings: list[Ranking] = []
    options = {"enable_progress_bar": False, "reference_key": HEALTHY, "donor_key": PATIENT} | options
    for seed in range(seeds):
        for patient in patients:
            if sections := her2st.sections_of(adata, patient, setting.split("+")):
                new = list(_fold(adata, patient, sections, setting, {"seed": seed} | options))
                rankings += new
                plain = [r for r in new if r.setting in (setting, her2st.DEPTH)]
                found = ", ".join(f"{r.section} {r.auroc:.3f}" for r in plain if r.method != her2st.DEPTH)
                say(
                    f"{setting}, seed {seed}, without patient {patient}: AUROC {found}, {len(new) - len(plain)} changes"
                )
    return [*_records(rankings), *interval_records(her2st.NAME, rankings), *differences(rankings)]


def _fold(
    adata: AnnData, patient: str, sections: Sequence[str], setting: str, options: dict[str, Any]
) -> Iterator[Ranking]:
    """All rankings of one held-out patient and seed."""
    seed = options["seed"]
    # Chance is another one for each patient and change, and the same whatever else is run.
    chance = lambda name: np.random.default_rng([seed, *patient.encode(), *name.encode()])  # noqa: E731
    train, target = her2st.others(adata, patient), adata[adata.obs[SECTION].isin(sections).to_numpy()].copy()
    model = her2st.learned(train.copy(), setting, options)
    depth = her2st.total_counts(target)
    yield from _scored(target, model, setting)
    yield from her2st.ranked(target, depth, her2st.DEPTH, her2st.DEPTH, seed)
    for name, change in TARGETS.items():
        new = change(target, chance(name))
        if new.n_obs == 0:
            continue
        yield from _scored(new, model, f"{setting}, {name}")
        if new.n_obs == target.n_obs and (her2st.total_counts(new) != depth).any():
            yield from her2st.ranked(new, her2st.total_counts(new), her2st.DEPTH, f"{her2st.DEPTH}, {name}", seed)
    for name, change in REFERENCES.items():
        less = her2st.learned(change(train, chance(name)), setting, options)
        yield from _scored(target, less, f"{setting}, {name}")


def _scored(target: AnnData, model: tl.AnomalyModel, setting: str) -> Iterator[Ranking]:
    """Rankings of the target's sections; it stays as it is."""
    scored = target.copy()
    with warnings.catch_warnings():
        # That genes are missing is what is asked here.
        warnings.filterwarnings("ignore", message="Only .* of the model's .* genes")
        tl.score(scored, model)
    method, seed = f"omib {model.params['objective']}", model.params["seed"]
    return her2st.ranked(scored, scored.obs[Written().score], method, setting, seed)


def _beside(rankings: Sequence[Ranking]) -> Iterator[tuple[Ranking, Ranking]]:
    """Each ranking after a change, and the one without it."""
    plain = {(r.method, r.setting, r.seed, r.section): r for r in rankings}
    for changed in rankings:
        before, comma, _ = changed.setting.partition(", ")
        if comma:
            yield changed, plain[changed.method, before, changed.seed, changed.section]


def _records(rankings: Sequence[Ranking]) -> Iterator[Record]:
    """What is said of single sections."""
    for r in rankings:
        yield Record(her2st.NAME, r.section, r.method, r.setting, r.seed, "auroc", r.auroc)
    for r, plain in _beside(rankings):
        values = {"rank_correlation": correlation(r.score, plain.score)}
        if r.setting.partition(", ")[2] in TARGETS:
            values["score_change"] = float(np.nanmax(np.abs(r.score - plain.score)))
        for metric, value in values.items():
            yield Record(her2st.NAME, r.section, r.method, r.setting, r.seed, metric, value)
    runs: dict[tuple[str, str, str], list[np.ndarray]] = defaultdict(list)
    for r in rankings:
        if "," not in r.setting and r.method != her2st.DEPTH:
            runs[r.section, r.method, r.setting].append(r.score)
    for (section, method, setting), scores in runs.items():
        if len(scores) > 1:
            value = float(np.mean([correlation(a, b) for a, b in combinations(scores, 2)]))
            yield Record(her2st.NAME, section, method, setting, 0, "seed_correlation", value)


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's, over spots that have both scores (n,)."""
    both = np.isfinite(one) & np.isfinite(other)
    return float(spearmanr(one[both], other[both])[0])


def differences(rankings: Sequence[Ranking]) -> Iterator[Record]:
    """Mean AUROC after every change minus that of the same sections without it."""
    found: dict[tuple[str, str, int], list[float]] = defaultdict(list)
    for r, plain in _beside(rankings):
        found[r.method, r.setting, r.seed].append(r.auroc - plain.auroc)
    for (method, setting, seed), values in found.items():
        yield Record(her2st.NAME, ALL, method, setting, seed, "difference", float(np.mean(values)))


def report(records: Sequence[Record]) -> str:
    """A row for every change: mean AUROC, difference, mean rank correlation, largest change of a score."""
    whole = [r for r in records if r.dataset == ALL and r.metric in ("sections", "mean_auroc", "difference")]
    frame = pd.DataFrame([r for r in records if r.dataset != ALL], columns=list(Record._fields))
    over = {"rank_correlation": "mean", "score_change": "max", "seed_correlation": "mean"}
    keys = ["benchmark", "method", "setting", "seed", "metric"]
    for metric, how in over.items():
        some = frame[frame["metric"] == metric].groupby(keys, sort=False)["value"].agg(how).reset_index()
        whole += [Record(**{**row, "dataset": ALL}) for row in some.to_dict("records")]
    return table(whole, rows="setting", mean=False)
