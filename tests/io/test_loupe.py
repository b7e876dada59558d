"""Loupe Browser knows spots by Space Ranger's barcode alone."""

import pandas as pd
import pytest

import omib_spatial as omib


def test_each_slide_has_a_file_with_bare_barcodes(two, tmp_path):
    paths = omib.io.to_loupe(two, tmp_path / "new")
    assert [path.name for path in paths] == ["A_omib_call.csv", "B_omib_call.csv"]
    for path, name in zip(paths, "AB", strict=True):
        assert path.read_text().splitlines()[0] == "Barcode,omib_call"
        table = pd.read_csv(path, index_col=0)["omib_call"]
        assert table.index.str.fullmatch("[ACGT]{16}-1").all() and table.index.is_unique
        own = two.obs.loc[two.obs["section"] == name, "omib_call"].dropna().astype(str)
        own.index = own.index.str.removeprefix(f"{name}_")
        pd.testing.assert_series_equal(table, own, check_names=False, check_index_type=False, check_dtype=False)


def test_another_column_and_one_slide(two, tmp_path):
    (path,) = omib.io.to_loupe(two, tmp_path, by="omib_region", library_id="B")
    assert pd.read_csv(path)["omib_region"].value_counts().to_dict() == {"B:1": 12, "B:2": 6}


@pytest.mark.parametrize(
    ("name", "barcode"),
    [
        ("AAACAAGTATCTCCCA-1", "AAACAAGTATCTCCCA-1"),
        ("AAACAAGTATCTCCCA-1-3", "AAACAAGTATCTCCCA-1"),
        ("AAACAAGTATCTCCCA-4", "AAACAAGTATCTCCCA-1"),
        ("P1_AAACAAGTATCTCCCA", "AAACAAGTATCTCCCA-1"),
        ("AAACAAGTATCTCCCA-1_P1", "AAACAAGTATCTCCCA-1"),
        ("x_s_008um_00301_00321-1", "s_008um_00301_00321-1"),
        ("cellid_000000012-1", "cellid_000000012-1"),
    ],
)
def test_whatever_stands_around_a_barcode_goes(two, tmp_path, name, barcode):
    own = two[two.obs["section"] == "B"].copy()
    own.obs_names = [name, *own.obs_names[1:]]
    (path,) = omib.io.to_loupe(own, tmp_path)
    assert pd.read_csv(path)["Barcode"].iloc[0] == barcode


def test_names_without_barcodes_and_joined_slides_are_refused(two, tmp_path):
    with pytest.raises(KeyError, match="other"):
        omib.io.to_loupe(two, tmp_path / "l", by="other")
    two.uns["omib"] = {}
    two.uns["spatial"] = {}
    with pytest.raises(ValueError, match="144 barcodes twice"):
        omib.io.to_loupe(two, tmp_path / "l")
    two.obs_names = [f"spot{i}" for i in range(two.n_obs)]
    with pytest.raises(ValueError, match="^no name of a spot holds a barcode of Space Ranger: Loupe"):
        omib.io.to_loupe(two, tmp_path / "l")
    two.obs_names = ["ACGTACGTACGTACGT-1", *two.obs_names[1:]]
    with pytest.raises(ValueError, match="^287 names of spots hold no barcode of Space Ranger .'spot1', "):
        omib.io.to_loupe(two, tmp_path / "l")
    assert not (tmp_path / "l").exists()
