"""What was found on each slice, in numbers."""

from typing import Any

import numpy as np
from anndata import AnnData

from omib_spatial._keys import Written


def summary(adata: AnnData, *, library_key: str | None = None, key_added: str = "omib") -> dict[str, Any]:
    """Summarise the scores of every slice, as values that JSON can hold.

    Parameters
    ----------
    adata
        With the results of `omib_spatial.tl.fit` or `omib_spatial.tl.score`.
    library_key
        ``obs`` column that separates slices; None takes the run's, if there is such a column.
    key_added
        Name under which the results were stored.

    Returns
    -------
    ``version``, ``objective``, ``modalities``, ``seed``, ``fdr``, and ``slices`` by name: numbers of ``spots``,
    ``scored`` and ``called``, ``called_fraction`` of those scored and their ``median_score`` (None without any).

    Raises
    ------
    KeyError
        The results or ``library_key`` are not there.
    """
    key = Written(key_added)
    if key.score not in adata.obs or key.uns not in adata.uns:
        raise KeyError(f"obs[{key.score!r}] or uns[{key.uns!r}] does not exist: run fit or score first.")
    run = adata.uns[key.uns]
    own = run["params"]["library_key"]
    column = library_key or (own if own in adata.obs else None)
    if column is not None and column not in adata.obs:
        raise KeyError(f"obs[{column!r}] does not exist: library_key is one of {list(adata.obs)}.")
    names = np.full(adata.n_obs, "all") if column is None else adata.obs[column].astype(str).to_numpy()
    score, called = adata.obs[key.score].to_numpy(float), adata.obs[key.anomaly].to_numpy(bool)
    slices = {str(name): _slice(score[names == name], called[names == name]) for name in dict.fromkeys(names)}
    kept = {name: run["params"][name] for name in ("objective", "seed", "fdr")}
    plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in kept.items()}
    modalities = [str(name) for name in run["params"]["modalities"]]
    return {"version": str(run["version"]), **plain, "modalities": modalities, "slices": slices}


def _slice(score: np.ndarray, called: np.ndarray) -> dict[str, Any]:
    scored = np.isfinite(score)
    n = int(scored.sum())
    return {
        "spots": len(score),
        "scored": n,
        "called": int(called.sum()),
        "called_fraction": float(called.sum() / n) if n else None,
        "median_score": float(np.median(score[scored])) if n else None,
    }
