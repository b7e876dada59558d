"""Which parts of a few spots' patches speak for their scores."""

import logging
from collections.abc import Sequence

import numpy as np
from anndata import AnnData

from omib_spatial._checked import Accelerator, Few, Flag, Key, KeyAdded, Many, Names, Seed
from omib_spatial._keys import Written
from omib_spatial._version import __version__
from omib_spatial.detector.explaining import Explainer
from omib_spatial.detector.model import AnomalyModel
from omib_spatial.detector.patch_terms import patch_terms
from omib_spatial.detector.settings import device_for, refuse_missing_device
from omib_spatial.modalities import Image, check_input
from omib_spatial.slides import Tissue
from omib_spatial.slides import validation as check
from omib_spatial.slides.results import require_scored
from omib_spatial.tl._explain import refuse_other_scores
from omib_spatial.tl._score import layout_of, require_model
from omib_spatial.tl._spatialdata import accepts_spatialdata

logger = logging.getLogger("omib_spatial")

_USUAL = 4
"""Spots that are taken where none are named."""


@accepts_spatialdata
def patch_contributions(
    adata: AnnData,
    model: AnomalyModel,
    spots: Names | None = None,
    *,
    n_parts: Few = 7,
    n_samples: Many = 10,
    modality: Key | None = None,
    seed: Seed = 0,
    library_key: Key | None = None,
    layer: Key | None = None,
    image_key: Key | None = None,
    key_added: KeyAdded = "omib",
    table_key: Key = "table",
    accelerator: Accelerator = "auto",
    copy: Flag = False,
) -> AnnData | None:
    """Say which parts of the patches of a few spots speak for their scores: a heat map over each patch.

    The patch is divided into squares. One that is left out shows what is there in the patch of a spot on the healthy
    side of the same slice; everything else of the spot stays. Contributions of the squares are Shapley values, for any
    image encoder: a network from a hub, your own, one that was trained here, or the tissue statistics. They are in
    units of the score, and sum to what the patch makes of it beyond the healthy patches, before spots are averaged with
    their neighbours.

    Each spot costs ``n_samples * n_parts ** 2`` patches through the encoder.

    Parameters
    ----------
    adata
        Scored with ``model``.
    model
        From `fit` or `omib_spatial.load`, with an image modality.
    spots
        Name or names in ``obs_names``; None takes the four highest scores among spots with a patch.
    n_parts
        Squares along each side of the patch; of several sides, of the widest.
    n_samples
        Healthy patches that are drawn, each with another order of the squares. More make the map less noisy.
    modality
        Which one, if the model has several that read images.
    seed
        Of what is drawn.
    library_key, layer, image_key
        As in `score`.
    key_added
        Prefix of what is read and written.
    table_key
        Table of a SpatialData that is read and written.
    accelerator
        ``"auto"``, ``"cpu"`` or ``"gpu"``.
    copy
        Return a copy with the maps and leave ``adata`` as it is.

    Returns
    -------
    None, or the copy. Writes ``uns["{key_added}_patch_contributions"]``, which
    `omib_spatial.pl.patch_contributions` draws: ``"spots"`` (n,); ``"contributions"`` (n, n_parts, n_parts) float32,
    from the top left of the patch; ``"error"``, the standard error of each, from the draws; ``"side"`` (n,) of the
    patch in full-resolution pixels, its middle being the spot; ``"params"``. A new `score` removes it.

    Raises
    ------
    KeyError
        Not scored yet, or a spot or modality does not exist.
    ValueError
        An argument out of its range; no modality of the model reads images, a spot was not judged by it, the scores are
        not those of ``model``, or as `score`. ``adata`` stays as it was.
    TypeError
        ``model`` is no fitted model, or its network is no `omib_spatial.core.OMIB`.

    Examples
    --------
    >>> highest = adata.obs["omib_score"].idxmax()
    >>> omib.tl.patch_contributions(adata, model, highest, n_parts=4, n_samples=3)
    >>> adata.uns["omib_patch_contributions"]["contributions"].shape
    (1, 4, 4)
    """
    require_model(model)
    refuse_missing_device(accelerator)
    adata = adata.copy() if copy else adata
    check.refuse_view(adata)
    check.load_tables(adata)
    keys = Written(key_added)
    require_scored(adata, keys, keys.score)
    name = _image_modality(model, modality, n_parts)
    tissue = Tissue(adata, layout_of(adata, model, library_key, layer, image_key), genes=model.genes)
    check_input(tissue, model.modalities.values(), required=False)
    prepared = model.prepare(tissue)
    explainer = Explainer(model, tissue, prepared, n_steps=1, device=device_for(accelerator))
    try:
        refuse_other_scores(adata, keys, explainer)
        rows = _rows(adata, keys, spots, explainer, name)
        found = patch_terms(explainer, name, rows, n_parts=n_parts, n_samples=n_samples, seed=seed)
    finally:
        explainer.close()
    params = {"version": __version__, "modality": name, "n_parts": n_parts, "n_samples": n_samples, "seed": seed}
    adata.uns[keys.patch_contributions] = {
        "spots": adata.obs_names[rows].to_numpy(str),
        "contributions": found.values.astype(np.float32),
        "error": found.error.astype(np.float32),
        "side": found.side,
        "params": params,
    }
    logger.info("Added uns['%s'].", keys.patch_contributions)
    return adata if copy else None


def _image_modality(model: AnomalyModel, asked: str | None, n_parts: int) -> str:
    """Name of the modality whose patches are divided."""
    images = {name: one for name, one in model.modalities.items() if isinstance(one, Image)}
    if not images:
        raise ValueError(
            f"The model reads no image, but {list(model.modalities)}: fit one on slides with an image. Of features "
            "that were computed elsewhere nobody knows which pixels they come from: instead, pass for instance "
            "modalities={'gene': omib_spatial.modalities.Gene(), 'image': omib_spatial.modalities.Image('hf:NAME')}."
        )
    if asked is None and len(images) > 1:
        raise ValueError(f"The model has several modalities that read images: pass modality= one of {list(images)}.")
    if asked is not None and asked not in images:
        raise KeyError(f"No modality {asked!r} of the model reads images: pass one of {list(images)}.")
    name = asked or next(iter(images))
    if n_parts > images[name].size:
        raise ValueError(f"n_parts={n_parts}: a patch has {images[name].size} pixels along a side, pass fewer parts.")
    return name


def _rows(
    adata: AnnData, keys: Written, spots: str | Sequence[str] | None, explainer: Explainer, name: str
) -> np.ndarray:
    """Rows (n,) of the spots that are asked for."""
    judged = [judged.rows for judged in explainer.slices if name in judged.combination]
    possible = np.sort(np.concatenate(judged)) if judged else np.empty(0, int)
    if len(possible) == 0:
        raise ValueError(f"No spot was judged by {name!r}: there is no patch to look into.")
    if spots is None:
        score = adata.obs[keys.score].to_numpy(np.float64)[possible]
        return possible[np.argsort(-score, kind="stable")[:_USUAL]]
    if not adata.obs_names.is_unique:
        raise ValueError(
            "obs_names are not unique, so spots cannot be named: call adata.obs_names_make_unique() first."
        )
    names = [spots] if isinstance(spots, str) else list(dict.fromkeys(spots))
    rows = adata.obs_names.get_indexer(names)
    if not names or (rows < 0).any():
        unknown = [spot for spot, row in zip(names, rows, strict=True) if row < 0]
        raise KeyError(f"spots are names of adata.obs_names, one or more; not there: {unknown[:5]}.")
    if (without := ~np.isin(rows, possible)).any():
        raise ValueError(
            f"{without.sum()} of {len(rows)} spots were not judged by {name!r}, such as "
            f"{names[int(without.argmax())]!r}: their slice has no image, or their patch shows no tissue. Leave them "
            "out."
        )
    return rows
