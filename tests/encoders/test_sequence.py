import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from omib_spatial.core import Sequences
from omib_spatial.encoders import Conv1D


def encoder(**settings: int) -> Conv1D:
    torch.manual_seed(0)
    return Conv1D(3, out_features=5, channels=4, **settings)


def padded(sequences: list[torch.Tensor], to: int, filling: float) -> Sequences:
    values = torch.stack([F.pad(x, (0, 0, 0, to - len(x)), value=filling) for x in sequences])
    return Sequences(values, torch.tensor([len(x) for x in sequences]))


@given(
    lengths=st.lists(st.integers(1, 7), min_size=1, max_size=4),
    extra=st.integers(0, 9),
    filling=st.sampled_from([0.0, 1e3, float("nan")]),
    kernel=st.sampled_from([1, 3, 5]),
)
def test_padding_changes_no_code(lengths, extra, filling, kernel):
    torch.manual_seed(sum(lengths))
    sequences = [torch.randn(n, 3) for n in lengths]
    network = encoder(kernel_size=kernel)
    codes = network(padded(sequences, max(lengths) + extra, filling))
    alone = torch.cat([network(padded([x], len(x), 0.0)) for x in sequences])
    torch.testing.assert_close(codes, alone)


def test_order_and_every_step_matter():
    x = torch.randn(6, 3)
    network = encoder()
    code = network(padded([x], 6, 0.0))
    assert network.out_features == 5 and code.shape == (1, 5)
    assert not torch.allclose(network(padded([x.flip(0)], 6, 0.0)), code)
    for step in range(6):
        other = x.clone()
        other[step] += 1
        assert not torch.allclose(network(padded([other], 6, 0.0)), code)


def test_gradient_reaches_every_parameter_and_no_padding():
    network = encoder()
    values = torch.randn(2, 6, 3, requires_grad=True)
    network(Sequences(values, torch.tensor([2, 4]))).square().sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []
    assert values.grad[0, :2].any(1).all() and not values.grad[0, 2:].any()


def test_even_kernel_is_refused():
    with pytest.raises(ValueError, match="not 4"):
        Conv1D(3, kernel_size=4)
