"""Fit: the scanpy face of training."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from anndata import AnnData
from torch import nn

from omib_spatial._keys import SPATIAL
from omib_spatial.data import Layout, Modality
from omib_spatial.data import validation as check
from omib_spatial.data.inputs import check_input, choose_modalities, slice_groups
from omib_spatial.data.labels import balanced_weights, healthy_classes, read_labels
from omib_spatial.data.slides import coordinates, library_codes
from omib_spatial.tl import _train as steps
from omib_spatial.tl._compare import calibrate, compare
from omib_spatial.tl._crossfit import judge
from omib_spatial.tl._model import AnomalyModel
from omib_spatial.tl._objective import OBJECTIVES, choose_objective
from omib_spatial.tl._score import write
from omib_spatial.tl._tables import accepts_spatialdata


@accepts_spatialdata
def fit(
    adata: AnnData,
    *,
    reference_key: str | None = None,
    labels_key: str | None = None,
    healthy_label: Any = None,
    donor_key: str | None = None,
    modalities: Sequence[str] | Mapping[str, Modality] | None = None,
    encoders: Mapping[str, nn.Module] | None = None,
    objective: str | None = None,
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
        it nor graph edges to it. None takes every spot as healthy or, with ``labels_key``, those of a healthy class.
    labels_key
        ``obs`` column with the annotated class of some spots, at least 5 of each of two or more classes: text,
        categories, booleans or integers. NaN, negative integers and words such as ``"unlabelled"`` mark the others.
        The network is then trained to tell the classes apart, each of which weighs the same however rare it is; three
        more trainings say how far to trust it beside the distances from healthy tissue. The anomaly score is one of
        these distances, of all modalities together, and knows nothing of what the other classes look like.
    healthy_label
        Class, or several, of ``labels_key`` that are healthy: the reference, unless ``reference_key`` marks it. None
        takes the class whose name says so (``"healthy"``, ``"normal"``, 0 of 0 and 1, False), if there is one.
    donor_key
        ``obs`` column of patients or animals: how much healthy slides differ, which p-values and calls rest on, and
        with ``labels_key`` how far the network is to be trusted, are learned on donors that were left out. None takes
        every slice as a donor of its own.
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
        what it leaves unexplained are. ``"svdd"``: the paper's one-class objective. ``"classification"``: tell the
        classes of ``labels_key`` apart. None takes the last with ``labels_key``, else the first.
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
        Share of the reference, in slices or compact blocks, that is kept from a second training to calibrate scores.
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
    - ``obs["{key_added}_pvalue"]``: conformal p-value against held-out healthy spots, all slices alike.
    - ``obs["{key_added}_slice_pvalue"]``: probability that a healthy spot of the same slice lies at least as far, under
      a null that is estimated from the slice itself and from how much healthy slides differ.
    - ``obs["{key_added}_anomaly"]``: called at ``fdr``, by the p-values of the slice.
    - ``obsm["{key_added}_probability"]``, with ``labels_key``: probability of each class, (n_obs, classes) float32, in
      the order of ``uns["{key_added}"]["classes"]``; ``obs["{key_added}_label"]``: the most probable, categorical.
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
        ``library_key``; fewer than 50 reference spots; labels of one class, or fewer than 5 of one; no telling which
        class is healthy; a view. ``adata`` stays as it was.
    TypeError
        ``reference_key`` that is not boolean; labels that are numbers with a fraction.
    KeyboardInterrupt
        On Ctrl-C; the state after the last complete epoch is in ``resume``.
    """
    objective = choose_objective(objective, labels_key)
    check.refuse_view(adata)
    check.load_tables(adata)
    layout = Layout(layer, spatial_key, library_key, image_key, neighbors_key, n_neighbors)
    chosen = choose_modalities(adata, modalities, layout)
    check_input(adata, chosen.values(), layout, required=True)
    labels = None if labels_key is None else read_labels(adata, labels_key)
    healthy = healthy_classes(labels, healthy_label, required=reference_key is None)
    reference = check.reference_mask(adata, reference_key, labels.among(healthy) if labels and healthy else None)
    loop = steps.Loop(progress_bar, accelerator, devices, num_nodes, strategy, precision, compile, num_workers, resume)
    if donor_key is not None and donor_key not in adata.obs:
        raise KeyError(f"obs[{donor_key!r}] does not exist: pass donor_key= one of {list(adata.obs)}, or None.")
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

    if labels is not None:
        weights = balanced_weights(labels.codes, len(labels.classes)).tolist()
        params |= {
            "labels_key": labels_key,
            "healthy_label": healthy,
            "classes": labels.classes,
            "class_weights": weights,
        }

    codes, _ = library_codes(adata, library_key)
    xy = coordinates(adata, spatial_key)
    groups = slice_groups(adata, chosen.values(), layout)
    training, held_out = steps.hold_out(xy, codes, reference, calibration_fraction, seed, groups)
    params |= {"beta": beta, "n_reference": int(reference.sum()), "n_calibration": int(held_out.sum())}
    place, graph, donors = (xy, codes), layout.graph(adata), library_codes(adata, donor_key or library_key)[0]
    twin, fresh = (deepcopy(chosen), deepcopy(encoders)), deepcopy(encoders)
    known = None if labels is None else labels.codes
    sight = reference if known is None else reference | (known >= 0)
    model, spots = steps.learn(adata, chosen, encoders, layout, params, reference, place, loop, known)
    # How surprising healthy tissue of a new slide is, a twin says of spots that it was fitted without.
    beside = replace(loop, resume=None if resume is None else Path(resume) / "calibration")
    unseen = None if known is None else np.where(held_out, -1, known)
    other, seen = steps.learn(adata, *twin, layout, dict(model.params), training, place, beside, unseen)
    calibrate(
        model,
        compare(model, spots.only(sight), place, reference, np.zeros_like(reference), graph, donors),
        compare(other, seen.only(sight), place, training, held_out, graph),
    )
    if known is not None:
        model.verdict = judge(model, spots, fresh, place, reference, known, donors, graph, loop)
    write(adata, model, spots, model.score_spots(adata, model.aimed(spots), layout), key_added)
    return model
