"""Downloading a data set of the registry, once."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omib_spatial._atomic import check_folder, locked, replacing, scratch
from omib_spatial._checked import File, Flag, Key, checked
from omib_spatial._settings import settings
from omib_spatial.datasets._archive import unpack
from omib_spatial.datasets._collection import collection_files
from omib_spatial.datasets._download import ResumingDownloader
from omib_spatial.datasets._registry import RemoteFile, registry, remote_files

logger = logging.getLogger("omib_spatial")

CACHE = "OMIB_CACHE"
"""Environment variable that names the cache folder."""


@checked
def fetch(name: Key, *, cache: File | None = None, progress_bar: Flag | None = None) -> Path:
    """Download a data set of ``data_registry.yaml``, unless it is there already.

    Entries with a ``collection`` are asked of CELLxGENE's public interface, which says where the files are today.
    A file whose SHA-256 digest is known is verified, before each use too, and takes its place only when it is whole.
    A download that was interrupted goes on where it stopped when the same is called again. Of several processes that
    fetch the same, one downloads and the others wait.

    Parameters
    ----------
    name
        One of the registry's; ``omib-spatial datasets`` lists them.
    cache
        Folder of all downloads. None: ``settings.cache``, else the environment variable ``OMIB_CACHE``, else the
        system's folder for caches.
    progress_bar
        Draw a progress bar per file; None draws it unless ``settings.verbosity`` is 0.

    Returns
    -------
    The data set's own folder in the cache, with its files and what its archives hold.

    Raises
    ------
    KeyError
        There is no such entry.
    PermissionError
        The data set may not be downloaded directly; the message, and the log, say how to get it.
    OSError
        A server does not answer, refuses or stops early, or the disk does. Of a collection the message says how to get
        it by hand.
    ValueError
        A file has another digest or size than it should have (it is deleted), or an archive is not to be trusted.

    Examples
    --------
    >>> folder = omib.datasets.fetch("mob", progress_bar=False)  # downloads once; where it may not, it says what to do
    >>> omib.datasets.mob(folder, sections=["MOB1"]).n_obs
    16
    """
    known = registry()
    if name not in known:
        raise KeyError(f"There is no data set with the name {name!r} in the registry: choose one of {sorted(known)}.")
    remote = _files_of_collection(name, known[name]) if "collection" in known[name] else remote_files(known[name])
    if not remote:
        raise PermissionError(_how_to_get(name, known[name]))
    folder = _folder(name, known[name], cache)
    check_folder(folder)
    # Whoever fetches the same meanwhile waits, and then finds it.
    shown = settings.verbosity > 0 if progress_bar is None else progress_bar
    with locked(folder):
        for file in remote:
            _retrieve(file, folder, shown)
    logger.info("%s: %d files in %s.", name, len(remote), folder)
    return folder


def _files_of_collection(name: str, entry: dict[str, Any]) -> list[RemoteFile]:
    """What CELLxGENE says that there is; the way by hand where it says nothing."""
    try:
        return collection_files(entry)
    except (OSError, ValueError) as error:
        raise type(error)(f"{error}\n{_how_to_get(name, entry)}") from error


def _how_to_get(name: str, entry: dict[str, Any]) -> str:
    steps = [f"{number}. {step}" for number, step in enumerate(entry["steps"], 1)]
    for step in steps:
        logger.info("%s: %s", name, step)
    return "\n".join([f"{name} cannot be downloaded directly. Licence: {entry['licence']}. To get it:", *steps])


def cache_folder(cache: str | Path | None = None) -> Path:
    """The folder that is given, else that of the environment variable, else the system's for caches."""
    import pooch

    return Path(cache or settings.cache or os.environ.get(CACHE) or pooch.os_cache("omib_spatial")).expanduser()


def _folder(name: str, entry: dict[str, Any], cache: str | Path | None) -> Path:
    """Where a data set lies; another revision lies elsewhere."""
    return cache_folder(cache) / "-".join([name, *str(entry.get("revision", "")).split()])


def _retrieve(file: RemoteFile, folder: Path, progress_bar: bool) -> None:
    import pooch

    target = folder / file.path
    if new := not _is_whole(file, target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with _quiet(pooch.get_logger()), scratch(target) as unfinished:
            pooch.retrieve(
                file.url,
                known_hash=file.sha256,
                fname=target.name,
                path=unfinished,
                downloader=ResumingDownloader(target, size=file.size, progress_bar=progress_bar),
            )
            os.replace(unfinished / target.name, target)
        if file.sha256 is None:
            logger.info("The registry has no digest of %s: its SHA-256 is %s.", target, pooch.file_hash(target))
    done = target.with_name(f"{target.name}.unpacked")
    if file.unpack and (new or not done.is_file()):
        done.unlink(missing_ok=True)
        names = [entry.name for entry in unpack(target, target.parent)]
        with replacing(done) as partial:
            partial.write_text("\n".join(names) + "\n")


def _is_whole(file: RemoteFile, target: Path) -> bool:
    """Whether the file is there, and of the size and digest that the registry knows of it."""
    import pooch

    return (
        target.is_file()
        and file.size in (None, target.stat().st_size)
        and file.sha256 in (None, pooch.file_hash(str(target)))
    )


@contextmanager
def _quiet(chatty: logging.Logger) -> Iterator[None]:
    """Keep a logger to warnings: pooch would advise users on arguments that they do not have."""
    level = chatty.level
    chatty.setLevel(logging.WARNING)
    try:
        yield
    finally:
        chatty.setLevel(level)
