"""Models of format 2, which version 0.1 wrote before parts and combinations had keys of their own."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from omib_spatial.detector.distances import all_combinations

_KINDS = {"Matrix": "ObsmFeatures"}
_CALIBRATION = {
    "held_out_fraction": 0.2,
    "min_slices": 4,
    "n_blocks": 10,
    "donor_folds": 10,
    "max_distance_spots": 50_000,
    "min_spots": 10,
    "pooling_hops": 2,
    "pooled_spots": 19,
    "between_slice_sd": [0.3, 0.4],
    "n_quantiles": 512,
    "min_log_spread": 1e-3,
    "min_relative_distance": 1e-3,
}
"""Was part of the code, not of the model."""


def from_format_2(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The same model in format 3.

    Parameters
    ----------
    tensors, config
        As the folder holds them.
    """
    names = [entry["name"] for entry in config["modalities"]]
    combinations = {"+".join(some): list(some) for some in all_combinations(names)}
    parts = {pattern: list(own) for pattern, own in config["parts"].items()}
    # A combination without a score had its distances left out.
    scored = [pattern for pattern in parts if f"surprise.{pattern}.location" in tensors]
    prefixes = {"verdict": "stacking"}
    for i, name in enumerate(names):
        prefixes |= {f"modality.{name}": f"modality.{i}", f"summary.{name}": f"summary.{i}"}
    for i, pattern in enumerate(scored):
        prefixes[f"surprise.{pattern}"] = f"score.{i}"
        prefixes |= {f"distance.{pattern}.{part}": f"distance.{i}.{j}" for j, part in enumerate(parts[pattern])}
    entries = [entry | {"kind": _KINDS.get(entry["kind"], entry["kind"])} for entry in config["modalities"]]
    new = {
        **{key: config[key] for key in ("version", "layout", "params", "history")},
        "format": 3,
        "calibration": _CALIBRATION,
        "modalities": entries,
        "distances": [
            [combinations[pattern], [part if part in names else None for part in parts[pattern]]] for pattern in scored
        ],
        "scores": [combinations[pattern] for pattern in scored],
    }
    return {_renamed(key, prefixes): value for key, value in tensors.items()}, new


def _renamed(key: str, prefixes: Mapping[str, str]) -> str:
    start, _, last = key.rpartition(".")
    return f"{prefixes[start]}.{last}" if start in prefixes else key
