import csv
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from omib_bench.fusions import RIVALS, experiment, ratings, run, sentiment
from omib_bench.fusions._experiments import _encoders
from omib_bench.fusions._linear import classes, linear_classes, linear_values
from omib_bench.metrics import rating_scores
from omib_spatial.core import Sequences
from omib_spatial.datasets import Multimodal, Split
from omib_spatial.encoders import Conv1D, GatedLinear

DATA = Path(os.environ.get("OMIB_DATA", Path(__file__).parents[3].parent / "shared" / "data"))


@pytest.fixture
def mosi_folder(tmp_path):
    """Twenty speakers, whose label shows in the text."""
    rng, labels = np.random.default_rng(0), np.repeat([1, 0], 100)
    text = rng.standard_normal((200, 6)) + 2 * labels[:, None]
    arrays = {"text": text, "audio": rng.standard_normal((200, 4)), "video": rng.standard_normal((200, 5))}
    np.savez(tmp_path / "mosi_train.npz", label=labels, **arrays)
    with (tmp_path / "transcripts.csv").open("w", newline="") as file:
        for i, label in enumerate(labels):
            word = "good" if label else "bad"
            csv.writer(file).writerow([f"speaker{i % 20}_{i}", f"a {word} film", 1 + i % 20, label])
    return tmp_path


@pytest.fixture
def pom_folder(tmp_path):
    """Ratings that follow the mean sound; half of the reviews have no film."""
    rng = np.random.default_rng(0)
    for part, n in (("train", 120), ("valid", 60), ("test", 60)):
        audio, video = (
            rng.standard_normal((n, 6, 43)) + rng.standard_normal((n, 1, 43)),
            rng.standard_normal((n, 6, 41)),
        )
        video[::2] = 0
        label = 3 + audio.mean(1)[:, :17] + 0.1 * rng.standard_normal((n, 17))
        np.savez(tmp_path / f"pom_{part}.npz", audio=audio, video=video, label=label)
    return tmp_path


def test_mosi_leaves_other_speakers_out_for_every_seed(mosi_folder):
    table = sentiment(mosi_folder)
    sizes = [(len(table.fold(seed).train), len(table.fold(seed).test)) for seed in range(5)]
    assert all(train + test < 200 for train, test in sizes) and sum(test for _, test in sizes) == 200
    assert len(table.fold(0).test) == len(table.fold(5).test)
    assert table.printed["OMIB"] == pytest.approx({"accuracy": 0.869, "f1": 0.871})
    assert "Binary" in table.note


def test_mosi_is_learned_from_features_and_from_words(mosi_folder):
    for words in (False, True):
        table = sentiment(mosi_folder, words=words)
        records = run(table, {"Concat": RIVALS["Concat"]}, seeds=1, max_epochs=15, batch_size=16, learning_rate=5e-3)
        accuracy = {r.method: r.value for r in records if r.metric == "accuracy" and r.setting == ""}
        assert min(accuracy.values()) > 0.85, accuracy
    assert set(table.fold(0).train.inputs) == {"text", "audio"}


def test_validation_part_is_never_the_test(mosi_folder, pom_folder):
    for table in (sentiment, ratings):
        folder = mosi_folder if table is sentiment else pom_folder
        test, valid = (table(folder, part=part).fold(0) for part in ("test", "valid"))
        name = next(iter(test.test.inputs))
        first, second = (_values(fold.test.inputs[name]) for fold in (test, valid))
        assert not (first[:, None] == second[None]).flatten(2).all(2).any()


def _values(x):
    return (x.values if isinstance(x, Sequences) else x).flatten(1)


def test_pom_is_measured_in_its_own_units_with_missing_films(pom_folder):
    fold = ratings(pom_folder).fold(0)
    raw = np.load(pom_folder / "pom_test.npz")["label"]
    train = np.load(pom_folder / "pom_train.npz")["label"].astype(np.float32)
    found = fold.measure(np.zeros((60, 17)))
    assert found["mae"] == pytest.approx(np.abs(raw - train.mean(0)).mean(), rel=1e-5)
    assert fold.train.present.all(0).tolist() == [True, False] and not fold.train.present[0, 1]
    torch.testing.assert_close(fold.train.target.mean(0), torch.zeros(17), atol=1e-5, rtol=0)
    torch.testing.assert_close(fold.train.target.std(0, correction=0), torch.ones(17))
    quick = {"max_epochs": 25, "batch_size": 16, "learning_rate": 5e-3}
    records = run(ratings(pom_folder), {}, seeds=1, **quick)
    corr = {r.method: r.value for r in records if r.metric == "corr"}
    assert corr["linear"] > 0.9 and corr["OMIB"] > 0.3


def test_sentiment_pickle_gives_the_papers_measures(monkeypatch):
    rng = np.random.default_rng(0)
    data = Multimodal(
        {"text": rng.standard_normal((60, 5, 4)).astype(np.float32), "audio": np.ones((60, 5, 2), np.float32)},
        rng.uniform(-3, 3, 60).astype(np.float32),
        np.array([f"s{i}" for i in range(60)]),
        np.array([f"g{i % 12}" for i in range(60)]),
        lengths={"text": np.full(60, 5), "audio": np.full(60, 5)},
    )
    monkeypatch.setattr("omib_bench.fusions._experiments.mosi", lambda folder, tokenizer: data)
    table = sentiment("x.pkl")
    fold = table.fold(0)
    assert {name: type(e) for name, e in fold.encoders().items()} == {"text": Conv1D, "audio": Conv1D}
    perfect = data.target[data.split(0).test]
    centre, spread = data.target[data.split(0).train].mean(), data.target[data.split(0).train].std()
    scores = fold.measure(((perfect - centre) / spread)[:, None])
    assert scores["acc7"] == scores["acc2"] == 1 and scores["mae"] == pytest.approx(0, abs=1e-5)
    assert set(table.printed["OMIB"]) <= set(scores) and {"acc2", "mae"} <= set(fold.linear())


def test_tokens_without_a_bert_are_refused():
    tokens = Multimodal(
        {"text": np.ones((4, 3), np.int64)},
        np.zeros(4),
        np.arange(4).astype(str),
        np.arange(4).astype(str),
        lengths={"text": np.full(4, 3)},
    )
    with pytest.raises(ValueError, match="'text' holds tokens"):
        _encoders(tokens, None, 8)
    vectors = Multimodal(
        {"a": np.ones((4, 3), np.float32)}, np.zeros(4), np.arange(4).astype(str), np.arange(4).astype(str)
    )
    assert isinstance(_encoders(vectors, None, 8)["a"], GatedLinear)


def test_linear_rows_choose_their_penalty_on_the_validation_rows():
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((150, 40)), rng.standard_normal((40, 2))
    y = x @ w + 3 * rng.standard_normal((150, 2))
    rows = Split(np.arange(60), np.arange(60, 100), np.arange(100, 150))
    fits = {a: Ridge(alpha=a).fit(x[rows.train], y[rows.train]) for a in 10.0 ** np.arange(0, 6)}
    best = min(fits, key=lambda a: ((fits[a].predict(x[rows.valid]) - y[rows.valid]) ** 2).mean())
    np.testing.assert_allclose(linear_values(x, y, rows, rows.test), fits[best].predict(x[rows.test]))
    label = (x @ w[:, 0] > 0).astype(int)
    assert linear_classes(x, label, rows, rows.test)["accuracy"] > 0.7


def test_classes_and_ratings_are_measured_as_by_hand():
    scores = classes(np.array([0, 1, 1, 1]), np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.1, 0.9]]))
    assert scores == {"accuracy": 0.75, "f1": pytest.approx(0.25 * 2 / 3 + 0.75 * 0.8)}
    assert rating_scores(np.eye(3), np.eye(3))["mae"].tolist() == [0, 0, 0]


def test_unknown_data_are_asked_for():
    with pytest.raises(ValueError, match="'pom' needs data"):
        experiment("pom", None, part="test")


@pytest.mark.skipif(not (DATA / "pom").is_dir(), reason=f"no POM in {DATA}")
def test_pom_as_it_is_has_a_linear_row_better_than_the_mean():
    fold = ratings(DATA / "pom").fold(0)
    constant = fold.measure(np.zeros((203, 17)))["mae"]
    assert fold.linear()["mae"] < constant
