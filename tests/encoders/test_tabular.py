import math

import numpy as np
import torch
from scipy.special import erf
from torch import nn

from omib_spatial.encoders import MLP, GatedLinear


def test_equals_two_layers_with_gelu_by_hand():
    torch.manual_seed(0)
    encoder = MLP(5, 7).double()
    x = torch.randn(6, 5, dtype=torch.float64)
    w1, b1, w2, b2 = (p.detach().numpy() for p in encoder.parameters())
    hidden = x.numpy() @ w1.T + b1
    hidden = hidden * (1 + erf(hidden / math.sqrt(2))) / 2
    np.testing.assert_allclose(encoder(x).detach().numpy(), hidden @ w2.T + b2, rtol=1e-10, atol=1e-12)


def test_widths():
    encoder = MLP(5)
    assert encoder.out_features == 256
    assert [(m.in_features, m.out_features) for m in encoder.modules() if isinstance(m, nn.Linear)] == [
        (5, 256),
        (256, 256),
    ]
    assert encoder(torch.zeros(0, 5)).shape == (0, 256)


def test_gated_linear_is_linear_with_a_gain_per_input():
    torch.manual_seed(0)
    encoder, x = GatedLinear(5, 3).double(), torch.randn(6, 5, dtype=torch.float64)
    fresh = encoder(x)
    torch.testing.assert_close(fresh, encoder.linear(x))
    with torch.no_grad():
        encoder.gain.copy_(torch.tensor([1.0, 2.0, 0.0, -1.0, 1.0]))
    torch.testing.assert_close(encoder(x), encoder.linear(x * encoder.gain))


def test_weight_decay_on_gain_and_weights_is_a_group_lasso_on_inputs():
    """The oracle is the group lasso's closed form for orthonormal inputs: each column is soft-thresholded."""
    torch.manual_seed(0)
    truth = torch.tensor([[2.0, 0.4, 0.1, 0.0], [0.0, 0.3, 0.1, 0.0]], dtype=torch.float64)
    x, penalty = torch.eye(4, dtype=torch.float64), 0.3
    encoder = GatedLinear(4, 2).double()
    nn.init.zeros_(encoder.linear.bias).requires_grad_(False)
    optimiser = torch.optim.LBFGS([encoder.gain, encoder.linear.weight], max_iter=2000, tolerance_change=1e-14)

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        fit = 0.5 * (encoder(x) - truth.T).square().sum()
        value = fit + 0.5 * penalty * (encoder.gain.square().sum() + encoder.linear.weight.square().sum())
        value.backward()
        return value

    optimiser.step(loss)
    norms = truth.norm(dim=0)
    expected = truth * (1 - penalty / norms.clamp(min=penalty)).clamp(min=0)
    torch.testing.assert_close(encoder.linear.weight * encoder.gain, expected, atol=1e-4, rtol=0)
