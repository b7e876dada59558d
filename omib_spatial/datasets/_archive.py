"""Unpacking an archive that nobody vouches for: nothing may land outside its folder."""

import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

from omib_spatial._atomic import scratch


def unpack(archive: Path, folder: Path) -> list[Path]:
    """Unpack a tar (plain or compressed) or zip archive into ``folder``.

    All members are checked before the first is written, and are moved into place when all of them are there, each
    top-level one in one step. One of the same name that is there is replaced.

    Parameters
    ----------
    archive
        File to read.
    folder
        Its folder is made if missing.

    Returns
    -------
    Top-level files and folders, sorted.

    Raises
    ------
    ValueError
        It is no such archive or is broken, or a member has an absolute path, a path that leads out of the folder, or is
        a link or a device.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with scratch(folder / archive.name) as unfinished:
        _extract(archive, new := unfinished / "new")
        return sorted(_replace(path, folder / path.name, unfinished / "old") for path in new.iterdir())


def _extract(archive: Path, folder: Path) -> None:
    # A zip of stored members may look like a tar, but no tar has a zip's directory at its end.
    kind = _unzip if zipfile.is_zipfile(archive) else _untar if tarfile.is_tarfile(archive) else None
    if kind is None:
        raise ValueError(f"{archive} is neither a tar nor a zip archive: delete it and fetch it again.")
    try:
        folder.mkdir()
        kind(archive, folder)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError) as error:
        raise ValueError(f"{archive} is broken ({error}): delete it and fetch it again.") from error


def _unzip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as content:
        _check(archive, ((info.filename, _plain(info)) for info in content.infolist()))
        content.extractall(folder)


def _untar(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as content:
        _check(archive, ((info.name, info.isfile() or info.isdir()) for info in content.getmembers()))
        content.extractall(folder, filter="data")


def _check(archive: Path, members: Iterator[tuple[str, bool]]) -> None:
    """Raise unless every member is a plain file or folder within."""
    for name, plain in members:
        # Both systems' rules, for an archive may come from either.
        if any(path.anchor or ".." in path.parts for path in (PurePosixPath(name), PureWindowsPath(name))):
            raise ValueError(f"{archive} wants to write {name!r}, outside of its folder: do not trust it. Delete it.")
        if not plain:
            raise ValueError(f"{archive} holds {name!r}, a link or a device: do not trust it. Delete it.")


def _plain(info: zipfile.ZipInfo) -> bool:
    """Whether a member of a zip is a file or a folder; one that was not made on Unix says nothing else."""
    kind = stat.S_IFMT(info.external_attr >> 16)
    return kind in (0, stat.S_IFREG, stat.S_IFDIR)


def _replace(source: Path, target: Path, aside: Path) -> Path:
    """Move ``source`` to ``target``; a folder cannot be replaced in one step, so what is there steps ``aside``."""
    if target.is_dir() and not target.is_symlink():
        aside.mkdir(exist_ok=True)
        os.replace(target, aside / target.name)
    elif source.is_dir() and os.path.lexists(target):
        target.unlink()
    os.replace(source, target)
    return target
