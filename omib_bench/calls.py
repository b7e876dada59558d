"""What is called, and what is concluded, of slides with their anomalies and without them."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from anndata import AnnData

from omib_bench._records import Record
from omib_spatial import tl
from omib_spatial._keys import ANOMALY, Written
from omib_spatial.datasets._her2st import SECTION
from omib_spatial.stats.verdict import ABNORMAL

QUESTIONS: dict[str, dict[str, Any]] = {
    "question 'any'": {"question": "any"},
    "question 'part'": {"question": "part"},
    "question 'part', fdr .1": {"question": "part", "fdr": 0.1},
}
"""What is asked, with the arguments of `tl.call`."""


def call_records(
    benchmark: str, target: AnnData, model: tl.AnomalyModel, method: str, setting: str
) -> Iterator[Record]:
    """`QUESTIONS` asked of every section as it is, and of what is left of it without its anomalies.

    Parameters
    ----------
    benchmark
        Of the records.
    target
        Sections that ``model`` has scored, with ``obs["anomaly"]``: 1 anomalous, 0 not, -1 unknown.
    model
        Of healthy tissue.
    method, setting
        Of the records; the method is followed by the question.

    Yields
    ------
    Per section and question: ``found`` (share of the anomalous spots called), ``false`` (share of calls that are not;
    unknown spots do not count), ``expected_false``, ``separation``, ``abnormal`` (1 if that is the verdict), and of the
    section without its anomalous and unknown spots ``healthy_called`` and ``healthy_abnormal``.
    """
    key, healthy = Written(), target[(target.obs[ANOMALY] == 0).to_numpy()].copy()
    tl.score(healthy, model)
    for asked, arguments in QUESTIONS.items():
        found, without = target.copy(), healthy.copy()
        tl.call(found, **arguments)
        tl.call(without, **arguments)
        for section, slide in found.uns[key.verdicts].iterrows():
            own, rest = (some.obs[some.obs[SECTION] == section] for some in (found, without))
            truth, called = own[ANOMALY].to_numpy(), own[key.anomaly].to_numpy()
            known = called & (truth >= 0)
            values = {
                "found": called[truth == 1].mean() if (truth == 1).any() else np.nan,
                "false": (truth[known] == 0).sum() / max(known.sum(), 1),
                "expected_false": slide["expected_false_share"],
                "separation": slide["separation"],
                "abnormal": slide["verdict"] == ABNORMAL,
                "healthy_called": rest[key.anomaly].mean() if len(rest) else np.nan,
                "healthy_abnormal": (
                    without.uns[key.verdicts].loc[section, "verdict"] == ABNORMAL if len(rest) else np.nan
                ),
            }
            for metric, value in values.items():
                name = f"{method}, {asked}"
                yield Record(benchmark, str(section), name, setting, model.params["seed"], metric, float(value))
