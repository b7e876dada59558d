"""Slides of an AnnData as plots, exports and reports find them."""

import anndata as ad
import numpy as np
import pytest

from omib_spatial.slides.scored import scored_slides


def test_the_best_image_stands_in_for_one_that_the_run_knew_and_is_gone():
    adata = ad.AnnData(np.ones((3, 2)), obsm={"spatial": np.array([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]])})
    adata.uns["omib"] = {"params": {"image_key": "hires"}}
    factors = {"tissue_lowres_scalef": 0.5, "tissue_hires_scalef": 1.0}
    adata.uns["spatial"] = {"A": {"images": {"lowres": np.zeros((8, 8, 3), np.uint8)}, "scalefactors": factors}}
    (slide,) = scored_slides(adata)
    assert slide.image.shape == (8, 8, 3) and slide.scale == 0.5
    (slide,) = scored_slides(adata, image_key="hires")
    assert slide.image is None, "that one was asked for"


def test_a_column_that_puts_slides_on_top_of_each_other_is_refused():
    adata = ad.AnnData(np.ones((4, 2)), obsm={"spatial": np.array([[0.0, 0.0], [9.0, 0.0], [0.0, 1.0], [9.0, 1.0]])})
    adata.obs["slide"], adata.obs["layer"], adata.obs["renamed"] = list("AABB"), list("xyxy"), list("ccdd")
    adata.uns["omib"] = {"params": {"library_key": "slide"}}
    assert [slide.name for slide in scored_slides(adata)] == ["A", "B"]
    assert [slide.name for slide in scored_slides(adata, library_key="renamed")] == ["c", "d"]
    with pytest.raises(ValueError, match=r"obs\['layer'\] has spots of several slides as 'x'.*library_key='slide'"):
        scored_slides(adata, library_key="layer")
