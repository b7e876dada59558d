"""Whether results can be written under a name: nothing of the user's, or of another tool's, is written over."""

from collections.abc import Collection, Mapping

from anndata import AnnData

from omib_spatial._keys import IMAGE_FEATURES, REFERENCE, SPATIAL, Written

RUN_FIELDS = frozenset({"version", "params"})
"""Entries of ``uns[key_added]`` that every run of a model leaves."""
REFERENCE_FIELDS = frozenset({"answered", "agreement"})
"""Entries of ``uns[key_added]`` that `omib_spatial.pp.find_reference` leaves."""
_TAKEN = frozenset({SPATIAL, IMAGE_FEATURES, IMAGE_FEATURES.removeprefix("X_"), REFERENCE})


def check_results_key(adata: AnnData, key_added: str, read: Collection[str] = ()) -> None:
    """Raise ValueError where results under ``key_added`` would take the place of something else.

    Parameters
    ----------
    adata
        That results are going to be written into.
    key_added
        Their prefix.
    read
        Keys of ``obs`` and ``obsm`` that the same run reads.
    """
    if key_added in _TAKEN:
        raise ValueError(f"key_added={key_added!r} is a name that holds something else in an AnnData: pass another.")
    keys = Written(key_added)
    obs = (keys.score, keys.pvalue, keys.slice_pvalue, keys.modalities, keys.call, keys.anomaly, keys.label)
    obsm, uns = (keys.embedding, keys.probability), (keys.uns, keys.verdicts)
    if collide := [key for key in (*obs, *obsm) if key in set(read)]:
        raise ValueError(
            f"key_added={key_added!r} would write over {collide[0]!r}, which is read as input: pass another key_added=."
        )
    _refuse_foreign(adata, key_added, {"obs": obs, "obsm": obsm, "uns": uns}, RUN_FIELDS)


def check_reference_key(adata: AnnData, key_added: str) -> None:
    """The same as `check_results_key` for what `omib_spatial.pp.find_reference` writes; its usual name is its own."""
    if key_added == REFERENCE:
        return
    if key_added in _TAKEN:
        raise ValueError(f"key_added={key_added!r} is a name that holds something else in an AnnData: pass another.")
    places = {"obs": (key_added, f"{key_added}_score"), "uns": (key_added,)}
    _refuse_foreign(adata, key_added, places, REFERENCE_FIELDS)


def _refuse_foreign(
    adata: AnnData, key_added: str, places: Mapping[str, Collection[str]], fields: Collection[str]
) -> None:
    record = adata.uns.get(key_added)
    if isinstance(record, Mapping) and set(fields) <= set(record):
        return
    there = [f"{slot}[{key!r}]" for slot, keys in places.items() for key in keys if key in getattr(adata, slot)]
    if there:
        raise ValueError(
            f"{there[0]} is there, and uns[{key_added!r}] does not say that omib_spatial wrote it: pass another "
            "key_added=, or delete it if you do not need it."
        )
