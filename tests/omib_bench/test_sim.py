import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from omib_bench import sim
from omib_spatial.core import ABLATIONS, Bounds
from omib_spatial.datasets import two_modalities

SMALL = {"n_train": 600, "n_test": 400, "shared": 20, "superfluous": 5}
QUICK = {"max_epochs": 2, "warmup_epochs": 1}


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    """Twenty-odd inputs instead of a thousand, and bounds that are not the subject here."""
    monkeypatch.setattr("omib_bench.datasets._modalities.CASES", {"I": (30, 10), "III": (20, 20)})
    monkeypatch.setattr("omib_bench.sim.Mine", lambda seed: QuickBounds())
    sim._bounds.cache_clear()
    yield
    sim._bounds.cache_clear()


class QuickBounds:
    def bounds(self, modalities, present=None):
        assert {name: len(x) for name, x in modalities.items()} == {"x1": 600, "x2": 600}
        return Bounds(0.05, 0.1, {}, {})


def test_table_has_every_row_with_mean_and_spread():
    records = sim.run(["I", "III"], seeds=2, **SMALL, **QUICK)
    rows = {(r.method, r.setting) for r in records}
    # The default's own beta is the one fixed beta, so that this is no ablation of it.
    ablations = {("OMIB", name) for name in ABLATIONS if name != "fixed beta"}
    assert {("OMIB", "all parts")} | ablations <= rows
    assert {("logistic", s) for s in ("a0", "[a1; a2]", "[a0; a1; a2]", "x1", "x2", "[x1; x2]")} <= rows
    assert len(records) == 4 * len(rows)
    text = sim.report(records)
    assert text.count("±") == 2 * len(rows)
    assert "Bayes rate: [a0; a1; a2]  1.000 ± 0.000" in text


def test_presets_may_be_compared():
    records = sim.run(["I"], presets=["default", "paper"], ablations=False, **SMALL, **QUICK)
    assert {r.method for r in records} >= {"OMIB", "OMIB, paper's setting"}


@pytest.mark.parametrize("seed", range(3))
def test_default_preset_learns_what_logistic_regression_learns(seed):
    """Far above chance, on data where the superfluous block is small: the run is real."""
    data = two_modalities("I", **SMALL, seed=seed)
    linear = sim.logistic_accuracy(data, np.hstack([data.x1, data.x2]), seed)
    changes = {"max_epochs": 40, "batch_size": 32}
    assert sim._accuracy(data, sim.PRESETS["default"], changes, seed) > linear - 0.03 > 0.8


def test_logistic_row_is_the_library_on_the_same_split():
    data = two_modalities("I", **SMALL)
    x = data.relevant["a0"]
    best = max(
        LogisticRegression(C=c, max_iter=1000).fit(x[:600], data.y[:600]).score(x[600:], data.y[600:])
        for c in (1e-2, 1e-1, 1.0, 10.0)
    )
    assert best - 0.05 < sim.logistic_accuracy(data, x, 0) <= best


def test_same_seed_same_accuracy():
    data = two_modalities("I", **SMALL)
    first, again = (sim._accuracy(data, sim.PRESETS["default"], QUICK, 0) for _ in range(2))
    assert first == again


def test_sweep_has_a_point_per_beta_and_its_bounds_and_is_drawn(tmp_path):
    records = sim.sweep_beta("I", seeds=2, betas=[1e-3, 1.0], **SMALL, **QUICK)
    assert [r.setting for r in records if r.metric == "accuracy"] == ["beta 0.001", "beta 1"] * 2
    assert {(r.metric, r.value) for r in records if r.metric != "accuracy"} == {("M_l", 0.05), ("M_u", 0.1)}
    records += sim.sweep_beta("III", seeds=2, betas=[1e-3, 1.0], **SMALL, **QUICK)
    sim.beta_sweep(records, tmp_path / "sweep.png")
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")


def test_scale_has_seconds_of_both_phases_and_is_drawn(tmp_path):
    records = sim.scale("I", sizes=[600, 1200], shared=20, superfluous=5)
    assert [(r.dataset, r.setting) for r in records] == [
        (f"SIM-I, n = {n}", phase) for n in (600, 1200) for phase in ("warm-up", "main")
    ]
    assert all(r.value > 0 and r.metric == "seconds_per_epoch" for r in records)
    sim.seconds_per_epoch(records, tmp_path / "scale.png")
    assert (tmp_path / "scale.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_share_of_the_samples_lacks_one_modality_and_is_trained_and_scored_without_it(share):
    data = two_modalities("I", **SMALL)
    some = sim.without_some(data, share, 3)
    lacking = np.column_stack([~some.x1.any(1), ~some.x2.any(1)])
    assert abs(lacking.any(1).mean() - share) < 0.06 and not lacking.all(1).any()
    assert abs(lacking[:, 0].mean() - lacking[:, 1].mean()) < 0.08
    np.testing.assert_array_equal(some.x1[~lacking[:, 0]], data.x1[~lacking[:, 0]])
    assert data.x1.any(1).all(), "the given data stay as they are"
    samples = sim._samples(some, slice(None), labelled=True)
    given = samples[list(range(len(samples)))].present.numpy()
    np.testing.assert_array_equal(given, ~lacking)
    assert 0 <= sim._accuracy(some, sim.PRESETS["default"], QUICK, 0) <= 1


def test_a_share_beyond_one_is_refused():
    with pytest.raises(ValueError, match="from 0 to 1"):
        sim.without_some(two_modalities("I", **SMALL), 1.5, 0)


def test_bounds_are_of_samples_with_both_modalities(monkeypatch):
    seen = {}

    class Recorder:
        def bounds(self, raw, present=None):
            seen.update({name: values[present.all(1)] for name, values in raw.items()})
            return Bounds(0.05, 0.1, {}, {})

    monkeypatch.setattr(sim, "Mine", lambda seed: Recorder())
    some = sim.without_some(two_modalities("I", **SMALL), 0.5, 3)
    sim._bounds(some, 0)
    both = (some.x1.any(1) & some.x2.any(1))[: some.n_train]
    assert 0 < len(seen["x1"]) == both.sum() < some.n_train
    np.testing.assert_array_equal(seen["x2"].numpy(), some.x2[: some.n_train][both])


def test_a_row_without_a_bound_on_beta_is_left_out_and_told(monkeypatch, caplog):
    class Blind:
        def bounds(self, raw, present=None):
            raise ValueError("No bound on beta follows from nothing.")

    monkeypatch.setattr(sim, "Mine", lambda seed: Blind())
    records = sim.run(["I"], **SMALL, **QUICK)
    settings = {record.setting for record in records}
    assert "no r" in settings and "beta = M_u" not in settings
    assert "beta = M_u, seed 0: left out" in caplog.text


def test_what_one_preset_refuses_is_told_before_any_is_trained(monkeypatch):
    monkeypatch.setattr(sim, "_rows", lambda *_: pytest.fail("trained"))
    with pytest.raises(ValueError, match="warmup_epochs=20 leaves nothing of max_epochs=8"):
        sim.run(["I"], presets=("default", "paper"), max_epochs=8, **SMALL)
