"""Fit and score: the scanpy face."""

import logging
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from anndata import AnnData
from torch import nn

from omib_spatial._keys import SPATIAL, Written
from omib_spatial.data import Layout, Modality, Spots
from omib_spatial.data import validation as check
from omib_spatial.data.inputs import check_input, choose_modalities, slice_groups
from omib_spatial.data.slides import coordinates, library_codes
from omib_spatial.tl import _train as steps
from omib_spatial.tl._model import AnomalyModel, Scores
from omib_spatial.tl._objective import OBJECTIVES
from omib_spatial.tl._tables import accepts_spatialdata

logger = logging.getLogger("omib_spatial")


@accepts_spatialdata
def fit(
    adata: AnnData,
    *,
    reference_key: str | None = None,
    modalities: Sequence[str] | Mapping[str, Modality] | None = None,
    encoders: Mapping[str, nn.Module] | None = None,
    objective: str = "reconstruction",
    layer: str | None = None,
    spatial_key: str = SPATIAL,
    library_key: str | None = None,
    image_key: str = "hires",
    neighbors_key: str | None = None,
    n_neighbors: int = 6,
    beta: float | None = None,
    latent_dim: int | None = None,
    max_epochs: int | None = None,
    warmup_epochs: int | None = None,
    batch_size: int = 128,
    learning_rate: float | None = None,
    weight_decay: float | None = None,
    calibration_fraction: float = 0.2,
    fdr: float = 0.1,
    key_added: str = "omib",
    table_key: str = "table",
    seed: int = 0,
    progress_bar: bool = True,
    accelerator: str = "auto",
    devices: int | str | Sequence[int] = 1,
    num_nodes: int = 1,
    strategy: Any = "auto",
    precision: Any = "32-true",
    compile: bool = False,
    num_workers: int = 0,
    resume: str | Path | None = None,
) -> AnomalyModel:
    """Learn what healthy tissue looks like, and score every spot of ``adata`` against it.

    Parameters
    ----------
    adata
        Raw counts, coordinates and, for the image, ``uns["spatial"][library]``. ``X`` is never changed; backed or lazy
        (`anndata.experimental.read_lazy`), its rows are read from disk when a batch needs them. Or a SpatialData with a
        table of raw counts: each region is a slice, and places and images are taken through the transformations.
    reference_key
        Boolean ``obs`` column that marks healthy spots, at least 50. The rest is only scored: training sees neither
        it nor graph edges to it. None takes every spot as healthy.
    modalities
        Names out of ``"gene"``, ``"image"``, ``"genome"`` and keys of ``obsm`` (ready features), or a mapping from name
        to `omib_spatial.data.Modality`, as in ``{"gene": Gene(), "image": Image("resnet18")}`` for the paper's image
        encoder instead of statistics of the stain. None takes genes, the image where a slice has one, and the
        genome where ``var`` has ``chromosome``, ``start`` and ``end``.
    encoders
        Own encoder for some of the modalities: a module with an integer ``out_features``. It gets what the modality's
        default encoder gets: `omib_spatial.encoders.GraphInput` for genes, (n, p) features for an ``obsm`` key
        and for the image, or (n, 3, 32, 32) patches where the image is ``Image("small")`` or ``Image("resnet18")``.
    objective
        ``"reconstruction"``: explain every modality through the bottleneck, and score by how improbable the code and
        what it leaves unexplained are. ``"svdd"``: the paper's one-class objective.
    layer
        Layer with raw counts; None reads ``X``.
    spatial_key
        ``obsm`` key of the coordinates, in full-resolution pixels.
    library_key
        ``obs`` column that separates slices; needed with more than one.
    image_key
        Image in ``uns["spatial"][library]["images"]``: an array, or the path of a file, which is read region by region.
    neighbors_key
        A ready graph in ``obsp``; None builds one with squidpy, from ``n_neighbors`` nearest neighbours.
    n_neighbors
        Neighbours per spot before the graph is made symmetric; all those as far away as the last one are taken too. 6
        gives 6 on a hexagonal grid (Visium), 8 on an exactly square one.
    beta
        Weight of the compression. None takes M_u, the paper's upper bound, estimated once before training.
    latent_dim, max_epochs, warmup_epochs, learning_rate, weight_decay
        Width of the bottleneck and course of the training; None takes the objective's own
        (`omib_spatial.tl.OBJECTIVES`). ``max_epochs`` includes the warm-up.
    batch_size
        Spots per step, in compact tiles, on all devices together.
    calibration_fraction
        Share of the reference, in compact blocks, that is kept from training to calibrate scores and p-values.
    fdr
        False discovery rate of the calls, within each slice.
    key_added
        Prefix of what is written.
    table_key
        Table of a SpatialData that is read and written.
    seed
        Of everything random.
    progress_bar
        Whether to show one, with the time left.
    accelerator, devices, num_nodes, strategy, precision
        Lightning's: ``devices=4``, or ``precision="bf16-mixed"`` where the hardware has it. Scoring is in float32.
        Processes share training and scoring, and all end with the same model; save and write from one of them.
    compile
        Whether `torch.compile` translates the network first; takes about a minute, so it pays for long trainings.
    num_workers
        Processes that prepare batches; 0 for backed counts, whose open file cannot be shared.
    resume
        Folder that keeps the state of the training after every epoch. If it holds a training with the same settings
        that was stopped, by Ctrl-C for instance, the fit goes on from there and ends at the same weights.

    Returns
    -------
    The fitted model. Writes into ``adata``:

    - ``obsm["X_{key_added}"]``: bottleneck embedding xi, (n_obs, latent_dim) float32.
    - ``obs["{key_added}_score"]``: standard deviations above held-out healthy spots; higher is more anomalous.
    - ``obs["{key_added}_pvalue"]``: conformal p-value against held-out healthy spots.
    - ``obs["{key_added}_anomaly"]``: called at ``fdr``.
    - ``obsm["X_{key_added}_genome"]``, with the modality ``"genome"``: profile along the chromosomes, (n_obs, windows)
      float32; ``uns["{key_added}"]["genome"]`` has ``chromosome``, ``start`` and ``end`` of its windows.
    - ``uns["{key_added}"]``: version, parameters (beta, M_l, M_u, seed, ...) and history per epoch.
    - ``obsm["X_image"]``, ``uns["X_image"]``: features of an image encoder that is not trained, with a fingerprint per
      slice, so that a later run need not compute them again. An ``obsm["X_image"]`` of the user's own is left alone.

    A spot without any modality gets NaN and is not called.

    Raises
    ------
    KeyError
        A key that does not exist; an image without scale factor.
    ValueError
        Counts that are not raw; coordinates missing, duplicated or off the image; several slices without
        ``library_key``; fewer than 50 reference spots; a view. ``adata`` stays as it was.
    TypeError
        ``reference_key`` that is not boolean.
    KeyboardInterrupt
        On Ctrl-C; the state after the last complete epoch is in ``resume``.
    """
    if objective not in OBJECTIVES:
        raise ValueError(f"objective is one of {sorted(OBJECTIVES)}, not {objective!r}.")
    check.refuse_view(adata)
    check.load_tables(adata)
    layout = Layout(layer, spatial_key, library_key, image_key, neighbors_key, n_neighbors)
    chosen = choose_modalities(adata, modalities, layout)
    check_input(adata, chosen.values(), layout, required=True)
    reference = check.reference_mask(adata, reference_key)
    loop = steps.Loop(progress_bar, accelerator, devices, num_nodes, strategy, precision, compile, num_workers, resume)
    encoders = dict(encoders or {})
    if set(encoders) - set(chosen):
        raise KeyError(f"encoders has {sorted(set(encoders) - set(chosen))}, but the modalities are {sorted(chosen)}.")

    given = {
        "latent_dim": latent_dim,
        "max_epochs": max_epochs,
        "warmup_epochs": warmup_epochs,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
    }
    params: dict[str, Any] = OBJECTIVES[objective].defaults | {k: v for k, v in given.items() if v is not None}
    params |= {"objective": objective, "modalities": list(chosen), "own_encoders": sorted(encoders), "fdr": fdr}
    params |= {"batch_size": batch_size, "seed": seed, "reference_key": reference_key or ""}

    codes, _ = library_codes(adata, library_key)
    xy = coordinates(adata, spatial_key)
    groups = slice_groups(adata, chosen.values(), layout)
    training, held_out = steps.hold_out(xy, codes, reference, calibration_fraction, seed, groups)
    params |= {"beta": beta, "n_reference": int(reference.sum()), "n_calibration": int(held_out.sum())}
    place, graph = (xy, codes), layout.graph(adata)
    twin = deepcopy(chosen), deepcopy(encoders)
    model, spots = steps.learn(adata, chosen, encoders, layout, params, reference, place, loop)
    # How surprising healthy tissue of a new slide is, a twin says of spots that it was fitted without.
    beside = replace(loop, resume=None if resume is None else Path(resume) / "calibration")
    other, seen = steps.learn(adata, *twin, layout, dict(model.params), training, place, beside)
    steps.calibrate(
        model,
        steps.compare(model, spots.only(reference), place, reference, graph),
        steps.compare(other, seen.only(reference), place, training, graph),
    )
    write(adata, model, spots, model.score_spots(adata, model.aimed(spots), layout), key_added)
    return model


@accepts_spatialdata
def score(
    adata: AnnData,
    model: AnomalyModel,
    *,
    library_key: str | None = None,
    layer: str | None = None,
    key_added: str = "omib",
    table_key: str = "table",
    accelerator: str = "auto",
    copy: bool = False,
) -> AnnData | None:
    """Score every spot of ``adata`` with a fitted model.

    Takes raw data just as `fit` did; gene list, normalisation, graph and patches are the model's own. The result for
    a slice does not depend on which other slices are in the object.

    Parameters
    ----------
    adata
        Raw counts and coordinates, with or without an image: a spot that lacks a modality is scored on the others.
    model
        From `fit` or `omib_spatial.load`.
    library_key
        ``obs`` column that separates slices. None takes the model's, if there is such a column.
    layer
        Layer with raw counts. None takes the model's, if there is one.
    key_added
        Prefix of what is written, as by `fit`.
    table_key
        Table of a SpatialData that is read and written.
    accelerator
        ``"auto"``, ``"cpu"`` or ``"gpu"``.
    copy
        Return a scored copy and leave ``adata`` as it is.

    Returns
    -------
    None, or the copy. Writes the same keys as `fit`.

    Raises
    ------
    KeyError, ValueError
        As `fit`; also if no gene is shared with the model. ``adata`` stays as it was.

    Warns
    -----
    UserWarning
        If fewer than 80 % of the model's genes are there.
    """
    adata = adata.copy() if copy else adata
    check.refuse_view(adata)
    check.load_tables(adata)
    own = model.layout
    if library_key is None and own.library_key in adata.obs:
        library_key = own.library_key
    if layer is None and own.layer is not None and own.layer in adata.layers:
        layer = own.layer
    layout = replace(own, library_key=library_key, layer=layer)
    check_input(adata, model.modalities.values(), layout, required=False)
    model.device = steps.device_for(accelerator)
    spots = model.prepare(adata, layout)
    write(adata, model, spots, model.score_spots(adata, spots, layout), key_added)
    return adata if copy else None


def write(adata: AnnData, model: AnomalyModel, spots: Spots, scores: Scores, key_added: str) -> None:
    """Put results into ``adata``: the last step, so that nothing is written when anything fails."""
    keys = Written(key_added)
    adata.obsm[keys.embedding] = scores.embedding
    adata.obs[keys.score] = scores.score
    adata.obs[keys.pvalue] = scores.pvalue
    adata.obs[keys.anomaly] = scores.anomaly
    adata.uns[keys.uns] = steps.results(model)
    for name, (values, described) in scores.drawn.items():
        adata.obsm[keys.drawn(name)] = values
        adata.uns[keys.uns][name] = described
    for prepared in spots.prepared.values():
        prepared.keep(adata)
    columns = ", ".join(f"obs['{key}']" for key in (keys.score, keys.pvalue, keys.anomaly))
    logger.info("Added obsm['%s'], %s and uns['%s'].", keys.embedding, columns, keys.uns)
    called, unscored = int(scores.anomaly.sum()), int(np.isnan(scores.score).sum())
    logger.info("%d of %d spots called, %d could not be scored.", called, adata.n_obs, unscored)
