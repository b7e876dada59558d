"""Names that have moved: to `omib_spatial.modalities` and `omib_spatial.slides`. They go with the next version."""

import warnings
from importlib import import_module
from typing import Any

_MOVED = {
    "Gene": "omib_spatial.modalities",
    "Genome": "omib_spatial.modalities",
    "Image": "omib_spatial.modalities",
    "Layout": "omib_spatial.slides",
    "Matrix": "omib_spatial.modalities",
    "Modality": "omib_spatial.modalities",
    "Prepared": "omib_spatial.modalities",
    "Summary": "omib_spatial.modalities",
}
_RENAMED = {"Matrix": "ObsmFeatures"}


def __getattr__(name: str) -> Any:
    if name not in _MOVED:
        raise AttributeError(f"module 'omib_spatial.data' has no attribute '{name}'")
    new = _RENAMED.get(name, name)
    warnings.warn(f"omib_spatial.data.{name} is now {_MOVED[name]}.{new}.", FutureWarning, stacklevel=2)
    return getattr(import_module(_MOVED[name]), new)
