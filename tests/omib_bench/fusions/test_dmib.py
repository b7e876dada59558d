import pytest
import torch
from torch.nn import functional as F

from omib_bench.fusions import DMIB, build
from omib_bench.fusions._rival import JOINT
from omib_spatial.core import Batch, Classification, OneClass, Regression
from omib_spatial.encoders import MLP

WIDTHS = {"a": 3, "b": 5}
EVERY = torch.ones(12, 2, dtype=torch.bool)


def codes_of() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {name: torch.randn(12, d) for name, d in WIDTHS.items()}


def network(task=None):
    torch.manual_seed(0)
    x = {name: torch.randn(40, d) for name, d in WIDTHS.items()}
    net = build(DMIB, {name: MLP(d, 8) for name, d in WIDTHS.items()}, task or Classification(2, (8,)), 6)
    return net, Batch(x, torch.ones(40, 2, dtype=torch.bool), torch.arange(40) % 2)


def test_the_bottleneck_is_two_linear_maps_of_what_lies_side_by_side_back_to_its_width():
    codes, fusion = codes_of(), DMIB(WIDTHS, 4).eval()
    fused = fusion(codes, EVERY)
    h = {n: torch.relu(torch.sigmoid(codes[n]) @ p[1].weight.T + p[1].bias) for n, p in fusion.project.items()}
    for name, expected in h.items():
        torch.testing.assert_close(fused.views[name], expected)
    v = torch.cat(list(h.values()), 1)
    torch.testing.assert_close(fused.views[JOINT], v)
    first, _, second = fusion.bottleneck
    torch.testing.assert_close(fused.xi, torch.relu(v @ first.weight.T + first.bias) @ second.weight.T + second.bias)
    assert fused.xi.shape == v.shape == (12, 8)


def test_there_is_no_prior_and_no_noise_but_dropout():
    codes, fusion = codes_of(), DMIB(WIDTHS, 400)
    dropped = fusion(codes, EVERY)
    assert dropped.kl == {} and dropped.losses == {}
    kept = fusion.eval()(codes, EVERY).views["a"]
    alive = kept > 0
    share = (dropped.views["a"][alive] == 0).float().mean()
    assert 0.45 < share < 0.55
    there = alive & (dropped.views["a"] > 0)
    torch.testing.assert_close(dropped.views["a"][there], 2 * kept[there])


def test_loss_is_that_of_three_kinds_of_heads_and_500_divergences_written_by_hand():
    net, given = network()
    output = net(given)
    assert set(net.heads) == {"a", "b", JOINT}
    y, log = given.target, {name: p.log_softmax(1) for name, p in output.branches.items()}
    q = output.prediction.log_softmax(1)
    expected = F.nll_loss(q, y) + F.nll_loss(log[JOINT], y) + 1000 * (F.nll_loss(log["a"], y) + F.nll_loss(log["b"], y))
    expected = expected + 500 * (log[JOINT].exp() * (log[JOINT] - q)).sum(1).mean()
    # beta weighs a compression, which is not there.
    for beta in (0.0, 7.0):
        torch.testing.assert_close(net.objective(output, given, beta).total, expected)


@pytest.mark.parametrize("task", [Classification(2, (8,)), Regression(1, (8,)), OneClass(3, (8,))])
def test_divergence_moves_xi_and_not_what_it_imitates(task):
    net, given = network(task)
    net.fusion.judge(net(given), given, net)["sufficiency"].backward()
    assert all(p.grad is None for p in net.heads.parameters())
    assert all(p.grad.any() for p in net.head.parameters() if p.dim() > 1)


def test_missing_modality_is_zero_in_what_lies_side_by_side():
    codes, fusion, present = codes_of(), DMIB(WIDTHS, 40).eval(), EVERY.clone()
    present[:5, 1] = False
    v = fusion(codes, present).views[JOINT]
    assert not v[:5, 40:].any() and v[5:, 40:].any(1).all() and v[:5, :40].any(1).all()
