"""What a run writes into an AnnData."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from omib_spatial._keys import CLASSES, Written
from omib_spatial._version import __version__
from omib_spatial.detector.model import AnomalyModel
from omib_spatial.detector.scoring import Scores, SliceGroups
from omib_spatial.modalities import Spots
from omib_spatial.slides import Layout
from omib_spatial.slides.results import recorded_params
from omib_spatial.tl._call import write_calls

logger = logging.getLogger("omib_spatial")


def write(
    adata: AnnData,
    model: AnomalyModel,
    layout: Layout,
    spots: Spots,
    scores: Scores,
    key_added: str,
    slides: Mapping[str, Any] | None = None,
) -> None:
    """Put results into ``adata``: the last step, so that nothing is written when anything fails.

    Parameters
    ----------
    adata
        What was scored.
    model
        By which.
    layout
        Where ``adata`` was read.
    spots, scores
        What was prepared and found, of all spots.
    key_added
        Prefix of the keys.
    slides
        What else is kept in ``uns``, of slides as a whole.
    """
    with unchanged_on_error(adata):
        _write(adata, model, layout, spots, scores, Written(key_added), dict(slides or {}))


@contextmanager
def unchanged_on_error(adata: AnnData) -> Iterator[None]:
    """Give ``adata`` its ``obs``, ``obsm``, ``layers`` and ``uns`` back as they were where anything fails."""
    obs, obsm, layers, uns = adata.obs.copy(deep=False), dict(adata.obsm), dict(adata.layers), dict(adata.uns)
    try:
        yield
    except BaseException:
        adata.obs, adata.obsm, adata.layers, adata.uns = obs, obsm, layers, uns
        raise


def remove_results(adata: AnnData, keys: Written) -> None:
    """Remove what an earlier run wrote and this one may not write again: labels, probabilities, explanations, ..."""
    drawn = [keys.drawn(str(name)) for name in recorded_params(adata.uns, keys.uns).get("modalities", ())]
    for key in (keys.probability, keys.contributions, keys.deviation, *drawn):
        adata.obsm.pop(key, None)
    adata.layers.pop(keys.gene_contributions, None)
    adata.uns.pop(keys.patch_contributions, None)
    if keys.label in adata.obs:
        del adata.obs[keys.label]
    adata.uns.pop(f"{keys.label}_colors", None)


def _write(
    adata: AnnData,
    model: AnomalyModel,
    layout: Layout,
    spots: Spots,
    scores: Scores,
    keys: Written,
    slides: Mapping[str, Any],
) -> None:
    remove_results(adata, keys)
    adata.obsm[keys.embedding] = scores.embedding
    adata.obs[keys.score] = scores.score
    adata.obs[keys.pvalue] = scores.pvalue
    adata.obs[keys.slice_pvalue] = scores.slice_pvalue
    adata.obs[keys.modalities] = pd.Categorical([name or None for name in scores.modalities])
    adata.uns[keys.uns] = run_record(model, layout) | {"groups": group_table(scores.groups)} | dict(slides)
    # What later steps take where nothing else is asked for.
    hops = max((group.pooling_hops for group in scores.groups), default=model.calibration.pooling_hops)
    adata.uns[keys.uns]["params"] |= {"pooling_hops": hops, "verdict_level": model.calibration.verdict_level}
    if scores.probability is not None:
        adata.obsm[keys.probability] = scores.probability
        adata.obs[keys.label] = most_probable(scores.probability, model.classes)
    for name, (values, described) in scores.drawn.items():
        adata.obsm[keys.drawn(name)] = values
        adata.uns[keys.uns][name] = described
    for prepared in spots.prepared.values():
        prepared.keep(adata)
    labels = [] if scores.probability is None else [keys.label]
    written = (keys.score, keys.pvalue, keys.slice_pvalue, keys.modalities, keys.call, keys.anomaly, *labels)
    columns = ", ".join(f"obs['{key}']" for key in written)
    logger.info("Added obsm['%s'], %s, uns['%s'] and uns['%s'].", keys.embedding, columns, keys.uns, keys.verdicts)
    write_calls(adata, keys)


def group_table(groups: Sequence[SliceGroups]) -> dict[str, np.ndarray]:
    """One array per field, as h5ad and zarr keep them; a row per slice and combination of modalities."""
    return {
        name: np.array([getattr(group, name) for group in groups], kind)
        for name, kind in SliceGroups.__annotations__.items()
    }


def run_record(model: AnomalyModel, layout: Layout) -> dict[str, Any]:
    """What is kept in ``uns``: only types that AnnData can write to a file.

    Parameters
    ----------
    model
        By which ``adata`` was scored.
    layout
        Where ``adata`` was read, which need not be where the model's reference was.
    """
    params = {key: _plain(value) for key, value in (model.params | vars(layout)).items()}
    history = {key: np.asarray(values) for key, values in model.history.items()}
    classes = {CLASSES: np.asarray(model.classes, str)} if model.classes else {}
    return {"version": __version__, "params": params, "history": history, **classes}


def _plain(value: Any) -> Any:
    """Lists as arrays, numbers as they are and all else as text; nothing as empty text."""
    if isinstance(value, list):
        return np.asarray(value, float if value and isinstance(value[0], float) else str)
    return "" if value is None else value


def most_probable(probability: np.ndarray, classes: Sequence[str]) -> pd.Categorical:
    """Class with the highest ``probability`` (n_obs, classes) of each spot, none where it is NaN."""
    known = np.isfinite(probability).all(1)
    codes = np.where(known, np.nan_to_num(probability).argmax(1), -1)
    return pd.Categorical.from_codes(codes, list(classes))
