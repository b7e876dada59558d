"""Long-format records, one per number, and the tables made of them."""

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from omib_spatial._atomic import replacing


class Record(NamedTuple):
    """One number and what it was measured on.

    Attributes
    ----------
    benchmark
        Which experiment.
    dataset
        Section, simulated case, split or kind of anomaly.
    method
        What was measured.
    setting
        Modalities, encoder, ablation or preset.
    seed
        Of the run.
    metric
        Such as ``"auroc"``.
    value
        The number; NaN where it is not defined.

    Examples
    --------
    >>> from omib_bench import Record, read_json, table, tables, write_json
    >>> records = [Record("demo", "B1", "omib", "gene", seed, "auroc", value) for seed, value in enumerate([0.9, 0.92])]
    >>> records[0].metric, records[0].value
    ('auroc', 0.9)
    """

    benchmark: str
    dataset: str
    method: str
    setting: str
    seed: int
    metric: str
    value: float


def write_json(records: Iterable[Record], path: str | Path) -> None:
    """Write ``records`` to ``path`` as a JSON list of objects, in one step; NaN becomes null.

    Parameters
    ----------
    records
        In the order of the file.
    path
        Its folder is made if missing; a file that is there is replaced.

    Examples
    --------
    >>> from omib_bench import Record, read_json, table, tables, write_json
    >>> records = [Record("demo", "B1", "omib", "gene", seed, "auroc", value) for seed, value in enumerate([0.9, 0.92])]
    >>> write_json(records, "numbers.json")
    >>> read_json("numbers.json") == records
    True
    """
    rows = [row._asdict() | {"value": float(row.value) if math.isfinite(row.value) else None} for row in records]
    with replacing(path) as partial:
        partial.write_text(json.dumps(rows, indent=1, allow_nan=False) + "\n")


def read_json(path: str | Path) -> list[Record]:
    """Read what `write_json` wrote.

    Examples
    --------
    >>> from omib_bench import Record, read_json, table, tables, write_json
    >>> records = [Record("demo", "B1", "omib", "gene", seed, "auroc", value) for seed, value in enumerate([0.9, 0.92])]
    >>> write_json(records, "numbers.json")
    >>> [record.value for record in read_json("numbers.json")]
    [0.9, 0.92]
    """
    rows = json.loads(Path(path).read_text())
    return [Record(**(row | {"value": math.nan if row["value"] is None else row["value"]})) for row in rows]


def table(
    records: Iterable[Record],
    *,
    rows: str = "dataset",
    columns: str = "metric",
    mean: bool = True,
    digits: int = 3,
) -> str:
    """Lay ``records`` out as text: mean over seeds, and ± their standard deviation where there are several.

    Parameters
    ----------
    records
        Records that ``rows``, ``columns`` and the seed tell apart.
    rows, columns
        Fields of `Record` that become the rows and the columns, in order of appearance.
    mean
        Add a row with the mean of all rows; its spread is that of the seeds' means. It is not defined where a row
        has no value.
    digits
        Decimals.

    Returns
    -------
    Lines, without a newline at the end. What has no value is ``-``.

    Raises
    ------
    ValueError
        There is no record, or two of them fall on one place.

    Examples
    --------
    >>> from omib_bench import Record, read_json, table, tables, write_json
    >>> records = [Record("demo", "B1", "omib", "gene", seed, "auroc", value) for seed, value in enumerate([0.9, 0.92])]
    >>> print(table(records, mean=False))
    dataset          auroc
    B1       0.910 ± 0.014
    """
    frame = pd.DataFrame(records, columns=list(Record._fields))
    if frame.empty:
        raise ValueError("There are no records to lay out.")
    key = ["seed", rows, columns]
    if (twice := frame.duplicated(key)).any():
        raise ValueError(f"Several records share {frame.loc[twice, key].iloc[0].to_dict()}: filter them first.")
    order = list(dict.fromkeys(frame[rows]))
    wide = frame.set_index(key)["value"].unstack(columns)[list(dict.fromkeys(frame[columns]))]
    wide = wide.reindex(pd.MultiIndex.from_product([sorted(set(frame["seed"])), order], names=["seed", rows]))
    blocks = [wide.xs(name, level=rows) for name in order]
    if mean and len(order) > 1:
        blocks.append(wide.groupby("seed").agg(lambda values: values.mean(skipna=False)))
        order = [*order, "mean"]
    body = [
        [name, *(cell(block[column].tolist(), digits) for column in wide)]
        for name, block in zip(order, blocks, strict=True)
    ]
    return aligned([[rows, *map(str, wide)], *body])


def tables(records: Iterable[Record], **options: Any) -> str:
    """One `table` for every method and setting, under a heading; ``options`` go to `table`.

    Examples
    --------
    >>> from omib_bench import Record, read_json, table, tables, write_json
    >>> records = [Record("demo", "B1", "omib", "gene", seed, "auroc", value) for seed, value in enumerate([0.9, 0.92])]
    >>> print(tables(records, mean=False))
    omib, gene
    dataset          auroc
    B1       0.910 ± 0.014
    """
    groups: dict[str, list[Record]] = {}
    for row in records:
        heading = row.method if row.method == row.setting else f"{row.method}, {row.setting}"
        groups.setdefault(heading, []).append(row)
    return "\n\n".join(f"{heading}\n{table(rows, **options)}" for heading, rows in groups.items())


def cell(values: Sequence[float], digits: int) -> str:
    """Mean over seeds ± their standard deviation; ``-`` unless every seed has a value."""
    series = pd.Series(values, dtype=float)
    if series.isna().any():
        return "-"
    middle = f"{series.mean():.{digits}f}"
    return middle if len(series) == 1 else f"{middle} ± {series.std():.{digits}f}"


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """First column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True))])
        for line in lines
    )
