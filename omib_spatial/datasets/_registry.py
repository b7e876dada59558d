"""The data sets that the package knows, as ``data_registry.yaml`` lists them."""

from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import yaml

_FILE = "data_registry.yaml"
_UNKNOWN = "unknown"


class RemoteFile(NamedTuple):
    """One file of a data set.

    Attributes
    ----------
    path
        Where it goes within the data set's folder.
    url
        Where it is.
    size
        Bytes; None if not known.
    sha256
        Hexadecimal digest; None if not known.
    unpack
        Whether it is an archive whose content goes beside it.
    """

    path: str
    url: str
    size: int | None = None
    sha256: str | None = None
    unpack: bool = False


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


def remote_files(entry: dict[str, Any]) -> list[RemoteFile]:
    """Files of an entry that can be downloaded; none where it has steps to follow instead."""
    return [
        RemoteFile(
            path=given["path"],
            url=given.get("url", entry.get("base", "") + given["path"]),
            size=_known(given.get("size")),
            sha256=_known(given.get("sha256")),
            unpack=given.get("unpack", False),
        )
        for given in entry.get("files", ())
    ]


def _known(value: Any) -> Any:
    return None if value == _UNKNOWN else value
