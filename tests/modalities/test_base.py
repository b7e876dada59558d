import gc
import json
from dataclasses import FrozenInstanceError, asdict

import numpy as np
import pytest
import torch
from anndata import AnnData

from omib_spatial.modalities import KINDS, Layout, Modality, Prepared, modality
from omib_spatial.modalities.base import DenseRows


def dense_rows() -> DenseRows:
    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    values[2, 1] = np.nan
    return DenseRows(values, torch.tensor([0.0, 1, 2]), torch.tensor([1.0, 2, 4]))


def test_layout_is_frozen_and_survives_json():
    layout = Layout(layer="counts", library_key="sample", n_neighbors=4)
    assert Layout(**json.loads(json.dumps(asdict(layout)))) == layout
    assert asdict(Layout()) == {
        "layer": None,
        "spatial_key": "spatial",
        "library_key": None,
        "image_key": "hires",
        "neighbors_key": None,
        "n_neighbors": 6,
    }
    with pytest.raises(FrozenInstanceError):
        layout.layer = "raw"


def test_kinds_are_modalities_under_their_own_names():
    assert all(kind.__name__ == name and issubclass(kind, Modality) for name, kind in KINDS.items())


def test_both_interfaces_are_abstract():
    for interface in (Modality, Prepared):
        with pytest.raises(TypeError, match="abstract"):
            interface()


def test_dense_rows_are_scaled_and_rows_with_nan_missing():
    data = dense_rows()
    assert data.present.tolist() == [True, True, False, True]
    torch.testing.assert_close(data.batch(np.array([3, 0])), torch.tensor([[9, 4.5, 2.25], [0, 0, 0]]))
    assert data.features(np.array([1])).tolist() == [[3, 4, 5]]


def test_only_can_but_hide():
    data = dense_rows()
    some = data.masked(np.array([True, False, True, False]))
    assert some.present.tolist() == [True, False, False, False]
    assert data.present.tolist() == [True, True, False, True]
    assert some.values is data.values
    assert isinstance(some, DenseRows)
    assert some.masked(np.ones(4, bool)).present.tolist() == [True, False, False, False]


def test_a_graph_is_built_once_while_it_is_held_and_anew_when_a_spot_moves(monkeypatch):
    built = []
    real = modality.spatial_graph
    monkeypatch.setattr(modality, "spatial_graph", lambda *args, **options: built.append(1) or real(*args, **options))
    rng = np.random.default_rng(0)
    adata = AnnData(np.ones((30, 1)), obsm={"spatial": rng.uniform(size=(30, 2))})
    adata.obs["slide"] = ["a", "b"] * 15
    layout = Layout(library_key="slide", n_neighbors=3)
    graph = Tissue(adata, layout).graph
    assert Tissue(adata.copy(), layout).graph is graph
    assert len(built) == 1
    assert Tissue(adata, Layout(library_key="slide", n_neighbors=2)).graph is not graph
    assert Tissue(adata, Layout(n_neighbors=3)).graph is not graph
    before = graph.copy()
    adata.obsm["spatial"][0] = adata.obsm["spatial"][28] + 1e-9
    assert (Tissue(adata, layout).graph != before).nnz
    assert (graph != before).nnz == 0
    del graph
    gc.collect()
    built.clear()
    adata.obsm["spatial"][0] += 1e-9
    Tissue(adata, layout).graph
    Tissue(adata, layout).graph
    assert len(built) == 2  # nobody held the first
