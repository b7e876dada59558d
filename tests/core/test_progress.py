import io
from types import SimpleNamespace

import pytest

from omib_spatial.core import progress
from omib_spatial.core.progress import TimeLeft


@pytest.fixture
def screen(monkeypatch):
    stream = io.StringIO()
    shown = progress.tqdm
    monkeypatch.setattr(progress, "tqdm", lambda **options: shown(**(options | {"file": stream, "mininterval": 0})))
    return stream


def trainer(epoch: int) -> SimpleNamespace:
    return SimpleNamespace(num_training_batches=4, max_epochs=5, current_epoch=epoch)


def run(bar: TimeLeft, first: int, last: int) -> None:
    bar.on_train_start(trainer(first), None)
    for epoch in range(first, last):
        for _ in range(4):
            bar.on_train_batch_end()
        bar.on_train_epoch_end(trainer(epoch), None)


def test_one_bar_over_all_epochs_says_how_long_is_left(screen):
    bar = TimeLeft()
    run(bar, 0, 5)
    bar.on_train_end(trainer(5), None)
    text = screen.getvalue()
    assert " 50%" in text and "100%" in text and "left" in text and "epoch 4 of 5" in text


def test_a_resumed_training_starts_where_it_stands(screen):
    bar = TimeLeft()
    run(bar, 3, 4)
    assert " 60%" in screen.getvalue() and " 0%" not in screen.getvalue()
    bar.on_exception(trainer(4), None, KeyboardInterrupt())
    assert "100%" not in screen.getvalue()


def test_a_disabled_bar_is_silent(screen):
    bar = TimeLeft()
    bar.disable()
    run(bar, 0, 5)
    bar.on_train_end(trainer(5), None)
    assert screen.getvalue() == ""


def test_an_error_before_the_first_batch_is_no_trouble():
    TimeLeft().on_exception(trainer(0), None, ValueError())
