"""Unpacking an archive that nobody vouches for: nothing may land outside its folder."""

import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

from omib_spatial._atomic import scratch

RATIO = 200
"""Bytes unpacked per byte of the archive at most: equal lines reach a thousand, tables and images some ten."""
ALWAYS = 2**30
"""Bytes that any archive may unpack to."""


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
        It is no such archive, is broken or encrypted, unpacks to much more than it is itself or than the disk has room
        for, or a member has an absolute path, a path that leads out of the folder, a name that another one has, or is a
        link or a device.
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
    except (tarfile.TarError, zipfile.BadZipFile, NotImplementedError, zlib.error, lzma.LZMAError, EOFError) as error:
        raise ValueError(f"{archive} is broken ({error}): delete it and fetch it again.") from error


def _unzip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as content:
        if secret := [info.filename for info in content.infolist() if info.flag_bits & 1]:
            raise ValueError(f"{archive} is encrypted ({secret[0]!r}): unpack it yourself, with its password.")
        _check(archive, ((info.filename, _plain(info)) for info in content.infolist()))
        _check_size(archive, folder, sum(info.file_size for info in content.infolist()))
        content.extractall(folder)


def _untar(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as content:
        members = _within(archive, content)
        _check(archive, ((info.name + "/" * info.isdir(), info.isfile() or info.isdir()) for info in members))
        _check_size(archive, folder, sum(info.size for info in members))
        content.extractall(folder, filter="data")


def _within(archive: Path, content: tarfile.TarFile) -> list[tarfile.TarInfo]:
    """Members, read no further than an archive of this size may reach: a compressed tar has no list of them."""
    limit, members, size = _limit(archive), [], 0
    for info in content:
        members.append(info)
        size += info.size
        if size > limit:
            raise ValueError(_too_large(archive, size))
    return members


def _check_size(archive: Path, folder: Path, size: int) -> None:
    """Raise where ``size`` bytes are more than the archive can mean, or than there is room for."""
    if size > _limit(archive):
        raise ValueError(_too_large(archive, size))
    if size > (free := shutil.disk_usage(folder).free):
        raise OSError(
            f"{archive} unpacks to {size / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free in {folder.parent}: make room."
        )


def _limit(archive: Path) -> int:
    return max(ALWAYS, RATIO * archive.stat().st_size)


def _too_large(archive: Path, size: int) -> str:
    return (
        f"{archive} has {archive.stat().st_size / 1e6:.1f} MB and unpacks to {size / 1e9:.1f} GB or more: do not trust "
        "it. Delete it, or unpack it yourself if you know what it is."
    )


def _check(archive: Path, members: Iterator[tuple[str, bool]]) -> None:
    """Raise unless every member is a plain file or folder within, with a name of its own."""
    files, folders = dict[str, str](), set[str]()
    for name, plain in members:
        _check_clash(archive, name, files, folders)
        # Both systems' rules, for an archive may come from either.
        if any(path.anchor or ".." in path.parts for path in (PurePosixPath(name), PureWindowsPath(name))):
            raise ValueError(f"{archive} wants to write {name!r}, outside of its folder: do not trust it. Delete it.")
        if not plain:
            raise ValueError(f"{archive} holds {name!r}, a link or a device: do not trust it. Delete it.")


def _check_clash(archive: Path, name: str, files: dict[str, str], folders: set[str]) -> None:
    """Raise where two members would be written to one place, also where a system knows no upper and lower case."""
    path = PurePosixPath(name.replace("\\", "/"))
    key, above = str(path).casefold(), {str(parent).casefold() for parent in path.parents}
    is_folder = name.endswith("/")
    if (key in files and not is_folder) or above & files.keys() or (key in folders and not is_folder):
        other = files.get(key) or next((files[k] for k in above if k in files), name)
        raise ValueError(f"{archive} holds {name!r} and {other!r}, which would take one place: do not trust it.")
    folders |= above
    if not is_folder:
        files[key] = name


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
