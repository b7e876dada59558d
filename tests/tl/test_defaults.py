import warnings

import numpy as np
import pytest

import omib_spatial as omib


def slide(n_with_image: int):
    """One slide whose picture is blank under all but some spots."""
    adata = omib.datasets.simulate_tissue(1, n_spots=160, n_genes=60, n_healthy=1)
    (entry,) = adata.uns["spatial"].values()
    scale, diameter = (entry["scalefactors"][k] for k in ("tissue_hires_scalef", "spot_diameter_fullres"))
    image = entry["images"]["hires"]
    blank = np.ones(image.shape[:2], bool)
    for x, y in adata.obsm["spatial"][:n_with_image] * scale:
        reach = diameter * scale / 2
        blank[int(y - reach) : int(y + reach), int(x - reach) : int(x + reach)] = False
    image[blank] = image[0, 0]
    return adata


def fitted(adata, **options):
    return omib.tl.fit(adata, all_healthy=True, max_epochs=2, enable_progress_bar=False, **options)


@pytest.mark.parametrize("n_with_image", [0, 3])
def test_a_default_modality_that_few_reference_spots_have_is_left_out_with_a_warning(n_with_image):
    with pytest.warns(UserWarning, match=r"Left out: 'image', which \d+ of 160 reference spots have"):
        model = fitted(slide(n_with_image))
    assert "image" not in model.modalities and "gene" in model.modalities


def test_one_that_was_named_is_an_error():
    with pytest.raises(ValueError, match="No reference spot has an image|reference spots have all of"):
        fitted(slide(3), modalities=["gene", "image"])


def test_an_image_of_all_spots_stays():
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Left out")
        assert "image" in fitted(slide(160)).modalities


def test_the_best_image_is_taken_by_fit_and_score_where_no_key_is_given():
    adata = slide(160)
    expected = fitted(adata.copy())
    (entry,) = adata.uns["spatial"].values()
    entry["images"]["lowres"] = entry["images"].pop("hires")
    entry["scalefactors"]["tissue_lowres_scalef"] = entry["scalefactors"].pop("tissue_hires_scalef")
    with pytest.warns(UserWarning, match="pass image_key='lowres'"):
        assert "image" not in fitted(adata.copy()).modalities
    best = fitted(adata, image_key=None)
    assert best.layout.image_key is None
    omib.tl.score(adata, best)
    first = adata.obs["omib_score"].copy()
    omib.tl.score(adata, expected, image_key="lowres")
    assert np.array_equal(adata.obs["omib_score"], first)
    with pytest.warns(UserWarning, match="pass image_key='lowres'"):
        omib.tl.score(adata, expected)
