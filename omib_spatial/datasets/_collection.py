"""What a collection of CELLxGENE Discover holds, asked of its public interface."""

import re
from typing import Any

from omib_spatial.datasets._registry import RemoteFile

API = "https://api.cellxgene.cziscience.com/curation/v1"
"""Address of the interface; the addresses of files change with every revision of a collection, this one does not."""
_H5AD = "H5AD"
_TIMEOUT = 30  # seconds without a byte


def collection_files(entry: dict[str, Any]) -> list[RemoteFile]:
    """The ``.h5ad`` files of an entry's ``collection``, those of its ``assay`` where it names one.

    Parameters
    ----------
    entry
        Of the registry, with ``collection``, maybe ``assay``, maybe ``api``, an address other than `API`.

    Returns
    -------
    Files named after their data set's title, with the size that the interface says; it says no digest.

    Raises
    ------
    OSError
        The interface does not answer, or answers with an error.
    ValueError
        It answers something else than a collection, or the collection has no such data set.
    """
    import requests

    url = f"{entry.get('api', API)}/collections/{entry['collection']}"
    try:
        answer = requests.get(url, timeout=_TIMEOUT)
        answer.raise_for_status()
    except requests.RequestException as error:
        raise OSError(f"{url} did not say which files there are ({error}).") from error
    try:
        found = [data for data in answer.json()["datasets"] if _is_of(data, entry.get("assay"))]
        files = [_file(data, asset) for data in found for asset in data["assets"] if asset["filetype"] == _H5AD]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{url} does not answer with a collection and its data sets ({error!r}).") from error
    if not files:
        raise ValueError(f"{url} has no {_H5AD} file of the assay {entry.get('assay')!r}: look at {entry['source']}.")
    if len({file.path for file in files}) < len(files):  # two of one title
        files = [file._replace(path=f"{number}-{file.path}") for number, file in enumerate(files, 1)]
    return files


def _is_of(data: dict[str, Any], assay: str | None) -> bool:
    return assay is None or any(assay in term["label"] for term in data["assay"])


def _file(data: dict[str, Any], asset: dict[str, Any]) -> RemoteFile:
    title = re.sub(r"[^A-Za-z0-9]+", "-", data.get("title") or data["dataset_id"]).strip("-")
    return RemoteFile(path=f"{title}.h5ad", url=asset["url"], size=int(asset["filesize"]))
