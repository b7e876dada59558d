import math

import numpy as np
import torch
from scipy.special import erf
from torch import nn

from omib_spatial.encoders import MLP


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
