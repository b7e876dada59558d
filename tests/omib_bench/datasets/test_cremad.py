import csv
import os
import subprocess
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from omib_bench.datasets._clips import ClipFormat, frames, spectrogram
from omib_spatial.core import OMIB, Classification, OMIBTraining, predict, sample_loader, train
from omib_spatial.datasets import BrokenClipsError, cremad
from omib_spatial.encoders import FrameResNet, SpectrogramResNet

LISTS = Path(os.environ.get("OMIB_DATA", Path(__file__).parents[3] / "../shared/data")) / "cremad"
REAL = pytest.mark.skipif(not LISTS.is_dir(), reason=f"no CREMA-D lists at {LISTS}: set OMIB_DATA")

# A tone in noise, and a bar that moves about.
KINDS = {"NEU": (300, "28x6"), "HAP": (600, "6x28"), "SAD": (1200, "14x14")}
TRAIN, TEST = 24, 10
SMALL = {"frames": 2, "side": 32, "seconds": 0.5, "window": 256, "hop": 256, "progress_bar": False}


def ffmpeg(*arguments: str) -> None:
    done = subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *arguments], capture_output=True)
    assert done.returncode == 0, done.stderr


def film(bar: str, seconds: float) -> list[str]:
    place = "overlay=x='18+17*sin(7*t)':y='10+9*cos(5*t)'"
    sources = f"color=black:s=64x48:r=10:d={seconds}[a];color=white:s={bar}:r=10:d={seconds}[b];[a][b]{place}"
    return ["-f", "lavfi", "-i", sources, "-c:v", "flv", "-g", "5"]


def sound(tone: int, seconds: float) -> list[str]:
    return ["-f", "lavfi", "-i", f"aevalsrc=0.2*sin(2*PI*{tone}*t)+0.2*(random(0)-0.5):s=16000:d={seconds}"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Half-second clips, cut from one long film and one long sound of each kind, in the official folders."""
    root = tmp_path_factory.mktemp("CREMA-D")
    lists: dict[str, list[tuple[str, str]]] = {"train": [], "test": []}
    for name in ("AudioWAV", "VideoFlash"):
        (root / name).mkdir()
    for kind, (tone, bar) in KINDS.items():
        cut = ["-f", "segment", "-segment_time", "0.5", "-reset_timestamps", "1"]
        n = TRAIN + TEST
        ffmpeg(*film(bar, n / 2), *cut, "-segment_format", "flv", str(root / f"VideoFlash/{kind}_%d.flv"))
        ffmpeg(*sound(tone, n / 2), *cut, str(root / f"AudioWAV/{kind}_%d.wav"))
        for i in range(n):
            clip = f"{1001 + i % 5}_IEO_{kind}_{i:02d}"
            (root / f"VideoFlash/{kind}_{i}.flv").rename(root / f"VideoFlash/{clip}.flv")
            (root / f"AudioWAV/{kind}_{i}.wav").rename(root / f"AudioWAV/{clip}.wav")
            lists["train" if i < TRAIN else "test"].append((clip, kind))
    for part, rows in lists.items():
        with (root / f"{part}.csv").open("w", newline="", encoding="utf-8-sig") as file:
            csv.writer(file).writerows(rows)
    return root


@pytest.fixture
def few(folder, tmp_path) -> Path:
    """Links to six of the clips, so that some can be broken."""
    with (folder / "test.csv").open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.reader(file))[::5]
    for name, suffix in {"AudioWAV": ".wav", "VideoFlash": ".flv"}.items():
        (tmp_path / name).mkdir()
        for clip, _ in rows:
            (tmp_path / name / f"{clip}{suffix}").symlink_to(folder / name / f"{clip}{suffix}")
    with (tmp_path / "test.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return tmp_path


def read(folder: Path, **changes: object):
    return cremad(folder, split="test", cache=folder / "cache", **SMALL | changes)


def test_from_files_to_accuracy(folder, tmp_path):
    torch.manual_seed(0)
    parts = {part: cremad(folder, split=part, cache=tmp_path, **SMALL) for part in ("train", "test")}
    encoders = {"audio": SpectrogramResNet("small", 16), "video": FrameResNet("small", 16, augment=False)}
    model = OMIB(encoders, Classification(6, hidden=(32,)), latent_dim=16)
    module = OMIBTraining(model, beta=1e-3, warmup_epochs=2, learning_rate=3e-3, seed=0)
    batches = sample_loader(parts["train"].samples(), 24, shuffle=True)
    train(module, batches, max_epochs=10, progress_bar=False, accelerator="cpu")
    found = predict(model, sample_loader(parts["test"].samples(), 30, shuffle=False)).argmax(1).numpy()
    assert len(found) == 3 * TEST
    assert (found == parts["test"].target).mean() > 0.8


def test_lists_become_classes_actors_and_parts(folder, tmp_path):
    data = cremad(folder, cache=tmp_path, **SMALL)
    assert len(data) == 3 * (TRAIN + TEST) and [len(rows) for rows in data.split()] == [3 * TRAIN, 0, 3 * TEST]
    assert [data.classes[i] for i in data.target] == [name.split("_")[2] for name in data.ids]
    assert set(data.groups) == {"1001", "1002", "1003", "1004", "1005"}
    assert list(data.inputs) == ["audio", "video"] and data.present.all()
    assert not list(tmp_path.iterdir())  # nothing was decoded for that


def test_clips_are_decoded_once_and_again_when_a_file_changes(few, monkeypatch):
    data = read(few)
    first = {name: np.array(values) for name, values in data.inputs.items()}
    assert first["audio"].shape == (6, 129, 44) and first["audio"].dtype == np.float32
    assert first["video"].shape == (6, 2, 3, 32, 32) and first["video"].dtype == np.uint8
    from omib_bench.datasets import _clips

    seen, decode = [], _clips.decode
    monkeypatch.setattr(_clips, "decode", lambda *args: seen.append(args[0].stem) or decode(*args))
    for name, values in read(few).inputs.items():
        np.testing.assert_array_equal(values, first[name])
    assert seen == []
    wav = few / f"AudioWAV/{data.ids[2]}.wav"
    wav.unlink()
    soundfile.write(wav, np.zeros(8000), 16000)
    changed = read(few).inputs["audio"]
    assert seen == [data.ids[2]]
    np.testing.assert_allclose(changed[2], np.log(1e-7), rtol=1e-6)
    np.testing.assert_array_equal(np.delete(changed, 2, 0), np.delete(first["audio"], 2, 0))
    read(few, side=16).inputs["video"]
    assert len(seen) == 7


def test_a_damaged_cache_is_filled_again(few):
    first = {name: np.array(values) for name, values in read(few).inputs.items()}
    cached = next((few / "cache").glob("*/video.npy"))
    cached.write_bytes(cached.read_bytes()[:5000])
    for name, values in read(few).inputs.items():
        np.testing.assert_array_equal(values, first[name])


def test_what_is_on_disk_cannot_be_changed_through_the_arrays(few):
    values = read(few).inputs["audio"]
    kept = values[0].copy()
    torch.from_numpy(values)[0] = 7.0
    np.testing.assert_array_equal(read(few).inputs["audio"][0], kept)


def test_broken_and_missing_clips_are_listed_in_one_error_and_can_be_left_out(few, monkeypatch):
    ids = read(few).ids
    (few / f"AudioWAV/{ids[0]}.wav").unlink()
    for i, (name, suffix, content) in enumerate(
        [("VideoFlash", ".flv", b"no film"), ("AudioWAV", ".wav", b"no sound"), ("VideoFlash", ".flv", b"")], start=1
    ):
        path = few / name / f"{ids[i]}{suffix}"
        path.unlink()
        path.write_bytes(content)
    silent = few / f"AudioWAV/{ids[4]}.wav"
    silent.unlink()
    soundfile.write(silent, np.zeros(0), 16000)
    data = read(few)
    with pytest.raises(BrokenClipsError, match="5 of 6 clips cannot be used") as caught:
        data.inputs["audio"]
    assert list(caught.value.clips) == ids[:5].tolist()
    assert caught.value.clips[ids[0]] == f"missing {ids[0]}.wav" and "no sound in it" in caught.value.clips[ids[4]]
    assert all(name in str(caught.value) for name in ids[:5])
    whole = read(few, skip=caught.value.clips)
    assert whole.ids.tolist() == [ids[5]] and whole.inputs["video"].shape[0] == 1
    # The clips that could be read stay so: only the broken ones are tried again.
    from omib_bench.datasets import _clips

    seen, decode = [], _clips.decode
    monkeypatch.setattr(_clips, "decode", lambda *args: seen.append(args[0].stem) or decode(*args))
    with pytest.raises(BrokenClipsError):
        read(few).inputs["video"]
    assert sorted(seen) == sorted(ids[:5])


def test_pictures_that_were_cut_out_before_take_the_films_place(few, tmp_path):
    films = read(few).inputs["video"]
    for path in (few / "VideoFlash").iterdir():
        (few / "Image-01-FPS" / path.stem).mkdir(parents=True)
        with av.open(str(path)) as film:
            for i, picture in enumerate(film.decode(video=0)):
                picture.to_image().save(few / "Image-01-FPS" / path.stem / f"{i:05d}.png")
    (few / "VideoFlash").rename(few / "elsewhere")
    np.testing.assert_array_equal(read(few).inputs["video"], films)


def test_frames_are_from_the_middles_of_equal_parts(tmp_path):
    for i in range(10):
        Image.new("RGB", (8, 6), (i * 20, 0, 255)).save(tmp_path / f"{i}.png")
    (tmp_path / "notes.txt").write_text("no picture")
    for wanted, numbers in {1: [5], 2: [2, 7], 3: [1, 5, 8]}.items():
        shown = frames(tmp_path, ClipFormat(frames=wanted, side=4))
        assert shown[:, 0, 0, 0].tolist() == [20 * i for i in numbers] and (shown[:, 2] == 255).all()
        assert shown.shape == (wanted, 3, 4, 4)


@pytest.mark.parametrize(("rate", "channels", "seconds"), [(22_050, 1, 3.5), (22_050, 2, 1.2), (16_000, 1, 3.0)])
def test_spectrogram_is_the_logarithm_of_torchs(tmp_path, rate, channels, seconds):
    time = np.arange(int(seconds * rate)) / rate
    tone = 0.4 * np.sin(2 * np.pi * 1000 * time) + 0.1 * np.cos(2 * np.pi * 300 * time)
    soundfile.write(tmp_path / "x.wav", np.stack([tone * (2 if channels == 2 else 1), tone * 0][:channels], 1), rate)
    found = spectrogram(tmp_path / "x.wav", ClipFormat())
    assert found.shape == (257, 188)
    # At any rate, as the tone is known at all times.
    time = np.arange(int(min(seconds, 3) * 22_050)) / 22_050
    samples = 0.4 * np.sin(2 * np.pi * 1000 * time) + 0.1 * np.cos(2 * np.pi * 300 * time)
    samples = torch.from_numpy(np.concatenate([samples] * 3)[: 3 * 22_050])
    transform = torch.stft(
        samples, 512, 353, window=torch.hann_window(512).double(), pad_mode="constant", return_complex=True
    )
    expected = np.log(transform.abs().numpy() + 1e-7)
    loud = expected > expected.max() - 4
    assert loud.any() and np.abs(found - expected)[loud].max() < (1e-2 if rate == 22_050 else 5e-2)
    assert abs(found[:, 50].argmax() - 1000 / 22_050 * 512) < 1


def test_what_is_missing_is_named(folder, tmp_path):
    with pytest.raises(ValueError, match="not 'valid'"):
        cremad(folder, split="valid")
    with pytest.raises(FileNotFoundError, match="lists=FOLDER"):
        cremad(folder, lists=tmp_path)
    with pytest.raises(FileNotFoundError, match="neither VideoFlash nor exactly one"):
        cremad(tmp_path, lists=folder)
    (tmp_path / "VideoFlash").mkdir()
    with pytest.raises(FileNotFoundError, match="none of the 102 clips"):
        cremad(tmp_path, lists=folder)
    (tmp_path / "train.csv").write_text("1001_IEO_JOY,JOY\n")
    with pytest.raises(ValueError, match="JOY.*emotions are NEU"):
        cremad(folder, split="train", lists=tmp_path)


def test_libraries_that_are_missing_are_named_before_any_clip(few, monkeypatch):
    monkeypatch.setattr("omib_bench.datasets._clips.find_spec", lambda name: None if name == "av" else object())
    with pytest.raises(ImportError, match=r"needs av: pip install 'omib-spatial\[av\]'"):
        read(few).inputs["audio"]


@REAL
def test_the_official_lists(tmp_path):
    (tmp_path / "AudioWAV").mkdir()
    (tmp_path / "VideoFlash").mkdir()
    (tmp_path / "AudioWAV/1088_IOM_NEU_XX.wav").touch()
    data = cremad(tmp_path, lists=LISTS)
    assert [len(rows) for rows in data.split()] == [6698, 0, 744]
    assert len(set(data.ids)) == 7442 and len(set(data.groups)) == 91 and set(data.target) == set(range(6))
