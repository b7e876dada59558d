"""What a user would want to know, said once: inputs that nobody reads, and slices that lack a modality."""

import logging
from collections.abc import Collection, Mapping

import numpy as np

from omib_spatial._settings import RESULT, VERDICTS
from omib_spatial._warn import ScoredWarning, warn
from omib_spatial.modalities import Spots
from omib_spatial.slides import Layout, Tissue
from omib_spatial.slides.slides import named
from omib_spatial.slides.unused import unused_features, unused_images

LESS = "Scored on less than the model knows"
"""How the warning of slices that lack a modality begins."""


def warn_of_unused(tissue: Tissue, modalities: Collection[str], key_added: str) -> None:
    """Warn, in one warning, of images and features that are there and are not used.

    Parameters
    ----------
    tissue
        That is read.
    modalities
        Names of those that are used; they were not chosen by the user.
    key_added
        Prefix of results.
    """
    found, image_key = unused_images(tissue), tissue.layout.image_key
    if not found and not tissue.images and image_key not in (None, Layout.image_key):
        found = [f"image_key={image_key!r}, since no slice has an image in uns['spatial']"]
    found += unused_features(tissue, modalities, key_added)
    if found:
        warn(f"Not used: {'; '.join(found)}.")


def warn_of_unused_images(tissue: Tissue) -> None:
    """Warn, in one warning, of images that are there and that no slice has under ``image_key``."""
    if found := unused_images(tissue):
        warn(f"Not used: {'; '.join(found)}.")


def unjudged(tissue: Tissue, prepared: Spots, judged: Spots) -> dict[str, set[str]]:
    """By modality, slices that have it and of which no spot is judged by it.

    Parameters
    ----------
    tissue
        All spots.
    prepared, judged
        With what each spot has, and with what it is judged by.
    """
    slices = {}
    for name in judged.prepared:
        has, by = (set(tissue.codes[spots.prepared[name].present].tolist()) for spots in (prepared, judged))
        slices[name] = {tissue.libraries[code] for code in has - by}
    return slices


def warn_of_missing(shares: Mapping[str, np.ndarray], with_it: Mapping[str, Collection[str]] | None = None) -> None:
    """Warn, in one warning, of slices of which no spot was judged by a modality which the model has.

    Parameters
    ----------
    shares
        ``uns[key_added]["modalities"]``: ``share`` of the spots of every ``slice`` (row) that have each ``modality``.
    with_it
        By modality, those of these slices that have it, as `unjudged` gives them.
    """
    slices, found = np.atleast_1d(shares["slice"]), []
    for name, share in zip(shares["modality"], np.atleast_2d(shares["share"]).T, strict=True):
        has = np.isin(slices, list((with_it or {}).get(name, ())))
        if (lacks := (share == 0) & ~has).any():
            found.append(f"{_these(slices, lacks)} without '{name}'")
        if (unused := (share == 0) & has).any():
            why = "too few healthy slides or spots of the reference have it together with the rest"
            found.append(f"{_these(slices, unused)} judged without its '{name}', since {why}")
    if found:
        also = "Scores of slices that were judged by different modalities compare only in part."
        warn(f"{LESS}: {'; '.join(found)}. {also}", ScoredWarning)


def _these(slices: np.ndarray, some: np.ndarray) -> str:
    """Which of the slices, in words."""
    if len(slices) == 1:
        return "this slice"
    return f"slice{'s' if some.sum() > 1 else ''} {named(slices[some])}"


def point_to_cross_fit(tissue: Tissue) -> None:
    """Say, where several donors' slides were asked for their own reference, that they can judge each other.

    Parameters
    ----------
    tissue
        That was fitted on.
    """
    n_donors = len(set(tissue.donors))
    if n_donors > 1:
        line = (
            "The slides of %d donors were scored by a model that learned from them. omib_spatial.tl.cross_fit scores "
            "each donor's by a model of the others, which ranks better."
        )
        logging.getLogger(VERDICTS).log(RESULT, line, n_donors)
