"""Annotation of some spots: which classes there are, which spot has which, and which class is healthy."""

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData

from omib_spatial.slides.slides import named

logger = logging.getLogger("omib_spatial")

MISSING = frozenset(
    {"", "?", "nan", "na", "n/a", "unknown", "unlabeled", "unlabelled", "unannotated", "unassigned", "undetermined"}
)
"""Values, whatever their case, that say of a spot that it has no label; NaN and negative integers say so too."""
HEALTHY_NAMES = frozenset({"healthy", "normal", "benign", "non-tumor", "non-tumour", "nontumor", "nontumour"})
"""Names, whatever their case, by which a class is known as healthy where the user names none."""
FEWEST = 5
"""Spots that every class needs at least."""


class Labels(NamedTuple):
    """Classes of all spots.

    Attributes
    ----------
    key
        ``obs`` column that they were read from.
    codes
        Position in ``classes`` of each spot's class, (n_obs,) int64, -1 where it is not known.
    classes
        Names of the classes, in order.
    """

    key: str
    codes: np.ndarray
    classes: list[str]

    def among(self, names: Sequence[str]) -> np.ndarray:
        """Which spots have one of the classes ``names``, (n_obs,) bool."""
        return np.isin(self.codes, [self.classes.index(name) for name in names])

    def weights(self) -> list[float]:
        """What each class weighs: `balanced_weights`."""
        return balanced_weights(self.codes, len(self.classes)).tolist()


def read_labels(adata: AnnData, labels_key: str) -> Labels:
    """Classes in ``obs[labels_key]``: text, categories, booleans or integers, some of them missing.

    NaN, negative integers and the words in `MISSING` mean that a spot has no label. Categories keep their order.

    Raises
    ------
    KeyError
        ``obs[labels_key]`` does not exist.
    TypeError
        The column holds numbers that are no integers.
    ValueError
        Fewer than two classes, or a class with fewer than `FEWEST` spots.
    """
    if labels_key not in adata.obs:
        raise KeyError(f"obs[{labels_key!r}] does not exist: pass labels_key= one of {list(adata.obs)}, or None.")
    column = adata.obs[labels_key]
    known = column.notna().to_numpy()
    # Integers and booleans are kept as floats and objects where some are missing.
    values = column[known].infer_objects()
    if isinstance(values.dtype, pd.CategoricalDtype) and values.cat.categories.dtype != object:
        values = values.astype(values.cat.categories.dtype)
    if pd.api.types.is_float_dtype(values.dtype):
        values = _integers(values, labels_key)
    wanted = {value: str(value) for value in _in_order(values) if not _says_missing(value)}
    classes = list(dict.fromkeys(wanted.values()))
    place = {value: classes.index(name) for value, name in wanted.items()}
    codes = np.full(adata.n_obs, -1)
    codes[known] = [place.get(value, -1) for value in values]
    labels = Labels(labels_key, codes, classes)
    _check(labels)
    logger.info("obs['%s'] has %d classes, %d spots are unlabelled.", labels_key, len(classes), (codes < 0).sum())
    return labels


def healthy_classes(labels: Labels | None, healthy_label: Any = None, *, required: bool = True) -> list[str]:
    """Names of the healthy classes: those the user names, or the one whose name says so.

    Without ``healthy_label``, that is a class with one of the names in `HEALTHY_NAMES`; of no and yes, 0 and 1, or
    false and true the former, unless the column's own name is one of `HEALTHY_NAMES`. None without labels.

    Parameters
    ----------
    labels
        As `read_labels` gives them.
    healthy_label
        One value of the labels' column, or a sequence of several.
    required
        Whether it is an error if no name says so.

    Raises
    ------
    ValueError
        A value that is no class, all classes, None where no class is healthy by its name, or one that has no labels
        to name a class of.
    """
    if labels is None:
        if healthy_label is not None:
            raise ValueError("healthy_label= names a class of labels_key=: pass that too.")
        return []
    return _named_healthy(labels, required) if healthy_label is None else _asked_healthy(labels, healthy_label)


def _asked_healthy(labels: Labels, healthy_label: Any) -> list[str]:
    several = isinstance(healthy_label, Sequence | np.ndarray | set) and not isinstance(healthy_label, str)
    names = [str(value) for value in (healthy_label if several else [healthy_label])]
    if unknown := [name for name in names if name not in labels.classes]:
        raise ValueError(f"healthy_label {unknown} is not in obs[{labels.key!r}]: the classes are {labels.classes}.")
    if not names or len(set(names)) == len(labels.classes):
        raise ValueError(
            f"healthy_label names {names} of {labels.classes}: name what is healthy, and leave out the rest."
        )
    return names


def _named_healthy(labels: Labels, required: bool) -> list[str]:
    names = [name for name in labels.classes if name.casefold() in HEALTHY_NAMES]
    if not names and [name.casefold() for name in labels.classes] in (["0", "1"], ["false", "true"], ["no", "yes"]):
        names = [labels.classes[labels.key.casefold() in HEALTHY_NAMES]]
    if len(names) != 1 and not required:
        return []
    if len(names) != 1:
        raise ValueError(
            f"Which class of obs[{labels.key!r}] is healthy does not follow from the names {labels.classes}: pass "
            "healthy_label= one or several of them, or a boolean reference_key= that marks healthy spots."
        )
    return names


def balanced_weights(codes: np.ndarray, n_classes: int) -> np.ndarray:
    """``n / (n_classes n_c)`` for every class c of n labelled spots, (n_classes,): each class weighs the same.

    ``codes`` (n_obs,) are classes, negative where there is none. The mean weight of labelled spots is 1.
    """
    sizes = np.bincount(codes[codes >= 0], minlength=n_classes)
    return sizes.sum() / (n_classes * np.maximum(sizes, 1))


def _integers(values: pd.Series, labels_key: str) -> pd.Series:
    if (odd := (values != np.rint(values)).to_numpy(bool)).any():
        raise TypeError(
            f"obs[{labels_key!r}] holds numbers that are no classes ({named(values[odd].unique())}): labels are text, "
            "categories, booleans or integers."
        )
    return values.astype(np.int64)


def _in_order(values: pd.Series) -> list[Any]:
    """Different values: categories in their own order, others sorted."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        return list(values.cat.remove_unused_categories().cat.categories)
    different = list(values.unique())
    return sorted(different) if len({type(value) for value in different}) == 1 else sorted(different, key=str)


def _says_missing(value: Any) -> bool:
    if isinstance(value, str):
        return value.strip().casefold() in MISSING
    return isinstance(value, int | np.integer) and bool(value < 0)


def _check(labels: Labels) -> None:
    sizes = np.bincount(labels.codes[labels.codes >= 0], minlength=len(labels.classes))
    found = dict(zip(labels.classes, sizes.tolist(), strict=True))
    if len(found) < 2:
        raise ValueError(
            f"obs[{labels.key!r}] has the classes {found}, at least two are needed: label other spots too, or fit "
            "without labels_key=."
        )
    if few := {name: n for name, n in found.items() if n < FEWEST}:
        raise ValueError(
            f"Classes of obs[{labels.key!r}] with fewer than {FEWEST} spots: {few}. Merge them with others, or set "
            "them to NaN, which means unlabelled."
        )
