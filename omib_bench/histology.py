"""What H&E alone tells: encoders and stains on breast cancer, false alarms on healthy tissue, time and memory."""

import logging
import multiprocessing
import resource
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import anndata as ad
import numpy as np
import tifffile
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score

from omib_bench._records import Record, table
from omib_bench.her2st import measure
from omib_spatial import tl
from omib_spatial._keys import ANOMALY, HEALTHY, IMAGES, SPATIAL, Written
from omib_spatial.datasets import her2st
from omib_spatial.datasets import mob as read_mob
from omib_spatial.datasets._her2st import PATIENT, SECTION
from omib_spatial.datasets._mob import ANIMALS
from omib_spatial.modalities import Gene, Image, Modality
from omib_spatial.modalities.patches import Side, slides
from omib_spatial.slides import Layout, Tissue

logger = logging.getLogger("omib_spatial")

NAME = "histology"
PICTURED = ("A1", "B4", "C2", "C3")
"""Sections of her2st that have an image here."""
COLOUR = "patch colour"
SETTINGS: dict[str, dict[str, Any]] = {
    "texture, macenko": {},
    "texture, as it is": {"stain": None},
    "texture, macenko, 4 diameters": {"patch_diameter": 4.0},
    "stain, macenko": {"encoder": "stain"},
    "small, macenko": {"encoder": "small"},
    "small, as it is": {"encoder": "small", "stain": None},
    "small, macenko, augmented": {"encoder": "small", "augment": 0.1},
}
"""Arguments of `omib_spatial.modalities.Image`; the first is the default."""


def run(
    folder: str | Path,
    *,
    mob: str | Path | None = None,
    seeds: int = 3,
    settings: Mapping[str, Mapping[str, Any]] = SETTINGS,
    cost: bool = True,
    say: Callable[[str], None] = logger.info,
    **options: Any,
) -> list[Record]:
    """Score the sections with H&E by models of the other patients' healthy spots, from the image alone.

    Parameters
    ----------
    folder
        As `omib_spatial.datasets.her2st` takes it; sections `PICTURED`, leaving one patient out.
    mob
        Folder of the olfactory bulb's sections. If given, a model of one animal scores the other: all is healthy, so
        every call is a false alarm.
    seeds
        Number of seeds, 0, 1, ...
    settings
        Arguments of `omib_spatial.modalities.Image` by name.
    cost
        Measure time and memory as well (`cost_records`).
    say
        Takes one line per result.
    options
        Passed to `omib_spatial.tl.fit`.

    Returns
    -------
    Records of `omib_bench.her2st.measure` per section, setting and seed with the method ``image``; of
    ``patch colour``, a simple detector; and ``called`` and ``below_005`` (share of p-values up to .05) of mob.
    """
    adata = her2st(folder, sections=PICTURED)
    adata.obs[HEALTHY] = (adata.obs[ANOMALY] == 0).to_numpy()
    records = [row for seed in range(seeds) for row in _colour_records(adata, seed)]
    for name, arguments in settings.items():
        for seed in range(seeds):
            started = perf_counter()
            new: list[Record] = []
            for patient in adata.obs[PATIENT].cat.categories:
                given = {"seed": seed, "enable_progress_bar": False} | options
                new += _fold(adata, patient, name, {"image": Image(**arguments)}, given)
            records += new
            found = {r.dataset: r.value for r in new if r.metric == "auroc"}
            line = ", ".join(f"{section} {value:.3f}" for section, value in found.items())
            say(
                f"{name}, seed {seed}: AUROC {line}, mean {np.mean(list(found.values())):.3f} "
                f"({perf_counter() - started:.0f} s)"
            )
    if mob is not None:
        for seed in range(seeds):
            records += _false_alarms(Path(mob), {"seed": seed, "enable_progress_bar": False} | options, say)
    if cost:
        records += cost_records(say=say)
    return records


def auroc_table(records: Sequence[Record]) -> str:
    """One row per setting, one column per section and their mean; mean over seeds ± standard deviation."""
    auroc = [row for row in records if row.metric == "auroc"]
    return table([*auroc, *_means(auroc)], rows="setting", columns="dataset", mean=False)


def _means(records: Sequence[Record]) -> Iterator[Record]:
    for method, setting, seed in dict.fromkeys((r.method, r.setting, r.seed) for r in records):
        values = [r.value for r in records if (r.method, r.setting, r.seed) == (method, setting, seed)]
        yield Record(NAME, "mean", method, setting, seed, "auroc", float(np.mean(values)))


def _fold(
    adata: ad.AnnData, patient: str, name: str, modalities: Mapping[str, Modality], options: Mapping[str, Any]
) -> Iterator[Record]:
    own, key = (adata.obs[PATIENT] == patient).to_numpy(), Written()
    train, target = adata[~own].copy(), adata[own].copy()
    model = tl.fit(train, reference_key=HEALTHY, library_key=SECTION, modalities=modalities, **options)
    tl.score(target, model)
    depth = np.asarray(target.X.sum(1), float).ravel()
    for section in target.obs[SECTION].unique():
        rows = (target.obs[SECTION] == section).to_numpy()
        truth, score, called = (target.obs[column].to_numpy()[rows] for column in (ANOMALY, key.score, key.anomaly))
        for metric, value in measure(truth, score, called, depth[rows]).items():
            yield Record(NAME, section, "image", name, options["seed"], metric, value)


def patch_colour(adata: ad.AnnData) -> np.ndarray:
    """Mean, spread and 10, 50 and 90 % quantiles of red, green and blue in each spot's own square, (n_obs, 15)."""
    values = np.full((adata.n_obs, 15), np.nan)
    for slide in slides(Tissue(adata, Layout(library_key=SECTION))):
        pixels = slide.cut(slide.rows, Side(1.0), 32).reshape(len(slide.rows), 3, -1)
        quantiles = np.quantile(pixels, [0.1, 0.5, 0.9], axis=2)
        values[slide.rows] = np.hstack([pixels.mean(2), pixels.std(2), *quantiles])
    return values


def _colour_records(adata: ad.AnnData, seed: int) -> list[Record]:
    """Mahalanobis distance of `patch_colour` from the other patients' healthy spots; the same for every seed."""
    colour, records = patch_colour(adata), []
    for section in PICTURED:
        here = (adata.obs[SECTION] == section).to_numpy()
        other = (adata.obs[PATIENT] != adata.obs.loc[here, PATIENT].iloc[0]).to_numpy()
        reference = colour[other & adata.obs[HEALTHY].to_numpy()]
        centre, spread = reference.mean(0), reference.std(0)
        distance = LedoitWolf().fit((reference - centre) / spread).mahalanobis((colour[here] - centre) / spread)
        truth = adata.obs[ANOMALY].to_numpy()[here]
        auroc = float(roc_auc_score(truth[truth >= 0], distance[truth >= 0]))
        records.append(Record(NAME, section, COLOUR, COLOUR, seed, "auroc", auroc))
    return records


def _false_alarms(folder: Path, options: Mapping[str, Any], say: Callable[[str], None]) -> Iterator[Record]:
    """Share of healthy spots of one animal that a model of the other calls."""
    key = Written()
    for fitted, scored in (ANIMALS, ANIMALS[::-1]):
        for setting in ("gene", "image", "gene+image"):
            modalities: dict[str, Modality] = {"gene": Gene(), "image": Image()}
            chosen = {name: modalities[name] for name in setting.split("+")}
            train, target = (read_mob(folder, sections=sections) for sections in (fitted, scored))
            model = tl.fit(train, library_key=SECTION, modalities=chosen, all_healthy=True, **options)
            tl.score(target, model)
            for section in scored:
                some = target.obs[(target.obs[SECTION] == section).to_numpy()]
                values = {"called": some[key.anomaly].mean(), "below_005": (some[key.pvalue] <= 0.05).mean()}
                for metric, value in values.items():
                    yield Record(NAME, section, "mob", setting, options["seed"], metric, float(value))
                say(
                    f"mob, {setting}, seed {options['seed']}: {values['called']:.1%} of {section} called by a model of "
                    f"{' and '.join(fitted)}, {values['below_005']:.1%} with p up to .05"
                )


def cost_records(
    *,
    n_spots: int = 5000,
    patch_size: int = 224,
    sides: Sequence[int] = (8192, 16384),
    say: Callable[[str], None] = logger.info,
) -> Iterator[Record]:
    """Time and memory of the default encoder's features, from a tiled TIFF on disk.

    Each slide is read in a process of its own, whose memory beyond that of a first run on 100 spots is counted.

    Parameters
    ----------
    n_spots, patch_size
        Spots on the slide, and pixels along the side of their patches.
    sides
        Pixels along the side of each slide; the spots are the same in number and size.
    say
        Takes one line per slide.
    """
    for side in sides:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "slide.tif"
            _write_slide(path, side)
            context = multiprocessing.get_context("spawn")
            with context.Pool(1) as pool:
                found = pool.apply(_features_of, (str(path), side, n_spots, patch_size))
        setting = f"{n_spots} spots, {patch_size} pixels"
        for metric, value in found.items():
            yield Record(NAME, f"slide of {side} x {side}", "texture", setting, 0, metric, value)
        say(
            f"features of {n_spots} spots at {patch_size} pixels on a slide of {side} x {side}: "
            f"{found['seconds']:.0f} s, {found['cpu_seconds']:.0f} s of processor time, "
            f"{found['peak_rss_bytes'] / 2**20:.0f} MiB more than before"
        )


def _write_slide(path: Path, side: int, tile: int = 512) -> None:
    """A slide of pink and violet speckle; one tile at a time."""
    rng = np.random.default_rng(0)
    stain = np.where(rng.random((tile, tile, 1)) < 0.3, (90, 60, 140), (220, 160, 200))
    speckle = (stain + rng.normal(0, 8, (tile, tile, 3))).clip(0, 255).astype(np.uint8)
    tiles = (speckle for _ in range((-(-side // tile)) ** 2))
    shape = (side, side, 3)
    options: dict[str, Any] = {"photometric": "rgb", "compression": "zlib"}
    tifffile.imwrite(path, tiles, shape=shape, dtype=np.uint8, tile=(tile, tile), **options)


def _features_of(path: str, side: int, n_spots: int, patch_size: int) -> dict[str, float]:
    """Time, and growth of peak memory in bytes, that the features of one slide took."""
    rng = np.random.default_rng(0)
    factors = {"spot_diameter_fullres": 100.0, "tissue_fullres_scalef": 1.0}

    def slide(n: int) -> ad.AnnData:
        adata = ad.AnnData(obsm={SPATIAL: rng.uniform(0, side, (n, 2))})
        adata.uns[SPATIAL] = {"slide": {IMAGES: {"fullres": path}, "scalefactors": factors}}
        return adata

    layout = Layout(image_key="fullres")
    # Libraries load and threads start on a first small run.
    Image(patch_size=patch_size).fit(Tissue(slide(100), layout), np.ones(100, bool))
    peak, started, busy = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, perf_counter(), process_time()
    Image(patch_size=patch_size).fit(Tissue(slide(n_spots), layout), np.ones(n_spots, bool))
    return {
        "seconds": perf_counter() - started,
        "cpu_seconds": process_time() - busy,
        "peak_rss_bytes": 1024.0 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak),
    }
