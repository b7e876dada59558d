from unittest.mock import patch

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from omib_bench.fusions import CMIB, EMIB, LMIB, DeepIB
from omib_bench.fusions._rival import JOINT

WIDTHS = {"a": 3, "b": 5}
K = 4


def build(kind):
    torch.manual_seed(0)
    codes = {name: torch.randn(6, d) for name, d in WIDTHS.items()}
    present = torch.ones(6, 2, dtype=torch.bool)
    present[2:, 1] = torch.tensor([False, True, True, False])
    return kind(WIDTHS, K), codes, present


def closed_form(mu, sigma):
    standard = Independent(Normal(torch.zeros_like(mu), 1.0), 1)
    return kl_divergence(Independent(Normal(mu, sigma), 1), standard)


@pytest.mark.parametrize("kind", [DeepIB, LMIB, CMIB])
def test_kl_of_every_modality_is_that_of_torch_and_zero_where_missing(kind):
    fusion, codes, present = build(kind)
    heads = fusion.heads if kind is DeepIB else fusion.encoder
    kl = fusion(codes, present).kl
    for (name, head), here in zip(heads.items(), present.T, strict=True):
        torch.testing.assert_close(kl[name], closed_form(*head(codes[name])) * here)
        assert (kl[name][here] > 0).all()


@pytest.mark.parametrize("kind", [EMIB, CMIB])
def test_kl_of_the_fused_code_is_that_of_torch(kind):
    fusion, codes, present = build(kind)
    fusion.eval()
    before = fusion.join(codes, present).xi if kind is EMIB else LMIB.forward(fusion, codes, present).xi
    fused = fusion(codes, present)
    mu, sigma = fusion.joint(before)
    torch.testing.assert_close(fused.kl[JOINT], closed_form(mu, sigma))
    assert torch.equal(fused.xi, mu)


@pytest.mark.parametrize("kind, names", [(DeepIB, "ab"), (EMIB, [JOINT]), (LMIB, "ab"), (CMIB, [*"ab", JOINT])])
def test_which_codes_are_compressed_and_which_predict(kind, names):
    fusion, codes, present = build(kind)
    fused = fusion(codes, present)
    assert list(fused.kl) == list(names)
    assert tuple(fused.views) == fusion.views() == (("a", "b") if kind in (LMIB, CMIB) else ())


@pytest.mark.parametrize("kind", [DeepIB, EMIB, LMIB, CMIB])
def test_codes_are_drawn_in_training_and_means_at_inference(kind):
    fusion, codes, present = build(kind)
    assert not torch.equal(fusion(codes, present).xi, fusion(codes, present).xi)
    with patch("torch.randn_like", torch.zeros_like):
        means = fusion(codes, present).xi
    assert torch.equal(fusion.eval()(codes, present).xi, means)


def test_views_of_the_late_fusion_are_the_codes_that_are_mixed():
    fusion, codes, present = build(LMIB)
    fused = fusion(codes, present)
    kept = torch.cat([fused.views[name] * present[:, [i]] for i, name in enumerate(WIDTHS)], 1)
    torch.testing.assert_close(fused.xi, kept @ fusion.mix.out.weight.T + fusion.mix.out.bias)
