import math

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from omib_bench.fusions import MMIBZhang
from omib_bench.fusions.alignment import info_nce

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


def test_kl_is_that_of_torch():
    codes, fusion = codes_of(), MMIBZhang(WIDTHS, 4)
    for name, kl in fusion(codes, EVERY).kl.items():
        mu, sigma = fusion.encoder[name](codes[name])
        standard = Independent(Normal(torch.zeros_like(mu), 1.0), 1)
        torch.testing.assert_close(kl, kl_divergence(Independent(Normal(mu, sigma), 1), standard))


def test_agreement_tells_true_pairs_from_shuffled_ones_once_trained():
    torch.manual_seed(0)
    x = torch.randn(64, 4)
    fusion = MMIBZhang(dict.fromkeys(WIDTHS, 4), 8)
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
