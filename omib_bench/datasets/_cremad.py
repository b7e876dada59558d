"""CREMA-D: actors who say a sentence in one of six emotions."""

import csv
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from omib_bench.datasets._clips import ClipFormat, DecodedClips
from omib_bench.datasets._multimodal import Multimodal
from omib_spatial.datasets._fetch import cache_folder

EMOTIONS = ("NEU", "HAP", "SAD", "FEA", "DIS", "ANG")
"""Neutral, happy, sad, fear, disgust, anger: class 0 to 5."""

_SOUND = "AudioWAV"
_FILM = "VideoFlash"
_LISTS = ("train", "test")


def cremad(
    folder: str | Path,
    *,
    split: str | None = None,
    lists: str | Path | None = None,
    cache: str | Path | None = None,
    skip: Iterable[str] = (),
    frames: int = 3,
    side: int = 224,
    seconds: float = 3.0,
    window: int = 512,
    hop: int = 353,
    progress_bar: bool = True,
) -> Multimodal:
    """Read CREMA-D (Cao et al. 2014) from its official distribution, with the split of OGM-GE and the OMIB paper.

    Nothing is decoded before the inputs are first used; then every clip is decoded once into ``cache``, from where it
    is mapped into memory. An interrupted decoding goes on where it stopped.

    Parameters
    ----------
    folder
        Holds ``AudioWAV/{clip}.wav`` and ``VideoFlash/{clip}.flv``, or, in place of the latter, one folder
        ``Image-01-FPS/{clip}/`` (or another rate) with the clip's pictures.
    split
        ``"train"`` (6,698 clips), ``"test"`` (744) or None for both.
    lists
        Folder with ``train.csv`` and ``test.csv``, lines of clip and emotion, as github.com/GeWu-Lab/OGM-GE_CVPR2022
        has them; None looks in ``folder``.
    cache
        Where decoded clips are kept, about 0.6 MB each; None takes ``cremad`` in the folder of
        `omib_spatial.datasets.fetch`.
    skip
        Clips to leave out, such as those that a `BrokenClipsError` named.
    frames
        Pictures per clip, from the middles of as many equal parts of it.
    side
        Height and width of the pictures, pixels.
    seconds
        Sound is cut to this length, or repeated if it is shorter.
    window, hop
        Of the spectrogram, in samples at 22,050 per second.
    progress_bar
        Show one while clips are decoded.

    Returns
    -------
    Samples with ``audio``, the log-magnitude spectrogram (window / 2 + 1, times) float32, and ``video``, the frames
    (frames, 3, side, side) uint8; target is the emotion, groups are the actors. **The split is by clip: actors are on
    both sides.**

    Raises
    ------
    FileNotFoundError
        The lists, or all clips, are missing.
    ValueError
        A list has an emotion that does not exist, or ``split`` is none of these.
    BrokenClipsError
        At the first use of the inputs: all clips that are missing or cannot be decoded, in one list.

    Examples
    --------
    >>> train = omib.datasets.cremad("CREMA-D", split="train")
    >>> len(train), train.classes[int(train.target[0])]
    (1, 'ANG')
    """
    if split not in (None, *_LISTS):
        raise ValueError(f"split is 'train', 'test' or None, not {split!r}.")
    folder, left_out = Path(folder), set(skip)
    parts = _LISTS if split is None else (split,)
    rows = [(*row, part) for part in parts for row in _list(Path(lists or folder) / f"{part}.csv")]
    rows = [row for row in rows if row[0] not in left_out]
    film, suffix = _films(folder)
    clips = {name: (folder / _SOUND / f"{name}.wav", film / f"{name}{suffix}") for name, *_ in rows}
    if not any(path.exists() for pair in clips.values() for path in pair):
        raise FileNotFoundError(f"{folder} has none of the {len(clips)} clips in {_SOUND} and {film.name}.")
    form = ClipFormat(frames=frames, side=side, seconds=seconds, window=window, hop=hop)
    ids = np.array([name for name, *_ in rows])
    return Multimodal(
        inputs=DecodedClips(clips, form, Path(cache) if cache is not None else cache_folder() / "cremad", progress_bar),
        target=np.array([EMOTIONS.index(emotion) for _, emotion, _ in rows], dtype=np.int64),
        ids=ids,
        groups=np.array([name.split("_")[0] for name in ids]),
        part=np.array([part for *_, part in rows]),
        classes=EMOTIONS,
    )


def _list(path: Path) -> list[tuple[str, str]]:
    """Clips and emotions."""
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: pass lists=FOLDER with train.csv and test.csv, which "
            "https://github.com/GeWu-Lab/OGM-GE_CVPR2022 has in data/CREMAD."
        )
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = [(line[0], line[1]) for line in csv.reader(file) if line]
    if wrong := [row for row in rows if row[1] not in EMOTIONS]:
        raise ValueError(f"{path} has {wrong[:5]}: emotions are {', '.join(EMOTIONS)}.")
    return rows


def _films(folder: Path) -> tuple[Path, str]:
    """Folder of what is seen, and how a clip's name ends in there."""
    if (folder / _FILM).is_dir():
        return folder / _FILM, ".flv"
    pictures = sorted(folder.glob("Image-*-FPS"))
    if len(pictures) != 1:
        raise FileNotFoundError(
            f"{folder} has neither {_FILM} nor exactly one Image-*-FPS folder, but {[p.name for p in pictures]}."
        )
    return pictures[0], ""
