"""Short texts that are equal for equal data, so that work on other data is told from the same work."""

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from omib_spatial.slides.rows import CountRows

ROWS = 4096
"""Spots that are read at a time."""


def digest(parts: Iterable[Any]) -> str:
    """Of arrays of numbers, and of text: 16 hexadecimal digits.

    Parameters
    ----------
    parts
        In order. Numbers of one value have one digest, whatever their type.
    """
    found = hashlib.blake2b(digest_size=8)
    for part in parts:
        if isinstance(part, str):
            found.update(part.encode() + b"\0")
            continue
        values = np.asarray(part)
        kind = np.float64 if values.dtype.kind == "f" else np.int64
        found.update(f"{values.shape}".encode())
        found.update(np.ascontiguousarray(values, dtype=kind).data)
    return found.hexdigest()


def counts_digest(counts: CountRows) -> str:
    """Of counts by rows, however they are stored: dense or sparse, in memory or in a file, of whatever type."""

    def pieces() -> Iterable[np.ndarray]:
        n = counts.shape[0]
        for rows in np.array_split(np.arange(n), n // ROWS + 1):
            some = counts[rows].astype(np.float64)
            some.eliminate_zeros()
            some.sort_indices()
            yield from (some.indptr, some.indices, some.data)

    return digest(pieces())
