"""What simple detectors reach on the same folds: the rows that a new method must leave below."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from anndata import AnnData
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import NearestNeighbors

from omib_spatial._keys import ANOMALY
from omib_spatial.datasets._her2st import PATIENT, SECTION
from omib_spatial.modalities.gene import variable_genes
from omib_spatial.modalities.genome import genes_in_order
from omib_spatial.modalities.patches import extract_patches
from omib_spatial.slides import Layout, Tissue
from omib_spatial.slides.rows import log_normalise
from omib_spatial.slides.slides import library_codes
from omib_spatial.slides.validation import check_images
from omib_spatial.stats.contiguity import windows
from omib_spatial.stats.smooth import walk

LAYOUT = Layout(library_key=SECTION)
EXPRESSION = "expression, PCA-{}, {} hops"
GENOME = "genome windows, PCA-40, {} hops"
COUNTS = "total counts"
LABELS = "logistic regression, with labels"
LABELLED = [EXPRESSION.format(30, hops) for hops in (0, 1, 2)]
"""Features that logistic regression is given."""
N_GENES = 3000
CLIP, GENOME_CLIP = 5.0, 3.0
"""Scaled expression is held within this many standard deviations."""

Detector = Callable[[np.ndarray, np.ndarray, int], np.ndarray]
"""Training features (n, p), others (m, p), and a seed, to scores (m,); higher is more anomalous."""


class Row(NamedTuple):
    """Scores of one detector for the held-out patient's spots (m,), NaN where it has none."""

    method: str
    setting: str
    seed: int
    score: np.ndarray


class Fold(NamedTuple):
    """One held-out patient: masks (n_obs,) of the others' healthy spots, their labelled spots, and the patient's."""

    normal: np.ndarray
    labelled: np.ndarray
    target: np.ndarray


def mahalanobis(train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    """Squared distance under Ledoit & Wolf's covariance."""
    return LedoitWolf().fit(train).mahalanobis(test)


def neighbours(train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    """Mean distance to the five nearest."""
    return NearestNeighbors(n_neighbors=5).fit(train).kneighbors(test)[0].mean(1)


def mixture(train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    """Negative log likelihood under five Gaussians."""
    scale = train.std(0) + 1e-6
    model = GaussianMixture(5, reg_covar=0.1, random_state=seed).fit(train / scale)
    return -model.score_samples(test / scale)


PLAIN: dict[str, Detector] = {"Mahalanobis": mahalanobis, "kNN": neighbours, "GMM": mixture}
SEEDED = {"GMM", "IForest", "DeepSVDD", "AutoEncoder"}
"""Detectors whose result depends on the seed; the others run once."""


def pyod_detectors() -> dict[str, Detector]:
    """PyOD's detectors with its own settings.

    Raises
    ------
    ImportError
        PyOD is not installed.
    """
    try:
        from pyod.models.auto_encoder import AutoEncoder
        from pyod.models.deep_svdd import DeepSVDD
        from pyod.models.ecod import ECOD
        from pyod.models.iforest import IForest
        from pyod.models.lof import LOF
        from pyod.models.ocsvm import OCSVM
    except ImportError as error:
        raise ImportError("PyOD is missing: pip install 'omib-spatial[bench]'.") from error
    makers: dict[str, Callable[[int, int], Any]] = {
        "IForest": lambda width, seed: IForest(random_state=seed),
        "ECOD": lambda width, seed: ECOD(),
        "LOF": lambda width, seed: LOF(novelty=True),
        "OCSVM": lambda width, seed: OCSVM(),
        "DeepSVDD": lambda width, seed: DeepSVDD(n_features=width, random_state=seed, verbose=0),
        "AutoEncoder": lambda width, seed: AutoEncoder(random_state=seed, verbose=0),
    }

    def detector(make: Callable[[int, int], Any]) -> Detector:
        return lambda train, test, seed: make(train.shape[1], seed).fit(train).decision_function(test)

    return {name: detector(make) for name, make in makers.items()}


class Features:
    """Features of all spots that do not depend on the fold.

    Parameters
    ----------
    adata
        As `omib_spatial.datasets.her2st` reads it.
    """

    def __init__(self, adata: AnnData) -> None:
        self.adata = adata
        counts = sp.csr_matrix(adata.X)
        self.depth = np.asarray(counts.sum(1), np.float64).ravel()
        self.log = log_normalise(counts, self.depth, float(np.median(self.depth)))
        self.seen = np.flatnonzero(np.asarray((counts > 0).mean(0)).ravel() > 0.03)
        self.step = walk(Tissue(adata, LAYOUT).graph, 1)
        self.colour = colour(adata)

    def smooth(self, values: Any, hops: int) -> np.ndarray:
        """Average (n_obs, p) ``values`` over neighbours, ``hops`` times."""
        for _ in range(hops):
            values = self.step @ values
        return values.toarray() if sp.issparse(values) else values

    def scaled(self, hops: int, normal: np.ndarray, genes: np.ndarray, clip: float) -> np.ndarray:
        """(n_obs, len(genes)) smoothed log expression, scaled by ``normal`` spots.

        Parameters
        ----------
        hops
            How many times expression is averaged over neighbours.
        normal
            Healthy spots, (n_obs,) bool; a gene is scaled by their mean and standard deviation, 0.1 added to this.
        genes
            Positions in ``var``, (m,).
        clip
            Scaled values are held within this many standard deviations.
        """
        values = self.smooth(self.log[:, genes], hops)
        return np.clip((values - values[normal].mean(0)) / (values[normal].std(0) + 0.1), -clip, clip)

    def variable(self, normal: np.ndarray) -> np.ndarray:
        """Positions of the `N_GENES` most variable genes within the sections' ``normal`` spots."""
        codes, _ = library_codes(self.adata, SECTION)
        return variable_genes(self.log[normal], codes[normal], N_GENES, 1)

    def along_genome(self, scaled: np.ndarray) -> np.ndarray:
        """(n_obs, windows) moving averages of 101 genes, centred per spot; ``scaled`` has the genes that are `seen`."""
        var = self.adata.var.iloc[self.seen]
        placed = genes_in_order(var, ("Y", "M", "MT"))
        members = windows(placed["chromosome"].tolist(), 101)
        members = members @ sp.diags_array(1 / np.asarray(members.sum(0)).ravel())
        found = scaled[:, var.index.get_indexer(placed.index)] @ members
        return found - np.median(found, 1, keepdims=True)


def colour(adata: AnnData) -> np.ndarray:
    """(n_obs, 15) mean, spread and 10, 50 and 90 % quantile of each colour of a spot's patch, NaN without an image."""
    found = np.full((adata.n_obs, 15), np.nan)
    if not check_images(adata, library_key=SECTION, required=False):
        return found
    patches = extract_patches(adata, library_key=SECTION, patch_diameter=1.0)
    pixels = patches.pixels[patches.present].reshape(int(patches.present.sum()), 3, -1).astype(np.float64)
    quantiles = np.quantile(pixels, [0.1, 0.5, 0.9], axis=2).transpose(1, 0, 2)
    found[patches.present] = np.concatenate([pixels.mean(2), pixels.std(2), quantiles.reshape(len(pixels), -1)], axis=1)
    return found


def fold(adata: AnnData, patient: str) -> Fold:
    """Who is learned from, and who is scored, where ``patient`` is held out."""
    truth, own = adata.obs[ANOMALY].to_numpy(), (adata.obs[PATIENT] == patient).to_numpy()
    return Fold(~own & (truth == 0), ~own & (truth >= 0), own)


def rows(tissue: Features, fold: Fold, seeds: int) -> Iterator[Row]:
    """All detectors on all features, for one held-out patient."""
    target = fold.target
    yield Row(COUNTS, "raw", 0, tissue.depth[target])
    for hops in (1, 2):
        yield Row(COUNTS, f"{hops} hops", 0, tissue.smooth(tissue.depth, hops)[target])
    everyone, labelled = PLAIN | pyod_detectors(), list[Row]()
    truth = tissue.adata.obs[ANOMALY].to_numpy()[fold.labelled]
    for setting, values in features(tissue, fold.normal):
        train, test = values[fold.normal], values[target]
        known, there = np.isfinite(train).all(1), np.isfinite(test).all(1)
        if known.sum() > 50 and there.any():
            train = train[known]
            for method, seed, score in found(everyone, train, test[there], seeds):
                full = np.full(len(test), np.nan)
                full[there] = score
                yield Row(method, setting, seed, full)
        if setting in LABELLED:
            model = LogisticRegression(C=0.01, max_iter=500).fit(values[fold.labelled], truth)
            labelled.append(Row(LABELS, setting, 0, model.decision_function(test)))
    yield from labelled


def features(tissue: Features, normal: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Features (n_obs, p) by name."""
    variable = tissue.variable(normal)
    for hops in (0, 1, 2):
        scaled = tissue.scaled(hops, normal, variable, CLIP)
        for width in (10, 30):
            yield EXPRESSION.format(width, hops), principal(scaled, normal, width)
        if hops:
            along = tissue.along_genome(tissue.scaled(hops, normal, tissue.seen, GENOME_CLIP))
            along = (along - along[normal].mean(0)) / (along[normal].std(0) + 1e-3)
            yield GENOME.format(hops), principal(along, normal, 40)
    known = normal & np.isfinite(tissue.colour).all(1)
    if known.any():
        spread = tissue.colour[known].std(0) + 1e-6
        yield "patch colour", (tissue.colour - tissue.colour[known].mean(0)) / spread


def found(
    detectors: Mapping[str, Detector], train: np.ndarray, test: np.ndarray, seeds: int
) -> Iterator[tuple[str, int, np.ndarray]]:
    """Name, seed and scores of each detector.

    Parameters
    ----------
    detectors
        By name.
    train, test
        Features to learn from (n, p) and to score (m, p), without NaN.
    seeds
        Number of seeds, 0, 1, ..., of those in `SEEDED`; of the others 0 alone.

    Yields
    ------
    Name, seed, and scores (m,); higher is more anomalous.
    """
    for name, detect in detectors.items():
        for seed in range(seeds if name in SEEDED else 1):
            yield name, seed, detect(train, test, seed)


def principal(values: np.ndarray, normal: np.ndarray, width: int) -> np.ndarray:
    """Principal components of ``normal`` spots, for all."""
    width = min(width, *values[normal].shape)
    return PCA(width, random_state=0).fit(values[normal]).transform(values)
