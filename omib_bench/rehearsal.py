"""CREMA-D and CMU-MOSI with BERT, from made-up files of their formats to their tables: the way that real ones go."""

import csv
import logging
import pickle
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from omib_bench._records import Record
from omib_bench.fusions import Rival
from omib_bench.fusions._emotions import emotions
from omib_bench.fusions._experiments import Experiment, sentiment
from omib_bench.fusions._runner import run as run_experiment

logger = logging.getLogger("omib_spatial")

TASKS = ("cremad", "mosi")
COMMANDS = {
    "cremad": "omib-spatial bench fusions --task cremad --data CREMA-D --lists FOLDER_WITH_TRAIN_CSV_AND_TEST_CSV",
    "mosi": "omib-spatial bench fusions --task mosi --data mosi.pkl --bert bert-base-uncased",
}
"""What to type once the real data are there."""
KINDS = {"NEU": (400, 70), "HAP": (1600, 180)}
"""Two of the six emotions, each a tone in Hz and a brightness."""
RATE, FILM_RATE, SECONDS = 16_000, 10, 0.5
SMALL: dict[str, Any] = {"frames": 2, "side": 28, "seconds": 0.3, "window": 256, "hop": 256, "progress_bar": False}
"""Clips as short and pictures as small as they may be."""
EMOTION = {"batch_size": 8, "latent_dim": 16, "optimizer": "adam", "schedule": "constant"}
SENTIMENT = {"batch_size": 16, "latent_dim": 16, "learning_rate": 5e-3}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "good", "bad", "film"]


def run(
    task: str,
    folder: str | Path,
    rivals: Mapping[str, type[Rival]],
    *,
    seeds: int = 1,
    ours: bool = True,
    max_epochs: int = 8,
    say: Callable[[str], None] = logger.info,
) -> list[Record]:
    """Write small made-up files in a data set's own formats, and put them through its experiment.

    Readers, decoding, encoders, training, measures and table are those of the real data; sizes and training settings
    are smaller. **The numbers say that everything runs, and nothing about any method.**

    Parameters
    ----------
    task
        ``"cremad"`` (sound as ``.wav``, film as ``.flv``, lists as ``.csv``; needs ``omib-spatial[av]``) or ``"mosi"``
        (MAG-BERT's feature pickle, and a BERT of one layer with its vocabulary).
    folder
        Where the files go; made if missing. It must be empty, so that no real data are written over.
    rivals, seeds, ours, say
        As for `omib_bench.fusions.run`.
    max_epochs
        Epochs, of which one is OMIB's warm-up.

    Returns
    -------
    Records of `omib_bench.fusions.run`.

    Raises
    ------
    FileExistsError
        The folder holds something.
    ImportError
        PyAV or soundfile are missing.
    ValueError
        ``task`` is none of these.
    """
    if task not in TASKS:
        raise ValueError(f"task is {task!r}: choose one of {TASKS}.")
    folder = Path(folder)
    if folder.is_dir() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} holds files already: give an empty or a new folder.")
    folder.mkdir(parents=True, exist_ok=True)
    experiment, changes = (_cremad if task == "cremad" else _mosi)(folder, say)
    records = run_experiment(
        experiment, dict(rivals), seeds=seeds, ours=ours, say=say, max_epochs=max_epochs, warmup_epochs=1, **changes
    )
    return [record for record in records if not record.setting]  # what the paper prints belongs to the real data


def _cremad(folder: Path, say: Callable[[str], None]) -> tuple[Experiment, dict[str, Any]]:
    write_cremad(folder)
    say(f"{folder} holds made-up clips as CREMA-D's repository has them.")
    return emotions(folder, size="small", cache=folder / "cache", **SMALL), EMOTION


def _mosi(folder: Path, say: Callable[[str], None]) -> tuple[Experiment, dict[str, Any]]:
    write_mosi(folder / "mosi.pkl")
    write_bert(folder / "bert")
    say(f"{folder} holds a made-up feature pickle, and a BERT with weights that nobody trained.")
    return sentiment(folder / "mosi.pkl", bert=str(folder / "bert")), SENTIMENT


def write_cremad(folder: Path, *, n_train: int = 16, n_test: int = 8, seed: int = 0) -> None:
    """Write ``AudioWAV/*.wav``, ``VideoFlash/*.flv``, ``train.csv`` and ``test.csv``.

    Parameters
    ----------
    folder
        Where they go.
    n_train, n_test
        Clips of each of two emotions.
    seed
        Of the noise.
    """
    try:
        import soundfile
    except ImportError as error:
        raise ImportError("soundfile and PyAV are missing: pip install 'omib-spatial[av]'.") from error
    rng, time = np.random.default_rng(seed), np.arange(int(RATE * SECONDS)) / RATE
    for name in ("AudioWAV", "VideoFlash"):
        (folder / name).mkdir(parents=True)
    for part, n in {"train": n_train, "test": n_test}.items():
        rows = [(f"{1001 + i % 3}_IEO_{kind}_{part}{i}", kind) for kind in KINDS for i in range(n)]
        for clip, kind in rows:
            tone, bright = KINDS[kind]
            wave = 0.3 * np.sin(2 * np.pi * tone * time) + 0.1 * rng.standard_normal(len(time))
            soundfile.write(folder / "AudioWAV" / f"{clip}.wav", wave, RATE)
            _film(folder / "VideoFlash" / f"{clip}.flv", bright, rng)
        with (folder / f"{part}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)


def _film(path: Path, bright: int, rng: np.random.Generator) -> None:
    import av

    with av.open(str(path), "w", format="flv") as container:
        stream = container.add_stream("flv", rate=Fraction(FILM_RATE))
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(int(FILM_RATE * SECONDS)):
            pixels = (bright + rng.normal(0, 20, (48, 64, 3))).clip(0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def write_mosi(path: Path, *, n_train: int = 96, n_test: int = 48, seed: int = 0) -> None:
    """Write a feature pickle in MAG-BERT's layout: lists of ``((words, visual, acoustic), label, id)``.

    Words tell the sign of the sentiment, sound its size, faces nothing; some utterances have no face.

    Parameters
    ----------
    path
        The file.
    n_train, n_test
        Utterances.
    seed
        Of everything random.
    """
    rng = np.random.default_rng(seed)

    def utterances(part: str, n: int) -> Iterator[tuple[Any, ...]]:
        for i in range(n):
            strong, good, length = rng.uniform(0.5, 3), rng.random() < 0.5, int(rng.integers(2, 6))
            words = ["a"] * (length - 1) + ["good" if good else "bad"]
            face, sound = rng.normal(size=(length, 2)) * (i % 3 > 0), rng.normal(strong, 0.3, (length, 3))
            yield (words, face, sound), np.array([[strong if good else -strong]]), f"{part}{i}_0"

    parts = {part: list(utterances(part, n)) for part, n in {"train": n_train, "dev": 12, "test": n_test}.items()}
    path.write_bytes(pickle.dumps(parts))


def write_bert(folder: Path) -> None:
    """Write a BERT of one layer, its weights as they are drawn, with a vocabulary of four words."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS), encoding="utf-8")
    BertTokenizer(str(folder / "vocab.txt"), model_max_length=8).save_pretrained(folder)
    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        BertModel(BertConfig(vocab_size=len(WORDS), **sizes)).save_pretrained(folder)
