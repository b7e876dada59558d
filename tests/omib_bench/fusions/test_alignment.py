import math

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from omib_bench.fusions import MMIBCui, MMIBZhang
from omib_bench.fusions.alignment import ALIGNMENT, info_nce

WIDTHS = {"a": 3, "b": 5}
EVERY = torch.ones(12, 2, dtype=torch.bool)


def codes_of() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {name: torch.randn(12, d) for name, d in WIDTHS.items()}


def test_info_nce_is_the_cross_entropy_written_by_hand():
    torch.manual_seed(0)
    x, y = torch.randn(5, 3), torch.randn(5, 3)
    cosine = [[float(torch.cosine_similarity(a, b, dim=0)) / 0.1 for b in y] for a in x]
    rows = [math.log(sum(math.exp(s) for s in row)) - row[i] for i, row in enumerate(cosine)]
    columns = [math.log(sum(math.exp(row[i]) for row in cosine)) - cosine[i][i] for i in range(5)]
    assert info_nce(x, y).item() == pytest.approx(sum(rows + columns) / 10, rel=1e-5)


def test_info_nce_bounds_mutual_information_from_below():
    """Of correlated Gaussians, ``-k/2 ln(1 - rho^2)``: ln n - loss is above 0 and not above the truth."""
    torch.manual_seed(0)
    x, noise = torch.randn(2000, 2), torch.randn(2000, 2)
    y = 0.9 * x + math.sqrt(1 - 0.81) * noise
    found = math.log(2000) - info_nce(x, y, temperature=0.5).item()
    assert 0.3 < found < -math.log(1 - 0.81)
    assert math.log(2000) - info_nce(x, noise, temperature=0.5).item() < 0.0


@pytest.mark.parametrize("kind", [MMIBCui, MMIBZhang])
def test_kl_is_that_of_torch(kind):
    codes, fusion = codes_of(), kind(WIDTHS, 4)
    for name, kl in fusion(codes, EVERY).kl.items():
        mu, sigma = fusion.encoder[name](codes[name])
        standard = Independent(Normal(torch.zeros_like(mu), 1.0), 1)
        torch.testing.assert_close(kl, kl_divergence(Independent(Normal(mu, sigma), 1), standard))


@pytest.mark.parametrize("kind", [MMIBCui, MMIBZhang])
def test_agreement_tells_true_pairs_from_shuffled_ones_once_trained(kind):
    torch.manual_seed(0)
    x = torch.randn(64, 4)
    fusion = kind(dict.fromkeys(WIDTHS, 4), 8)
    codes, shuffled = {"a": x, "b": x @ torch.randn(4, 4)}, {"a": x, "b": torch.randn(64, 4)}
    every = torch.ones(64, 2, dtype=torch.bool)
    optimiser = torch.optim.Adam(fusion.parameters(), lr=1e-2)
    before = fusion(codes, every).losses["alignment"].item()
    for _ in range(150):
        optimiser.zero_grad()
        fusion(codes, every).losses["alignment"].backward()
        optimiser.step()
    after = fusion(codes, every).losses["alignment"].item()
    assert after < 0.5 * before
    assert fusion(shuffled, every).losses["alignment"].item() > 2 * after


def test_discriminators_cross_entropy_is_that_of_labelled_pairs():
    codes, fusion = codes_of(), MMIBCui(WIDTHS, 4)
    x, y = torch.randn(12, 4), torch.randn(12, 4)
    judge = fusion.discriminate["a and b"]
    true = judge(torch.cat([x, y], 1)).sigmoid()
    false = judge(torch.cat([x, torch.cat([y[-1:], y[:-1]])], 1)).sigmoid()
    torch.testing.assert_close(fusion.agreement(("a", "b"), x, y), -true.log().mean() - (1 - false).log().mean())
    present = EVERY.clone()
    present[:4, 1] = False
    torch.manual_seed(3)
    fused = fusion(codes, present)
    error = (fusion.decode["a"](fused.xi) - codes["a"]).square().mean()
    error = error + (fusion.decode["b"](fused.xi[4:]) - codes["b"][4:]).square().mean()
    torch.testing.assert_close(fused.losses["reconstruction"], ALIGNMENT * error / 2)


def test_codes_are_not_moved_to_be_rebuilt_easily():
    """With decoders that ignore xi, the one way from the loss to a code would be the target."""
    codes, fusion = {name: z.requires_grad_() for name, z in codes_of().items()}, MMIBCui(WIDTHS, 4)
    for layer in fusion.decode.values():
        torch.nn.init.zeros_(layer.weight)
    fusion(codes, EVERY).losses["reconstruction"].backward()
    assert all(not z.grad.any() for z in codes.values())
