import math
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from omib_spatial.core.fusion import Concatenation, CrossAttention, Fusion, Gaussian, OptimalFusion, VariationalHead
from omib_spatial.core.information import gaussian_kl

WIDTHS = {"a": 3, "b": 5, "c": 4}
K = 8


def inputs(n: int = 6, seed: int = 0) -> tuple[dict[str, Tensor], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    codes = {name: torch.randn(n, d, generator=generator, dtype=torch.float64) for name, d in WIDTHS.items()}
    present = torch.rand(n, len(WIDTHS), generator=generator) < 0.6
    present[present.sum(1) == 0, 0] = True
    return codes, present


def build(kind: str, order: list[str]) -> Fusion:
    torch.manual_seed(1)
    widths = {name: WIDTHS[name] for name in order}
    if kind == "concatenation":
        return Concatenation(widths, K).double().eval()
    return OptimalFusion(widths, K, n_heads=2, cross_attention=kind == "attention").double().eval()


def reorder(columns: Tensor, widths: dict[str, int], order: list[str]) -> Tensor:
    """The columns of a matrix on concatenated modalities, when the modalities come in another order."""
    blocks = dict(zip(widths, columns.split(list(widths.values()), 1), strict=True))
    return torch.cat([blocks[name] for name in order], 1)


KINDS = ["attention", "flat", "concatenation"]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=10)
@given(order=st.permutations(list(WIDTHS)), seed=st.integers(0, 10_000))
def test_order_of_modalities_does_not_matter_when_the_parameters_move_along(kind, order, seed):
    codes, present = inputs(seed=seed)
    first, second = build(kind, list(WIDTHS)), build(kind, order)
    weights = first.state_dict()
    out = "out.weight" if kind == "concatenation" else "mix.out.weight"
    widths = WIDTHS if kind == "concatenation" else dict.fromkeys(WIDTHS, K)
    weights[out] = reorder(weights[out], widths, order)
    second.load_state_dict(weights)
    columns = [list(WIDTHS).index(name) for name in order]
    here = first(codes, present)
    there = second({name: codes[name] for name in order}, present[:, columns])
    torch.testing.assert_close(there.xi, here.xi, rtol=1e-10, atol=1e-12)
    assert there.kl.keys() == here.kl.keys()
    for name in here.kl:
        assert torch.equal(there.kl[name], here.kl[name])


@pytest.mark.parametrize("kind", KINDS)
def test_codes_are_found_by_name(kind):
    codes, present = inputs()
    fusion = build(kind, list(WIDTHS))
    shuffled = {name: codes[name] for name in reversed(WIDTHS)}
    assert torch.equal(fusion(shuffled, present).xi, fusion(codes, present).xi)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("training", [False, True])
def test_missing_modality_has_no_influence_at_all(kind, training):
    codes, present = inputs(n=40)
    fusion = build(kind, list(WIDTHS)).train(training)
    changed = {
        name: torch.where(here.unsqueeze(1), z, 1e3 * torch.randn_like(z))
        for (name, z), here in zip(codes.items(), present.T, strict=True)
    }
    assert not all(torch.equal(changed[name], codes[name]) for name in codes)
    torch.manual_seed(2)
    before = fusion(codes, present)
    torch.manual_seed(2)
    after = fusion(changed, present)
    assert torch.equal(before.xi, after.xi)
    for name in before.kl:
        assert torch.equal(before.kl[name], after.kl[name])


@pytest.mark.parametrize("kind", KINDS)
def test_present_modality_has_influence(kind):
    codes, present = inputs(n=40)
    fusion = build(kind, list(WIDTHS))
    xi = fusion(codes, present).xi
    for name, here in zip(WIDTHS, present.T, strict=True):
        other = fusion(codes | {name: codes[name] + 1.0}, present).xi
        moved = (other != xi).any(1)
        assert torch.equal(moved, here)


def test_kl_is_that_of_the_posterior_and_zero_where_missing():
    codes, present = inputs()
    fusion = build("attention", list(WIDTHS))
    kl = fusion(codes, present).kl
    for (name, head), here in zip(fusion.heads.items(), present.T, strict=True):
        expected = gaussian_kl(*head(codes[name]))
        assert torch.equal(kl[name][here], expected[here])
        assert (expected[here] > 0).all()
        assert (kl[name][~here] == 0).all()


def test_concatenation_compresses_nothing():
    assert build("concatenation", list(WIDTHS))(*inputs()).kl == {}


def test_inference_uses_the_mean_and_training_draws():
    codes, present = inputs()
    fusion = build("attention", list(WIDTHS))
    means = torch.stack([head(codes[name]).mu for name, head in fusion.heads.items()], 1)
    xi = fusion(codes, present).xi
    assert torch.equal(xi, fusion(codes, present).xi)
    assert torch.equal(xi, fusion.mix(means, present))
    fusion.train()
    assert not torch.equal(fusion(codes, present).xi, fusion(codes, present).xi)
    with patch("torch.randn_like", torch.zeros_like):
        assert torch.equal(fusion(codes, present).xi, xi)


def test_reparametrised_draw_is_mu_plus_sigma_eps_with_gradients_1_and_eps():
    mu, sigma = torch.randn(4, 3, requires_grad=True), torch.rand(4, 3).add(0.1).requires_grad_()
    torch.manual_seed(0)
    zeta = Gaussian(mu, sigma).sample()
    torch.manual_seed(0)
    eps = torch.randn(4, 3)
    torch.testing.assert_close(zeta, mu + sigma * eps)
    zeta.sum().backward()
    assert torch.equal(mu.grad, torch.ones(4, 3))
    assert torch.equal(sigma.grad, eps)


def test_standard_deviation_stays_positive_for_extreme_codes():
    head = VariationalHead(3, K)
    mu, sigma = head(1e4 * torch.randn(50, 3))
    assert mu.shape == sigma.shape == (50, K)
    assert (sigma > 0).all()
    assert gaussian_kl(mu, sigma).isfinite().all()


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_cross_attention_equals_attention_written_by_hand():
    codes, present = inputs()
    heads, n = 2, 6
    mix = CrossAttention(K, 3, heads).double()
    tokens = torch.randn(n, 3, K, dtype=torch.float64)
    got = mix(tokens, present).detach().numpy()
    w = {name: p.detach().numpy() for name, p in mix.named_parameters()}
    for i in range(n):
        kept = present[i].numpy()
        x = tokens[i].numpy()
        q, k, v = np.split(x @ w["attention.in_proj_weight"].T + w["attention.in_proj_bias"], 3, axis=1)
        parts = []
        for h in np.split(np.arange(K), heads):
            weights = softmax(q[:, h] @ k[kept][:, h].T / math.sqrt(K / heads))
            parts.append(weights @ v[kept][:, h])
        attended = np.concatenate(parts, 1) @ w["attention.out_proj.weight"].T + w["attention.out_proj.bias"]
        expected = w["out.weight"] @ np.where(kept[:, None], x + attended, 0).ravel() + w["out.bias"]
        np.testing.assert_allclose(got[i], expected, rtol=1e-10, atol=1e-12)


def test_flat_fusion_is_a_linear_map_of_the_present_codes():
    codes, present = inputs()
    fusion = build("flat", list(WIDTHS))
    means = [head(codes[name]).mu * present[:, [i]] for i, (name, head) in enumerate(fusion.heads.items())]
    expected = torch.cat(means, 1) @ fusion.mix.out.weight.T + fusion.mix.out.bias
    torch.testing.assert_close(fusion(codes, present).xi, expected)


def test_concatenation_is_a_linear_map_of_the_present_codes():
    codes, present = inputs()
    fusion = build("concatenation", list(WIDTHS))
    kept = torch.cat([z * present[:, [i]] for i, z in enumerate(codes.values())], 1)
    torch.testing.assert_close(fusion(codes, present).xi, kept @ fusion.out.weight.T + fusion.out.bias)


def test_heads_that_do_not_divide_the_latent_width_are_named():
    with pytest.raises(ValueError, match=r"latent_dim=10 .*n_heads=4"):
        OptimalFusion(WIDTHS, 10, n_heads=4)
    OptimalFusion(WIDTHS, 10, n_heads=4, cross_attention=False)
