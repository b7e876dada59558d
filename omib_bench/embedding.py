"""What the fused code is worth as an embedding: clusters, transfer of labels, mixing of sections."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import scanpy as sc
from anndata import AnnData
from scipy import sparse
from sklearn.metrics import adjusted_rand_score, balanced_accuracy_score, normalized_mutual_info_score
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from omib_bench._records import Record, tables
from omib_bench.her2st import learned, others, read
from omib_spatial import tl
from omib_spatial._keys import HEALTHY, Written
from omib_spatial.datasets._her2st import PATIENT, SECTION
from omib_spatial.slides import Layout, Tissue
from omib_spatial.stats.smooth import walk

logger = logging.getLogger("omib_spatial")

NAME = "embedding"
LABEL = "label"
"""``obs`` column of the pathologist's regions."""
UNKNOWN = ("undetermined", "unlabelled")
N_NEIGHBORS = 15
N_COMPS = 20
OURS, OURS_SMOOTH, OURS_GRAPH = "X_omib", "X_omib, averaged over a ring", "X_omib, and the spatial graph"
PCA_GRAPH = "PCA, and the spatial graph"
"""As squidpy's tutorials do it: Leiden on the mean of both graphs."""
SPATIAL_GRAPH = (OURS_GRAPH, PCA_GRAPH)


def run(
    folder: str | Path,
    *,
    seeds: int = 3,
    scvi: bool = True,
    say: Callable[[str], None] = logger.info,
    **options: Any,
) -> list[Record]:
    """Compare ``obsm["X_omib"]`` with what is made of expression alone, on sections of a patient who was left out.

    Clusters are Leiden's, on 15 neighbours, at a resolution that gives as many clusters as the pathologist has regions
    in the section. Labels are used to measure, and for that number.

    Parameters
    ----------
    folder
        As `omib_spatial.datasets.her2st` takes it.
    seeds
        Number of seeds, 0, 1, ...
    scvi
        Whether scVI is compared, where scvi-tools is installed.
    say
        Takes one line per patient and seed.
    options
        Passed to `omib_spatial.tl.fit`.

    Returns
    -------
    Records per section: ``ari`` and ``nmi`` of the clusters with the regions; of sections of patients with several,
    ``transfer`` (balanced accuracy of the regions by 15 nearest neighbours in the patient's other sections) and
    ``mixing`` (share of a spot's 15 neighbours that are of other sections, by the share that chance gives; 1 is well
    mixed).

    Raises
    ------
    FileNotFoundError, KeyError, ValueError
        As `omib_spatial.datasets.her2st` and `omib_spatial.tl.fit`.
    """
    adata, patients = read(folder)
    records: list[Record] = []
    for seed in range(seeds):
        for patient in patients:
            started = perf_counter()
            target = adata[(adata.obs[PATIENT] == patient).to_numpy()].copy()
            given = {"seed": seed, "enable_progress_bar": False, "donor_key": PATIENT, "reference_key": HEALTHY}
            tl.score(target, learned(others(adata, patient), "gene+image+genome", given | options))
            graph = Tissue(target, Layout(library_key=SECTION)).graph
            for method, values in embeddings(target, graph, seed, scvi=scvi).items():
                records += list(measure(target, graph, values, method, seed))
            say(f"patient {patient}, seed {seed} ({perf_counter() - started:.0f} s)")
    return records


def embeddings(adata: AnnData, graph: sparse.csr_matrix, seed: int, *, scvi: bool) -> dict[str, np.ndarray]:
    """By method, (n_obs, k): the code that ``adata`` was scored with, and embeddings of its expression.

    Parameters
    ----------
    adata
        Scored, raw counts.
    graph
        Spatial neighbours, (n_obs, n_obs).
    seed
        Of scVI.
    scvi
        Whether scVI is there and wanted.
    """
    own = adata.copy()
    sc.pp.normalize_total(own)
    sc.pp.log1p(own)
    sc.pp.highly_variable_genes(own, n_top_genes=2000)
    chosen = own.var["highly_variable"].to_numpy()
    own = own[:, chosen].copy()
    sc.pp.scale(own, max_value=10)
    values, code = np.asarray(own.X), adata.obsm[Written().embedding]
    found = {
        OURS: code,
        OURS_SMOOTH: walk(graph, 1) @ code,
        "PCA": _pca(values),
        "PCA, averaged over a ring": _pca(walk(graph, 1) @ values),
        "PCA, averaged over two rings": _pca(walk(graph, 2) @ values),
    }
    found |= {OURS_GRAPH: code, PCA_GRAPH: found["PCA"]}
    if scvi and (latent := _scvi(adata[:, chosen].copy(), seed)) is not None:
        found["scVI"] = latent
    return found


def _pca(values: np.ndarray) -> np.ndarray:
    return np.asarray(sc.pp.pca(values, n_comps=N_COMPS, random_state=0))


def _scvi(adata: AnnData, seed: int) -> np.ndarray | None:
    """Latent space of scVI with its own settings, sections as batches; None where it is not installed."""
    try:
        import scvi
    except ImportError:
        logger.warning("scvi-tools is not installed: scVI is left out. pip install 'omib-spatial[bench]' has it.")
        return None
    scvi.settings.seed = seed
    scvi.model.SCVI.setup_anndata(adata, batch_key=SECTION if adata.obs[SECTION].nunique() > 1 else None)
    model = scvi.model.SCVI(adata)
    model.train(accelerator="cpu", enable_progress_bar=False)
    return np.asarray(model.get_latent_representation())


def measure(adata: AnnData, graph: sparse.csr_matrix, values: np.ndarray, method: str, seed: int) -> Iterator[Record]:
    """Records of one embedding, as by `run`.

    Parameters
    ----------
    adata
        Sections of one patient, with the regions.
    graph
        Spatial neighbours, (n_obs, n_obs).
    values
        (n_obs, k), NaN of spots without a code.
    method
        Of the records.
    seed
        Of the clusters.
    """
    label, section = adata.obs[LABEL].astype(str).to_numpy(), adata.obs[SECTION].astype(str).to_numpy()
    there = np.isfinite(values).all(1)
    known = there & ~np.isin(label, UNKNOWN)
    names = list(dict.fromkeys(section))
    for name in names:
        rows = np.flatnonzero(there & (section == name))
        spatial = graph[rows][:, rows] if method in SPATIAL_GRAPH else None
        marked = known[rows]
        cluster = clusters(values[rows], len(set(label[rows][marked])), seed, spatial)[marked]
        found = {
            "ari": adjusted_rand_score(label[rows][marked], cluster),
            "nmi": normalized_mutual_info_score(label[rows][marked], cluster),
        }
        own, other = known & (section == name), known & (section != name)
        if len(names) > 1 and method not in SPATIAL_GRAPH:
            nearest = KNeighborsClassifier(N_NEIGHBORS).fit(values[other], label[other])
            found["transfer"] = balanced_accuracy_score(label[own], nearest.predict(values[own]))
            found["mixing"] = mixing(values[known], section[known], name)
        for metric, value in found.items():
            yield Record(NAME, name, method, "", seed, metric, float(value))


def clusters(values: np.ndarray, n: int, seed: int, spatial: sparse.csr_matrix | None = None) -> np.ndarray:
    """Leiden clusters (n_obs,) at the resolution, found by bisection, that gives ``n`` of them, or nearly.

    Parameters
    ----------
    values
        (n_obs, k).
    n
        Clusters that are wanted.
    seed
        Of neighbours and clusters.
    spatial
        A graph (n_obs, n_obs) that is averaged with that of the nearest neighbours.
    """
    adata = AnnData(np.zeros((len(values), 1), np.float32), obsm={"X": values.astype(np.float32)})
    sc.pp.neighbors(adata, use_rep="X", n_neighbors=min(N_NEIGHBORS, len(values) - 1), random_state=seed)
    adjacency = adata.obsp["connectivities"]
    if spatial is not None:
        adjacency = sparse.csr_matrix((adjacency + spatial.astype(adjacency.dtype)) / 2)
    low, high, best = 0.01, 3.0, np.zeros(len(values), int)
    for _ in range(12):
        resolution = (low + high) / 2
        options = {"flavor": "igraph", "n_iterations": 2, "directed": False}
        sc.tl.leiden(adata, resolution, adjacency=adjacency, random_state=seed, **options)
        best = adata.obs["leiden"].cat.codes.to_numpy()
        if (count := best.max() + 1) == n:
            break
        low, high = (resolution, high) if count < n else (low, resolution)
    return best


def mixing(values: np.ndarray, section: np.ndarray, name: str) -> float:
    """Share of the neighbours of a section's spots that are of other sections, by what chance gives.

    Parameters
    ----------
    values, section
        Of all spots of a patient, (n, k) and (n,).
    name
        Of the section.
    """
    near = NearestNeighbors(n_neighbors=N_NEIGHBORS + 1).fit(values).kneighbors(values[section == name])[1][:, 1:]
    return float((section[near] != name).mean() / (section != name).mean())


def report(records: list[Record]) -> str:
    """A table per embedding, a row per section."""
    return tables(records)
