"""What makes up scores is told as `tl.explain` said it."""

import json
import re

import numpy as np
import pytest

import omib_spatial as omib


@pytest.fixture(scope="module")
def explained(tmp_path_factory):
    adata = omib.datasets.simulate_tissue(2, n_spots=120, n_genes=60, n_healthy=1)
    model = omib.tl.fit(
        adata, modalities=["gene", "image"], reference_key="healthy", library_key="library_id", max_epochs=6
    )
    omib.tl.call(adata, question="part")
    omib.tl.regions(adata, n_fields=9)
    raw = adata.copy()
    omib.tl.explain(adata, model)
    folder = tmp_path_factory.mktemp("explained")
    return adata, raw, model, omib.report(adata, folder / "a.html"), folder


def data(path):
    return json.loads(re.search(r'id="data">(.*?)</script>', path.read_text(encoding="utf-8"), re.S)[1])


def test_each_modality_has_a_layer_with_its_contributions(explained):
    adata, _, _, path, _ = explained
    for slide in data(path):
        rows = (adata.obs["library_id"] == slide["name"]).to_numpy()
        for name in ("gene", "image"):
            layer = slide["layers"][f"from-{name}"]
            expected = adata.obsm["omib_contributions"][name][rows]
            np.testing.assert_allclose(np.array(layer["values"], float), expected, atol=5e-4)
            assert layer["low"] == -layer["high"]


def test_regions_tell_their_shares_and_genes(explained):
    adata, _, _, path, _ = explained
    text = path.read_text(encoding="utf-8")
    row = text[text.index('data-region="0"') :]
    row = row[: row.index("</tr>")]
    region = adata.uns["omib_regions"].index[0]
    shares = omib.get.explanation(adata, "modalities", group=region)["share"]
    for name, label in (("gene", "expression"), ("image", "picture")):
        assert f"<span>{label}</span>" in row and f"<span>{round(100 * shares[name])} %</span>" in row
    genes = omib.get.explanation(adata, "genes", group=region)
    best = genes[genes["contribution"] > 0].index[:12].tolist()
    assert ", ".join(best) in row
    assert "All called spots" in text and "neither a cause nor a test" in text


def test_a_model_explains_for_the_page_and_leaves_the_slides(explained, content):
    _, raw, model, path, folder = explained
    before = content(raw)
    assert data(omib.report(raw, folder / "b.html", model)) == data(path)
    assert content(raw) == before
    assert "from-gene" not in data(omib.report(raw, folder / "c.html"))[0]["layers"]
