from collections.abc import Callable, Mapping
from typing import Any

import anndata as ad
import joblib
import pytest
import scipy.sparse as sp


def _plain(value: Any) -> Any:
    if isinstance(value, ad.AnnData):
        slots = (value.obsm, value.varm, value.layers, value.obsp, value.uns)
        return [_plain(part) for part in (value.X, value.obs, value.var, *slots)]
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    # Sparse matrices remember what was found out about them.
    return [value.shape, value.data, value.indices, value.indptr] if sp.issparse(value) else value


@pytest.fixture(scope="session")
def content() -> Callable[[ad.AnnData], str]:
    """A digest of all that an AnnData in memory holds: another one where anything in it is another."""
    return lambda adata: joblib.hash(_plain(adata))
