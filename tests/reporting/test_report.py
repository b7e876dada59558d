"""What stands in the page, read without a browser."""

import json
import re
from base64 import b64decode
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import omib_spatial as omib
from omib_spatial._colours import UNKNOWN
from omib_spatial.reporting._layers import categories
from omib_spatial.reporting._picture import patch, picture, view_of
from omib_spatial.reporting._words import calibration, found_on
from omib_spatial.slides.scored import ScoredSlide


def data(path) -> list[dict]:
    text = path.read_text(encoding="utf-8")
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1])


def decoded(uri: str) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(b64decode(uri.split(",", 1)[1]))).convert("RGB")).astype(int)


def test_numbers_are_those_of_the_slides(page, fitted):
    first, second = data(page)
    for slide, name in ((first, "slide1"), (second, "slide2")):
        own = fitted.obs[fitted.obs["library_id"] == name]
        assert slide["spots"] == own.index.tolist()
        score = np.array(slide["layers"]["score"]["values"], float)
        np.testing.assert_allclose(score, own["omib_score"], atol=5e-4)
        assert slide["called"] == (own["omib_call"] == "abnormal").astype(int).tolist()
        regions = fitted.uns["omib_regions"]
        assert [region["name"] for region in slide["regions"]] == regions.index[regions["slice"] == name].tolist()
        truth = slide["layers"]["truth"]
        assert [truth["names"][code] for code in truth["values"]] == own["region"].astype(str).tolist()
    assert first["layers"]["score"]["values"][3] is None and first["posterior"][3] is None


def test_the_posterior_is_that_of_the_calls(page, fitted):
    for slide in data(page):
        known = [value for value in slide["posterior"] if value is not None]
        row = fitted.uns["omib_slides"].loc[slide["name"]]
        score = np.array([value for value in slide["layers"]["score"]["values"] if value is not None])
        # As the run called: everything above 0.
        called = score > 0
        expected = float((1 - np.array(known))[called].mean()) if called.any() else 0.0
        assert expected == pytest.approx(row["expected_false_share"], abs=0.02)


def test_the_page_is_one_file_that_names_no_other(page):
    text = page.read_text(encoding="utf-8")
    own = text.replace(re.search(r"<script>/\*! OpenSeadragon.*?</script>", text, re.S)[0], "")
    assert not re.search("https?://", own)
    assert not re.search(r'(src|href)="(?!data:|#)', own)
    assert "default-src 'none'" in text and len(text) < 10e6
    for words in ("not a medical device", "Parameters and versions", "omib_spatial", "max_epochs"):
        assert words in text


def test_names_cannot_break_out_of_the_page(scored, tmp_path):
    evil = '</script><script>alert("1")</script>'
    scored.obs["library_id"] = scored.obs["library_id"].cat.rename_categories({"slide1": evil})
    scored.uns["spatial"][evil] = scored.uns["spatial"].pop("slide1")
    for key in ("groups", "shifts", "modalities"):
        table = scored.uns["omib"][key]
        table["slice"] = np.where(np.asarray(table["slice"]) == "slide1", evil, table["slice"])
    scored.uns["omib_slides"]["slice"] = [evil, "slide2"]
    scored.uns["omib_regions"]["slice"] = scored.uns["omib_regions"]["slice"].replace("slide1", evil)
    path = omib.report(scored, tmp_path / "r.html", title=evil)
    assert evil not in path.read_text(encoding="utf-8") and data(path)[0]["name"] == evil


def test_nothing_is_written_into_the_slides_and_regions_come_for_the_page(scored, tmp_path, content):
    del scored.uns["omib_regions"], scored.obs["omib_region"], scored.obs["omib_region_zone"]
    before = content(scored)
    path = omib.report(scored, tmp_path / "new" / "r.html", library_id="slide1", spot_diameter_um=55)
    assert content(scored) == before
    (slide,) = data(path)
    omib.tl.regions(scored, spot_diameter_um=55)
    assert len(slide["regions"]) == (scored.uns["omib_regions"]["slice"] == "slide1").sum()


def test_a_file_gives_the_same_page(scored, tmp_path):
    scored.write_h5ad(tmp_path / "s.h5ad")
    one, other = omib.report(scored, tmp_path / "a.html"), omib.report(tmp_path / "s.h5ad", tmp_path / "b.html")
    assert data(one) == data(other)


def test_what_is_missing_is_named_and_nothing_is_written(scored, tmp_path):
    with pytest.raises(KeyError, match="'sane'"):
        omib.report(scored, tmp_path / "r.html", truth_key="sane")
    del scored.uns["omib"]
    with pytest.raises(KeyError, match=r"run omib_spatial\.tl\.score"):
        omib.report(scored, tmp_path / "r.html")
    with pytest.raises(OSError, match="is a folder"):
        omib.report(scored, tmp_path)
    with pytest.raises(ValueError, match=r"let it end with \.html"):
        omib.report(scored, tmp_path / "r.pdf")
    assert not list(tmp_path.iterdir())


def test_of_a_part_of_a_slide_those_calls_are_counted_that_are_there(scored, tmp_path):
    regions, outside = (
        scored.uns["omib_regions"],
        scored.obs["omib_region"].isna() & (scored.obs["library_id"] == "slide1"),
    )
    scored.obs.loc[outside & (scored.obs["omib_call"] == "not called"), "omib_call"] = "abnormal"
    name = regions.index[regions["slice"] == "slide1"][0]
    inside = np.flatnonzero(scored.obs["omib_region"] == name)
    part = scored[np.setdiff1d(np.arange(scored.n_obs), inside[1:])].copy()
    own = part.obs[part.obs["library_id"] == "slide1"]
    n_called = (own["omib_call"] == "abnormal").sum()
    n_inside = (own["omib_region"].notna() & (own["omib_call"] == "abnormal")).sum()
    page = omib.report(part, tmp_path / "r.html", library_id="slide1").read_text()
    assert (
        f"{n_called} of {own['omib_score'].notna().sum()} scored spots are called abnormal, {n_inside} of them" in page
    )


def test_a_slide_whose_name_is_gone_is_still_told(scored, tmp_path):
    own = scored[scored.obs["library_id"] == "slide1"].copy()
    own.uns["spatial"] = {"slide1": own.uns["spatial"]["slide1"]}
    omib.tl.fit(own, modalities=["gene"], all_healthy=True, max_epochs=6)
    omib.tl.regions(own, n_fields=9)
    del own.uns["spatial"]
    assert data(omib.report(own, tmp_path / "r.html"))[0]["name"] == "slide1"


def test_kinds_of_anomaly_are_a_layer(scored, tmp_path):
    called = (scored.obs["omib_call"] == "abnormal").to_numpy()
    scored.obs["omib_subtype"] = pd.Series(np.where(called, "kind 1", None), scored.obs_names).astype("category")
    layer = data(omib.report(scored, tmp_path / "r.html"))[0]["layers"]["subtype"]
    own = called[(scored.obs["library_id"] == "slide1").to_numpy()]
    assert layer["values"] == np.where(own, 0, -1).tolist() and layer["names"] == ["kind 1"]


def test_many_spots_are_numbered(scored, tmp_path, monkeypatch):
    monkeypatch.setattr("omib_spatial.reporting._slide.MOST_NAMED", 149)
    assert data(omib.report(scored, tmp_path / "r.html"))[0]["spots"] == []


def test_numbers_are_no_classes_and_many_classes_share_a_grey(scored, tmp_path):
    scored.obs["share"] = np.linspace(0, 1, scored.n_obs)
    layer = data(omib.report(scored, tmp_path / "r.html", truth_key="share"))[0]["layers"]["truth"]
    assert layer["kind"] == "number" and "Compared with the truth" not in (tmp_path / "r.html").read_text()
    kinds = np.repeat(np.arange(12), np.arange(1, 13))
    layer = categories("a", pd.Series([f"kind {i:02d}" for i in kinds]), "")
    grey = [name for name, colour in zip(layer["names"], layer["colours"], strict=True) if colour == UNKNOWN]
    assert grey == [f"kind {i:02d}" for i in range(4)] and len(set(layer["colours"])) == 9
    assert categories("a", pd.Series(["b", "a", None]), "", {"a": "#123456"})["colours"] == ["#123456", "#E69F00"]


def test_clones_and_their_arms_are_told(planted, tmp_path):
    adata = planted(side=16, n_genes=800)
    omib.tl.fit(adata, modalities=["gene", "genome"], max_epochs=6)
    adata.obs["omib_call"] = adata.obs["clone"].map({True: "abnormal", False: "not called"}).astype("category")
    omib.tl.regions(adata, n_fields=9, spot_diameter_um=55)
    omib.tl.clones(adata)
    text = omib.report(adata, tmp_path / "r.html").read_text(encoding="utf-8")
    arms = adata.uns["omib_clones"]
    called = arms[arms["call"] != "none"]
    assert len(called)
    for arm in called.itertuples():
        sign, kind = ("+", "gain") if arm.call == "gain" else ("−", "loss")
        assert f'<span class="{kind}">{sign}{arm.arm}</span>' in text
    layers = data(tmp_path / "r.html")[0]["layers"]
    assert {"reference", "clone"} <= set(layers)
    taken = np.array(layers["reference"]["values"]) == layers["reference"]["names"].index("taken as healthy")
    np.testing.assert_array_equal(taken, adata.obs["omib_reference"])


def image_slide(xy, **options) -> ScoredSlide:
    image = np.zeros((200, 300, 3), np.uint8)
    image[..., 0] = np.arange(300) * 255 // 299
    image[..., 1] = (np.arange(200) * 255 // 199)[:, None]
    return ScoredSlide("a", np.arange(len(xy)), np.array(xy, float), 20.0, None, options.pop("image", image), 0.5)


def test_the_picture_is_the_part_with_the_spots_at_its_place():
    slide = image_slide([[100, 100], [300, 200]])
    view = view_of(slide)
    assert view == (70, 70, 330, 230)
    uri, scale = picture(slide, view, 1000)
    pixels = decoded(uri)
    assert pixels.shape[:2] == (80, 130) and scale == 0.5
    np.testing.assert_allclose(pixels[40, 60, :2], [(35 + 60) * 255 / 299, (35 + 40) * 255 / 199], atol=6)
    small, scale = picture(slide, view, 26)
    assert decoded(small).shape[:2] == (16, 26) and scale == pytest.approx(0.1)


def test_patches_are_squares_around_the_spot_and_white_off_the_image():
    slide = image_slide([[0, 0], [300, 200]])
    inside, corner = decoded(patch(slide, slide.xy[1])), decoded(patch(slide, slide.xy[0]))
    assert inside.shape == corner.shape == (40, 40, 3)
    np.testing.assert_allclose(inside[20, 20, :2], [150 * 255 / 299, 100 * 255 / 199], atol=6)
    assert (corner[:18, :18] > 240).all() and (corner[24:, 24:, 2] < 40).all()


def test_transparent_and_float_images_are_drawn():
    clear = np.zeros((200, 300, 4))
    uri, _ = picture(image_slide([[100, 100], [300, 200]], image=clear), (70, 70, 330, 230), 500)
    assert (decoded(uri) > 250).all()


def test_sentences_of_the_calibration_follow_the_numbers(fitted):
    row = next(fitted.uns["omib_slides"].itertuples())
    said = " ".join(
        calibration(
            row._replace(
                expected_false_share=0.123, expected_missed_share=0.001, n_healthy_slides=7, pvalue=0.25, n_called=9
            )
        )
    )
    assert "12 % are expected to be false" in said and "less than 1 %" in said
    assert "7 healthy slides" in said and "p-value 0.25" in said
    assert "too few healthy slides" in " ".join(calibration(row._replace(n_healthy_slides=1)))
    nothing = " ".join(calibration(row._replace(n_called=0, expected_false_share=0.0, expected_missed_share=1.0)))
    assert "expected to be" not in nothing
    shapes = fitted.uns["omib_regions"].iloc[:1]
    # Of a table of regions that was made before spots were taken out, what is still there counts.
    assert found_on(7, 20, 3, shapes).startswith("7 of 20 scored spots are called abnormal, 3 of them in 1 region")


@pytest.mark.parametrize(
    ("pvalue", "expected"), [(0.01, "as in a clone"), (0.02, "nothing speaks clearly of a clone"), (np.nan, None)]
)
def test_whether_the_slide_shows_a_clone_is_said_where_it_was_asked(fitted, pvalue, expected):
    row = next(fitted.uns["omib_slides"].itertuples())
    said = [line for line in calibration(row._replace(clone_pvalue=pvalue)) if "Between the two sides" in line]
    assert (expected in said[0]) if expected else not said
