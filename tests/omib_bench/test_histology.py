import math

import numpy as np
import pytest
from PIL import Image as Picture
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score

import omib_spatial as omib
from omib_bench import histology

QUICK = {"max_epochs": 2, "warmup_epochs": 1, "beta": 0.01}
TWO = {"stain": {}, "raw": {"stain": None, "patch_diameter": 2.0}}


def write(folder, names, n_spots=80):
    """One simulated slide per section; two of them healthy slides in which some spots are called tumour."""
    slides = omib.datasets.simulate_tissue(n_slides=4, n_healthy=0, n_spots=n_spots, n_genes=60, effect=2.0)
    for name, (library, rows) in zip(
        names, slides.obs.groupby("library_id", observed=True).groups.items(), strict=True
    ):
        part = slides[rows].copy()
        entry = slides.uns["spatial"][library]
        pixels = Picture.fromarray(entry["images"]["hires"])
        pixels.save(folder / f"{name}.jpg", quality=95)
        part.obsm["spatial"] = part.obsm["spatial"] * entry["scalefactors"]["tissue_hires_scalef"]
        diameter = entry["scalefactors"]["spot_diameter_fullres"] * entry["scalefactors"]["tissue_hires_scalef"]
        factors = {"tissue_hires_scalef": 1.0, "spot_diameter_fullres": diameter}
        part.uns = {"spatial": {name: {"images": {}, "scalefactors": factors}}}
        part.obs["section"], part.obs["patient"] = name, name[0]
        part.obs["anomaly"] = part.obs["anomaly"].astype(int)
        part.obs.loc[part.obs_names[:3], "anomaly"] = -1
        part.obs_names = [str(i) for i in range(part.n_obs)]
        part.write_h5ad(folder / f"{name}.h5ad")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("her2st"), histology.PICTURED)


@pytest.fixture(scope="module")
def result(folder, tmp_path_factory):
    lines = []
    mob = write(tmp_path_factory.mktemp("mob"), sum(histology.ANIMALS, ()))
    records = histology.run(folder, mob=mob, seeds=1, settings=TWO, cost=False, say=lines.append, **QUICK)
    return records, lines


def test_every_section_setting_and_metric_has_a_record(result):
    records, lines = result
    image = [r for r in records if r.method == "image"]
    assert {(r.dataset, r.setting) for r in image} == {(s, t) for s in histology.PICTURED for t in TWO}
    assert {r.metric for r in image} >= {"auroc", "average_precision", "prevalence", "called"}
    assert all(math.isfinite(r.value) for r in records)
    assert len(set(records)) == len(records)
    mob = {(r.dataset, r.setting, r.metric) for r in records if r.method == "mob"}
    settings = ("gene", "image", "gene+image")
    assert mob == {(s, t, m) for a in histology.ANIMALS for s in a for t in settings for m in ("called", "below_005")}
    assert all(0 <= r.value <= 1 for r in records if r.method == "mob")
    assert len(lines) == 2 + 4 * 3


def test_patch_colour_is_a_distance_from_the_other_patients_healthy_spots(result, folder):
    from omib_spatial.datasets import her2st

    adata = her2st(folder, sections=histology.PICTURED)
    colour, truth = histology.patch_colour(adata), adata.obs["anomaly"].to_numpy()
    section, patient = adata.obs["section"].to_numpy(), adata.obs["patient"].to_numpy()
    for r in result[0]:
        if r.method == histology.COLOUR:
            train = colour[(patient != r.dataset[0]) & (truth == 0)]
            here = (section == r.dataset) & (truth >= 0)
            scaled = (colour - train.mean(0)) / train.std(0)
            other = LedoitWolf().fit(scaled[(patient != r.dataset[0]) & (truth == 0)])
            assert r.value == pytest.approx(roc_auc_score(truth[here], other.mahalanobis(scaled[here])))


def test_patch_colour_is_that_of_the_square_of_the_spot(folder):
    from omib_spatial.datasets import her2st

    adata = her2st(folder, sections=["A1", "B4"])
    values = histology.patch_colour(adata)
    assert values.shape == (adata.n_obs, 15)
    image = adata.uns["spatial"]["A1"]["images"]["hires"]
    half = adata.uns["spatial"]["A1"]["scalefactors"]["spot_diameter_fullres"] / 2
    for row in (0, 40):
        x, y = adata.obsm["spatial"][row]
        crop = image[round(y - half) : round(y + half), round(x - half) : round(x + half)].reshape(-1, 3)
        np.testing.assert_allclose(values[row, :3], crop.mean(0), atol=3)


def test_the_table_has_a_mean_over_sections(result):
    text = histology.auroc_table(result[0])
    assert text.splitlines()[0].split() == ["setting", *histology.PICTURED, "mean"]
    for row in text.splitlines()[1:]:
        *values, mean = (float(v) for v in row.split()[-5:])
        assert mean == pytest.approx(np.mean(values), abs=0.001)


def test_cost_is_measured_in_a_process_of_its_own():
    lines = []
    records = list(histology.cost_records(n_spots=70, patch_size=64, sides=(1024,), say=lines.append))
    assert [r.metric for r in records] == ["seconds", "cpu_seconds", "peak_rss_bytes"]
    assert all(r.value > 0 for r in records[:2])
    assert 0 <= records[2].value < 2**29
    assert len(lines) == 1
