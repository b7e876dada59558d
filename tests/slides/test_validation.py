import os
import warnings
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omib_spatial.slides.counts import check_counts
from omib_spatial.slides.shared_genes import check_shared_genes
from omib_spatial.slides.slides import slide_image
from omib_spatial.slides.validation import (
    check_coordinates,
    check_images,
    reference_mask,
    refuse_view,
)

DATA = Path(os.environ.get("OMIB_DATA", Path(__file__).parents[2] / "../shared/data"))


def counts(n: int = 60, genes: int = 9, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).poisson(1.0, (n, genes)).astype(np.float32)


def table(matrix=None, *, slices: int = 2, images: bool = True) -> ad.AnnData:
    """Spots of several slices, 100 x 80 full-resolution pixels each, in an image of half that resolution."""
    matrix = counts() if matrix is None else matrix
    n = matrix.shape[0]
    rng = np.random.default_rng(1)
    library = rng.permutation(np.arange(n) % slices)
    obs = pd.DataFrame({"slice": [f"L{i}" for i in library], "quality": 1.0}, index=[f"s{i}" for i in range(n)])
    adata = ad.AnnData(matrix, obs=obs, obsm={"spatial": rng.uniform(0, 1, (n, 2)) * [100, 80]})
    factors = {"tissue_hires_scalef": 0.5, "spot_diameter_fullres": 8.0}
    adata.uns["spatial"] = {
        f"L{i}": {"images": {"hires": np.full((40, 50, 3), 200, np.uint8)} if images else {}, "scalefactors": factors}
        for i in range(slices)
    }
    return adata


def slot(adata: ad.AnnData, name: str = "L0") -> dict:
    adata.uns["spatial"][name] = {key: dict(value) for key, value in adata.uns["spatial"][name].items()}
    return adata.uns["spatial"][name]


def test_a_view_is_refused_and_a_copy_is_not():
    adata = table()
    refuse_view(adata)
    refuse_view(adata[:5].copy())
    with pytest.raises(ValueError, match=r"adata\.copy\(\)"):
        refuse_view(adata[:5])


def test_columns_of_one_name_are_refused():
    adata = table()
    adata.obs = pd.concat([adata.obs, adata.obs[["quality"]]], axis=1)
    with pytest.raises(ValueError, match=r"^obs has several columns of one name \('quality'\)"):
        refuse_view(adata)
    adata = table()
    adata.obs_names = pd.MultiIndex.from_product([["a"], adata.obs_names])
    if not isinstance(adata.obs_names, pd.MultiIndex):
        pytest.skip("this AnnData makes text of several levels")
    with pytest.raises(TypeError, match="^obs_names is of several levels"):
        refuse_view(adata)


# ------------------------------------------------------------------------------------------------------ coordinates


def test_good_coordinates_pass_also_as_a_frame_and_in_three_dimensions():
    adata = table()
    check_coordinates(adata, library_key="slice")
    adata.obsm["frame"] = pd.DataFrame(np.c_[adata.obsm["spatial"], np.zeros(60)], index=adata.obs_names)
    check_coordinates(adata, "frame", "slice")


def test_two_spots_at_one_place_are_named_but_not_across_slices():
    adata = table()
    first, second = (np.flatnonzero(adata.obs["slice"] == name)[0] for name in ("L0", "L1"))
    adata.obsm["spatial"][first] = adata.obsm["spatial"][second]
    check_coordinates(adata, library_key="slice")
    adata.uns.clear()
    with pytest.raises(ValueError, match="separate slices by library_key=") as error:
        check_coordinates(adata)
    assert all(f"'s{row}'" in str(error.value) for row in (first, second))


# ----------------------------------------------------------------------------------------------------------- images


def test_slices_with_images_are_returned_and_one_may_lack_it():
    adata = table()
    found = check_images(adata, library_key="slice", required=True)
    assert list(found) == ["L0", "L1"]
    assert all(image.pixels is adata.uns["spatial"][name]["images"]["hires"] for name, image in found.items())
    slot(adata)["images"].clear()
    assert list(check_images(adata, library_key="slice", required=True)) == ["L1"]


def test_no_image_is_an_error_only_where_one_is_required():
    adata = table(images=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_images(adata, library_key="slice", required=False) == {}
        assert check_images(ad.AnnData(counts()), library_key=None, required=False) == {}
    with pytest.raises(KeyError, match=r"'lowres'.*\{'L0': \['hires'\], 'L1': \['hires'\]\}"):
        check_images(table(), library_key="slice", image_key="lowres", required=True)


def test_images_under_names_that_no_spot_has_are_not_passed_over_in_silence():
    adata = table()
    adata.obs["slice"] = "sample " + adata.obs["slice"]
    with pytest.warns(UserWarning, match="library_key= matches none"):
        assert check_images(adata, library_key="slice", required=False) == {}
    with pytest.raises(KeyError, match="rename slices"):
        check_images(adata, library_key="slice", required=True)


@pytest.mark.parametrize("corner", [(-4, -4), (104, 84)])
def test_a_spot_may_be_half_off_its_image_and_no_further(corner):
    adata = table()
    row = np.flatnonzero(adata.obs["slice"] == "L1")[3]
    adata.obsm["spatial"][row] = corner
    check_images(adata, library_key="slice", required=True)
    for axis in (0, 1):
        adata.obsm["spatial"][row] = corner
        adata.obsm["spatial"][row, axis] += 0.01 * np.sign(corner[0])
        with pytest.raises(ValueError, match=rf"slice 'L1'.*100 x 80 \(x, y\): 's{row}'\. Check tissue_hires_scalef"):
            check_images(adata, library_key="slice", required=False)


def test_swapped_columns_are_recognised():
    adata = table()
    adata.obsm["spatial"][0] = [99, 1]
    adata.obsm["spatial"] = adata.obsm["spatial"][:, ::-1].copy()
    with pytest.raises(ValueError, match="would fit with the columns swapped"):
        check_images(adata, library_key="slice", required=False)


# -------------------------------------------------------------------------------------------------------- reference


@pytest.mark.parametrize("dtype", [bool, "boolean"])
def test_reference_is_the_column_or_everything(dtype):
    adata = table(counts(120))
    truth = np.arange(120) % 2 == 0
    adata.obs["healthy"] = pd.Series(truth, index=adata.obs_names, dtype=dtype)
    mask = reference_mask(adata, "healthy")
    assert mask.dtype == bool
    assert np.array_equal(mask, truth)
    assert reference_mask(adata, None).all()
    with pytest.raises(KeyError, match="reference_key= one of"):
        reference_mask(adata, "absent")


def test_too_few_reference_spots():
    adata = table(counts(60))
    adata.obs["healthy"] = np.arange(60) < 39
    with pytest.raises(ValueError, match=r"39 reference spots, at least 40"):
        reference_mask(adata, "healthy")
    assert reference_mask(adata, "healthy", minimum=39).sum() == 39
    with pytest.raises(ValueError, match="adata has 20 reference spots"):
        reference_mask(adata[:20].copy(), None)


@pytest.mark.parametrize(
    "values", [["normal", "tumour"], [0, 1], [True, None], [1.0, np.nan], pd.Categorical(["normal", "tumour"])]
)
def test_reference_of_another_type_shows_how_to_make_one_that_works(values):
    adata = table(counts(120))
    adata.obs["label"] = pd.Categorical(list(values) * 60) if hasattr(values, "codes") else list(values) * 60
    if True in list(values) and None in list(values):
        adata.obs["label"] = adata.obs["label"].astype("boolean")
    with pytest.raises(TypeError, match="must be boolean") as error:
        reference_mask(adata, "label")
    advice = str(error.value).split("such as ")[1].split(" and pass")[0]
    exec(advice, {"adata": adata})
    assert np.array_equal(reference_mask(adata, "reference"), np.arange(120) % 2 == 0)


# ------------------------------------------------------------------------------------------------------------ genes


def var(names) -> pd.DataFrame:
    return pd.DataFrame(index=list(names))


@settings(max_examples=50)
@given(model=st.lists(st.integers(0, 30), unique=True, min_size=1), seed=st.integers(0, 1000))
def test_positions_lead_to_the_gene_or_nowhere(model, seed):
    target = [f"g{i}" for i in np.random.default_rng(seed).permutation(25)] + ["g30"]
    names = [f"g{i}" for i in model]
    known = [name in target for name in names]
    if not any(known):
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        positions = check_shared_genes(names, var(target))
    assert [target[p] if p >= 0 else None for p in positions] == [
        n if k else None for n, k in zip(names, known, strict=True)
    ]
    assert positions.dtype == np.int64
    assert bool(caught) == (np.mean(known) < 0.8)


def test_few_shared_genes_are_told():
    with pytest.warns(UserWarning, match="Only 50% of the model's 4 genes .* 'c', 'd'"):
        check_shared_genes(list("abcd"), var("abxyz"))


@pytest.mark.parametrize(
    ("model", "target", "hint"),
    [
        (["ERBB2", "GATA3", "KRT5", "ACTB"], ["Erbb2", "Gata3", "Krt5"], "human genes, var_names are of mouse"),
        (["GENE_1", "GENE_2"], ["gene_1", "gene_2"], r"upper and lower case only \('GENE_1', 'gene_1'\)"),
        (
            ["NOGENE1", "NOGENE2"],
            ["ENSG99999999998", "ENSG99999999999"],
            "Ensembl ids are in var_names, gene symbols in the m",
        ),
        (["ENSMUSG99999999999"], ["Nogene1"], "Ensembl ids are in the model, gene symbols in var_names"),
        (["ENSG99999999998"], ["ENSG99999999999.12"], "version suffixes"),
        (["A"], ["B"], "kind of names"),
    ],
)
def test_no_shared_gene_shows_both_sides_and_a_hint(model, target, hint):
    with pytest.raises(ValueError, match=hint) as error:
        check_shared_genes(model, var(target))
    assert str(model[:3]) in str(error.value)
    assert str(target[:3]) in str(error.value)


def test_less_than_a_tenth_of_the_genes_is_refused_and_a_tenth_is_not():
    model = [f"g{i}" for i in range(30)]
    with pytest.warns(UserWarning, match="Only 10%"):
        assert (check_shared_genes(model, var(model[:3])) >= 0).sum() == 3
    others = [f"other{i}" for i in range(40)]
    with pytest.raises(ValueError, match=r"Only 2 of the model's 30 genes \('g0', 'g1'\).*at least 10%") as error:
        check_shared_genes(model, var([*model[:2], *others]))
    assert "'g2', 'g3', 'g4'" in str(error.value) and "'other0', 'other1', 'other2'" in str(error.value)
    assert "kind of names" in str(error.value) and "fit a model" in str(error.value)


def test_two_panels_of_one_species_are_not_taken_for_two_ways_of_naming():
    with pytest.raises(ValueError, match="Both are human genes: .* another panel"):
        check_shared_genes(["ERBB2", "GATA3", "KRT5"], var(["EPCAM", "VIM", "COL1A1"]))


def test_a_table_that_was_cut_is_recognised():
    model = [f"g{i}" for i in range(200)]
    with pytest.raises(ValueError, match="Only 5 of .*The table holds 6 genes only: pass it before it is cut"):
        check_shared_genes(model, var([*model[:5], "another"]))


def test_mouse_genes_whose_names_happen_to_agree_are_still_of_a_mouse():
    human = ["ERBB2", "GATA3", "KRT5", "ACTB", "EPCAM", "KRT8", "VIM", "COL1A1", "CD3E", "MS4A1", "F3"]
    human += [f"KRT{i}" for i in range(9, 20)]
    mouse = [name.capitalize() for name in human]
    with pytest.raises(ValueError, match="Only 1 of .*'F3'.*human genes, var_names are of mouse"):
        check_shared_genes(human, var(mouse))


@pytest.mark.parametrize(
    ("model", "target"),
    [
        (["ERBB2", "KRT5"], ["ENSG00000141736", "ENSG00000186081"]),
        (["ENSMUSG00000061527"], ["Krt5"]),
        (["ENSG00000141736"], ["ENSG00000141736.12"]),
    ],
)
def test_symbols_and_ids_with_and_without_version_are_one_gene(model, target):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_shared_genes(model, var(target)).tolist() == list(range(len(model)))


def test_repeated_target_genes_are_refused():
    with pytest.raises(ValueError, match=r"\('b'\): call adata\.var_names_make_unique\(\)"):
        check_shared_genes(["a"], var("abb"))


# --------------------------------------------------------------------------------------------------------- real data


@pytest.mark.skipif(not (DATA / "her2st").is_dir(), reason=f"no her2st sections in {DATA}; set OMIB_DATA")
@pytest.mark.parametrize("name", ["A1", "B4", "C2", "C3"])
def test_real_sections_pass(name):
    from PIL import Image

    adata = ad.read_h5ad(DATA / "her2st" / f"{name}.h5ad")
    adata.uns["spatial"][name]["images"]["hires"] = np.asarray(Image.open(DATA / "her2st" / f"{name}.jpg"))
    check_counts(adata)
    check_coordinates(adata, library_key="section")
    assert list(check_images(adata, library_key="section", required=True)) == [name]
    image = slide_image(adata, name)
    assert image is not None
    assert not image.outside(adata.obsm["spatial"])[adata.obs["on_image"]].any()
    adata.uns["spatial"][name]["scalefactors"]["tissue_hires_scalef"] = 2.0
    with pytest.raises(ValueError, match="tissue_hires_scalef"):
        check_images(adata, library_key="section", required=True)


@pytest.mark.skipif(not (DATA / "visium_mini").is_dir(), reason=f"no visium_mini folder in {DATA}; set OMIB_DATA")
def test_a_space_ranger_folder_passes():
    import scanpy as sc

    adata = sc.read_visium(DATA / "visium_mini")
    check_counts(adata)
    check_coordinates(adata)
    for key in ("hires", "lowres"):
        assert list(check_images(adata, library_key=None, image_key=key, required=True)) == list(adata.uns["spatial"])


# -------------------------------------------------------------------------------------------------- forgotten slices


def two_slides(apart: float, names: str, grid: bool) -> ad.AnnData:
    place = np.argwhere(np.ones((10, 10)))
    codes = ["".join(np.array(list("ACGT"))[list(np.unravel_index(i, (4,) * 16))]) for i in range(100)]
    slides = []
    for k in range(2):
        tails = {"same": "-1", "aggregated": f"-{k + 1}", "none": ""}[names]
        index = [f"spot{k}{i}" if names == "none" else f"{code}{tails}" for i, code in enumerate(codes)]
        xy = 100.0 * place + k * np.array([apart + 7.3, 4.1])
        obs = pd.DataFrame({"array_row": place[:, 0], "array_col": place[:, 1]} if grid else {}, index=index)
        slides.append(ad.AnnData(obs=obs.assign(section=f"s{k}"), obsm={"spatial": xy}))
    return ad.concat(slides, index_unique="_")


@pytest.mark.parametrize(("names", "grid"), [("same", False), ("aggregated", False), ("none", True)])
def test_two_slides_as_one_are_refused_where_they_overlap_and_told_where_they_do_not(names, grid):
    with pytest.raises(ValueError, match=r"looks like several slides .*pass library_key="):
        check_coordinates(two_slides(0, names, grid))
    with pytest.warns(UserWarning, match=r"looks like several slides .*pass library_key="):
        check_coordinates(two_slides(5000, names, grid))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_coordinates(two_slides(0, names, grid), library_key="section")
        check_coordinates(two_slides(5000, "none", False))  # two pieces of tissue, for all that is known


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no folder {DATA}; set OMIB_DATA")
def test_no_real_slide_looks_like_two():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for path in DATA.rglob("*.h5ad"):
            check_coordinates(ad.read_h5ad(path, backed="r"))
