"""Which genes a reference measured, and what of a spot's counts another table of genes would have held."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd

from omib_spatial.slides.gene_table import translate
from omib_spatial.slides.rows import CountRows

logger = logging.getLogger("omib_spatial")


@dataclass(frozen=True)
class MeasuredGenes:
    """Genes of the table that a reference came in, and the share of its counts that each has.

    Depth is what counts are normalised by. In a table of other genes it means another thing: with twice as many genes a
    spot has more counts, and every gene of the model seems to be expressed less. So the depth of such a spot is that of
    the genes which both tables have, by the share of the reference's counts that these have.

    Attributes
    ----------
    names
        Of all genes of the table.
    share
        Of the reference's counts, (len(names),) float64, summing to 1.
    """

    names: Sequence[str]
    share: np.ndarray

    def __post_init__(self) -> None:
        if self.share.shape != (len(self.names),) or (self.share < 0).any() or not 0.99 < self.share.sum() < 1.01:
            raise ValueError(f"{len(self.names)} genes have shares of the counts that do not belong to them.")

    @classmethod
    def of(cls, counts: CountRows, names: pd.Index, rows: np.ndarray) -> Self:
        """Genes of a table, by the counts of some spots.

        Parameters
        ----------
        counts, names
            Of the table.
        rows
            Spots of the reference, (n,); some of them have counts.
        """
        pieces = np.array_split(rows, len(rows) // 4096 + 1)
        total = sum((np.asarray(counts[some].sum(0)).ravel() for some in pieces), np.zeros(len(names)))
        return cls([str(name) for name in names], total / total.sum())

    def depth(self, counts: CountRows, var: pd.DataFrame) -> np.ndarray | None:
        """Counts that spots would have in the reference's table, (n_obs,) float64; None where tables are the same.

        Parameters
        ----------
        counts, var
            Of the spots, and of their table.
        """
        place = translate(self.names, var)
        shared = place[place >= 0]
        covered = float(self.share[place >= 0].sum())
        if len(shared) == len(self.names) == len(var) or covered == 0:
            return None
        logger.info(
            "Depth is that of the %d genes that both tables have: %d of var_names and %d of the reference stay aside.",
            len(shared),
            len(var) - len(shared),
            len(self.names) - len(shared),
        )
        return counts.depth(np.sort(shared)) / covered
