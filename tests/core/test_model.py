import warnings
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from omib_spatial.core.fusion import Fused, Fusion
from omib_spatial.core.model import OMIB
from omib_spatial.core.network import Batch, WarmUp
from omib_spatial.core.task import Classification, OneClass, Regression, Task
from omib_spatial.encoders import MLP, ResNet

WIDTHS = {"a": 3, "b": 5, "c": 4, "d": 2}
K = 8
TASKS = ["classification", "regression", "one-class"]
ABLATIONS: list[dict[str, Any]] = [{}, {"cross_attention": False}, {"bottleneck": False}]


def make_task(kind: str) -> Task:
    if kind == "classification":
        return Classification(3, hidden=(7,))
    return Regression(2, hidden=(7,)) if kind == "regression" else OneClass(4, hidden=(7,))


def make_model(names: Sequence[str] = "ab", task: str = "classification", seed: int = 0, **settings: Any) -> OMIB:
    torch.manual_seed(seed)
    encoders = {name: MLP(WIDTHS[name], 6) for name in names}
    model = OMIB(encoders, make_task(task), latent_dim=K, n_heads=2, **settings).double()
    if task == "one-class":
        model.task.set_center(torch.randn(5, 4, dtype=torch.float64))
    return model


def make_batch(
    names: Sequence[str] = "ab", task: str = "classification", n: int = 9, seed: int = 0, complete: bool = False
) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    present = (torch.rand(n, len(names), generator=generator) < 0.6) | complete
    present[torch.arange(n), torch.randint(len(names), (n,), generator=generator)] = True
    inputs = {
        name: torch.randn(int(here.sum()), WIDTHS[name], generator=generator, dtype=torch.float64)
        for name, here in zip(names, present.T, strict=True)
        if here.any()
    }
    target = None
    if task == "classification":
        target = torch.randint(3, (n,), generator=generator)
    elif task == "regression":
        target = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    return Batch(inputs, present, target)


def rows_of(batch: Batch, rows: Tensor, names: Sequence[str]) -> Batch:
    """Some samples of a batch, as a batch."""
    inputs = {}
    for name, here in zip(names, batch.present.T, strict=True):
        if here[rows].any():
            place = here.cumsum(0) - 1
            inputs[name] = batch.inputs[name][place[rows[here[rows]]]]
    return Batch(inputs, batch.present[rows], None if batch.target is None else batch.target[rows])


# Any number of modalities, any of them missing


@settings(max_examples=25)
@given(m=st.integers(1, 4), task=st.sampled_from(TASKS), n=st.integers(1, 12), seed=st.integers(0, 10_000))
def test_any_number_of_modalities_of_which_any_may_be_missing(m, task, n, seed):
    names = list(WIDTHS)[:m]
    model, batch = make_model(names, task), make_batch(names, task, n, seed)
    out = {"classification": 3, "regression": 2, "one-class": 4}[task]
    output = model(batch)
    assert output.xi.shape == (n, K)
    assert output.prediction.shape == (n, out)
    assert model.modalities == list(output.codes) == list(output.branches) == list(output.kl) == names
    for name, here in zip(names, batch.present.T, strict=True):
        assert output.branches[name].shape == (n, out)
        assert (output.codes[name][~here] == 0).all()
        assert (output.kl[name][~here] == 0).all()
        assert (output.kl[name][here] > 0).all()
    losses = model.objective(output, batch, 0.1)
    losses.total.backward()
    assert losses.total.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    assert all(0 <= float(r) <= 2 for r in losses.r.values())
    assert losses.r[names[0]] == 1
    assert model.warm_up(batch).branches.keys() == output.branches.keys()


def test_order_of_modalities_is_the_order_given():
    assert make_model("cab").modalities == ["c", "a", "b"]


@pytest.mark.parametrize("settings_", ABLATIONS)
@settings(max_examples=8)
@given(m=st.integers(1, 4), seed=st.integers(0, 10_000))
def test_samples_are_independent_of_their_batch_mates_at_inference(settings_, m, seed):
    names = list(WIDTHS)[:m]
    model, batch = make_model(names, **settings_).eval(), make_batch(names, seed=seed)
    together = model(batch)
    assert together.branches == {}
    for i in range(len(batch.present)):
        alone = model(rows_of(batch, torch.tensor([i]), names))
        torch.testing.assert_close(alone.xi[0], together.xi[i])
        torch.testing.assert_close(alone.prediction[0], together.prediction[i])


def test_image_samples_are_independent_of_their_batch_mates_at_inference():
    torch.manual_seed(0)
    model = OMIB({"image": ResNet("small", 6), "a": MLP(3, 6)}, Classification(3, (7,)), latent_dim=K, n_heads=2)
    batch = Batch({"image": torch.randn(4, 3, 32, 32), "a": torch.randn(4, 3)}, torch.ones(4, 2, dtype=torch.bool))
    model(batch)
    model.eval()
    together = model(batch).prediction
    alone = torch.cat([model(rows_of(batch, torch.tensor([i]), ["image", "a"])).prediction for i in range(4)])
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)


@settings(max_examples=10)
@given(seed=st.integers(0, 10_000), task=st.sampled_from(TASKS))
def test_mixed_batch_equals_the_sub_batches_of_each_pattern(seed, task):
    names = "abc"
    model, batch = make_model(names, task).eval(), make_batch(names, task, 20, seed)
    together = model(batch)
    for pattern in batch.present.unique(dim=0):
        rows = (batch.present == pattern).all(1).nonzero().squeeze(1)
        apart = model(rows_of(batch, rows, names))
        torch.testing.assert_close(apart.prediction, together.prediction[rows])
        torch.testing.assert_close(apart.xi, together.xi[rows])
        for name in names:
            torch.testing.assert_close(apart.kl[name], together.kl[name][rows])


# The objective


def move_parameters(source: OMIB, target: OMIB) -> None:
    """Give ``target``, whose modalities come in another order, the weights of ``source``."""
    weights = source.state_dict()
    key = "fusion.mix.out.weight" if "fusion.mix.out.weight" in weights else "fusion.out.weight"
    width = weights[key].shape[1] // len(source.modalities)
    blocks = dict(zip(source.modalities, weights[key].split(width, 1), strict=True))
    weights[key] = torch.cat([blocks[name] for name in target.modalities], 1)
    target.load_state_dict(weights)


@pytest.mark.parametrize("settings_", ABLATIONS)
@settings(max_examples=8)
@given(order=st.permutations("abc"), seed=st.integers(0, 10_000), task=st.sampled_from(TASKS))
def test_order_of_modalities_changes_nothing_but_what_r_compares_with(settings_, order, seed, task):
    first, second = make_model("abc", task, **settings_), make_model(order, task, seed=1, **settings_)
    move_parameters(first, second)
    batch = make_batch("abc", task, seed=seed)
    other = Batch(
        {name: batch.inputs[name] for name in order},
        batch.present[:, ["abc".index(name) for name in order]],
        batch.target,
    )
    with patch("torch.randn_like", torch.zeros_like):
        here, there = first(batch), second(other)
    fixed, moved = (
        m.objective(o, b, 0.3, adaptive=False) for m, o, b in ((first, here, batch), (second, there, other))
    )
    torch.testing.assert_close(fixed.total, moved.total, rtol=1e-10, atol=1e-12)
    r, swapped = first.relevance(here, batch), second.relevance(there, other)
    assert r["a"] == swapped[order[0]] == 1
    if not settings_:
        losses = second.objective(there, other, 0.3)
        kl = sum(swapped[name] * there.kl[name].mean() for name in order)
        torch.testing.assert_close(losses.total, losses.task + sum(losses.branches.values()) + 0.3 * kl)


def test_r_of_two_modalities_adds_up_to_2_with_its_mirror_image():
    first, second = make_model("ab"), make_model("ba")
    move_parameters(first, second)
    batch = make_batch("ab", n=40)
    with patch("torch.randn_like", torch.zeros_like):
        r = first.relevance(first(batch), batch)["b"]
        other = Batch({name: batch.inputs[name] for name in "ba"}, batch.present.flip(1), batch.target)
        mirrored = second.relevance(second(other), other)["a"]
    # 2 / (1 + q^2) + 2 / (1 + q^-2) = 2
    torch.testing.assert_close(r + mirrored, torch.tensor(2.0, dtype=torch.float64))
    assert r != 1


def log_softmax(x: np.ndarray) -> np.ndarray:
    x = x - x.max(1, keepdims=True)
    return x - np.log(np.exp(x).sum(1, keepdims=True))


def by_hand(model: OMIB, batch: Batch, output: Any, beta: float, task: str, adaptive: bool) -> float:
    """``L_OMF + sum_i L_TRB_i`` in numpy from what the network computed: equations (10) and (11)."""
    numpy = {name: p.detach().numpy() for name, p in output.branches.items()}
    fused, present = output.prediction.detach().numpy(), batch.present.numpy()
    n = len(fused)

    def loss(p: np.ndarray) -> np.ndarray:
        if task == "classification":
            return -log_softmax(p)[np.arange(n), batch.target.numpy()]
        if task == "regression":
            return 0.5 * ((p - batch.target.numpy()) ** 2).sum(1)
        return ((p - model.task.center.numpy()) ** 2).sum(1)

    def divergence(p: np.ndarray) -> np.ndarray:
        if task == "classification":
            a, b = log_softmax(p), log_softmax(fused)
            return (np.exp(a) * (a - b)).sum(1)
        return 0.5 * ((p - fused) ** 2).sum(1)

    total = loss(fused).mean()
    for j, name in enumerate(model.modalities):
        total += (loss(numpy[name]) * present[:, j]).sum() / n
        mu, sigma = model.fusion.heads[name](output.codes[name])
        mu, sigma = mu.detach().numpy(), sigma.detach().numpy()
        kl = 0.5 * (mu**2 + sigma**2 - 1 - np.log(sigma**2)).sum(1)
        r, both = 1.0, present[:, 0] & present[:, j]
        if j and adaptive and both.any():
            q = divergence(numpy[name])[both].mean() / divergence(numpy[model.modalities[0]])[both].mean()
            r = 1 - np.tanh(np.log(q))
        total += beta * r * (kl * present[:, j]).sum() / n
    return total


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("adaptive", [True, False])
@settings(max_examples=8)
@given(m=st.integers(1, 4), seed=st.integers(0, 10_000), beta=st.floats(0, 10))
def test_objective_equals_equation_10_by_hand(task, adaptive, m, seed, beta):
    names = list(WIDTHS)[:m]
    model, batch = make_model(names, task), make_batch(names, task, seed=seed)
    output = model(batch)
    got = model.objective(output, batch, beta, adaptive=adaptive).total.item()
    assert got == pytest.approx(by_hand(model, batch, output, beta, task, adaptive), rel=1e-9)


@pytest.mark.parametrize("task", TASKS)
def test_warm_up_objective_is_the_sum_of_the_branches_losses(task):
    model, batch = make_model("abc", task), make_batch("abc", task)
    output = model.warm_up(batch)
    losses = model.objective(output, batch, beta=7.0)
    expected = sum(
        (model.task.loss(output.branches[name], batch.target) * here).sum() / len(here)
        for name, here in zip("abc", batch.present.T, strict=True)
    )
    torch.testing.assert_close(losses.total, expected)
    assert (losses.task, losses.kl, losses.r) == (0, {}, {})


def test_branches_see_noise_in_warm_up_and_xi_afterwards():
    model, batch = make_model(), make_batch(complete=True)
    assert isinstance(model.warm_up(batch), WarmUp)
    assert not torch.equal(model.warm_up(batch).branches["a"], model.warm_up(batch).branches["a"])
    with patch.object(Tensor, "normal_", lambda e: e.fill_(0.5)):
        output = model.warm_up(batch)
    half = torch.full((9, K), 0.5, dtype=torch.float64)
    torch.testing.assert_close(output.branches["a"], model.branches["a"](output.codes["a"], half))
    output = model(batch)
    torch.testing.assert_close(output.branches["a"], model.branches["a"](output.codes["a"], output.xi))


def gradients(model: OMIB, beta: float, batch: Batch) -> dict[str, Tensor]:
    model.zero_grad()
    torch.manual_seed(3)
    model.objective(model(batch), batch, beta).total.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def test_beta_zero_removes_the_compression_and_only_that():
    model, batch = make_model(), make_batch()
    torch.manual_seed(3)
    output = model(batch)
    losses = model.objective(output, batch, 0.0)
    torch.testing.assert_close(losses.total, losses.task + sum(losses.branches.values()))
    without, some, more = (gradients(model, beta, batch) for beta in (0.0, 1.0, 2.0))
    for name, gradient in without.items():
        torch.testing.assert_close(more[name] - gradient, 2 * (some[name] - gradient), rtol=1e-6, atol=1e-10)
        compressed = name.startswith(("encoders", "fusion.heads"))
        assert compressed or torch.allclose(some[name], gradient)
    assert not torch.allclose(some["fusion.heads.a.mu.weight"], without["fusion.heads.a.mu.weight"])


def test_no_gradient_flows_through_r():
    model, batch = make_model(), make_batch(complete=True)
    output = model(batch)
    r = model.objective(output, batch, 1.0).r
    assert not any(value.requires_grad for value in r.values())


@pytest.mark.parametrize("settings_", ABLATIONS)
@pytest.mark.parametrize("task", TASKS)
def test_warm_up_trains_encoders_and_branches_and_the_main_phase_everything(settings_, task):
    model, batch = make_model("abc", task, **settings_), make_batch("abc", task, n=30)
    model.objective(model.warm_up(batch), batch, 0.1).total.backward()
    for name, p in model.named_parameters():
        trained = name.startswith(("encoders.", "branches."))
        assert (p.grad is not None and p.grad.any()) if trained else p.grad is None, name
    model.zero_grad()
    model.objective(model(batch), batch, 0.1).total.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_modality_missing_from_the_whole_batch_gets_no_gradient_and_costs_nothing():
    names = "ab"
    model, batch = make_model(names), make_batch(names, complete=True)
    lonely = Batch({"a": batch.inputs["a"]}, batch.present & torch.tensor([True, False]), batch.target)
    losses = model.objective(model(lonely), lonely, 1.0)
    assert losses.branches["b"] == losses.kl["b"] == 0
    losses.total.backward()
    assert all(p.grad is None for p in model.encoders["b"].parameters())
    assert not any(p.grad.any() for p in model.fusion.heads["b"].parameters())


# Parts of the user's own


class Mean(Fusion):
    def forward(self, codes: Any, present: Tensor) -> Fused:
        weight = present / present.sum(1, keepdim=True)
        return Fused(sum(z * w.unsqueeze(1) for z, w in zip(codes.values(), weight.T, strict=True)), {})


def test_own_fusion_takes_the_place_of_the_block():
    torch.manual_seed(0)
    fusion = Mean()
    model = OMIB({"a": MLP(3, K), "b": MLP(5, K)}, Classification(3, (7,)), latent_dim=K, fusion=fusion).double()
    batch = make_batch(complete=True)
    output = model(batch)
    assert model.fusion is fusion
    torch.testing.assert_close(output.xi, (output.codes["a"] + output.codes["b"]) / 2)
    assert model.objective(output, batch, 5.0).total.isfinite()


def test_encoder_without_width_is_named():
    with pytest.raises(TypeError, match="encoder of 'b' needs an integer attribute out_features"):
        OMIB({"a": MLP(3, 6), "b": nn.Flatten()}, Classification(2))


class Careless(nn.Module):
    out_features = 6

    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.mark.parametrize(("rows", "columns"), [(9, 5), (8, 6)])
def test_code_of_the_wrong_shape_is_shown_beside_the_right_one(rows, columns):
    model = OMIB({"a": Careless()}, Classification(2), latent_dim=K)
    batch = Batch({"a": torch.zeros(rows, columns)}, torch.ones(9, 1, dtype=torch.bool), torch.zeros(9).long())
    with pytest.raises(ValueError, match=rf"Careless returned codes of shape \({rows}, {columns}\) where \(9, 6\)"):
        model(batch)


def test_heads_that_do_not_divide_the_latent_width_are_named():
    with pytest.raises(ValueError, match="latent_dim=10"):
        OMIB({"a": MLP(3, 6)}, Classification(2), latent_dim=10)


def test_heads_is_still_taken_for_n_heads_with_a_warning():
    arguments = {"a": MLP(3, 6)}, Classification(2)
    with pytest.warns(FutureWarning, match="heads= is now n_heads="):
        model = OMIB(*arguments, latent_dim=K, heads=2)
    assert model.fusion.mix.attention.num_heads == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        OMIB(*arguments, latent_dim=K, n_heads=2)


def test_a_batch_of_other_modalities_or_in_another_order_is_refused():
    """Columns of present have no names: in another order they would silently belong to other modalities."""
    model, batch = make_model("ab"), make_batch("ab")
    swapped = Batch({name: batch.inputs[name] for name in "ba"}, batch.present.flip(1), batch.target)
    for inputs in (
        swapped.inputs,
        {**batch.inputs, "c": batch.inputs["a"]},
        {"a": batch.inputs["a"], "x": batch.inputs["b"]},
    ):
        with pytest.raises(ValueError, match="the network's modalities .'a', 'b'.: give these, in this order"):
            model(batch._replace(inputs=inputs))
    with pytest.raises(ValueError, match="samples have 'b', and the inputs lack it"):
        model(batch._replace(inputs={"a": batch.inputs["a"]}))
    with pytest.raises(TypeError, match="present is torch.float32"):
        model(batch._replace(present=batch.present.float()))
    with pytest.raises(ValueError, match=r"present has shape \(\d+, 3\): a column per modality"):
        model(batch._replace(present=torch.cat([batch.present, batch.present[:, :1]], 1)))
    with pytest.raises(ValueError, match="an encoder of one modality at least"):
        OMIB({}, Classification(2))


def test_a_modality_that_no_sample_has_need_not_be_given():
    model, batch = make_model("ab").eval(), make_batch("ab")
    alone = batch.present & torch.tensor([True, False])
    rows = alone.any(1)
    given = Batch({"a": batch.inputs["a"]}, alone[rows], batch.target)
    assert model(given).xi.shape == (int(rows.sum()), model.latent_dim)
