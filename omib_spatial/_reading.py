"""Files are read with errors that name them."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from anndata import AnnData

R = TypeVar("R")


def read_anndata(path: str | Path) -> "AnnData":
    """An AnnData from ``.h5ad``, or from the folder of a ``.zarr``.

    Raises
    ------
    FileNotFoundError
        It is not there.
    ValueError
        It is of another kind, or cut off.
    """
    import anndata

    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: look at its spelling, and at the folder that you are in.")
    return named_read(path, anndata.read_zarr if path.is_dir() else anndata.read_h5ad)


def named_read(path: Path, read: Callable[[Path], R]) -> R:
    """What ``read`` gives, or a ValueError that names the file."""
    try:
        return read(path)
    except (ImportError, MemoryError):
        raise
    except PermissionError as error:
        raise PermissionError(f"{path} may not be read: ask for the right to read it.") from error
    except Exception as error:
        why = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} cannot be read: it may be cut off or of another kind ({why}).") from error
