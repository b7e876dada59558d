"""Explain: what makes up the scores of called spots, regions and single spots."""

import logging

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from omib_spatial._checked import Accelerator, Few, Flag, Key, KeyAdded, Names, Whole
from omib_spatial._keys import Written
from omib_spatial._version import __version__
from omib_spatial.detector.explaining import Explainer
from omib_spatial.detector.model import AnomalyModel
from omib_spatial.detector.settings import device_for
from omib_spatial.modalities import check_input
from omib_spatial.slides import Tissue
from omib_spatial.slides import validation as check
from omib_spatial.slides.results import check_results
from omib_spatial.tl._explain_groups import Groups
from omib_spatial.tl._explain_tables import BY, NOISE, explained_modalities, gene_columns, gene_terms, tables
from omib_spatial.tl._score import layout_of, require_model
from omib_spatial.tl._spatialdata import accepts_spatialdata

logger = logging.getLogger("omib_spatial")


@accepts_spatialdata
def explain(
    adata: AnnData,
    model: AnomalyModel,
    *,
    groupby: Names | None = None,
    n_spot_genes: Whole = 0,
    n_steps: Few = 16,
    library_key: Key | None = None,
    layer: Key | None = None,
    image_key: Key | None = None,
    key_added: KeyAdded = "omib",
    table_key: Key = "table",
    accelerator: Accelerator = "auto",
    copy: Flag = False,
) -> AnnData | None:
    """Say what makes up the scores: modalities, genes, chromosome arms and statistics of the image.

    A score is compared with the mean spot on the healthy side of the same slice (score below 0). What lies between both
    is divided among modalities, and each modality's share among its features. Contributions are in units of the score,
    and sum to it. ``docs/explaining.md`` says how, and what a contribution is not: neither a cause nor a test.

    Parameters
    ----------
    adata
        Scored with ``model``, and called.
    model
        From `fit` or `omib_spatial.load`.
    groupby
        ``obs`` column or columns, such as ``"omib_clone"``, whose groups are explained beside the called spots. None
        takes ``obs["{key_added}_region"]`` if there are regions.
    n_spot_genes
        Also keep, for every called spot, so many of the genes that speak most for its call: those whose contributions
        are largest, and above 0.
    n_steps
        Of the integral through the network.
    library_key, layer, image_key
        As in `score`.
    key_added
        Prefix of what is read and written.
    table_key
        Table of a SpatialData that is read and written.
    accelerator
        ``"auto"``, ``"cpu"`` or ``"gpu"``.
    copy
        Return a copy with the explanation and leave ``adata`` as it is.

    Returns
    -------
    None, or the copy. Writes

    ``obsm["{key_added}_contributions"]``
        DataFrame (n_obs, modalities + 1): contribution of each modality, NaN where a spot was not judged by it, and
        ``noise``: how much more or less the same code counts because the spot is more or less noisy than others. A row
        sums to the spot's score less that of the mean spot on the healthy side.
    ``obsm["X_{key_added}_deviation"]``
        (n_obs, p) float32: in which direction a spot deviates, for `subtypes`.
    ``layers["{key_added}_contributions"]``
        With ``n_spot_genes``: sparse (n_obs, n_vars), the largest contributions of genes to each called spot, all above
        0.
    ``uns["{key_added}_explain"]``
        Tables, all of which `omib_spatial.get.explanation` returns by name:

        - ``"modalities"``: ``group``, ``of`` (the ``obs`` column), ``n_spots``, ``modality``, its mean
          ``contribution``, its ``share`` of all, and ``removed``: by how much the score falls without it alone.
        - ``"genes"``: ``group``, ``gene``, ``contribution``, what of it comes ``by_expression`` and what ``by_genome``,
          ``change`` (mean expression around the spots less that on the healthy side, in standard deviations of the
          reference; where something was found inside the slide, of the slide) and ``rank``. Most important first.
        - ``"arms"``: ``group``, ``arm``, ``contribution`` and ``change``, where the genome was used.
        - ``"features"``: ``group``, ``modality``, ``feature``, ``contribution`` and ``change``: statistics of the
          image, columns of ``obsm``; what was found inside the slide by a modality that the model or a spot has not.
        - ``"check"``: per modality, over called spots, what was ``said`` and by how much scores fell where it was
          ``removed``, the mean absolute ``error``, and ``relative_error`` (by the mean score beyond the origin).
        - ``"slices"``: ``slice``, ``modalities`` and ``origin``, the score of the mean spot on the healthy side.
        - ``"params"``.

    Raises
    ------
    KeyError
        Not scored or not called yet, or a column does not exist.
    ValueError
        The scores are not those of ``model``, or as `score`. ``adata`` stays as it was.
    TypeError
        ``model`` is no fitted model, its network is no `omib_spatial.core.OMIB`, or ``groupby`` is measured numbers.

    Examples
    --------
    >>> omib.tl.call(adata, question="part")
    >>> omib.tl.explain(adata, model)
    >>> sorted(omib.get.explanation(adata, "modalities", group="called").index)
    ['gene', 'genome', 'image', 'noise']
    """
    require_model(model)
    adata = adata.copy() if copy else adata
    check.refuse_view(adata)
    check_results(adata, key_added)
    keys = Written(key_added)
    groups = Groups.read(adata, keys, groupby)
    tissue = Tissue(adata, layout_of(adata, model, library_key, layer, image_key), genes=model.genes)
    check_input(tissue, model.modalities.values(), required=False)
    spots = model.prepare(tissue)
    explainer = Explainer(model, tissue, spots, n_steps=n_steps, device=device_for(accelerator))
    try:
        refuse_other_scores(adata, keys, explainer)
        found = explainer.explain(groups.weights)
        genes = _spot_genes(explainer, model, tissue, groups.called, n_spot_genes) if n_spot_genes else None
    finally:
        explainer.close()
    record = tables(found, explainer.slices, groups, model, tissue)
    record["params"] = {"version": __version__, "n_steps": n_steps, "n_spot_genes": n_spot_genes}
    kept = explained_modalities(found, model)
    own = [list(model.modalities).index(name) for name in kept]
    adata.obsm[keys.contributions] = pd.DataFrame(
        np.column_stack([found.contributions[:, own], found.noise]), index=adata.obs_names, columns=[*kept, NOISE]
    )
    adata.obsm[keys.deviation] = found.deviation
    adata.layers.pop(keys.gene_contributions, None)
    if genes is not None:
        adata.layers[keys.gene_contributions] = genes
    adata.uns[keys.explained] = record
    logger.info("Added obsm['%s'], obsm['%s'] and uns['%s'].", keys.contributions, keys.deviation, keys.explained)
    return adata if copy else None


def refuse_other_scores(adata: AnnData, keys: Written, explainer: Explainer) -> None:
    """Raise ValueError where the scores in ``adata`` are not those that are explained."""
    score = adata.obs[keys.score].to_numpy(np.float64)
    now = np.full(adata.n_obs, np.nan)
    for judged in explainer.slices:
        now[judged.rows] = judged.score
    if not np.allclose(now, score, rtol=1e-3, atol=1e-2, equal_nan=True):
        n = int((~np.isclose(now, score, rtol=1e-3, atol=1e-2, equal_nan=True)).sum())
        raise ValueError(
            f"obs[{keys.score!r}] of {n} spots is not what this model says of them: the data or the model are others. "
            "Score again with it, by omib_spatial.tl.score, and pass the same library_key=, layer= and image_key=. "
            "After omib_spatial.tl.cross_fit each donor's slides have a model of their own: pass these alone, with it."
        )


def _spot_genes(
    explainer: Explainer, model: AnomalyModel, tissue: Tissue, called: np.ndarray, n_genes: int
) -> sparse.csr_matrix:
    """The ``n_genes`` largest contributions above 0 of genes to each called spot, (n_obs, n_vars) float32."""
    shape = tissue.adata.shape
    rows, columns, values = ([np.empty(0, kind)] for kind in (int, int, np.float32))
    for judged in explainer.slices:
        wanted = judged.rows[called[judged.rows]]
        for some in np.array_split(wanted, len(wanted) // 1024 + 1):
            if len(some) == 0:
                continue
            dense = np.zeros((len(some), shape[1]))
            sums = explainer.of_spots(judged, some)
            for modality, terms, _ in gene_terms(sums, model):
                own, there = gene_columns(modality, tissue.adata.var)
                dense[:, there] += terms.values[:, own]
            dense += sum(sums.inside[kind].values for kind in BY if kind in sums.inside)
            best = np.argsort(-dense, axis=1, kind="stable")[:, :n_genes]
            rows.append(np.repeat(some, best.shape[1]))
            columns.append(best.ravel())
            values.append(np.take_along_axis(dense, best, 1).clip(min=0).ravel().astype(np.float32))
    found = sparse.csr_matrix((np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape)
    found.eliminate_zeros()
    return found
