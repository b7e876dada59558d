import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omib_bench import Record, read_json, table, tables, write_json

KEYS = ["benchmark", "dataset", "method", "setting", "seed", "metric", "value"]


def record(
    dataset: str, metric: str, value: float, seed: int = 0, method: str = "omib", setting: str = "gene"
) -> Record:
    return Record("toy", dataset, method, setting, seed, metric, value)


def test_file_is_a_list_of_long_records(tmp_path):
    path = tmp_path / "new" / "records.json"
    write_json([record("A1", "auroc", np.float32(0.5)), record("A1", "f1", math.nan)], path)
    rows = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert [list(row) for row in rows] == [KEYS, KEYS]
    assert rows[0] == dict(zip(KEYS, ["toy", "A1", "omib", "gene", 0, "auroc", 0.5], strict=True))
    assert rows[1]["value"] is None
    assert [item.name for item in path.parent.iterdir()] == ["records.json"]


@settings(max_examples=30)
@given(
    st.lists(
        st.builds(
            Record, *[st.text()] * 4, st.integers(0, 9), st.text(), st.floats(allow_nan=False, allow_infinity=False)
        )
    )
)
def test_round_trip(tmp_path_factory, records):
    path = tmp_path_factory.mktemp("records") / "r.json"
    write_json(records, path)
    assert read_json(path) == records


def test_nan_comes_back(tmp_path):
    write_json([record("A1", "f1", math.nan)], tmp_path / "r.json")
    assert math.isnan(read_json(tmp_path / "r.json")[0].value)


def test_table_of_one_seed():
    found = table([record("B", "auroc", 0.5), record("B", "f1", 1.0), record("A", "auroc", 0.75), record("A", "f1", 0)])
    assert found.splitlines() == [
        "dataset  auroc     f1",
        "B        0.500  1.000",
        "A        0.750  0.000",
        "mean     0.625  0.500",
    ]


def test_spread_is_over_seeds_and_that_of_the_mean_row_over_the_seeds_means():
    # The rows vary by 0.1 * sqrt(2) from seed to seed in opposite directions, so that their mean does not.
    values = {("A", 0): 0.2, ("A", 1): 0.4, ("B", 0): 0.8, ("B", 1): 0.6}
    found = table([record(name, "auroc", value, seed) for (name, seed), value in values.items()])
    assert found.splitlines() == [
        "dataset          auroc",
        "A        0.300 ± 0.141",
        "B        0.700 ± 0.141",
        "mean     0.500 ± 0.000",
    ]


def test_missing_numbers_are_not_averaged_away():
    found = table([record("A", "auroc", 0.2), record("B", "auroc", math.nan), record("B", "f1", 0.5)])
    assert [line.split() for line in found.splitlines()[1:]] == [
        ["A", "0.200", "-"],
        ["B", "-", "0.500"],
        ["mean", "-", "-"],
    ]
    missing_seed = [record("A", "auroc", 0.2), record("A", "auroc", 0.4, 1), record("B", "auroc", 0.2)]
    assert [line.split() for line in table(missing_seed).splitlines()[2:]] == [["B", "-"], ["mean", "-"]]


def test_other_fields_can_be_rows_and_columns():
    rows = [record(kind, "auroc", 0.5, setting=setting) for setting in ("gene", "image") for kind in ("x", "y")]
    found = table(rows, rows="setting", columns="dataset", mean=False, digits=1)
    assert found.splitlines() == ["setting    x    y", "gene     0.5  0.5", "image    0.5  0.5"]


def test_ambiguous_and_empty_input_is_refused():
    with pytest.raises(ValueError, match="share .*'dataset': 'A'.* filter"):
        table([record("A", "auroc", 0.5), record("A", "auroc", 0.6, setting="image")])
    with pytest.raises(ValueError, match="no records"):
        table([])


def test_one_table_for_each_method_and_setting():
    rows = [
        record("A", "auroc", 0.5),
        record("A", "auroc", 0.6, setting="image"),
        record("A", "auroc", 0.7, 0, "n", "n"),
    ]
    blocks = [block.splitlines() for block in tables(rows).split("\n\n")]
    assert [(block[0], block[-1].split()[-1]) for block in blocks] == [
        ("omib, gene", "0.500"),
        ("omib, image", "0.600"),
        ("n", "0.700"),
    ]
