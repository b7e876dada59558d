"""The page: checked, gathered, rendered, written in one step."""

import json
import logging
import platform
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from omib_spatial._atomic import check_target, replacing
from omib_spatial._checked import File, Key, KeyAdded, Names, Positive, Text, checked
from omib_spatial._keys import Written
from omib_spatial._reading import read_anndata
from omib_spatial._version import __version__
from omib_spatial.detector.model import AnomalyModel
from omib_spatial.reporting._slide import slide_page
from omib_spatial.reporting._words import NOT_SAID
from omib_spatial.slides.results import check_columns, check_results, check_slides
from omib_spatial.slides.scored import scored_slides
from omib_spatial.slides.spatialdata import annotated
from omib_spatial.tl._explain import explain
from omib_spatial.tl._regions import regions
from omib_spatial.tl._score import require_model
from omib_spatial.tl._verdicts import read_groups

logger = logging.getLogger("omib_spatial")


@checked
def report(
    adata: AnnData | str | Path,
    path: File,
    model: AnomalyModel | None = None,
    *,
    key_added: KeyAdded = "omib",
    truth_key: Key | None = None,
    library_id: Names | None = None,
    image_key: Key | None = None,
    spot_diameter_um: Positive | None = None,
    title: Text | None = None,
) -> Path:
    """Write one page about scored slides: the picture with the score over it, regions, patches, and what it all means.

    The page is a single HTML file that opens in any browser without network, is used by mouse, touch or keyboard, and
    holds a tab per slide. Nothing is written into ``adata``. Regions that are not there yet are computed for the page.

    Parameters
    ----------
    adata
        After `omib_spatial.tl.score`, or a file of it. Results of `omib_spatial.tl.regions`, `omib_spatial.tl.clones`
        and `omib_spatial.tl.explain` are shown where they are there.
    path
        File to write, ``.html``.
    model
        By which the slides were scored: explains them for the page where `omib_spatial.tl.explain` was not run. Counts
        and images are then needed, too.
    key_added
        Prefix of what is read.
    truth_key
        ``obs`` column to compare with, such as a pathologist's annotation.
    library_id
        Show this slide alone.
    image_key
        Image of the slides; default: as in the run, or the best that is there.
    spot_diameter_um
        As in `omib_spatial.tl.regions`, where regions are computed here.
    title
        Of the page; default: the names of the slides.

    Returns
    -------
    ``path``.

    Raises
    ------
    KeyError
        The slides were not scored, or ``truth_key`` is not there.
    ValueError
        ``path`` does not end with ``.html``.
    OSError
        The file cannot be written.

    Examples
    --------
    >>> omib.report(adata, "report.html", model)
    PosixPath('report.html')
    """
    path = Path(path)
    check_target(path)
    adata = adata if isinstance(adata, str | Path) else annotated(adata)
    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"path is {str(path)!r}, and the report is a page for a browser: let it end with .html.")
    adata = read_anndata(adata) if isinstance(adata, str | Path) else adata
    if not isinstance(model, AnomalyModel | None):
        raise TypeError(f"model is {type(model).__name__}: pass one that omib_spatial.load reads, or None.")
    keys = Written(key_added)
    check_results(adata, key_added)
    check_columns(adata, keys)
    groups = read_groups(adata, keys)
    if keys.verdicts not in adata.uns:
        raise KeyError(f"uns[{keys.verdicts!r}] does not exist: run omib_spatial.tl.call first.")
    for key in (keys.call, truth_key):
        if key is not None and key not in adata.obs:
            raise KeyError(f"obs[{key!r}] does not exist: pass one of {list(adata.obs)}, or score first.")
    if model is not None:
        require_model(model)
    adata = _complete(adata, keys, model, spot_diameter_um)
    slides = scored_slides(adata, key_added, library_id=library_id, image_key=image_key)
    if not adata.uns[keys.uns]["params"].get("library_key"):
        # The only slide is known by the name that it was scored under.
        slides = [replace(slide, name=str(groups["slice"].iloc[0])) for slide in slides]
    check_slides(adata, keys, [slide.name for slide in slides])
    pages = [slide_page(adata, keys, slide, groups, truth_key, title) for slide in slides]
    html = render(
        title=title or ", ".join(slide.name for slide in slides if slide.name) or "Slide",
        slides=[page.words for page in pages],
        data=[page.data for page in pages],
        run=_run(adata, keys),
    )
    with replacing(path) as partial:
        partial.write_text(html, encoding="utf-8")
    logger.info("%s: %d slides, %.1f MB.", path, len(slides), len(html) / 1e6)
    return path


def render(*, title: str, slides: list[dict[str, Any]], data: list[dict[str, Any]], run: list[tuple[str, str]]) -> str:
    """The page as text.

    Parameters
    ----------
    title
        Of the page.
    slides, data
        What the template and what the script get of each slide.
    run
        Names and values of parameters.
    """
    # "<" in names of slides or spots must not end the script that holds them.
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return _template().render(
        title=title, slides=slides, data=text, run=run, not_said=NOT_SAID, version=__version__,
        style=_part("templates/report.css"), script=_part("templates/report.js"),
        library=_part("vendor/openseadragon.min.js"), licence=_part("vendor/openseadragon.LICENSE.txt"),
    )  # fmt: skip


@cache
def _template() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("omib_spatial.reporting", "templates")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("report.html")


@cache
def _part(name: str) -> str:
    return files("omib_spatial.reporting").joinpath(name).read_text(encoding="utf-8")


def _complete(adata: AnnData, keys: Written, model: AnomalyModel | None, spot_diameter_um: float | None) -> AnnData:
    """``adata``, or an AnnData of its own that has what the page needs: regions and, given a model, explanations."""
    unexplained = model is not None and keys.explained not in adata.uns
    if keys.regions in adata.uns and not unexplained:
        return adata
    adata = adata.to_memory() if adata.isbacked else adata
    # Tables are added to it, and nothing in it is changed: the parts may be those of ``adata``.
    shared: dict[str, Any] = {name: dict(getattr(adata, name)) for name in ("obsm", "varm", "obsp", "layers", "uns")}
    own = AnnData(adata.X, obs=adata.obs.copy(), var=adata.var, **shared)
    if keys.regions not in own.uns:
        regions(own, key_added=keys.key_added, spot_diameter_um=spot_diameter_um)
    if model is not None and unexplained:
        explain(own, model, key_added=keys.key_added)
    return own


def _run(adata: AnnData, keys: Written) -> list[tuple[str, str]]:
    """Parameters and versions, as text."""
    run = adata.uns[keys.uns]
    found = {"scored with omib_spatial": run["version"], "page made with omib_spatial": __version__}
    found |= {"Python": platform.python_version()}
    return [(str(key), _text(value)) for key, value in [*found.items(), *sorted(run["params"].items())]]


def _text(value: Any) -> str:
    if isinstance(value, np.ndarray | list | tuple):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, float | np.floating):
        return f"{value:.4g}"
    return str(value) if str(value) and not pd.isna(value) else "default"
