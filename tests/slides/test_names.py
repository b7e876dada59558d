import anndata as ad
import numpy as np
import pytest

from omib_spatial.slides.names import check_reference_key, check_results_key

RUN = {"version": "1", "params": {}}
FOUND = {"answered": [], "agreement": []}


@pytest.fixture
def adata() -> ad.AnnData:
    return ad.AnnData(np.ones((3, 2)), obsm={"spatial": np.ones((3, 2))})


@pytest.mark.parametrize("key", ["spatial", "image", "X_image", "omib_reference"])
def test_names_of_others_are_refused_whether_they_are_there_or_not(adata, key):
    with pytest.raises(ValueError, match="holds something else"):
        check_results_key(adata, key)
    if key != "omib_reference":
        with pytest.raises(ValueError, match="holds something else"):
            check_reference_key(adata, key)


@pytest.mark.parametrize(
    ("slot", "key"),
    [("obs", "mine_score"), ("obs", "mine_label"), ("obsm", "X_mine"), ("obsm", "mine_probability"), ("uns", "mine")],
)
def test_what_another_wrote_is_not_written_over_and_what_a_run_wrote_is(adata, slot, key):
    getattr(adata, slot)[key] = np.ones((3, 1)) if slot == "obsm" else np.ones(3)
    with pytest.raises(ValueError, match=rf"{slot}\['{key}'\] is there.*another key_added=, or delete it"):
        check_results_key(adata, "mine")
    adata.uns["mine"] = RUN
    check_results_key(adata, "mine")
    check_results_key(adata, "other")


@pytest.mark.parametrize("read", ["mine_score", "X_mine", "mine_label"])
def test_what_is_read_is_not_written_over(adata, read):
    adata.uns["mine"] = RUN
    with pytest.raises(ValueError, match=f"would write over '{read}', which is read"):
        check_results_key(adata, "mine", ["library", read])


def test_a_column_of_the_users_is_not_taken_for_a_reference_that_was_found(adata):
    adata.obs["healthy"] = True
    with pytest.raises(ValueError, match=r"obs\['healthy'\] is there"):
        check_reference_key(adata, "healthy")
    adata.uns["healthy"] = FOUND
    check_reference_key(adata, "healthy")
    check_reference_key(adata, "omib_reference")
