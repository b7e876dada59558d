"""Which spots of an AnnData a fit takes for healthy."""

import numpy as np

from omib_spatial.modalities.contrast import Contrast
from omib_spatial.pp import reference_of
from omib_spatial.slides import Tissue
from omib_spatial.slides import validation as check
from omib_spatial.slides.labels import Labels

WAYS_ON = (
    "Three ways on: mark healthy spots in a boolean obs column and pass reference_key= its name; fit on healthy slides "
    "and score this one with the model; or, only if all of it is healthy, pass all_healthy=True."
)


def choose_reference(
    tissue: Tissue,
    *,
    reference_key: str | None,
    all_healthy: bool,
    labels: Labels | None,
    healthy: list[str],
) -> tuple[np.ndarray, Contrast | None]:
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

    Returns
    -------
    reference
        (n_obs,) bool.
    contrast
        What the slides told, where the reference was found in them.

    Raises
    ------
    ValueError
        Two things say what is healthy, or nothing does and no slide tells.
    """
    adata = tissue.adata
    if all_healthy:
        if reference_key is not None or labels is not None:
            other = "reference_key" if reference_key is not None else "labels_key"
            raise ValueError(
                f"all_healthy=True says that every spot is healthy, {other}= that some are: leave out one."
            )
        return check.reference_mask(adata, None), None
    if reference_key is not None or (labels is not None and healthy):
        marked = labels.among(healthy) if labels is not None and healthy else None
        return check.reference_mask(adata, reference_key, marked), None
    contrast = Contrast()
    contrast.check(tissue, required=False)
    reference, _ = reference_of(tissue, contrast)
    if not reference.any():
        reasons = " ".join(f"Slide {name!r}: {found.reason}" for name, found in contrast.found(tissue).items())
        raise ValueError(f"Nothing says which spots are healthy, and no slide tells by itself. {reasons} {WAYS_ON}")
    return reference, contrast
