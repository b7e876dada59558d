"""The POM movie reviews."""

from pathlib import Path

import numpy as np

from omib_spatial.datasets._multimodal import PARTS, Multimodal, trim

_MODALITIES = ("audio", "video")


def pom(folder: str | Path) -> Multimodal:
    """Read the movie reviews of POM (Park et al. 2014) as sequences, with 17 ratings of the speaker.

    Parameters
    ----------
    folder
        Holds ``pom_train.npz``, ``pom_valid.npz`` and ``pom_test.npz``, each with ``audio`` (n, T, 43), ``video``
        (n, T, 41) and ``label`` (n, 17), as github.com/pliang279/MFN has them.

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
        Arrays of a file differ in their first axis.
    """
    files = {part: Path(folder) / f"pom_{part}.npz" for part in PARTS}
    if missing := [path.name for path in files.values() if not path.is_file()]:
        raise FileNotFoundError(f"{folder} has no {missing}: it needs pom_train.npz, pom_valid.npz and pom_test.npz.")
    parts = {part: _read(path) for part, path in files.items()}
    sizes = {part: len(arrays["label"]) for part, arrays in parts.items()}
    ids = np.array([f"{part}_{i}" for part, n in sizes.items() for i in range(n)])
    joined = {key: np.concatenate([arrays[key] for arrays in parts.values()]) for key in (*_MODALITIES, "label")}
    trimmed = {name: trim(joined[name]) for name in _MODALITIES}
    return Multimodal(
        inputs={name: values for name, (values, _) in trimmed.items()},
        target=joined["label"].astype(np.float32),
        ids=ids,
        groups=ids,
        lengths={name: lengths for name, (_, lengths) in trimmed.items()},
        part=np.repeat(list(sizes), list(sizes.values())),
    )


def _read(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        if missing := [key for key in (*_MODALITIES, "label") if key not in file]:
            raise KeyError(f"{path} lacks {missing}; it has {file.files}.")
        arrays = {key: file[key] for key in (*_MODALITIES, "label")}
    if len({len(values) for values in arrays.values()}) > 1:
        raise ValueError(f"{path}: first axes differ: { {key: len(values) for key, values in arrays.items()} }.")
    return arrays
