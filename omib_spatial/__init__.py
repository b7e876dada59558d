"""Find the part of a tissue that should not be there."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from omib_spatial._version import __version__

__all__ = [
    "OMIB",
    "__version__",
    "benchmarks",
    "datasets",
    "get",
    "io",
    "load",
    "pl",
    "pp",
    "read_visium",
    "report",
    "settings",
    "tl",
]

_HOME = {
    "OMIB": "omib_spatial.core.model",
    "load": "omib_spatial.tl",
    "read_visium": "omib_spatial.slides.visium",
    "report": "omib_spatial.reporting",
    "settings": "omib_spatial._settings",
}

if TYPE_CHECKING:
    from omib_spatial import benchmarks, datasets, get, io, pl, pp, tl
    from omib_spatial._settings import settings
    from omib_spatial.core.model import OMIB
    from omib_spatial.reporting import report
    from omib_spatial.slides.visium import read_visium
    from omib_spatial.tl import load


def __getattr__(name: str) -> Any:
    """Import a part on its first use, so that ``import omib_spatial`` loads neither torch nor scanpy."""
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    if name in __all__:
        return import_module(f"omib_spatial.{name}")
    raise AttributeError(f"module 'omib_spatial' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
