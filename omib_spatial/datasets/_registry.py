"""The data sets that the package knows, as ``data_registry.yaml`` lists them."""

from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

_FILE = "data_registry.yaml"


def registry() -> dict[str, dict[str, Any]]:
    """Entries by name: description, source, licence, citation, loader, ...

    Raises
    ------
    FileNotFoundError
        Neither the installed package nor its source tree has the registry.
    """
    package = files("omib_spatial")
    # A wheel ships the file inside the package; in a source tree it lies beside it.
    for place in (package / _FILE, Path(str(package)).parent / _FILE):
        if place.is_file():
            return dict(yaml.safe_load(place.read_text(encoding="utf-8")))
    raise FileNotFoundError(f"{_FILE} is neither in the package nor beside it: reinstall omib-spatial.")
