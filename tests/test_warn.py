import warnings

import numpy as np
import pytest

import omib_spatial as omib
from omib_spatial._warn import EachOnce, OmibWarning, warn


def test_warnings_point_at_the_users_line_however_deep_they_come_from(planted):
    adata = planted(n_genes=300, side=12)
    adata.obsm["protein"] = np.random.default_rng(0).normal(size=(adata.n_obs, 4)).astype(np.float32)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        omib.tl.fit(adata, all_healthy=True, max_epochs=1, enable_progress_bar=False)
    ours = [w for w in caught if issubclass(w.category, OmibWarning)]
    assert ours and {w.filename for w in ours} == {__file__}
    assert issubclass(OmibWarning, UserWarning)


def test_what_is_said_several_times_is_given_once_at_the_end_and_other_libraries_at_once():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(KeyError), EachOnce("Of all"):
            for what in ("Coarse.", "Of all the slides.", "Coarse.", "Dark."):
                warn(what)
            warnings.warn("theirs", RuntimeWarning, stacklevel=1)
            assert [str(w.message) for w in caught] == ["theirs"]
            raise KeyError
    assert [str(w.message) for w in caught] == ["theirs", "Coarse.", "Dark."]
    assert {w.filename for w in caught} == {__file__}
    with warnings.catch_warnings(), pytest.raises(OmibWarning):
        warnings.simplefilter("error")
        with EachOnce():
            warn("An error to whoever asks for errors.")
