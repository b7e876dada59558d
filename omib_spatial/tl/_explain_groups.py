"""Groups of spots that are explained."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
from anndata import AnnData

from omib_spatial._keys import ABNORMAL, Written
from omib_spatial.slides.results import recorded_params, require_scored
from omib_spatial.slides.slides import library_codes

CALLED = "called"
"""Group of all called spots."""


@dataclass(frozen=True)
class Groups:
    """Groups of spots that are explained.

    Attributes
    ----------
    names, of
        Of each group, and the ``obs`` column that it is of.
    members
        (g, n_obs) bool.
    called
        (n_obs,) bool, of the spots that have a score.
    """

    names: list[str]
    of: list[str]
    members: np.ndarray
    called: np.ndarray

    @classmethod
    def read(cls, adata: AnnData, keys: Written, groupby: str | Sequence[str] | None) -> Self:
        """All called spots, those of each slice where there are several, and the groups of columns.

        Raises
        ------
        KeyError
            There is no score, no call, or no such column.
        """
        require_scored(adata, keys, keys.score, keys.call, record=True)
        columns = [groupby] if isinstance(groupby, str) else list(() if groupby is None else groupby)
        if missing := [name for name in columns if name not in adata.obs]:
            raise KeyError(f"obs has no column {missing}: groupby is one of {list(adata.obs)}.")
        if measured := [name for name in columns if pd.api.types.is_float_dtype(adata.obs[name].dtype)]:
            raise TypeError(
                f"obs[{measured[0]!r}] holds measured numbers, and groupby= needs groups: cut it into some, as by "
                "pandas.cut."
            )
        if groupby is None and keys.region in adata.obs:
            columns = [keys.region]
        scored = np.isfinite(adata.obs[keys.score].to_numpy(np.float64))
        called = (adata.obs[keys.call] == ABNORMAL).to_numpy(bool) & scored
        found = [(CALLED, keys.call, called)]
        library = recorded_params(adata.uns, keys.uns).get("library_key") or None
        if library in adata.obs and len(names := library_codes(adata, library, missing_ok=True)[1]) > 1:
            own = adata.obs[library].astype(str).to_numpy()
            found += [(f"{CALLED}: {name}", keys.call, called & (own == name)) for name in dict.fromkeys(own)]
        for column in columns:
            values = adata.obs[column].astype("category")
            found += [(str(c), column, (values == c).to_numpy(bool) & scored) for c in values.cat.categories]
        kept = [group for group in found if group[2].any()]
        names, of, members = (list(part) for part in zip(*kept, strict=True)) if kept else ([], [], [])
        return cls(names, of, np.array(members, bool).reshape(len(kept), adata.n_obs), called)

    @property
    def sizes(self) -> np.ndarray:
        """Spots of each group, (g,)."""
        return self.members.sum(1)

    @property
    def weights(self) -> np.ndarray:
        """(n_obs, g): sums with them are means over each group."""
        return (self.members / np.maximum(self.sizes, 1)[:, None]).T.astype(np.float64)
