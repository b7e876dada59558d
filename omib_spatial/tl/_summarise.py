"""One table of many slides: what was found on each, and what to be careful of."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from omib_spatial._checked import Key, KeyAdded, checked
from omib_spatial._keys import ABNORMAL, Written
from omib_spatial._reading import read_anndata
from omib_spatial.slides.counts import counts_matrix
from omib_spatial.slides.results import check_columns, check_results, check_slides
from omib_spatial.slides.rows import CountRows
from omib_spatial.slides.slides import named
from omib_spatial.slides.spatialdata import annotated
from omib_spatial.tl._verdicts import slices_of, unlike

_COLUMNS = {
    "file": object, "slide": object, "patient": object, "n_spots": np.int64, "n_scored": np.int64,
    "median_counts": float, "verdict": object, "reason": object, "n_called": np.int64, "share_called": float,
    "n_regions": "Int64", "region_spots": "Int64", "largest_region_spots": "Int64", "region_mm2": float,
    "largest_region_mm2": float, "n_clones": "Int64", "n_subtypes": "Int64", "modalities": object, "warnings": object,
}  # fmt: skip
_MM2 = 1e-6  # of a square micrometre


@checked
def summarise(
    adatas: AnnData | str | Path | Iterable[AnnData | str | Path],
    *,
    key_added: KeyAdded = "omib",
    patient_key: Key | None = None,
    table_key: Key = "table",
) -> pd.DataFrame:
    """Say in one table what was found on each slide. Nothing is computed again, and nothing is written.

    Parameters
    ----------
    adatas
        Scored slides: one AnnData, SpatialData or file (``.h5ad``, ``.zarr``), or several. Files are read one after
        another, and each is let go of before the next.
    key_added
        Prefix of what is read.
    patient_key
        ``obs`` column of patients. A slide with spots of several patients has a row for each. None leaves ``patient``
        empty.
    table_key
        Table of a SpatialData.

    Returns
    -------
    DataFrame with a row per slide and patient: ``file`` (empty for what is in memory), ``slide``, ``patient``,
    ``n_spots``, ``n_scored``, ``median_counts``, ``verdict`` and ``reason``, ``n_called``, ``share_called`` (of those
    scored), ``n_regions``, ``region_spots``, ``largest_region_spots``, ``region_mm2`` and ``largest_region_mm2`` (NaN
    where micrometres are not known), ``n_clones``, ``n_subtypes``, ``modalities`` and ``warnings``. Regions, clones and
    kinds of anomaly are missing where `omib_spatial.tl.regions`, `omib_spatial.tl.clones` and
    `omib_spatial.tl.subtypes` were not run.

    Raises
    ------
    KeyError
        A slide was not scored, or ``patient_key`` is not there; the message names the file.
    FileNotFoundError
        A file is not there.

    Examples
    --------
    >>> table = omib.tl.summarise(adata)
    >>> table["slide"].tolist(), table["n_spots"].tolist()
    (['slide1', 'slide2', 'slide3'], [200, 200, 200])
    >>> table.to_csv("cohort.csv")
    """
    rows: list[dict[str, Any]] = []
    for name, adata in _each(adatas, table_key):
        try:
            rows += _rows(adata, Written(key_added), patient_key, name)
        except KeyError as error:
            raise KeyError(f"{name}: {error.args[0]}" if name else error.args[0]) from error
    return pd.DataFrame(rows, columns=list(_COLUMNS)).astype(_COLUMNS)


def _each(adatas: Any, table_key: str) -> Iterator[tuple[str, AnnData]]:
    """Name of the file, or "", and the slides in it, one after another."""
    single = isinstance(adatas, AnnData | str | Path) or hasattr(adatas, "tables")
    if not single and (not isinstance(adatas, Iterable) or isinstance(adatas, pd.DataFrame | bytes)):
        raise TypeError(f"adatas is {type(adatas).__name__}: pass scored slides or files, one or a list.")
    for item in [adatas] if single else adatas:
        if isinstance(item, str | Path):
            yield str(item), read_anndata(item)
        else:
            yield "", annotated(item, table_key, "one of adatas")


def _rows(adata: AnnData, keys: Written, patient_key: str | None, file: str) -> list[dict[str, Any]]:
    """A row for each slide and patient of one AnnData."""
    check_results(adata, keys.key_added)
    check_columns(adata, keys)
    if not {keys.score, keys.call} <= set(adata.obs) or not {keys.verdicts, keys.uns} <= set(adata.uns):
        raise KeyError(
            f"obs[{keys.score!r}] and uns[{keys.verdicts!r}] do not exist: run omib_spatial.tl.score first, or "
            "pass the key_added= that was given to it."
        )
    if patient_key is not None and patient_key not in adata.obs:
        raise KeyError(f"obs[{patient_key!r}] does not exist: pass patient_key= one of {list(adata.obs)}.")
    slices = slices_of(adata, keys)
    patients = np.full(adata.n_obs, "", object)
    if patient_key is not None:
        patients = (
            adata.obs[patient_key].astype(object).where(adata.obs[patient_key].notna(), "").astype(str).to_numpy()
        )
    depth = CountRows(counts_matrix(adata, adata.uns[keys.uns].get("params", {}).get("layer") or None)).depth()
    verdicts = adata.uns[keys.verdicts].set_index("slice")
    check_slides(adata, keys, slices)
    rows = []
    for slide in dict.fromkeys(slices):
        for patient in sorted(set(patients[slices == slide])):
            here = (slices == slide) & (patients == patient)
            scored = here & np.isfinite(adata.obs[keys.score].to_numpy(float))
            called = here & (adata.obs[keys.call] == ABNORMAL).to_numpy(bool, na_value=False)
            regions = _regions(adata, keys, here)
            rows.append(
                {
                    "file": file,
                    "slide": slide,
                    "patient": patient,
                    "n_spots": here.sum(),
                    "n_scored": scored.sum(),
                    "median_counts": float(np.median(depth[here])),
                    "verdict": verdicts.loc[slide, "verdict"],
                    "reason": verdicts.loc[slide, "reason"],
                    "n_called": called.sum(),
                    "share_called": called.sum() / scored.sum() if scored.any() else np.nan,
                    **regions,
                    "n_clones": adata.obs[keys.clone][here].nunique() if keys.clone in adata.obs else pd.NA,
                    "n_subtypes": adata.obs[keys.subtype][here].nunique() if keys.subtype in adata.obs else pd.NA,
                    "modalities": verdicts.loc[slide, "modalities"],
                    "warnings": " ".join(slide_warnings(adata, keys, slide, int((here & ~scored).sum()))),
                }
            )
    return rows


def _regions(adata: AnnData, keys: Written, here: np.ndarray) -> dict[str, Any]:
    """Number and size of the regions with spots under ``here`` (n_obs,)."""
    if keys.regions not in adata.uns:
        return {"n_regions": pd.NA, "region_spots": pd.NA, "largest_region_spots": pd.NA}
    table = adata.uns[keys.regions]
    own = table[table.index.isin(adata.obs[keys.region][here].dropna().unique())]
    known = bool((own["unit"] == "um").all())
    return {
        "n_regions": len(own),
        "region_spots": int(own["n_spots"].sum()),
        "largest_region_spots": int(own["n_spots"].max()) if len(own) else 0,
        "region_mm2": own["area"].sum() * _MM2 if known else np.nan,
        "largest_region_mm2": (own["area"].max() * _MM2 if len(own) else 0.0) if known else np.nan,
    }


def slide_warnings(adata: AnnData, keys: Written, slide: str, n_unscored: int = 0) -> list[str]:
    """What to be careful of on a slide, a sentence each.

    Parameters
    ----------
    adata, keys
        What was scored, under which keys.
    slide
        Its name.
    n_unscored
        Spots without a score.
    """
    said = []
    if odd := unlike(adata.uns[keys.uns].get("shifts"), slide):
        said.append(f"Unlike the healthy reference: {odd}.")
    if n_unscored:
        said.append(f"{n_unscored} spots could not be scored.")
    if judged := adata.uns[keys.uns].get("modalities"):
        share = np.asarray(judged["share"])[np.asarray(judged["slice"]) == slide].ravel()
        parts = dict(zip(map(str, judged["modality"]), share, strict=False))
        none, few = [n for n, part in parts.items() if part == 0], [n for n, part in parts.items() if 0 < part < 0.5]
        said += [f"No spot was judged by the modality {named(none)}."] if none else []
        said += [f"Less than half of the spots have the modality {named(few)}."] if few else []
    said += _of_more_spots(adata, keys, slide)
    if keys.regions in adata.uns:
        own = adata.uns[keys.regions]
        if ((own["slice"].astype(str) == slide) & (own["unit"] == "px")).any():
            said.append("Areas are in pixels: micrometres per pixel are not known.")
    return said


def _of_more_spots(adata: AnnData, keys: Written, slide: str) -> list[str]:
    """What was found on more spots of a slide than are here, as of a part of a scored slide."""
    here, said = slices_of(adata, keys) == slide, []
    n = int(adata.obs.loc[here, keys.score].notna().sum())
    judged = int(adata.uns[keys.verdicts].set_index("slice").loc[slide, "n_spots"])
    if n < judged:
        said.append(f"The verdict is of {judged} scored spots, of which {n} are here.")
    if "n_spots" in (table := adata.uns.get(keys.regions, ())):
        n, found = int(adata.obs.loc[here, keys.region].notna().sum()), table["slice"].astype(str) == slide
        if n < (whole := int(table.loc[found, "n_spots"].sum())):
            said.append(f"Regions are of {whole} spots, of which {n} are here: run omib_spatial.tl.regions again.")
    return said
