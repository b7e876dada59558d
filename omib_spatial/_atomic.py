"""Files that appear whole or not at all: every file that is written goes through here."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: leftovers of a kill cannot be told from a writer at work, and stay.
    fcntl = None  # type: ignore[assignment]

_LOCK = "lock"
_SUFFIX = ".partial"
_LONGEST = 50  # characters of a name that temporary names repeat: names end at 255 bytes


@contextmanager
def scratch(target: str | Path) -> Iterator[Path]:
    """A new, private folder beside ``target``, removed at the end; what is made in it can be moved in one step.

    Its name is nobody else's, so that two writers never meet and no link that waits under a known name is followed.
    Folders that killed writers of the same ``target`` left are removed; a writer at work holds a lock on its own.

    Parameters
    ----------
    target
        What is going to be written. Its folder exists.
    """
    target = Path(target)
    start = f".{target.name[:_LONGEST]}."
    _remove_leftovers(target.parent, start)
    folder, lock = _new(target.parent, start)
    try:
        yield folder
    finally:
        _remove(folder)
        os.close(lock)


@contextmanager
def replacing(target: str | Path, *, overwrite: bool = True) -> Iterator[Path]:
    """Where to write what takes the place of the file ``target`` in one step once it is complete.

    Whatever goes wrong, a kill included, ``target`` is as it was. Its mode is that of any new file of the user's. If
    ``target`` is a link to a file, that file is replaced, as plain writing would.

    Parameters
    ----------
    target
        A file, there or not; its folder is made if missing.
    overwrite
        False leaves a file that is there by the end.

    Raises
    ------
    OSError
        It cannot be written: no such place, no permission, no room, something that is no file is there, or a file that
        may not be replaced.

    Examples
    --------
    >>> with replacing("numbers.json") as path:  # doctest: +SKIP
    ...     path.write_text("{}")
    """
    check_target(target)
    real = Path(os.path.realpath(target))
    try:
        real.parent.mkdir(parents=True, exist_ok=True)
        with scratch(real) as folder:
            yield (partial := folder / real.name)
            settle(partial)
            if overwrite or not _linked(partial, real):
                os.replace(partial, real)
    except (OSError, RuntimeError) as error:
        # By its number, where it has one: libraries add pages of their own.
        number = _number(error)
        why = os.strerror(number) if number else error
        words = f"{target} could not be written, and what was there is as it was: {why}."
        raise (OSError(number, words) if number else OSError(words)) from error


@contextmanager
def locked(folder: str | Path) -> Iterator[None]:
    """Hold ``folder`` for oneself: another process or thread that asks for it waits, and a kill lets go of it.

    File systems without locks let everybody through.

    Parameters
    ----------
    folder
        Made if missing.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    held = os.open(folder, os.O_RDONLY) if fcntl else None
    try:
        if held is not None:
            with suppress(OSError):
                fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        if held is not None:
            os.close(held)


def check_target(target: str | Path) -> None:
    """Raise OSError where no file can be written: a folder or a device is there, or a file where its folder would be.

    Parameters
    ----------
    target
        File that is going to be written, perhaps after long work.
    """
    target = Path(target)
    check_folder(target.parent)
    if target.exists() and not target.is_file():
        raise OSError(f"{target} is a folder or a device: pass the name of a file.")


def check_folder(folder: str | Path) -> None:
    """Raise OSError where no folder can be made or written to.

    Parameters
    ----------
    folder
        There or not.
    """
    folder = Path(folder).absolute()
    # A link to nowhere, and a name below a file, are in the way too.
    above = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    if not above.is_dir():
        raise NotADirectoryError(f"{above} is a file where a folder is needed: pass another place.")
    if not os.access(above, os.W_OK | os.X_OK):
        raise PermissionError(f"{above} is a folder that you may not write to: pass another place.")


def settle(path: Path) -> None:
    """Give a file in a `scratch` folder the mode of any new file, whatever its maker chose, and get it onto the disk.

    Parameters
    ----------
    path
        The finished file.
    """
    path.chmod((path.parent / _LOCK).stat().st_mode & 0o777)
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _number(error: BaseException | None) -> int | None:
    """The system's number of what went wrong: after a full disk, HDF5 fails again when it closes the file."""
    while error is not None:
        if isinstance(error, OSError) and error.errno:
            return error.errno
        error = error.__cause__ or error.__context__
    return None


def _linked(partial: Path, target: Path) -> bool:
    """Give a file a second name unless that is taken, in one step; False where the file system has no such names."""
    try:
        os.link(partial, target)
    except FileExistsError:
        raise
    except OSError:
        return False
    return True


def _new(parent: Path, start: str) -> tuple[Path, int]:
    """A folder of one's own, and the open file that is locked while it is in use."""
    while True:
        folder = Path(tempfile.mkdtemp(_SUFFIX, start, parent))
        try:
            lock = os.open(folder / _LOCK, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        except FileNotFoundError:  # Taken for a leftover before it had its lock.
            continue
        if _locked(lock, unknown=True) and (folder / _LOCK).exists():
            return folder, lock
        os.close(lock)


def _locked(file: int, *, unknown: bool) -> bool:
    """Lock an open file unless another holds it; ``unknown`` where that cannot be told."""
    if fcntl is None:
        return unknown
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # A file system without locks.
        return unknown
    return True


def _remove_leftovers(parent: Path, start: str) -> None:
    for name in os.listdir(parent):
        folder = parent / name
        if not (name.startswith(start) and name.endswith(_SUFFIX)) or folder.is_symlink() or not folder.is_dir():
            continue
        try:
            lock = os.open(folder / _LOCK, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
        except OSError:
            _remove_empty(folder)
            continue
        try:
            if _locked(lock, unknown=False):
                _remove(folder)
        finally:
            os.close(lock)


def _remove(folder: Path) -> None:
    """The lock goes last: without it, a folder that is left half removed would never be known as a leftover."""
    with suppress(OSError):
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != _LOCK:
                path.unlink(missing_ok=True)
        (folder / _LOCK).unlink(missing_ok=True)
    _remove_empty(folder)


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()
