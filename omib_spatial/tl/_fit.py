"""Fit: the scanpy face of training."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from anndata import AnnData
from torch import nn

from omib_spatial._checked import Count, CountsKind, Key, KeyAdded, Many, Seed, Share, checked_value
from omib_spatial._keys import REFERENCE, SPATIAL
from omib_spatial._threads import few_threads
from omib_spatial.core import Config
from omib_spatial.detector.fitting import fit_model
from omib_spatial.detector.model import AnomalyModel
from omib_spatial.detector.objective import OBJECTIVES, Objective, choose_objective
from omib_spatial.detector.settings import TrainingSettings
from omib_spatial.modalities import Modality, check_input, choose_modalities
from omib_spatial.modalities.obsm_features import warn_of_noise
from omib_spatial.slides import Layout, Tissue
from omib_spatial.slides import validation as check
from omib_spatial.slides.doubts import warn_of_copies, warn_of_gaps
from omib_spatial.slides.labels import healthy_classes, read_labels
from omib_spatial.slides.names import check_results_key
from omib_spatial.stats.settings import CalibrationSettings
from omib_spatial.tl._arguments import chosen_settings, copied, fresh_seed, own_encoders, read_keys
from omib_spatial.tl._defaults import leave_out_rare
from omib_spatial.tl._judge import judge
from omib_spatial.tl._notices import point_to_cross_fit, warn_of_unused
from omib_spatial.tl._reference import choose_reference, refuse_two_references
from omib_spatial.tl._spatialdata import accepts_spatialdata


@accepts_spatialdata
@few_threads
def fit(
    adata: AnnData,
    *,
    reference_key: Key | None = None,
    all_healthy: bool = False,
    labels_key: Key | None = None,
    healthy_label: Any = None,
    donor_key: Key | None = None,
    modalities: Sequence[str] | Mapping[str, Modality] | None = None,
    encoders: Mapping[str, nn.Module] | None = None,
    objective: str | Objective | None = None,
    layer: Key | None = None,
    spatial_key: Key = SPATIAL,
    library_key: Key | None = None,
    image_key: Key | None = "hires",
    neighbors_key: Key | None = None,
    n_neighbors: Count = 6,
    config: Config | None = None,
    max_epochs: Many | None = None,
    calibration: CalibrationSettings | None = None,
    fdr: Share = 0.1,
    key_added: KeyAdded = "omib",
    table_key: Key = "table",
    seed: Seed | None = 0,
    resume: str | Path | None = None,
    **trainer_kwargs: Any,
) -> AnomalyModel:
    """Learn what healthy tissue looks like, and score every spot of ``adata`` against it.

    Parameters
    ----------
    adata
        Raw counts, coordinates and, for the image, ``uns["spatial"][library]``. ``X`` is never changed; backed or lazy
        (`anndata.experimental.read_lazy`), its rows are read from disk when a batch needs them. Or a SpatialData with a
        table of raw counts: each region is a slice, and places and images are taken through the transformations.
    reference_key
        Boolean ``obs`` column that marks healthy spots, at least 40. The rest is only scored: training sees neither
        it nor graph edges to it. None takes, with ``labels_key``, the spots of a healthy class. Otherwise
        every slide is asked for its own reference, as `omib_spatial.pp.find_reference` does: slides that tell give
        reference spots, all slides are scored. With one healthy slide beside patients' slides, mark that slide.
        Where no slide tells, the error names the ways on; nothing else takes unmarked tissue for healthy.
    all_healthy
        Declares that every spot is healthy.
    labels_key
        ``obs`` column with the annotated class of some spots, at least 5 of each of two or more classes: text,
        categories, booleans or integers. NaN, negative integers and words such as ``"unlabelled"`` mark the others.
        The network is then trained to tell the classes apart, each of which weighs the same however rare it is; two or
        three more trainings say how far to trust it beside the distances from healthy tissue. The anomaly score is one
        of these distances, of all modalities together, and knows nothing of what the other classes look like.
    healthy_label
        Class, or several, of ``labels_key`` that are healthy: the reference, unless ``reference_key`` marks it. None
        takes the class whose name says so (``"healthy"``, ``"normal"``, 0 of 0 and 1, False), if there is one.
    donor_key
        ``obs`` column of patients or animals: how much healthy slides differ, which p-values and calls rest on, and
        with ``labels_key`` how far the network is to be trusted, are learned on donors that were left out. None takes
        every slice as a donor of its own.
    modalities
        Names out of ``"gene"``, ``"image"``, ``"genome"`` and keys of ``obsm`` (ready features), or a mapping from name
        to `omib_spatial.modalities.Modality`, as in ``{"gene": Gene(), "image": Image("resnet18")}`` for the paper's
        image encoder instead of statistics of its texture. None takes genes, the image where a slice has one, the
        genome where genes can be placed and, where the reference was found in the slides, ``"contrast"``: on which side
        of its own slide a spot lies. Of these, one that too few reference spots have is left out with a warning.
    encoders
        Own encoder for some of the modalities: a module with an integer ``out_features``. It gets what the modality's
        default encoder gets: `omib_spatial.encoders.GraphInput` for genes, (n, p) features for an ``obsm`` key
        and for the image, or (n, 3, 32, 32) patches where the image is ``Image("small")`` or ``Image("resnet18")``.
    objective
        ``"reconstruction"``: explain every modality through the bottleneck, and score by how improbable the code and
        each modality's summary are. ``"summaries"``: the same training, and a score without the code.
        ``"svdd"``: the paper's one-class objective. ``"classification"``: tell the classes of ``labels_key`` apart.
        None takes the last with ``labels_key``, the second where the reference was found in the slides, else the first.
        Or an `omib_spatial.detector.Objective` of your own.
    layer
        Layer with raw counts; None reads ``X``.
    spatial_key
        ``obsm`` key of the coordinates, in full-resolution pixels.
    library_key
        ``obs`` column that separates slices; needed with more than one.
    image_key
        Image in ``uns["spatial"][library]["images"]``: an array, or the path of a file, which is read region by region.
        None takes of each slice the best that is there: ``"hires"``, else ``"lowres"``, else another.
    neighbors_key
        A ready graph in ``obsp``; None builds one from ``n_neighbors`` nearest neighbours.
    n_neighbors
        Neighbours per spot before the graph is made symmetric; all those as far away as the last one are taken too. 6
        gives 6 on a hexagonal grid (Visium), 8 on an exactly square one.
    config
        Settings of network and training: ``latent_dim``, ``beta``, ``learning_rate``, ``batch_size`` and others. None
        takes the objective's own, of which `dataclasses.replace` makes variants:
        ``replace(tl.OBJECTIVES["reconstruction"].config, latent_dim=32)``. ``beta`` None is M_u, the paper's upper
        bound, estimated once before training.
    max_epochs
        Epochs, the warm-up included; None takes those of ``config``. Without ``config``, so few that they are all
        warm-up shorten it, with a warning.
    calibration
        Settings by which distances become scores, p-values and calls, such as the share of the reference that is held
        out from a second training; None takes `omib_spatial.stats.settings.CalibrationSettings` as it is.
    fdr
        False discovery rate of the calls, within each slice.
    key_added
        Prefix of what is written.
    table_key
        Table of a SpatialData that is read and written.
    seed
        Of everything random, 0 to 2**32 - 1. None draws a fresh one, which ``uns`` keeps.
    resume
        Folder that keeps the state of the training after every epoch. If it holds a training with the same settings
        that was stopped, by Ctrl-C for instance, the fit goes on from there and ends at the same weights.
    trainer_kwargs
        Arguments of `lightning.Trainer`: ``accelerator="gpu"``, ``devices=4``, ``precision="bf16-mixed"`` where the
        hardware has it, ``enable_progress_bar=False``. Scoring is in float32. Processes share training and scoring, and
        all end with the same model; save and write from one of them. Three more are taken: ``num_workers``
        processes prepare batches (0 for backed counts, whose open file cannot be shared); ``compile=True`` lets
        `torch.compile` translate the network first, which takes about a minute, so it pays for long trainings; and
        ``counts="corrected"`` says that counts were freed of ambient RNA (SoupX, DecontX, CellBender) and may be
        fractions. They keep the noise of the counts that they were made of, which is taken from the fewest counts that
        these can have been. The model remembers it.

    Returns
    -------
    The fitted model. Writes into ``adata``:

    - ``obsm["X_{key_added}"]``: bottleneck embedding xi, (n_obs, latent_dim) float32.
    - ``obs["{key_added}_score"]``: standard deviations of the slice's healthy spots beyond its border between healthy
      and abnormal ones; higher is more anomalous.
    - ``obs["{key_added}_pvalue"]``: conformal p-value against spots of healthy slides that were left out.
    - ``obs["{key_added}_slice_pvalue"]``: probability that a healthy spot of the same slice lies at least as far.
    - ``obs["{key_added}_modalities"]``: modalities that each spot was judged by.
    - ``obs["{key_added}_call"]``, ``obs["{key_added}_anomaly"]``, ``uns["{key_added}_slides"]``: calls, and a verdict
      per slide, as `call` writes them. Asked is "any" with ``fdr``, or "part" where the reference was found in the
      slides.
    - ``obsm["{key_added}_probability"]``, with ``labels_key``: probability of each class, (n_obs, classes) float32, in
      the order of ``uns["{key_added}"]["classes"]``; ``obs["{key_added}_label"]``: the most probable, categorical.
    - ``obsm["X_{key_added}_genome"]``, with the modality ``"genome"``: profile along the chromosomes, (n_obs, windows)
      float32; ``uns["{key_added}"]["genome"]`` has ``chromosome``, ``start`` and ``end`` of its windows.
    - ``uns["{key_added}"]``: version, parameters (beta, M_l, M_u, seed, ...) and history per epoch; ``modalities`` and
      ``shifts`` of slices, as `score` says; ``groups``, which `call` needs.
    - ``obs["omib_reference"]``, ``obs["omib_reference_score"]`` and ``uns["omib_reference"]``, where the reference was
      found in the slides: as by `omib_spatial.pp.find_reference`.
    - ``obsm["X_image"]``, ``uns["X_image"]``: features of an image encoder that is not trained, with a fingerprint per
      slice, so that a later run need not compute them again. An ``obsm["X_image"]`` of the user's own is left alone.

    A spot without any modality gets NaN and is not called.

    Raises
    ------
    KeyError
        A key that does not exist; an image without scale factor.
    ValueError
        An argument out of its range; a ``key_added`` under which something else is kept; counts that are not raw;
        coordinates missing, duplicated or off the image; several slices without
        ``library_key``; fewer than 40 reference spots; labels of one class, or fewer than 5 of one; no telling which
        class is healthy; nothing that says what is healthy; a graph or donors that cannot be; nothing that varies;
        ``resume`` of a training on other data; a training that diverges; a view. ``adata`` stays as it was.
    TypeError
        ``reference_key`` that is not boolean; labels that are numbers with a fraction; an argument that neither this
        function nor `lightning.Trainer` has.
    KeyboardInterrupt
        On Ctrl-C; the state after the last complete epoch is in ``resume``.

    Warns
    -----
    UserWarning
        Images or features that are there and are not used, slices that lack a modality, and features of ``obsm`` that
        may be noise, with what to do.

    Examples
    --------
    >>> from omib_spatial import datasets, tl
    >>> adata = datasets.simulate_tissue(3, n_spots=80, n_genes=60)
    >>> model = tl.fit(adata, reference_key="healthy", library_key="library_id", max_epochs=6)
    >>> float(adata.obs["omib_score"].notna().mean())
    1.0
    """
    refuse_two_references(reference_key, labels_key, all_healthy)
    own_objective, objective = objective, choose_objective(objective, labels_key)
    counts = checked_value("counts", trainer_kwargs.pop("counts", "raw"), CountsKind)
    config, calibration, options = chosen_settings(
        fit, objective, config, calibration, max_epochs, resume, trainer_kwargs
    )
    check.refuse_view(adata)
    check.load_tables(adata)
    check.require_column(adata, donor_key, "donor_key")
    layout = Layout(layer, spatial_key, library_key, image_key, neighbors_key, n_neighbors, counts)
    tissue = Tissue(adata, layout, donor_key)
    chosen = copied(choose_modalities(tissue, modalities), "modalities")
    inputs = [reference_key, labels_key, donor_key]
    check_results_key(adata, key_added, [*read_keys(layout, chosen.values()), *filter(None, inputs)])
    own = own_encoders(encoders, chosen)
    check_input(tissue, chosen.values(), required=True)
    warn_of_gaps(tissue)
    warn_of_copies(tissue)
    if modalities is None:
        warn_of_unused(tissue, chosen, key_added)
    labels = None if labels_key is None else read_labels(adata, labels_key)
    healthy = healthy_classes(labels, healthy_label, required=reference_key is None)
    reference, contrast = choose_reference(
        tissue,
        reference_key=reference_key,
        all_healthy=all_healthy,
        labels=labels,
        healthy=healthy,
        modalities=chosen.values(),
    )
    if contrast is not None and modalities is None:
        chosen |= {"contrast": contrast}
    if contrast is not None and own_objective is None:
        objective = OBJECTIVES["summaries"]
    if modalities is None:
        leave_out_rare(tissue, chosen, reference)
    warn_of_noise(tissue, chosen.values(), reference.spots)
    record = {"fdr": fdr, "reference_key": reference_key or ("" if contrast is None else REFERENCE)}
    settings = TrainingSettings(objective, config, fresh_seed() if seed is None else seed)
    if labels is not None:
        settings = replace(settings, classes=labels.classes, class_weights=labels.weights())
        record |= {"labels_key": labels_key, "healthy_label": healthy}
    model, prepared = fit_model(
        tissue,
        chosen,
        reference,
        encoders=own,
        settings=settings,
        calibration=calibration,
        options=options,
        record=record,
    )
    judge(adata, model, tissue, prepared, device=options.device, key_added=key_added, contrast=contrast)
    if contrast is not None:
        point_to_cross_fit(tissue)
    return model
