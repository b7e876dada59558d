import csv

import numpy as np
import pytest
import soundfile
from PIL import Image

from omib_bench.fusions import RIVALS, report, run
from omib_bench.fusions._emotions import emotions

SMALL = {"frames": 2, "side": 28, "seconds": 0.3, "window": 256, "hop": 256, "progress_bar": False}
CLIPS = {"train": 16, "test": 8}


@pytest.fixture
def folder(tmp_path):
    """Two emotions: a low tone and a dark picture, a high tone and a bright one."""
    rng, time = np.random.default_rng(0), np.arange(4000) / 16000
    (tmp_path / "AudioWAV").mkdir()
    for part, n in CLIPS.items():
        rows = [(f"{1000 + i % 3}_IEO_{kind}_{part}{i}", kind) for kind in ("NEU", "HAP") for i in range(n)]
        for clip, kind in rows:
            tone = np.sin(2 * np.pi * (400 if kind == "NEU" else 1600) * time)
            soundfile.write(tmp_path / f"AudioWAV/{clip}.wav", 0.3 * tone + 0.1 * rng.standard_normal(4000), 16000)
            (frames := tmp_path / "Image-01-FPS" / clip).mkdir(parents=True)
            bright = 70 if kind == "NEU" else 180
            for i in range(2):
                pixels = (bright + rng.normal(0, 20, (32, 40, 3))).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(frames / f"{i}.jpg")
        with (tmp_path / f"{part}.csv").open("w", newline="") as file:
            csv.writer(file).writerows(rows)
    return tmp_path


def test_from_files_to_table(folder, tmp_path):
    table = emotions(folder, size="small", cache=tmp_path / "cache", **SMALL)
    quick = {"max_epochs": 8, "batch_size": 8, "warmup_epochs": 1, "latent_dim": 16}
    quick |= {"optimizer": "adam", "schedule": "constant"}
    records = run(table, {"OGMGE": RIVALS["OGMGE"]}, seeds=1, **quick)
    accuracy = {r.method: r.value for r in records if r.metric == "accuracy" and not r.setting}
    assert accuracy["linear"] > 0.9 and min(accuracy.values()) > 0.8, accuracy
    text = report(records)
    assert "paper's accuracy" in text and "0.636" in text


def test_test_trains_on_all_other_clips_and_validation_on_nine_tenths(folder, tmp_path):
    test, valid = (
        emotions(folder, part=part, size="small", cache=tmp_path / "cache", **SMALL).fold(0)
        for part in ("test", "valid")
    )
    assert (len(test.train), len(test.test)) == (32, 16)
    assert (len(valid.train), len(valid.test)) == (29, 3)
    assert list(test.encoders()) == ["audio", "video"]
