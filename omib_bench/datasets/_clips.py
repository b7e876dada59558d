"""Sound and picture of clips, decoded once into arrays on disk."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.util import find_spec
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

_FLOOR = 1e-7
_SHOWN = 20
_PICTURES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class ClipFormat:
    """What becomes of a clip.

    Attributes
    ----------
    frames
        Pictures per clip, from the middles of as many equal parts of it.
    side
        Height and width to which pictures are brought, pixels.
    rate
        Samples per second to which sound is brought.
    seconds
        Length to which sound is cut, or repeated if it is shorter.
    window, hop
        Of the spectrogram, samples.
    """

    frames: int = 3
    side: int = 224
    rate: int = 22_050
    seconds: float = 3.0
    window: int = 512
    hop: int = 353

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of a clip's arrays."""
        times = 1 + int(self.seconds * self.rate) // self.hop
        return {"audio": (self.window // 2 + 1, times), "video": (self.frames, 3, self.side, self.side)}


_TYPES = {"audio": np.float32, "video": np.uint8}


class BrokenClipsError(ValueError):
    """Some clips cannot be used.

    Attributes
    ----------
    clips
        What is wrong, by clip.

    Examples
    --------
    >>> error = omib.datasets.BrokenClipsError({"1001_DFA_ANG_XX": "no sound"}, total=744)
    >>> list(error.clips)
    ['1001_DFA_ANG_XX']
    """

    def __init__(self, clips: Mapping[str, str], total: int) -> None:
        self.clips = dict(clips)
        lines = [f"  {name}: {why}" for name, why in list(self.clips.items())[:_SHOWN]]
        more = [f"  and {len(self.clips) - _SHOWN} more"] if len(self.clips) > _SHOWN else []
        head = f"{len(self.clips)} of {total} clips cannot be used; the others are decoded and kept:"
        tail = "Restore these files, or leave them out with skip=error.clips, error being this exception."
        super().__init__("\n".join([head, *lines, *more, tail]))


class DecodedClips(Mapping[str, np.ndarray]):
    """Arrays of all clips, mapped from disk; the first use decodes what has not been decoded before.

    Parameters
    ----------
    clips
        By name, the file of its sound and the file, or folder of pictures, of what is seen.
    form
        What becomes of a clip.
    cache
        Folder for the arrays. Each set of names and each ``form`` has its own in there; a clip whose file has changed
        is decoded again.
    progress_bar
        Whether to show one.
    """

    def __init__(
        self, clips: Mapping[str, tuple[Path, Path]], form: ClipFormat, cache: Path, progress_bar: bool
    ) -> None:
        self.clips, self.form, self.progress_bar = dict(clips), form, progress_bar
        key = json.dumps([asdict(form), {name: [str(p.absolute()) for p in pair] for name, pair in clips.items()}])
        self.folder = cache / hashlib.blake2b(key.encode(), digest_size=8).hexdigest()

    def __len__(self) -> int:
        return len(self.form.shapes)

    def __iter__(self) -> Iterator[str]:
        return iter(self.form.shapes)

    def __getitem__(self, modality: str) -> np.ndarray:
        return self._arrays[modality]

    @cached_property
    def _arrays(self) -> dict[str, np.ndarray]:
        _check_libraries()
        self.folder.mkdir(parents=True, exist_ok=True)
        n, shapes = len(self.clips), self.form.shapes
        opened = {name: _open(self.folder / f"{name}.npy", (n, *shapes[name]), _TYPES[name]) for name in shapes}
        arrays = {name: array for name, (array, _) in opened.items()}
        done, _ = _open(self.folder / "done.npy", (n, 2), np.int64)
        if any(new for _, new in opened.values()):
            done[:] = 0
        broken = self._decode(arrays, done)
        for array in (*arrays.values(), done):
            array.flush()
        if broken:
            raise BrokenClipsError(broken, n)
        # Copy on write: the arrays can be handed to torch, and nobody can change what is on disk.
        return {name: np.load(self.folder / f"{name}.npy", mmap_mode="c") for name in arrays}

    def _decode(self, arrays: Mapping[str, np.ndarray], done: np.ndarray) -> dict[str, str]:
        """Fill the rows that are not ``done``; what could not be filled, and why."""
        from tqdm.auto import tqdm

        names, broken = list(self.clips), {}
        stamps = np.array([[_changed(path) for path in pair] for pair in self.clips.values()], dtype=np.int64)
        rows = np.flatnonzero(((stamps != done) | (stamps == 0)).any(1)).tolist()
        pool = ThreadPoolExecutor(os.cpu_count())
        try:
            found = pool.map(lambda row: decode(*self.clips[names[row]], self.form), rows)
            bar = tqdm(found, total=len(rows), desc="decoding clips", disable=not (self.progress_bar and rows))
            for row, content in zip(rows, bar, strict=True):
                if isinstance(content, str):
                    broken[names[row]] = content
                    continue
                for modality, values in content.items():
                    arrays[modality][row] = values
                done[row] = stamps[row]
        finally:
            pool.shutdown(cancel_futures=True)
        return broken


def decode(sound: Path, picture: Path, form: ClipFormat) -> dict[str, np.ndarray] | str:
    """Spectrogram and frames of a clip, or a line that says why it cannot be used."""
    if missing := [path.name for path in (sound, picture) if not path.exists()]:
        return f"missing {' and '.join(missing)}"
    content = {}
    for name, read, path in (("audio", spectrogram, sound), ("video", frames, picture)):
        try:
            content[name] = read(path, form)
        # Any error of a library that meets a damaged file concerns this clip alone.
        except Exception as error:  # noqa: BLE001
            return f"{path.name}: {error or type(error).__name__}"
    return content


def spectrogram(path: Path, form: ClipFormat) -> np.ndarray:
    """``log(|STFT| + 1e-7)`` of a sound, (frequencies, times) float32: Hann window, zeros beyond both ends.

    Raises
    ------
    ValueError
        If there is no sound in the file.
    """
    import soundfile
    from scipy.signal import get_window, resample_poly

    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    if len(samples) == 0:
        raise ValueError("no sound in it")
    common = gcd(rate, form.rate)
    samples = resample_poly(samples.mean(1), form.rate // common, rate // common)
    samples = np.resize(samples, int(form.seconds * form.rate)).clip(-1, 1)
    windows = sliding_window_view(np.pad(samples, form.window // 2), form.window)[:: form.hop]
    magnitude = np.abs(np.fft.rfft(windows * get_window("hann", form.window)))
    return np.log(magnitude + _FLOOR).T.astype(np.float32)


def frames(path: Path, form: ClipFormat) -> np.ndarray:
    """Pictures of a film, or of a folder of pictures in the order of their names, (frames, 3, side, side) uint8.

    Raises
    ------
    ValueError
        If there is no picture.
    """
    shown = _pictures_of_folder(path, form) if path.is_dir() else _pictures_of_film(path, form)
    small = [picture.convert("RGB").resize((form.side, form.side), Image.Resampling.BILINEAR) for picture in shown]
    return np.stack([np.asarray(picture).transpose(2, 0, 1) for picture in small])


def _pictures_of_film(path: Path, form: ClipFormat) -> list[Image.Image]:
    import av

    with av.open(str(path)) as film:
        # Flash says neither how many frames there are nor how long they last.
        decoded = list(film.decode(video=0))
        return [decoded[i].to_image() for i in _middles(len(decoded), form.frames)]


def _pictures_of_folder(path: Path, form: ClipFormat) -> list[Image.Image]:
    files = sorted(p for p in path.iterdir() if p.suffix.lower() in _PICTURES)
    pictures = []
    for i in _middles(len(files), form.frames):
        with Image.open(files[i]) as picture:
            pictures.append(picture.convert("RGB"))
    return pictures


def _middles(there: int, wanted: int) -> Sequence[int]:
    """Numbers of the frames in the middles of ``wanted`` equal parts of ``there``."""
    if there == 0:
        raise ValueError("no picture in it")
    return [int((i + 0.5) * there / wanted) for i in range(wanted)]


def _open(path: Path, shape: tuple[int, ...], dtype: Any) -> tuple[np.memmap, bool]:
    """The array at ``path``, and whether it had to be made, of zeros, as it was not there or not whole."""
    if path.is_file():
        try:
            # Not at once for writing, which would fill up a file that was cut off.
            there = np.lib.format.open_memmap(path, mode="r")
        except ValueError:
            there = None
        if there is not None and there.shape == shape and there.dtype == dtype:
            return np.lib.format.open_memmap(path, mode="r+"), False
    return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape), True


def _check_libraries() -> None:
    """Without them every single clip would be called broken."""
    if missing := [name for name in ("av", "soundfile") if find_spec(name) is None]:
        raise ImportError(f"Decoding clips needs {' and '.join(missing)}: pip install 'omib-spatial[av]'.")


def _changed(path: Path) -> int:
    """When it last changed, in nanoseconds; 0 if it is not there."""
    return path.stat().st_mtime_ns if path.exists() else 0
