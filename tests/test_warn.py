import warnings

import numpy as np

import omib_spatial as omib
from omib_spatial._warn import OmibWarning


def test_warnings_point_at_the_users_line_however_deep_they_come_from(planted):
    adata = planted(n_genes=300, side=12)
    adata.obsm["protein"] = np.random.default_rng(0).normal(size=(adata.n_obs, 4)).astype(np.float32)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        omib.tl.fit(adata, all_healthy=True, max_epochs=1, enable_progress_bar=False)
    ours = [w for w in caught if issubclass(w.category, OmibWarning)]
    assert ours and {w.filename for w in ours} == {__file__}
    assert issubclass(OmibWarning, UserWarning)
