import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence
from torch.nn import functional as F

from omib_bench.fusions import MMIBCui, build
from omib_bench.fusions.cui import TOKENS, AttentionBlock, mean_kl
from omib_spatial.core import Batch, Classification
from omib_spatial.encoders import MLP

WIDTHS = {"text": 3, "image": 5}
K = 4
EVERY = torch.ones(12, 2, dtype=torch.bool)
HAS = {"text": EVERY[:, 0], "image": EVERY[:, 1]}


def codes_of() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {name: torch.randn(12, d) for name, d in WIDTHS.items()}


def block(layer: AttentionBlock, query: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """Query plus attention, layer norm, linear, layer norm, one head at a time."""
    a, n = layer.attention, layer.attention.num_heads
    q, k = F.linear(query, a.in_proj_weight[:K]), F.linear(keys, a.in_proj_weight[K : 2 * K])
    v = F.linear(keys, a.in_proj_weight[2 * K :])
    width = K // n
    heads = []
    for h in range(n):
        part = slice(h * width, (h + 1) * width)
        weights = (q[..., part] @ k[..., part].transpose(1, 2) / width**0.5).softmax(-1)
        heads.append(weights @ v[..., part])
    x = query + a.out_proj(torch.cat(heads, -1))
    first, linear, second = layer.rest
    return F.layer_norm(linear(F.layer_norm(x, (K,), first.weight, first.bias)), (K,), second.weight, second.bias)


def test_mean_and_variance_come_from_two_blocks_of_self_attention():
    codes, fusion = codes_of(), MMIBCui(WIDTHS, K)
    for name, code in codes.items():
        tokens = fusion.cut[name](code).reshape(12, TOKENS, K)
        mu, log_variance = fusion.posterior(name, code)
        torch.testing.assert_close(mu, block(fusion.mu[name], tokens, tokens))
        torch.testing.assert_close(log_variance, block(fusion.log_variance[name], tokens, tokens))
    assert {id(p) for p in fusion.mu.parameters()}.isdisjoint({id(p) for p in fusion.log_variance.parameters()})


def test_fusion_is_image_to_text_and_then_text_to_that():
    codes, fusion = codes_of(), MMIBCui(WIDTHS, K).eval()
    text, image = (fusion.posterior(name, code)[0] for name, code in codes.items())
    both = block(fusion.image_to_text, image, text)
    expected = block(fusion.text_to_both, text, both)[:, 0]
    torch.testing.assert_close(fusion(codes, EVERY).xi, expected)


def test_kl_is_torchs_averaged_over_tokens_and_features():
    torch.manual_seed(0)
    mu, log_variance = torch.randn(5, TOKENS, K), torch.randn(5, TOKENS, K)
    normal = Independent(Normal(mu, (0.5 * log_variance).exp()), 2)
    expected = kl_divergence(normal, Independent(Normal(torch.zeros_like(mu), 1.0), 2)) / (TOKENS * K)
    torch.testing.assert_close(mean_kl(mu, log_variance), expected)


def test_discriminator_sees_first_tokens_and_images_rolled_by_one():
    torch.manual_seed(0)
    fusion, tokens = MMIBCui(WIDTHS, K), {name: torch.randn(12, TOKENS, K) for name in WIDTHS}
    judge, text, image = fusion.discriminate["image"], tokens["text"][:, 0], tokens["image"][:, 0]
    rolled = torch.stack([image[i - 1] for i in range(12)])
    true, false = (judge(torch.cat([text, other], 1)) for other in (image, rolled))
    ones, zeros = torch.ones(12, 1), torch.zeros(12, 1)
    expected = F.binary_cross_entropy_with_logits(true, ones) + F.binary_cross_entropy_with_logits(false, zeros)
    torch.testing.assert_close(fusion.alignment(tokens, HAS), expected)
    other_tokens = {name: t.clone() for name, t in tokens.items()}
    for t in other_tokens.values():
        t[:, 1:] += 5.0
    assert torch.equal(fusion.alignment(other_tokens, HAS), fusion.alignment(tokens, HAS))


def test_loss_is_task_and_alignment_and_both_kl_with_weight_1_and_nothing_rebuilt():
    torch.manual_seed(0)
    x, y = {name: torch.randn(12, d) for name, d in WIDTHS.items()}, torch.arange(12) % 2
    net = build(MMIBCui, {name: MLP(d, 6) for name, d in WIDTHS.items()}, Classification(2, (8,)), K)
    given = Batch(x, EVERY, y)
    output = net(given)
    assert set(output.fused.losses) == {"alignment", "compression"} and output.kl == {}
    kl = sum(mean_kl(*net.fusion.posterior(name, z)).mean() for name, z in output.codes.items())
    torch.testing.assert_close(output.fused.losses["compression"], kl)
    expected = F.cross_entropy(output.prediction, y) + output.fused.losses["alignment"] + kl
    for beta in (0.0, 7.0):
        torch.testing.assert_close(net.objective(output, given, beta).total, expected)


def test_alignment_tells_true_pairs_from_shuffled_ones_once_trained():
    torch.manual_seed(0)
    x = torch.randn(64, 4)
    fusion = MMIBCui(dict.fromkeys(WIDTHS, 4), 8)
    codes, shuffled = {"text": x, "image": x @ torch.randn(4, 4)}, {"text": x, "image": torch.randn(64, 4)}
    every = torch.ones(64, 2, dtype=torch.bool)
    optimiser = torch.optim.Adam(fusion.parameters(), lr=1e-2)
    before = fusion(codes, every).losses["alignment"].item()
    for _ in range(150):
        optimiser.zero_grad()
        fusion(codes, every).losses["alignment"].backward()
        optimiser.step()
    after = fusion(codes, every).losses["alignment"].item()
    assert after < 0.6 * before
    assert fusion(shuffled, every).losses["alignment"].item() > 1.5 * after


def test_one_modality_alone_is_refused():
    with pytest.raises(ValueError, match="two or more"):
        MMIBCui({"text": 3}, K)
