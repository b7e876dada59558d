import numpy as np
import torch
from scipy.stats import moment

from omib_bench.fusions import MISA, build
from omib_bench.fusions.misa import (
    DIFFERENCE,
    RECONSTRUCTION,
    SIMILARITY,
    central_moment_discrepancy,
    overlap,
)
from omib_spatial.core import Batch, Classification
from omib_spatial.encoders import MLP

WIDTHS = {"a": 3, "b": 5}


def test_central_moment_discrepancy_is_scipys_moments():
    torch.manual_seed(0)
    x, y = torch.rand(50, 3, dtype=torch.float64), torch.rand(70, 3, dtype=torch.float64).square()
    expected = np.linalg.norm(x.mean(0) - y.mean(0))
    for order in range(2, 6):
        expected += np.linalg.norm(moment(x.numpy(), order) - moment(y.numpy(), order))
    np.testing.assert_allclose(central_moment_discrepancy(x, y).item(), expected)
    assert central_moment_discrepancy(x, x).item() == 0


def test_overlap_is_the_frobenius_norm_of_the_product_written_by_hand():
    torch.manual_seed(0)
    x, y = torch.randn(7, 3), torch.randn(7, 3)
    rows = [(part - part.mean(0)) / (part - part.mean(0)).norm(dim=1, keepdim=True) for part in (x, y)]
    total = sum(sum(rows[0][n, i] * rows[1][n, j] for n in range(7)) ** 2 for i in range(3) for j in range(3))
    torch.testing.assert_close(overlap(x, y), total / 49)


def test_overlap_is_0_for_orthogonal_columns_and_1_for_equal_ones():
    x, y = torch.tensor([[1.0], [1.0], [-1.0], [-1.0]]), torch.tensor([[1.0], [-1.0], [1.0], [-1.0]])
    assert overlap(x, y) == 0
    assert overlap(x, x) == overlap(x, -3 * x) == 1


def test_losses_are_those_of_the_codes_weighed():
    torch.manual_seed(0)
    fusion = MISA(WIDTHS, 4)
    codes = {name: torch.randn(20, d) for name, d in WIDTHS.items()}
    present = torch.ones(20, 2, dtype=torch.bool)
    present[:5, 0] = False
    losses = fusion(codes, present).losses
    u = {name: fusion.project[name](codes[name]) for name in WIDTHS}
    shared, private = {n: fusion.shared(u[n]) for n in u}, {n: fusion.private[n](u[n]) for n in u}
    for code in (*shared.values(), *private.values()):
        assert ((code > 0) & (code < 1)).all()
    alike = central_moment_discrepancy(shared["a"][5:], shared["b"])
    torch.testing.assert_close(losses["similarity"], SIMILARITY * alike)
    different = (
        overlap(shared["a"][5:], private["a"][5:])
        + overlap(shared["b"], private["b"])
        + overlap(private["a"][5:], private["b"][5:])
    )
    torch.testing.assert_close(losses["difference"], DIFFERENCE * different)
    rebuilt = {n: fusion.decode[n](shared[n] + private[n]) for n in u}
    error = (rebuilt["a"][5:] - u["a"][5:]).square().mean() + (rebuilt["b"] - u["b"]).square().mean()
    torch.testing.assert_close(losses["reconstruction"], RECONSTRUCTION * error / 2)


def test_similarity_difference_and_reconstruction_fall_in_training():
    torch.manual_seed(0)
    x = {"a": torch.randn(128, 4), "b": 2 * torch.rand(128, 6) + 1}
    y = (x["a"][:, 0] > 0).long()
    net = build(MISA, {name: MLP(v.shape[1], 8) for name, v in x.items()}, Classification(2, (8,)), 8)
    given = Batch(x, torch.ones(128, 2, dtype=torch.bool), y)
    optimiser, found = torch.optim.Adam(net.parameters(), lr=1e-2), []
    for _ in range(60):
        output = net(given)
        found.append({name: value.item() for name, value in output.fused.losses.items()})
        optimiser.zero_grad()
        net.objective(output, given, 0.0).total.backward()
        optimiser.step()
    assert all(found[-1][name] < 0.7 * found[0][name] for name in found[0])
