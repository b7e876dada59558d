import gzip
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from omib_spatial.datasets._st_tables import half_pitch, read_spots, read_table, spot_names

COUNTS = "\tG1\tG-2.1\n10x13\t3\t0\n2x7\t0\t1\n4x4\t9\t9\n5x6\t1\t2\n"
PLACES = (
    "x\ty\tnew_x\tnew_y\tpixel_x\tpixel_y\tselected\n"
    "2\t7\t1.98\t7.01\t20.5\t71\t1\n10\t13\t9.85\t12.99\t100\t130.25\t1\n8\t8\t8\t8\t80\t80\t1\n5\t6\t5\t6\t50\t60\t0\n"
)


@pytest.fixture
def files(tmp_path) -> tuple[Path, Path]:
    (tmp_path / "A1.tsv.gz").write_bytes(gzip.compress(COUNTS.encode()))
    (tmp_path / "A1_selection.tsv").write_text(PLACES)
    return tmp_path / "A1.tsv.gz", tmp_path / "A1_selection.tsv"


def test_spots_of_both_files_are_joined_in_the_order_of_the_counts(files, caplog):
    with caplog.at_level(logging.INFO, "omib_spatial"):
        adata = read_spots(*files, "A1")
    assert list(adata.obs_names) == ["A1_10x13", "A1_2x7"] and list(adata.var_names) == ["G1", "G-2.1"]
    np.testing.assert_array_equal(adata.X.toarray(), [[3, 0], [0, 1]])
    assert adata.X.dtype == np.float32
    assert adata.obs["array_col"].tolist() == [10, 2] and adata.obs["array_row"].tolist() == [13, 7]
    np.testing.assert_array_equal(adata.obsm["spatial"], [[100, 130.25], [20.5, 71]])
    # 4x4 has no place and 5x6 is not under tissue; 8x8 has no counts.
    assert (
        "A1: left out 2 spots that A1_selection.tsv does not place and 1 that have no counts in A1.tsv.gz"
        in caplog.text
    )


def test_all_places_count_where_none_says_selected(files):
    table = pd.read_csv(files[1], sep="\t").drop(columns="selected")
    table.to_csv(files[1], sep="\t", index=False)
    assert list(read_spots(*files, "A1").obs_names) == ["A1_10x13", "A1_2x7", "A1_5x6"]


def test_measured_places_are_rounded_to_the_grid():
    assert spot_names(pd.DataFrame({"x": [9.852, 2.0], "y": [12.6, 6.51]})).tolist() == ["10x13", "2x7"]


def test_half_pitch_is_half_the_distance_to_the_nearest_spot():
    grid = np.stack(np.meshgrid(np.arange(4) * 10.0, np.arange(5) * 14.0), -1).reshape(-1, 2)
    assert half_pitch(grid) == 5
    assert half_pitch(grid[:, ::-1] * 3) == 15


def test_errors_name_the_file(files):
    counts, places = files
    with pytest.raises(FileNotFoundError, match=r"none\.tsv is missing: download"):
        read_spots(counts.with_name("none.tsv"), places, "A1")
    with pytest.raises(KeyError, match=r"A1\.tsv\.gz lacks the columns \['x', 'y', 'pixel_x', 'pixel_y'\]"):
        read_spots(counts, counts, "A1")
    with pytest.raises(ValueError, match="have no spot in common"):
        places.write_text(PLACES.replace("10\t13", "11\t13").replace("2\t7", "3\t7"))
        read_spots(counts, places, "A1")
    with pytest.raises(ValueError, match=r"A1_selection\.tsv has the spots \['2x7'\] more than once"):
        places.write_text(PLACES + "2\t7\t2\t7\t20\t70\t1\n")
        read_spots(counts, places, "A1")
    with pytest.raises(ValueError, match=r"A1\.tsv\.gz: columns \['G1'\] hold no numbers"):
        counts.write_bytes(gzip.compress(COUNTS.replace("3\t0", "three\t0").encode()))
        read_spots(counts, places, "A1")


@pytest.mark.parametrize(
    "content", [b"<html>404</html>", gzip.compress(COUNTS.encode())[:40], b""], ids=["page", "cut", "empty"]
)
def test_what_is_no_table_is_to_be_downloaded_again(files, content):
    files[0].write_bytes(content)
    with pytest.raises(ValueError, match=r"A1\.tsv\.gz is no tab-separated table .* download it again"):
        read_table(files[0])
