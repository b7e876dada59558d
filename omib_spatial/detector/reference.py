"""What a model learns from."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np


@dataclass(frozen=True)
class Reference:
    """Healthy spots and, where there are any, annotated classes.

    Attributes
    ----------
    spots
        Healthy ones that distances are learned from, (n_obs,) bool.
    labels
        Class of each spot, negative where it is not known, (n_obs,); None where no classes are learned.
    healthy_classes
        Which classes are healthy, (n_classes,) bool; None without labels.
    healthy_side
        Where the reference was found on the slides, all of their healthy side, of which it is the surest part, (n_obs,)
        bool. The rest of it says how far healthy spots lie, for the reference is nearer than these. Summaries then take
        their axes from all spots: a found reference varies along other axes than what it is to be told from.
    """

    spots: np.ndarray
    labels: np.ndarray | None = None
    healthy_classes: np.ndarray | None = None
    healthy_side: np.ndarray | None = None

    @property
    def found(self) -> bool:
        """Whether it was found on the slides that are to be judged, and not given."""
        return self.healthy_side is not None

    @property
    def taught(self) -> np.ndarray:
        """Spots that the network learns from, (n_obs,) bool."""
        return self.spots if self.labels is None else self.labels >= 0

    @property
    def beside(self) -> np.ndarray:
        """Spots of the healthy side that nothing is learned from, (n_obs,) bool."""
        return np.zeros_like(self.spots) if self.healthy_side is None else self.healthy_side & ~self.spots

    @property
    def known(self) -> np.ndarray:
        """Spots of which something is known, (n_obs,) bool: neighbours that an average may take in calibration."""
        return self.spots | (self.beside if self.labels is None else self.taught)

    def without(self, held_out: np.ndarray) -> Self:
        """The same where nothing is known of the spots ``held_out`` (n_obs,) bool, but which side they are on."""
        labels = None if self.labels is None else np.where(held_out, -1, self.labels)
        return replace(self, spots=self.spots & ~held_out, labels=labels)
