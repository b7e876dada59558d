"""Clones: which called spots descend from one cell, and the chromosome arms that it had gained or lost."""

import logging

import numpy as np
import pandas as pd
from anndata import AnnData

from omib_spatial._checked import Count, Flag, InnerShare, Key, KeyAdded, Seed
from omib_spatial._colours import group_colours
from omib_spatial._keys import ABNORMAL, NOT_CALLED, Written
from omib_spatial._threads import few_threads
from omib_spatial._warn import warn
from omib_spatial.modalities.clone_evidence import called_spots
from omib_spatial.modalities.genome import Genome
from omib_spatial.slides import Layout, Tissue
from omib_spatial.slides import validation as check
from omib_spatial.slides.results import check_results, recorded_layout
from omib_spatial.slides.slides import library_codes, named
from omib_spatial.stats.clones import CalledSpots, Clones, find_clones
from omib_spatial.tl._spatialdata import accepts_spatialdata

logger = logging.getLogger("omib_spatial")

MIN_CALLED = 20
"""Called spots of a patient at least."""
MIN_HEALTHY = 20
"""Spots that are not called at least, for a slice to be compared with itself."""


@accepts_spatialdata
@few_threads
def clones(
    adata: AnnData,
    *,
    key_added: KeyAdded = "omib",
    patient_key: Key | None = None,
    library_key: Key | None = None,
    layer: Key | None = None,
    max_clones: Count = 6,
    fdr: InnerShare = 0.05,
    seed: Seed = 0,
    table_key: Key = "table",
    copy: Flag = False,
) -> AnnData | None:
    """Group called spots by their genome profiles, across the slices of a patient, and list the arms of each group.

    Spots are compared with the spots of their slice that are not called; where these are fewer than 20, with those of
    the patient's other slices, or else with all that are not called. A patient has as many clones as differ in genes
    that had no part in forming them (`omib_spatial.stats.clones.find_clones`); one if no larger number does. Two clones
    of which one has a part of the other's arms, all to the same part of their strength, cannot be told from one with
    fewer tumour cells per spot.

    Parameters
    ----------
    adata
        Raw counts, scored with the modality ``"genome"``, and called.
    key_added
        Name under which results were stored.
    patient_key
        ``obs`` column of patients. None takes every slice as a patient of its own.
    library_key
        ``obs`` column of slices. None takes the one that was scored with, if there was one.
    layer
        Layer with raw counts. None takes the one that was scored with.
    max_clones
        Of each patient, at most.
    fdr
        Expected share of false ones among the arms that are called gained or lost, of each patient.
    seed
        Of the clustering.
    table_key
        Table of a SpatialData that is read and written.
    copy
        Return a copy with the results and leave ``adata`` as it is.

    Returns
    -------
    None, or the copy. Writes

    ``obs[f"{key_added}_clone"]``
        Categorical, ``"clone 1"`` the largest, ``"P1 clone 1"`` where there are several patients; missing where a spot
        is not called, has no counts, or its patient has too few called spots. Colours are in ``uns``.
    ``uns[f"{key_added}_clones"]``
        Table of all arms of all clones: ``clone``, ``patient``, ``arm``, ``log2_ratio`` (to healthy tissue, relative to
        the median gene: .58 is one copy more in every cell), ``standard_error``, ``pvalue``, ``pvalue_adjusted``
        (Benjamini-Hochberg over the patient), ``call`` (``"gain"``, ``"loss"`` or ``"none"``), ``n_spots``, ``slices``.

    Raises
    ------
    KeyError
        The genome was not scored, nothing was called, or a column does not exist.
    ValueError
        No patient has enough called spots, or none of the spots is not called; counts that are no raw counts.

    Warns
    -----
    UserWarning
        Patients with too few called spots.

    References
    ----------
    Tirosh et al. 2016 (expression along the genome); Tibshirani & Walther 2005 (number of clusters by splitting
    data).

    Examples
    --------
    >>> omib.tl.call(adata, question="part")
    >>> omib.tl.clones(adata)
    >>> list(adata.uns["omib_clones"].columns[:4])
    ['clone', 'patient', 'arm', 'log2_ratio']
    """
    check.require_anndata(adata)
    adata = adata.copy() if copy else adata
    check.refuse_view(adata)
    check_results(adata, key_added)
    keys = Written(key_added)
    layout = _layout(adata, keys, library_key, layer)
    check.require_column(adata, patient_key, "patient_key")
    tissue = Tissue(adata, layout)
    Genome().check(tissue, required=True)
    called, healthy = _called(adata, keys, tissue.depth > 0)
    codes, patients = (tissue.codes, tissue.libraries) if patient_key is None else library_codes(adata, patient_key)
    enough = np.bincount(codes[called], minlength=len(patients)) >= MIN_CALLED
    _refuse_few(codes[called], patients, enough, healthy)
    labels, categories, tables = np.full(adata.n_obs, -1), list[str](), list[pd.DataFrame]()
    for code in np.flatnonzero(enough):
        patient, own = patients[code], called & (codes == code)
        evidence = _evidence(tissue, own, healthy, codes == code)
        found = find_clones(evidence, max_clones=max_clones, fdr=fdr, seed=seed)
        labels[own] = len(categories) + found.clone
        prefix = f"{patient} " if len(patients) > 1 else ""
        names = [f"{prefix}clone {number + 1}" for number in range(found.clone.max() + 1)]
        tables.append(_table(found, names, patient, np.array(tissue.libraries)[tissue.codes[own]], fdr))
        categories += names
        _say(tables[-1], patient)
    adata.obs[keys.clone] = pd.Categorical.from_codes(labels, categories)
    adata.uns[f"{keys.clone}_colors"] = group_colours(categories)
    adata.uns[keys.clones] = pd.concat(tables, ignore_index=True)
    logger.info("Added obs['%s'] and uns['%s'].", keys.clone, keys.clones)
    return adata if copy else None


def _layout(adata: AnnData, keys: Written, library_key: str | None, layer: str | None) -> Layout:
    """Where ``adata`` was scored, but for what the user says."""
    if keys.drawn("genome") not in adata.obsm or keys.uns not in adata.uns:
        raise KeyError(
            f"obsm[{keys.drawn('genome')!r}] does not exist: clones need the genome. Fit or score with a model that "
            "has the modality 'genome', or pass the key_added= of such a run."
        )
    return recorded_layout(adata, keys.uns, layer=layer, library_key=library_key)


def _called(adata: AnnData, keys: Written, counted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Spots that are called and that are not, (n_obs,) bool each, of those that are ``counted``."""
    if keys.call not in adata.obs:
        raise KeyError(f"obs[{keys.call!r}] does not exist: call spots first, with omib_spatial.tl.call.")
    column = adata.obs[keys.call].astype(object)
    if strange := set(column.dropna()) - {ABNORMAL, NOT_CALLED}:
        raise ValueError(
            f"obs[{keys.call!r}] holds {sorted(map(str, strange))}, not {ABNORMAL!r} and {NOT_CALLED!r}: call spots "
            "again, with omib_spatial.tl.call."
        )
    return (column == ABNORMAL).to_numpy(bool) & counted, (column == NOT_CALLED).to_numpy(bool) & counted


def _refuse_few(codes: np.ndarray, patients: list[str], enough: np.ndarray, healthy: np.ndarray) -> None:
    """Raise where no patient has enough called spots or no spot is healthy; warn of patients with too few.

    Parameters
    ----------
    codes
        Patient of each called spot.
    patients
        Their names.
    enough
        Which have enough, (n_patients,) bool.
    healthy
        Spots that are not called, (n_obs,) bool.
    """
    number = np.bincount(codes, minlength=len(patients))
    if not enough.any():
        raise ValueError(
            f"{MIN_CALLED} called spots of one patient are needed, and there are {number.max(initial=0)} at most: ask "
            "which part it is by omib_spatial.tl.call(adata, question='part'), or put slices of one patient into one "
            "AnnData and name the patients with patient_key=, so that they count together."
        )
    if healthy.sum() < MIN_HEALTHY:
        raise ValueError(
            f"{healthy.sum()} spots are not called, and {MIN_HEALTHY} are needed to compare clones with: score healthy "
            "slides in the same AnnData."
        )
    few = (number > 0) & ~enough
    if few.any():
        warn(f"No clones of {named(patients, few)}: fewer than {MIN_CALLED} of their spots are called.")


def _evidence(tissue: Tissue, called: np.ndarray, healthy: np.ndarray, own: np.ndarray) -> CalledSpots:
    """Called spots of one patient and the healthy spots that each of their slices is compared with.

    Parameters
    ----------
    tissue
        All spots.
    called
        Of this patient, (n_obs,) bool.
    healthy
        Not called, of all patients, (n_obs,) bool.
    own
        Spots of this patient, (n_obs,) bool.
    """
    compared: dict[str, np.ndarray] = {}
    for code in np.unique(tissue.codes[called]):
        ways = {"itself": healthy & (tissue.codes == code), "the patient's other slices": healthy & own}
        where, rows = next(
            ((where, mask) for where, mask in ways.items() if mask.sum() >= MIN_HEALTHY), ("other patients", healthy)
        )
        compared[tissue.libraries[code]] = rows
        if where != "itself":
            logger.info(
                "Slice %r has fewer than %d spots that are not called: it is compared with %s.",
                tissue.libraries[code],
                MIN_HEALTHY,
                where,
            )
    kept = called | np.any(list(compared.values()), axis=0)
    part = tissue if kept.all() else Tissue(tissue.adata[kept], tissue.layout)
    rows_of = {part.libraries.index(name): np.flatnonzero(rows[kept]) for name, rows in compared.items()}
    return called_spots(part, called[kept], rows_of)


def _table(found: Clones, names: list[str], patient: str, slices: np.ndarray, fdr: float) -> pd.DataFrame:
    """All arms of a patient's clones.

    Parameters
    ----------
    found
        Clones of the patient.
    names
        Of each.
    patient
        Name.
    slices
        Slice of each of the patient's called spots, (n,).
    fdr
        Below which an adjusted p-value is a call.
    """
    effects, shape = found.effects, found.effects.log_ratio.shape
    adjusted = effects.adjusted_pvalue.ravel()
    ratio = effects.log_ratio.ravel() / np.log(2)
    on = [", ".join(dict.fromkeys(slices[found.clone == number])) for number in range(len(names))]
    called = np.where(adjusted > fdr, "none", np.where(ratio > 0, "gain", "loss"))
    return pd.DataFrame(
        {
            "clone": np.repeat(np.array(names, object), shape[1]),
            "patient": patient,
            "arm": np.tile(effects.arms.astype(object), shape[0]),
            "log2_ratio": ratio,
            "standard_error": effects.standard_error.ravel() / np.log(2),
            "pvalue": effects.pvalue.ravel(),
            "pvalue_adjusted": adjusted,
            "call": called.astype(object),
            "n_spots": np.repeat(np.bincount(found.clone, minlength=len(names)), shape[1]),
            "slices": np.repeat(np.array(on, object), shape[1]),
        }
    )


def _say(table: pd.DataFrame, patient: str) -> None:
    """One line of the log for each clone, or a warning where no arm could be judged."""
    if table.empty:
        warn(f"{patient!r}: the called spots have too few molecules for any arm to be judged; they are one clone.")
    for name, rows in table.groupby("clone", sort=False):
        arms = [f"{arm} {call}" for arm, call in zip(rows["arm"], rows["call"], strict=True) if call != "none"]
        logger.info("%s: %d spots, %s.", name, rows["n_spots"].iloc[0], ", ".join(arms) or "no arm gained or lost")
