"""Cross-fitting: the slides of every donor scored by a model of the other donors."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
from anndata import AnnData
from scipy import sparse
from tqdm import tqdm

from omib_spatial._checked import Key, KeyAdded
from omib_spatial._keys import IMAGE_FEATURES, REFERENCE, SPATIAL, Written
from omib_spatial._settings import muted, settings
from omib_spatial._threads import few_threads
from omib_spatial._warn import EachOnce, ScoredWarning, warn
from omib_spatial.detector import AnomalyModel
from omib_spatial.modalities import Contrast, Image, check_input, choose_modalities
from omib_spatial.pp._find_reference import write_reference
from omib_spatial.slides import Layout, Tissue
from omib_spatial.slides import validation as check
from omib_spatial.slides.names import check_results_key
from omib_spatial.slides.slides import named
from omib_spatial.tl._call import remove_what_rested_on_calls
from omib_spatial.tl._fit import fit
from omib_spatial.tl._join_results import join_results
from omib_spatial.tl._notices import LESS, warn_of_missing
from omib_spatial.tl._score import score
from omib_spatial.tl._spatialdata import accepts_spatialdata
from omib_spatial.tl._write import remove_results, unchanged_on_error

_REFUSED = ("resume", "all_healthy")
"""Arguments of `fit` that would mean something else here."""


@accepts_spatialdata
@few_threads
def cross_fit(
    adata: AnnData,
    *,
    library_key: Key | None = None,
    donor_key: Key | None = None,
    key_added: KeyAdded = "omib",
    table_key: Key = "table",
    **options: Any,
) -> dict[str, AnomalyModel]:
    """Score the slides of every donor by a model that was fitted on the other donors.

    For a cohort without a healthy reference of its own, and wherever scores are to be compared with the truth. `fit`
    scores the slides that it learned from; what it took for healthy on a slide and is not, it then cannot see there.
    Here no slide is judged by a model that has seen its donor. Where nothing says what is healthy, each slide's own
    evidence is still a part of its score, as in `fit`.

    Parameters
    ----------
    adata
        Slides of two donors at least, better of five or more, or a SpatialData with such a table.
    library_key
        ``obs`` column that separates slices.
    donor_key
        ``obs`` column of patients or animals. None takes every slice as a donor of its own: sections of one patient
        then learn from each other.
    key_added
        Prefix of results.
    table_key
        Table of a SpatialData that is read and written.
    options
        All else that `fit` takes, but for ``resume`` and ``all_healthy``: ``reference_key``, ``labels_key``,
        ``modalities``, ``image_key``, ``seed``, ``max_epochs``, ...

    Returns
    -------
    Model by name of the donor that it has not seen. Writes the keys of `score`, each slide's as by the model of the
    other donors, but for ``obsm["X_{key_added}"]`` and what is drawn of single modalities: spaces of several models
    are not one space. For these, and for `explain` and `clones`, score one donor's slides with its model.
    ``uns[key_added]["params"]`` has what all models share. Where the reference was found on the slides, also
    ``obs["omib_reference"]`` and ``uns["omib_reference"]``, as `omib_spatial.pp.find_reference` writes them.

    Raises
    ------
    KeyError, TypeError, ValueError
        As `fit` and `score`, but for what is warned of; the message names the donor that was left out. Also with fewer
        than two donors, or spots of none. ``adata`` stays as it was.

    Warns
    -----
    UserWarning
        Donors of whom the others' slides give no model, as where too few of these are healthy: they are not scored, and
        the table of slides says why. Where this is so of all donors, it is an error.

    References
    ----------
    Cross-fitting: Chernozhukov et al. 2018, doi:10.1111/ectj.12097; leaving one patient out is its form here.

    Examples
    --------
    >>> cohort = omib.datasets.simulate_tissue(2, n_spots=80, n_genes=60, n_healthy=2)
    >>> options = {"reference_key": "healthy", "modalities": ["gene"], "max_epochs": 6}
    >>> models = omib.tl.cross_fit(cohort, library_key="library_id", **options)
    >>> list(models), float(cohort.obs["omib_score"].notna().mean())
    (['slide1', 'slide2'], 1.0)
    """
    check.require_anndata(adata)
    if refused := [name for name in _REFUSED if options.get(name) is not None and options[name] is not False]:
        raise TypeError(f"cross_fit takes no {refused[0]}=: it is for `omib_spatial.tl.fit`.")
    check.refuse_view(adata)
    check.load_tables(adata)
    donors = _donors(adata, donor_key or library_key)
    keys = Written(key_added)
    check_results_key(adata, key_added, [key for key in (library_key, donor_key) if key])
    given = {"library_key": library_key, "donor_key": donor_key, "enable_progress_bar": False, **options}
    # What is wrong with one slide would show only when it is learned from, after a training.
    check_slides(adata, library_key, donor_key, options)
    pictures = _pictures(adata, library_key, options)
    models, scored, failed = dict[str, AnomalyModel](), list[AnnData](), dict[str, ValueError]()
    shown = settings.verbosity > 0 and options.get("enable_progress_bar") is not False
    with EachOnce(LESS), muted():
        for name in tqdm(dict.fromkeys(donors), desc="donors left out", disable=not shown):
            own = _part(adata, donors == name, pictures, library_key)
            try:
                models[name] = fit(_part(adata, donors != name, pictures, library_key), key_added=key_added, **given)
            except (KeyError, TypeError, np.linalg.LinAlgError) as error:
                raise type(error)(_without(name, error)) from error
            except ValueError as error:
                # What the others' slides do not give is no reason to leave the rest of the cohort without scores.
                failed[name] = error
                continue
            try:
                score(own, models[name], library_key=library_key, key_added=key_added)
            except (KeyError, TypeError, ValueError) as error:
                raise type(error)(_without(name, error)) from error
            scored.append(own)
    if not models:
        name, first = next(iter(failed.items()))
        raise ValueError(_without(name, first)) from first
    reasons = {name: _without(name, error) for name, error in failed.items()}
    with unchanged_on_error(adata):
        remove_results(adata, keys)
        remove_what_rested_on_calls(adata, keys)
        join_results(adata, keys, donors, scored, reasons)
        # With reference_key= the marks are the user's, whoever made them, and stay.
        if not options.get("reference_key") and adata.uns[keys.uns]["params"].get("reference_key") == REFERENCE:
            layout = next(iter(models.values())).layout
            write_reference(adata, Tissue(adata, layout), _contrast(models))
    for reason in reasons.values():
        warn(f"Not scored: {reason}", ScoredWarning)
    blind = _warn_of_pictures(adata, donors, models, library_key, options)
    judged = adata.uns[keys.uns]["modalities"]
    others = ~np.isin(judged["slice"], blind)
    pictured = Tissue(adata, _layout(library_key, options)).images if "image" in judged["modality"] else ()
    warn_of_missing(judged | {name: judged[name][others] for name in ("slice", "share")}, {"image": pictured})
    return models


def check_slides(adata: AnnData, library_key: str | None, donor_key: str | None, options: Mapping[str, Any]) -> None:
    """Raise what `fit` and `score` would of slides whose counts, places or images cannot be read.

    Parameters
    ----------
    adata, library_key, donor_key, options
        As in `cross_fit`.
    """
    tissue = Tissue(adata, _layout(library_key, options), donor_key)
    with muted():
        modalities = choose_modalities(tissue, options.get("modalities")).values()
    check_input(tissue, modalities, required=False)


def _without(name: str, error: Exception) -> str:
    return f"Without donor {name!r}: {error.args[0] if error.args else error}"


def _warn_of_pictures(
    adata: AnnData,
    donors: np.ndarray,
    models: Mapping[str, AnomalyModel],
    library_key: str | None,
    options: Mapping[str, Any],
) -> list[str]:
    """Say which donors have images that none of the others' models reads, where nobody chose the modalities.

    Returns
    -------
    Slices of these donors.
    """
    if options.get("modalities") is not None:
        return []
    tissue = Tissue(adata, _layout(library_key, options))
    pictured = np.isin(tissue.codes, [tissue.libraries.index(name) for name in tissue.images])
    blind = [
        name for name, model in models.items() if "image" not in model.modalities and pictured[donors == name].any()
    ]
    if blind:
        warn(
            f"Not used: images of donors {named(blind)}, since too few spots of the others have one to learn from. "
            "Their slides are judged by the other modalities."
        )
    return [tissue.libraries[code] for code in np.unique(tissue.codes[np.isin(donors, blind)])]


def _layout(library_key: str | None, options: Mapping[str, Any]) -> Layout:
    """Where ``adata`` is read, by the options of `fit`."""
    names = [field.name for field in fields(Layout)]
    return Layout(library_key=library_key, **{name: options[name] for name in names if name in options})


def _donors(adata: AnnData, key: str | None) -> np.ndarray:
    """Donor of every spot, (n_obs,) object, in the order in which they come."""
    if key is None:
        raise ValueError("Nothing tells donors apart: pass donor_key=, or library_key= to take each slice as one.")
    if key not in adata.obs:
        raise KeyError(f"obs[{key!r}] does not exist: pass one of {list(adata.obs)}.")
    if (missing := adata.obs[key].isna().to_numpy()).any():
        raise ValueError(f"obs[{key!r}] is missing for spots {named(adata.obs_names, missing)}: fill it in.")
    donors = adata.obs[key].astype(str).to_numpy(object)
    if len(set(donors)) < 2:
        raise ValueError(
            f"obs[{key!r}] has the one donor {donors[0]!r}, and others are needed to learn from: use "
            "omib_spatial.tl.fit(adata), which asks the slides themselves."
        )
    return donors


def _pictures(adata: AnnData, library_key: str | None, options: Mapping[str, Any]) -> AnnData:
    """``adata`` without its counts, with features of its images, which do not depend on who is left out."""
    pictures = AnnData(obs=adata.obs, uns=dict(adata.uns), obsm=dict(adata.obsm))
    encoders = options.get("encoders")
    if options.get("modalities") is None and not (isinstance(encoders, Mapping) and encoders):
        tissue, image = Tissue(pictures, _layout(library_key, options)), Image()
        if image.offered(tissue):
            image.fit(tissue, np.ones(adata.n_obs, bool))
            image.prepare(tissue).keep(pictures)
    return pictures


def _part(adata: AnnData, rows: np.ndarray, pictures: AnnData, library_key: str | None) -> AnnData:
    """A copy of the spots under ``rows`` (n_obs,), with their images and the features of these."""
    part = adata[rows]
    part = part.copy() if isinstance(adata.X, np.ndarray | sparse.spmatrix | sparse.sparray) else part.to_memory()
    if IMAGE_FEATURES in pictures.uns:  # else they are the user's own
        part.obsm[IMAGE_FEATURES] = pictures.obsm[IMAGE_FEATURES][rows]
        part.uns[IMAGE_FEATURES] = pictures.uns[IMAGE_FEATURES]
    if library_key is not None and isinstance(part.uns.get(SPATIAL), Mapping):
        absent = set(adata.obs[library_key].astype(str)) - set(part.obs[library_key].astype(str))
        part.uns[SPATIAL] = {name: entry for name, entry in part.uns[SPATIAL].items() if name not in absent}
    return part


def _contrast(models: Mapping[str, AnomalyModel]) -> Contrast:
    """What the slides were asked by: as `fit` does, by the image where that is a modality."""
    parts = [part for model in models.values() for part in model.modalities.values()]
    found = [part for part in parts if isinstance(part, Contrast)]
    return found[0] if found else Contrast(image=any(isinstance(part, Image) for part in parts))
