"""The user's own encoders, tried before anything long is done."""

from collections.abc import Mapping
from copy import deepcopy

import numpy as np
import torch
from torch import nn

from omib_spatial.modalities import Spots

FEW = 8
"""Spots that an encoder is tried on."""


def try_encoders(encoders: Mapping[str, nn.Module], spots: Spots) -> None:
    """Raise TypeError where an encoder fails on a few spots, ValueError where its codes have another shape.

    Copies are tried, without chance, so that the training that follows is as it would be.

    Parameters
    ----------
    encoders
        By modality.
    spots
        To learn from, prepared.
    """
    for name, encoder in encoders.items():
        prepared = spots.prepared[name]
        rows = np.flatnonzero(prepared.present)[:FEW]
        given = prepared.batch(rows)
        try:
            with torch.random.fork_rng(), torch.no_grad():
                codes = deepcopy(encoder).eval()(given)
        except Exception as error:
            what = f"{type(given).__name__}{f' {tuple(given.shape)}' if isinstance(given, torch.Tensor) else ''}"
            raise TypeError(
                f"The encoder of {name!r}, {type(encoder).__name__}, fails on what it is given, a {what}: {error}. "
                "What encoders get is told at encoders= in omib_spatial.tl.fit."
            ) from error
        wanted = (len(rows), encoder.out_features)
        if getattr(codes, "shape", None) != wanted:
            found = tuple(codes.shape) if isinstance(codes, torch.Tensor) else type(codes).__name__
            raise ValueError(
                f"The encoder of {name!r}, {type(encoder).__name__}, returns {found} for {len(rows)} spots in place of "
                f"{wanted}: a row per spot and out_features columns."
            )
