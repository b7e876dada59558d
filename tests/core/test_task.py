import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.distributions import Categorical, Independent, Normal, kl_divergence

from omib_spatial.core.task import Classification, OneClass, Regression, perceptron

seeds = st.integers(0, 2**32 - 1)


def pair(seed: int, width: int, n: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(3 * torch.randn(2, n, width, generator=generator, dtype=torch.float64))


def linear_shapes(head: nn.Module) -> list[tuple[int, int]]:
    return [(m.in_features, m.out_features) for m in head.modules() if isinstance(m, nn.Linear)]


def test_heads_are_those_of_the_paper():
    assert linear_shapes(Classification(6).head(300)) == [(300, 512), (512, 100), (100, 6)]
    assert linear_shapes(Regression().head(300)) == [(300, 50), (50, 1)]
    assert linear_shapes(OneClass().head(300)) == [(300, 256), (256, 256)]


def test_perceptron_ends_linear_and_the_one_class_head_maps_nothing_but_zero_to_zero():
    assert [type(m) for m in perceptron([4, 3, 2], nn.ReLU)] == [nn.Linear, nn.ReLU, nn.Linear]
    head = OneClass(4, hidden=(3,)).head(5)
    assert [type(m) for m in head] == [nn.Linear, nn.LeakyReLU, nn.Linear]
    assert all(m.bias is None for m in head if isinstance(m, nn.Linear))
    assert torch.equal(head(torch.zeros(2, 5)), torch.zeros(2, 4))


# Classification


@settings(max_examples=25)
@given(seed=seeds, classes=st.integers(2, 6))
def test_classification_divergence_equals_the_sum_over_classes_branch_first(seed, classes):
    task = Classification(classes)
    branch, fused = pair(seed, classes)
    p, q = branch.softmax(-1), fused.softmax(-1)
    got = task.divergence(branch, fused)
    torch.testing.assert_close(got, (p * (p / q).log()).sum(-1), rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(got, kl_divergence(Categorical(logits=branch), Categorical(logits=fused)))


def test_classification_divergence_is_not_symmetric():
    confident, unsure = torch.tensor([[5.0, 0.0]]), torch.tensor([[0.0, 0.0]])
    task = Classification(2)
    # A sure branch before an unsure fusion is at most ln 2 away; the other way round there is no limit.
    assert task.divergence(confident, unsure) < math.log(2) < task.divergence(unsure, confident)


@settings(max_examples=25)
@given(seed=seeds)
def test_classification_loss_is_the_negative_log_probability(seed):
    logits, _ = pair(seed, 4)
    target = torch.tensor([0, 3, 1, 1, 2])
    task = Classification(4)
    torch.testing.assert_close(task.loss(logits, target), -Categorical(logits=logits).log_prob(target))
    torch.testing.assert_close(task.predict(logits), Categorical(logits=logits).probs)


def test_samples_without_a_class_add_nothing_and_weights_are_those_of_the_class():
    logits, _ = pair(0, 3)
    logits.requires_grad_()
    target, weight = torch.tensor([0, -1, 2, -7, 2]), torch.tensor([0.5, 9.0, 2.0])
    loss = Classification(3, weight=weight).loss(logits, target)
    known = torch.tensor([0, 2, 4])
    expected = -Categorical(logits=logits[known]).log_prob(target[known]) * weight[target[known]]
    torch.testing.assert_close(loss[known], expected.detach())
    assert loss[[1, 3]].tolist() == [0, 0]
    assert not torch.autograd.grad(loss.sum(), logits)[0][[1, 3]].any()


@settings(max_examples=25)
@given(sizes=st.lists(st.integers(1, 30), min_size=2, max_size=5))
def test_with_balanced_weights_who_knows_nothing_says_that_all_classes_are_alike(sizes):
    target = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    weight = len(target) / (len(sizes) * torch.tensor(sizes, dtype=torch.float64))
    logits = torch.zeros(len(sizes), dtype=torch.float64, requires_grad=True)
    loss = Classification(len(sizes), weight=weight).loss(logits.expand(len(target), -1), target)
    torch.testing.assert_close(loss.mean(), torch.tensor(math.log(len(sizes)), dtype=torch.float64))
    gradient = torch.autograd.grad(loss.sum(), logits)[0]
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-9, rtol=0)


# Regression


@settings(max_examples=25)
@given(seed=seeds, outputs=st.integers(1, 4))
def test_regression_is_a_gaussian_of_unit_variance(seed, outputs):
    branch, fused = pair(seed, outputs)
    task = Regression(outputs)
    p, q = (Independent(Normal(mean, 1.0), 1) for mean in (branch, fused))
    torch.testing.assert_close(task.divergence(branch, fused), kl_divergence(p, q))
    constant = outputs / 2 * math.log(2 * math.pi)
    torch.testing.assert_close(task.loss(branch, fused), -p.log_prob(fused) - constant)
    assert torch.equal(task.predict(branch), branch)


def test_regression_divergence_equals_numerical_integration():
    y = torch.linspace(-12, 12, 100_001, dtype=torch.float64)
    p, q = Normal(0.7, 1.0), Normal(-1.1, 1.0)
    integral = torch.trapezoid(p.log_prob(y).exp() * (p.log_prob(y) - q.log_prob(y)), y)
    mean = torch.tensor([[0.7], [-1.1]], dtype=torch.float64)
    torch.testing.assert_close(Regression().divergence(mean[:1], mean[1:]), integral.reshape(1))


def test_unknown_values_add_nothing_to_loss_or_gradient():
    task = Regression(3)
    prediction = torch.randn(4, 3, requires_grad=True)
    target = torch.randn(4, 3)
    unknown = torch.tensor([[0, 0, 0], [0, 1, 0], [1, 1, 0], [1, 1, 1]], dtype=torch.bool)
    loss = task.loss(prediction, target.masked_fill(unknown, torch.nan))
    expected = 0.5 * ((prediction - target).square() * ~unknown).sum(-1)
    torch.testing.assert_close(loss, expected)
    loss.sum().backward()
    torch.testing.assert_close(prediction.grad, (prediction - target).detach() * ~unknown)


def test_regression_of_one_value_takes_a_flat_target():
    prediction, target = torch.randn(6, 1), torch.randn(6)
    torch.testing.assert_close(Regression().loss(prediction, target), 0.5 * (prediction[:, 0] - target).square())


# One class


@settings(max_examples=25)
@given(seed=seeds)
def test_one_class_loss_is_the_squared_distance_and_the_score_the_distance(seed):
    task = OneClass(3).double()
    first, second = pair(seed, 3)
    task.set_center(second)
    offset = first - task.center
    torch.testing.assert_close(task.loss(first, None), (offset**2).sum(1))
    torch.testing.assert_close(task.predict(first), task.loss(first, None).sqrt())
    p, q = (Independent(Normal(mean, 1.0), 1) for mean in (first, second))
    torch.testing.assert_close(task.divergence(first, second), kl_divergence(p, q))


def test_planted_anomaly_scores_higher():
    task = OneClass(2)
    task.set_center(torch.tensor([[1.0, 1.0]]))
    near, far = task.predict(torch.tensor([[1.0, 1.1], [4.0, -3.0]]))
    assert near < far


def test_center_is_the_mean_kept_off_zero_and_is_saved():
    task = OneClass(4)
    outputs = torch.tensor([[2.0, 0.01, -0.02, 0.0], [4.0, 0.03, -0.04, 0.0]])
    task.set_center(outputs)
    assert torch.equal(task.center, torch.tensor([3.0, 0.1, -0.1, 0.1]))
    assert torch.equal(task.state_dict()["center"], task.center)
    assert not list(task.parameters())


@pytest.mark.parametrize("task", [Classification(2), Regression()])
def test_missing_target_is_named(task):
    with pytest.raises(ValueError, match="needs a target"):
        task.loss(torch.zeros(3, task.head(2)[-1].out_features), None)
