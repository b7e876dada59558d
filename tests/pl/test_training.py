import copy
from types import SimpleNamespace

import anndata as ad
import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.patches import Rectangle

from omib_spatial.pl import training

MODALITIES = ["image", "copy_number"]


@pytest.fixture(autouse=True)
def paper():
    with matplotlib.rc_context({"interactive": False}):
        plt.switch_backend("agg")
        yield
        plt.close("all")


def run(warmup: int = 3, main: int = 5, names=MODALITIES) -> SimpleNamespace:
    rng = np.random.default_rng(0)
    phase = np.repeat([0.0, 1.0], [warmup, main])
    history = {"phase": phase, "loss": rng.uniform(1, 2, len(phase))}
    undefined = np.where(phase == 0, np.nan, 0.0)
    history["task"] = undefined + rng.uniform(1, 2, len(phase))
    for name in names:
        history[f"branch_{name}"] = rng.uniform(1, 2, len(phase))
        history[f"kl_{name}"] = undefined + rng.uniform(1, 2, len(phase))
        history[f"r_{name}"] = undefined + rng.uniform(0.5, 1.5, len(phase))
    history["seconds"] = np.ones(len(phase))
    params = {"beta": 0.125, "M_l": 0.0625, "M_u": 0.25, "modalities": np.array(names)}
    return SimpleNamespace(history=history, params=params)


def table(model: SimpleNamespace, key: str = "omib") -> ad.AnnData:
    return ad.AnnData(np.ones((2, 2)), uns={key: {"params": model.params, "history": model.history}})


def curves(ax) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Epochs and values by label, breaks left out."""
    found = {}
    for line in ax.lines:
        x, y = map(np.asarray, line.get_data())
        there = np.isfinite(x) & np.isfinite(y)
        found[line.get_label()] = (x[there], y[there])
    return found


def test_every_curve_shows_its_column_of_the_history():
    model = run()
    losses, r, kl = training(model)
    columns = {"total": "loss", "task": "task"} | {f"branch: {name}": f"branch_{name}" for name in MODALITIES}
    expected = [columns, {name: f"r_{name}" for name in MODALITIES}, {name: f"kl_{name}" for name in MODALITIES}]
    for ax, labels in zip((losses, r, kl), expected, strict=True):
        shown = curves(ax)
        assert {label for label in shown if not label.startswith("_")} == set(labels)
        for label, column in labels.items():
            values = model.history[column]
            there = np.isfinite(values)
            assert np.array_equal(shown[label][0], np.arange(1, 9)[there])
            assert np.array_equal(shown[label][1], values[there])
        assert [text.get_text() for text in ax.get_legend().get_texts()] == list(labels)


def test_the_total_breaks_where_it_becomes_another_loss():
    total = training(run())[0].lines[0]
    assert np.isnan(total.get_ydata()).tolist() == [False] * 3 + [True] + [False] * 5


def test_a_modality_has_one_colour_in_all_panels_in_the_order_of_the_run():
    model = run()
    model.history = dict(sorted(model.history.items()))
    by_panel = [
        {line.get_label().removeprefix("branch: "): line.get_color() for line in ax.lines} for ax in training(model)
    ]
    assert len({tuple(colours[name] for name in MODALITIES) for colours in by_panel}) == 1
    assert [line.get_label() for line in training(model)[2].lines] == MODALITIES


def test_r_is_held_against_one():
    reference = [line for line in training(run())[1].lines if np.array_equal(line.get_ydata(), [1, 1])]
    assert len(reference) == 1


@pytest.mark.parametrize("warmup", [0, 1, 3])
def test_the_warm_up_is_shaded_up_to_its_last_epoch(warmup):
    for ax in training(run(warmup)):
        shades = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
        assert [(shade.get_x(), shade.get_x() + shade.get_width()) for shade in shades] == [(0.5, warmup + 0.5)][
            :warmup
        ]
        assert ax.get_xlim() == (0.5, warmup + 5.5)


def test_constants_that_are_known_are_in_the_title():
    model = run()
    assert training(model)[2].get_title() == r"KL: $\beta$ = 0.125, $M_l$ = 0.0625, $M_u$ = 0.25"
    model.params = {"beta": 0.5, "M_l": np.nan}
    assert training(model)[2].get_title() == r"KL: $\beta$ = 0.5"
    model.params = {}
    assert training(model)[2].get_title() == "KL"


def test_losses_of_different_size_are_on_a_logarithmic_axis():
    model = run()
    assert training(model)[0].get_yscale() == "linear"
    model.history["loss"][0] = 1e4
    assert training(model)[0].get_yscale() == "log"
    model.history["task"][-1] = -1
    assert training(model)[0].get_yscale() == "linear"


@pytest.mark.parametrize("change", [{"main": 0}, {"warmup": 1, "main": 1}, {"names": ["gene"]}, {"main": 200}])
def test_short_long_and_one_sided_runs_are_drawn(change):
    axes = training(run(**change))
    axes[0].figure.canvas.draw()
    if change == {"main": 0}:
        assert [[text.get_text() for text in ax.texts] for ax in axes[1:]] == [["no values", "warm-up"]] * 2


def test_a_table_shows_the_same_as_the_model_also_from_disk(tmp_path):
    model = run()
    adata = table(model, "mine")
    adata.write_h5ad(tmp_path / "a.h5ad")
    plain = SimpleNamespace(history={k: v.tolist() for k, v in model.history.items()}, params=model.params)
    expected = [curves(ax) for ax in training(model)]
    for source in (adata, ad.read_h5ad(tmp_path / "a.h5ad"), plain):
        for ax, shown in zip(training(source, key_added="mine"), expected, strict=True):
            again = curves(ax)
            assert list(again) == list(shown)
            assert all(np.array_equal(again[label], shown[label]) for label in shown)


def test_nothing_is_written():
    model = run()
    adata = table(run())
    before = copy.deepcopy(vars(model))
    training(model)
    training(adata)
    np.testing.assert_equal(vars(model), before)
    np.testing.assert_equal(dict(adata.uns), {"omib": {"params": before["params"], "history": before["history"]}})


def test_own_axes_are_used_and_must_be_three():
    own = plt.figure().subplots(3, 1)
    assert training(run(), ax=own) == list(own)
    with pytest.raises(ValueError, match="three Axes, got 2"):
        training(run(), ax=own[:2])


def test_save_and_show(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(1))
    training(run(), save=True, key_added="mine")
    assert (tmp_path / "mine_training.png").stat().st_size > 0
    assert not shown
    training(run(), show=True)
    assert shown == [1]


def test_no_history_says_what_to_do():
    with pytest.raises(KeyError, match=r"uns\['omib'\].*tl\.fit first"):
        training(ad.AnnData(np.ones((2, 2))))
    with pytest.raises(KeyError, match=r"uns\['omib'\].*tl\.fit first"):
        training(ad.AnnData(np.ones((2, 2)), uns={"omib": {"params": {}}}))
    with pytest.raises(ValueError, match="max_epochs"):
        training(SimpleNamespace(history={}, params={}))
    with pytest.raises(TypeError, match="got list"):
        training([])
