import numpy as np
import pandas as pd
import pytest

import omib_spatial as omib
from omib_spatial.slides.off_tissue import off_tissue, under_tissue

KINDS = {
    "numbers": lambda mask: mask.astype(int),
    "fractions": lambda mask: mask.astype(float),
    "truth values": lambda mask: mask,
    "text": lambda mask: mask.astype(int).astype(str),
    "categories": lambda mask: pd.Categorical(mask.astype(int)),
}


def slide(column=None):
    adata = omib.datasets.simulate_tissue(1, n_spots=80, n_genes=60, n_healthy=1, image=False)
    if column is not None:
        adata.obs["in_tissue"] = column
    return adata


@pytest.mark.parametrize("kind", KINDS)
def test_spots_beside_the_tissue_are_refused_by_whoever_reads_them(kind, content):
    inside = np.arange(80) % 5 > 0
    adata = slide(KINDS[kind](inside))
    assert (off_tissue(adata) == ~inside).all()
    before = content(adata)
    for function in (omib.pp.check, omib.pp.find_reference, lambda adata: omib.tl.fit(adata, all_healthy=True)):
        with pytest.raises(
            ValueError, match=r"16 of 80 spots lie beside the tissue .*adata\[adata\.obs\['in_tissue'\]"
        ):
            function(adata)
    assert content(adata) == before
    kept = under_tissue(adata)
    assert kept.n_obs == 64 and list(kept.obs_names) == list(adata.obs_names[inside])
    model = omib.tl.fit(kept, all_healthy=True, modalities=["gene"], max_epochs=3)
    with pytest.raises(ValueError, match="16 of 80 spots lie beside"):
        omib.tl.score(adata, model)
    # What the message says to do.
    assert adata[adata.obs["in_tissue"].astype(int) == 1].n_obs == 64


@pytest.mark.parametrize("column", [None, 1, 0, np.nan, "yes"])
def test_a_column_that_tells_no_spots_apart_says_nothing(column):
    adata = slide(column)
    assert not off_tissue(adata).any() and under_tissue(adata) is adata
    omib.pp.check(adata)
