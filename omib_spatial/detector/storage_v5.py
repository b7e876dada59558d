"""Models of formats 4 and 5, whose verdicts were by the standard deviation of a slide's log distances."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def from_format_5(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The same model in format 6, which judges slides as it did.

    Parameters
    ----------
    tensors, config
        As the folder holds them.
    """
    new = dict(tensors)
    for i in range(len(config["scores"])):
        location, sd, clonal, worth = tensors[f"score.{i}.slides"].T
        new[f"score.{i}.slides"] = torch.stack([location, sd, sd, clonal, worth], 1)
    calibration = {"tail_power": None, "verdict_level": 0.05} | config["calibration"]
    return new, {**config, "calibration": calibration, "format": 6}
