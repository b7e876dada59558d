import numpy as np
import pytest
import torch

from omib_spatial.modalities import Modality, Prepared
from omib_spatial.modalities.base import DenseRows


def dense_rows() -> DenseRows:
    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    values[2, 1] = np.nan
    return DenseRows(values, torch.tensor([0.0, 1, 2]), torch.tensor([1.0, 2, 4]))


def test_both_interfaces_are_abstract():
    for interface in (Modality, Prepared):
        with pytest.raises(TypeError, match="abstract"):
            interface()


def test_dense_rows_are_scaled_and_rows_with_nan_missing():
    data = dense_rows()
    assert data.present.tolist() == [True, True, False, True]
    torch.testing.assert_close(data.batch(np.array([3, 0])), torch.tensor([[9, 4.5, 2.25], [0, 0, 0]]))
    assert data.features(np.array([1])).tolist() == [[3, 4, 5]]


def test_masked_can_but_hide():
    data = dense_rows()
    some = data.masked(np.array([True, False, True, False]))
    assert some.present.tolist() == [True, False, False, False]
    assert data.present.tolist() == [True, True, False, True]
    assert some.values is data.values
    assert isinstance(some, DenseRows)
    assert some.masked(np.ones(4, bool)).present.tolist() == [True, False, False, False]
