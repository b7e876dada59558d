import anndata as ad
import numpy as np
import pandas as pd
import pytest

from omib_spatial.modalities.slide_statistics import (
    APPEARANCE,
    COLOURLESS,
    EXPRESSION,
    PER,
    describe_appearance,
    describe_expression,
)
from omib_spatial.slides import Layout, Tissue

COUNTS = np.array([[3, 1, 0, 6], [5, 0, 0, 0], [0, 0, 0, 0], [0, 2, 2, 0], [1, 1, 1, 1]])


def tissue() -> Tissue:
    obs = pd.DataFrame({"slide": list("aaabb")}, index=[f"s{i}" for i in range(5)])
    var = pd.DataFrame(index=["g1", "g2", "g3", "other"])
    return Tissue(
        ad.AnnData(COUNTS.astype(np.float32), obs, var, obsm={"spatial": np.arange(10.0).reshape(5, 2)}),
        Layout(library_key="slide"),
    )


def test_expression_is_depth_and_the_pseudobulk_over_the_models_genes():
    found = describe_expression(tissue(), np.ones(5, bool), ["g3", "g1", "lost"])
    assert list(found) == [0, 1]
    values, profile = found[0]
    assert values[0] == 7.5 and len(values) == len(EXPRESSION)  # of 10 and 5; the empty spot says nothing
    np.testing.assert_allclose(profile, [0, np.log1p(PER), np.nan])
    np.testing.assert_allclose(found[1].profile, [np.log1p(PER * 3 / 4), np.log1p(PER / 4), np.nan])


def test_spots_that_are_not_looked_at_change_nothing():
    visible = np.array([True, False, False, False, False])
    found = describe_expression(tissue(), visible, ["g1", "g2"])
    assert list(found) == [0] and found[0].values[0] == 10
    np.testing.assert_allclose(found[0].profile, np.log1p(PER * np.array([3, 1]) / 4))


def patches(*colour: int) -> np.ndarray:
    return np.broadcast_to(np.array(colour, np.uint8)[None, :, None, None], (4, 3, 8, 8))


@pytest.mark.parametrize(
    ("colour", "saturation", "pinkness"),
    [((200, 100, 180), 0.5, 90 / 160), ((120, 120, 120), 0.0, 0.0), ((55, 155, 75), 100 / 155, -90 / 95)],
)
def test_appearance_is_that_of_the_colours(colour, saturation, pinkness):
    values = describe_appearance(patches(*colour)).values
    np.testing.assert_allclose(values, [np.mean(colour), saturation + COLOURLESS, pinkness, 1])
    assert len(values) == len(APPEARANCE)


def test_contrast_is_that_within_patches():
    half = patches(100, 100, 100).copy()
    half[..., :4] = 60
    assert describe_appearance(half).values[3] == pytest.approx(1 + 20)
