"""Spots cut into compact pieces: tiles of a batch, blocks that are held out, folds of a cross-fit."""

from typing import NamedTuple

import numpy as np


class SpotLocations(NamedTuple):
    """Coordinates (n_obs, >= 2) and slice (n_obs,) of every spot."""

    xy: np.ndarray
    codes: np.ndarray


def spatial_tiles(locations: SpotLocations, rows: np.ndarray, size: int) -> list[np.ndarray]:
    """Cut ``rows`` into compact tiles of at most ``size`` spots, none across two slices.

    Each slice is halved at the median of its longer side until the pieces are small enough: neighbours share a
    tile, so the halos of a batch overlap and little is read twice.

    Parameters
    ----------
    locations
        Of all spots.
    rows
        Rows to be tiled (m,).
    size
        Spots per tile at most.

    Returns
    -------
    Tiles as arrays of row numbers, together exactly ``rows``.
    """
    xy, codes = locations
    tiles: list[np.ndarray] = []
    stack = [rows[codes[rows] == code] for code in np.unique(codes[rows])]
    while stack:
        part = stack.pop()
        if len(part) <= size:
            tiles.append(part)
            continue
        axis = int(np.ptp(xy[part], axis=0).argmax())
        order = part[np.argsort(xy[part, axis], kind="stable")]
        stack += [order[: len(order) // 2], order[len(order) // 2 :]]
    return tiles


def hold_out(
    locations: SpotLocations,
    reference: np.ndarray,
    fraction: float,
    seed: int,
    groups: np.ndarray | None = None,
    *,
    min_slices: int = 4,
    n_blocks: int = 10,
) -> tuple[np.ndarray, np.ndarray]:
    """Divide the reference into training and calibration spots, each group of slices by itself.

    Within a group of several reference slices whole slices are held out: a new slide differs from the training
    slides in stain, depth and donor, and only a slide that was never seen tells by how much. With fewer, or where no
    slices have about as many spots as are to be held out, compact blocks of each slice are: single spots among trained
    neighbours, which share expression and image, would look too normal.

    Parameters
    ----------
    locations
        Of all spots.
    reference
        Which spots are divided, (n_obs,) bool.
    fraction
        About this share of them is held out.
    seed
        Of the choice.
    groups
        (n_obs,), keeps slices with different modalities apart, or chance could hold out all that have an image, or
        none; None takes all slices as one group.
    min_slices
        Reference slices from which on whole slices are held out.
    n_blocks
        Each slice is cut into about so many compact blocks otherwise.

    Returns
    -------
    Two (n_obs,) masks that together are ``reference``.
    """
    rng = np.random.default_rng(seed)
    codes = locations.codes
    groups = np.zeros(len(codes), int) if groups is None else groups
    held_out = np.zeros(len(codes), bool)
    for group in np.unique(groups[reference]):
        members = reference & (groups == group)
        slices, sizes = np.unique(codes[members], return_counts=True)
        if len(slices) >= min_slices:
            chosen = slices_near(sizes, fraction * sizes.sum(), rng)
            if 2 * sizes[chosen].sum() >= fraction * sizes.sum():
                held_out[members & np.isin(codes, slices[chosen])] = True
                continue
        for code in slices:
            rows = np.flatnonzero(members & (codes == code))
            blocks = spatial_tiles(locations, rows, max(len(rows) // n_blocks, 1))
            for i in rng.permutation(len(blocks))[: max(round(fraction * len(blocks)), 1)]:
                held_out[blocks[i]] = True
    return reference & ~held_out, held_out


def slices_near(sizes: np.ndarray, target: float, rng: np.random.Generator) -> list[int]:
    """Random slices that have about ``target`` spots together: each is taken if that brings their number closer.

    One is always left.
    """
    chosen, n = list[int](), 0
    for i in rng.permutation(len(sizes)):
        if len(chosen) + 1 < len(sizes) and abs(n + sizes[i] - target) < abs(n - target):
            chosen, n = [*chosen, int(i)], n + int(sizes[i])
    return chosen


def donor_folds(
    locations: SpotLocations, known: np.ndarray, donors: np.ndarray, n_folds: int, n_blocks: int
) -> np.ndarray:
    """Fold of each ``known`` spot, -1 of others, (n_obs,): whole donors or, where there is one, compact blocks of it.

    Parameters
    ----------
    locations
        Of all spots.
    known
        Which spots are divided, (n_obs,) bool.
    donors
        Donor of every spot, (n_obs,).
    n_folds
        Folds at most.
    n_blocks
        Blocks that a single donor's spots are cut into.
    """
    rows = np.flatnonzero(known)
    names = np.unique(donors[rows])
    if len(names) > 1:
        groups = [rows[np.isin(donors[rows], some)] for some in np.array_split(names, min(n_folds, len(names)))]
    else:
        blocks = spatial_tiles(locations, rows, -(-len(rows) // n_blocks))
        groups = [np.concatenate(blocks[i::n_folds]) for i in range(min(n_folds, len(blocks)))]
    fold = np.full(len(known), -1)
    for i, members in enumerate(groups):
        fold[members] = i
    return fold
