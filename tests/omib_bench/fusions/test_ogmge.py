import math
from unittest.mock import patch

import pytest
import torch

from omib_bench.fusions import OGMGE, Concat, build
from omib_bench.fusions.ogmge import modulation
from omib_spatial.core import Batch, Classification, OneClass, Regression
from omib_spatial.encoders import MLP

WIDTHS = {"a": 3, "b": 5}


def test_coefficients_by_hand():
    k = modulation({"a": torch.tensor(math.log(0.6)), "b": torch.tensor(math.log(0.3))}, alpha=0.5)
    assert k["a"].item() == pytest.approx(1 - math.tanh(0.5 * 2))
    assert k["b"].item() == 1
    equal = modulation({"a": torch.tensor(-1.0), "b": torch.tensor(-1.0)})
    assert equal["a"] == equal["b"] == 1
    three = modulation({n: torch.tensor(math.log(s)) for n, s in {"a": 0.8, "b": 0.1, "c": 0.3}.items()}, alpha=0.1)
    assert three["a"].item() == pytest.approx(1 - math.tanh(0.1 * 4))
    assert three["b"] == three["c"] == 1


def test_scores_that_vanish_give_no_nan():
    k = modulation({"a": torch.tensor(-2.0), "b": torch.tensor(-9000.0)})
    assert k["a"] == 0 and k["b"] == 1


def networks(kind=Classification):
    torch.manual_seed(0)
    x = {name: torch.randn(30, d) for name, d in WIDTHS.items()}
    task = {Classification: Classification(3, (8,)), Regression: Regression(1, (8,)), OneClass: OneClass(4, (8,))}[kind]
    target = {Classification: torch.arange(30) % 3, Regression: torch.randn(30), OneClass: None}[kind]
    nets = []
    for rival in (Concat, OGMGE):
        torch.manual_seed(1)
        nets.append(build(rival, {name: MLP(d, 6) for name, d in WIDTHS.items()}, task, 4))
    return *nets, Batch(x, torch.ones(30, 2, dtype=torch.bool), target)


@pytest.mark.parametrize("kind", [Classification, Regression, OneClass])
def test_gradients_of_the_encoders_and_no_others_are_scaled_exactly(kind):
    plain, modulated, given = networks(kind)
    with patch("torch.randn_like", torch.zeros_like):
        for net in (plain, modulated):
            net.objective(net(given), given, 0.0).total.backward()
    k = modulated.fusion.coefficients
    assert min(v.item() for v in k.values()) < 1 and max(v.item() for v in k.values()) == 1
    for (name, p), q in zip(plain.named_parameters(), modulated.parameters(), strict=True):
        factor = k[name.split(".")[1]] if name.startswith("encoders.") else torch.ones(())
        torch.testing.assert_close(q.grad, factor * p.grad)


def test_noise_has_the_spread_of_the_gradient():
    plain, modulated, given = networks()
    torch.manual_seed(5)
    for net in (plain, modulated):
        net.objective(net(given), given, 0.0).total.backward()
    left = []
    for m, encoder in plain.encoders.items():
        for p, q in zip(encoder.parameters(), modulated.encoders[m].parameters(), strict=True):
            noise = q.grad - modulated.fusion.coefficients[m] * p.grad
            left.append((noise / p.grad.std(correction=0)).flatten())
    standard = torch.cat(left)
    assert abs(standard.mean()) < 3 / math.sqrt(len(standard)) + 0.05
    assert standard.std().item() == pytest.approx(1, abs=0.2)


def test_score_is_the_probability_that_a_modality_alone_gives_to_the_truth():
    _, net, given = networks()
    output = net(given)
    net.fusion.judge(output, given, net)
    out, scores = net.fusion.out, {}
    for name, columns in {"a": slice(0, 6), "b": slice(6, 12)}.items():
        xi = output.codes[name] @ out.weight[:, columns].T + out.bias / 2
        scores[name] = net.head(xi).softmax(1)[range(30), given.target].sum().item()
    ahead = max(scores, key=scores.get)
    ratio = scores[ahead] / min(scores.values())
    assert net.fusion.coefficients[ahead].item() == pytest.approx(1 - math.tanh(0.8 * ratio), rel=1e-4)


def test_parts_add_up_to_the_fused_code():
    _, net, given = networks()
    output = net(given)
    torch.testing.assert_close(sum(net.fusion.alone(output.codes).values()), output.xi)


def test_one_modality_alone_is_not_modulated():
    _, net, given = networks()
    alone = Batch({"a": given.inputs["a"], "b": given.inputs["b"][:0]}, given.present.clone(), given.target)
    alone.present[:, 1] = False
    net.objective(net(alone), alone, 0.0).total.backward()
    assert net.fusion.coefficients == {}
