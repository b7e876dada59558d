import torch
from torch.distributions import Independent, Normal, kl_divergence

from omib_bench.fusions import DMIB, build
from omib_bench.fusions._rival import JOINT
from omib_bench.fusions.dmib import SPARSITY, SUFFICIENCY
from omib_spatial.core import Batch, Classification
from omib_spatial.encoders import MLP

WIDTHS = {"a": 3, "b": 5}
EVERY = torch.ones(12, 2, dtype=torch.bool)


def codes_of() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {name: torch.randn(12, d) for name, d in WIDTHS.items()}


def test_gates_and_confidences_are_between_0_and_1_and_weigh_the_codes():
    codes, fusion = codes_of(), DMIB(WIDTHS, 4).eval()
    gates, views = fusion.weigh({name: 30 * z for name, z in codes.items()})
    confidences = {name: fusion.confidence[name](h) for name, h in views.items()}
    for weight in (*gates.values(), *confidences.values()):
        assert ((weight >= 0) & (weight <= 1)).all()
    gates, views = fusion.weigh(codes)
    for name in WIDTHS:
        expected = torch.relu(fusion.project[name][0](torch.sigmoid(fusion.gate[name](codes[name])) * codes[name]))
        torch.testing.assert_close(views[name], expected)
    weighed = torch.cat([fusion.confidence[name](h) * h for name, h in views.items()], 1)
    fused = fusion(codes, EVERY)
    torch.testing.assert_close(fused.views[JOINT], weighed @ fusion.mix.out.weight.T + fusion.mix.out.bias)
    mu, sigma = fusion.joint(fused.views[JOINT])
    standard = Independent(Normal(torch.zeros_like(mu), 1.0), 1)
    torch.testing.assert_close(fused.kl[JOINT], kl_divergence(Independent(Normal(mu, sigma), 1), standard))
    assert torch.equal(fused.xi, mu)


def test_sparsity_is_the_mean_gate():
    codes, fusion = codes_of(), DMIB(WIDTHS, 4)
    present = EVERY.clone()
    present[:3, 1] = False
    gates, _ = fusion.weigh(codes)
    expected = gates["a"].mean() + gates["b"][3:].mean(1).sum() / 12
    torch.testing.assert_close(fusion(codes, present).losses["sparsity"], SPARSITY * expected)


def network():
    torch.manual_seed(0)
    x = {name: torch.randn(200, 4) for name in WIDTHS}
    y = (x["a"][:, 0] > 0).long()
    net = build(DMIB, {name: MLP(4, 8) for name in x}, Classification(2, (8,)), 6)
    return net, Batch(x, torch.ones(200, 2, dtype=torch.bool), y)


def test_confidence_is_compared_with_the_true_class_probability_and_sufficiency_is_a_kl():
    net, given = network()
    output = net(given)
    losses = net.fusion.judge(output, given, net)
    expected = torch.zeros(())
    for name, layer in net.fusion.confidence.items():
        truth = output.branches[name].softmax(1)[range(200), given.target]
        expected = expected + (layer(output.fused.views[name])[:, 0] - truth).square().mean()
    torch.testing.assert_close(losses["confidence"], expected)
    p, q = output.branches[JOINT].softmax(1), output.prediction.softmax(1)
    torch.testing.assert_close(losses["sufficiency"], SUFFICIENCY * (p * (p / q).log()).sum(1).mean())


def test_modality_that_knows_gets_more_confidence_than_one_that_does_not():
    net, given = network()
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(120):
        optimiser.zero_grad()
        net.objective(net(given), given, 1e-3).total.backward()
        optimiser.step()
    views = net.eval()(given).fused.views
    confidence = {name: layer(views[name]).mean().item() for name, layer in net.fusion.confidence.items()}
    assert confidence["a"] > 0.9
    assert confidence["a"] > confidence["b"]
