"""Which spots of an AnnData a fit takes for healthy."""

from collections.abc import Collection

import numpy as np

from omib_spatial._keys import REFERENCE
from omib_spatial.detector.reference import Reference
from omib_spatial.modalities import Contrast, Image, Modality
from omib_spatial.pp._find_reference import reference_of
from omib_spatial.slides import Tissue
from omib_spatial.slides import validation as check
from omib_spatial.slides.labels import Labels

WAYS_ON = (
    "Ways on: mark healthy spots in a boolean obs column and pass reference_key= its name; fit on healthy slides "
    "and score this one with the model; if most of a slide is healthy for certain, try "
    "omib_spatial.pp.find_reference(adata, mostly_healthy=True), which marks spots where it can tell, and pass "
    "reference_key='omib_reference'; or, only if all of it is healthy, fit with all_healthy=True."
)


def choose_reference(
    tissue: Tissue,
    *,
    reference_key: str | None,
    all_healthy: bool,
    labels: Labels | None,
    healthy: list[str],
    modalities: Collection[Modality],
) -> tuple[Reference, Contrast | None]:
    """Healthy spots: those marked, those of a healthy class, all if the user says so, or those that slides tell of.

    Parameters
    ----------
    tissue
        All spots.
    reference_key, all_healthy
        As of `omib_spatial.tl.fit`.
    labels
        Annotated classes, if there are any.
    healthy
        Names of the healthy ones.
    modalities
        Of the fit: slides are asked by the `Contrast` among them, else by one that sees the image if they do.

    Returns
    -------
    reference
        What is learned from.
    contrast
        What the slides told, where the reference was found in them.

    Raises
    ------
    ValueError
        Nothing says what is healthy and no slide tells, or ``obs`` says something else than the slides.
    """
    adata, classes = tissue.adata, {}
    if labels is not None:
        classes = {"labels": labels.codes, "healthy_classes": np.isin(labels.classes, healthy)}
    if all_healthy or reference_key is not None or healthy:
        marked = labels.among(healthy) if labels is not None and healthy else None
        return Reference(check.reference_mask(adata, reference_key, marked), **classes), None
    named = [each for each in modalities if isinstance(each, Contrast)]
    contrast = named[0] if named else Contrast(image=any(isinstance(each, Image) for each in modalities))
    contrast.check(tissue, required=False)
    reference, _ = reference_of(tissue, contrast)
    if not reference.any():
        reasons = " ".join(
            f"{f'Slide {name!r}' if name else 'The slide'}: {found.reason}"
            for name, found in contrast.found(tissue).items()
        )
        raise ValueError(f"Nothing says which spots are healthy, and no slide tells by itself. {reasons} {WAYS_ON}")
    if REFERENCE in adata.obs and not np.array_equal(adata.obs[REFERENCE].to_numpy(), reference):
        raise ValueError(
            f"obs[{REFERENCE!r}] is there, and is not what the slides tell: pass reference_key={REFERENCE!r} to use "
            "it, or delete it to have the reference found again."
        )
    return Reference(reference, **classes, healthy_side=contrast.healthy_side(tissue)), contrast


def refuse_two_references(reference_key: str | None, labels_key: str | None, all_healthy: bool) -> None:
    """Raise where ``all_healthy`` is no bool, or something else says what is healthy too."""
    if not isinstance(all_healthy, bool | np.bool_):
        raise TypeError(f"all_healthy is True or False, not {all_healthy!r}.")
    for name, value in (("reference_key", reference_key), ("labels_key", labels_key)):
        if all_healthy and value is not None:
            raise ValueError(f"all_healthy=True says that every spot is healthy, {name}= that some are: leave out one.")
