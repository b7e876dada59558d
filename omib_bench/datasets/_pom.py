"""The POM movie reviews."""

from pathlib import Path

import numpy as np

from omib_bench.datasets._multimodal import PARTS, Multimodal, trim

_MODALITIES = ("audio", "video")
_KEYS = (*_MODALITIES, "label")
_NAMES = {"audio": "audio", "video": "video", "label": "y"}
"""Of MFN's files."""


def pom(folder: str | Path) -> Multimodal:
    """Read the movie reviews of POM (Park et al. 2014) as sequences, with 17 ratings of the speaker.

    Parameters
    ----------
    folder
        Holds, for each of train, valid and test, ``audio_{part}.h5``, ``video_{part}.h5`` and ``y_{part}.h5`` with one
        array each, as github.com/pliang279/MFN and `omib_spatial.datasets.fetch` have them; or ``pom_{part}.npz`` with
        the arrays ``audio`` (n, T, 43), ``video`` (n, T, 41) and ``label`` (n, 17).

    Returns
    -------
    Samples with the files' split; who speaks is not in the files, so every sample is a group of its own. Zeros before
    the first and after the last step are padding; a review without any step of a modality lacks it.

    Raises
    ------
    FileNotFoundError
        A file is missing.
    KeyError
        A file lacks an array.
    ValueError
        Arrays of a part differ in their first axis, or an HDF5 file has several.

    Examples
    --------
    >>> data = omib.datasets.pom("pom")  # omib.datasets.fetch("pom") is such a folder
    >>> list(data.inputs), data.target.shape
    (['audio', 'video'], (10, 17))
    """
    folder = Path(folder)
    if all((folder / f"{_NAMES[key]}_{part}.h5").is_file() for key in _KEYS for part in PARTS):
        parts = {part: {key: _only(folder / f"{_NAMES[key]}_{part}.h5") for key in _KEYS} for part in PARTS}
    else:
        files = {part: folder / f"pom_{part}.npz" for part in PARTS}
        if missing := [path.name for path in files.values() if not path.is_file()]:
            raise FileNotFoundError(
                f"{folder} has no {missing}: it needs pom_train.npz, pom_valid.npz and pom_test.npz, or the "
                "nine .h5 that omib_spatial.datasets.fetch('pom') downloads."
            )
        parts = {part: _arrays(path) for part, path in files.items()}
    sizes = {part: _length(folder, part, arrays) for part, arrays in parts.items()}
    ids = np.array([f"{part}_{i}" for part, n in sizes.items() for i in range(n)])
    joined = {key: np.concatenate([arrays[key] for arrays in parts.values()]) for key in _KEYS}
    trimmed = {name: trim(joined[name]) for name in _MODALITIES}
    return Multimodal(
        inputs={name: values for name, (values, _) in trimmed.items()},
        target=joined["label"].astype(np.float32),
        ids=ids,
        groups=ids,
        lengths={name: lengths for name, (_, lengths) in trimmed.items()},
        part=np.repeat(list(sizes), list(sizes.values())),
    )


def _arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        if missing := [key for key in _KEYS if key not in file]:
            raise KeyError(f"{path} lacks {missing}; it has {file.files}.")
        return {key: file[key] for key in _KEYS}


def _only(path: Path) -> np.ndarray:
    """The one array of an HDF5 file, whatever it is called."""
    import h5py

    with h5py.File(path) as file:
        if len(file) != 1:
            raise ValueError(f"{path} has {list(file)}: one array is needed.")
        (values,) = file.values()
        return np.asarray(values)


def _length(folder: Path, part: str, arrays: dict[str, np.ndarray]) -> int:
    lengths = {key: len(values) for key, values in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{folder}, {part}: first axes differ: {lengths}.")
    return lengths["label"]
