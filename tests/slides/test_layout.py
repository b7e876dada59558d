import json
from dataclasses import FrozenInstanceError, asdict

import pytest

from omib_spatial.slides import Layout


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
        "counts": "raw",
    }
    with pytest.raises(FrozenInstanceError):
        layout.layer = "raw"
