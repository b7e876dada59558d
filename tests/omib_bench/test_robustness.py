import math

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from omib_bench import Record, her2st, robustness
from omib_bench._bootstrap import ALL
from omib_spatial.modalities.patches import extract_patches
from omib_spatial.slides.slides import slide_entries

SETTING = "gene"
CHANGES = [*robustness.TARGETS, *robustness.REFERENCES]


@pytest.fixture(scope="module")
def tissue(folder):
    return her2st.read(folder)[0]


@pytest.fixture
def rng():
    return np.random.default_rng(1)


def by_section(adata, values):
    return {name: values[(adata.obs["section"] == name).to_numpy()] for name in adata.obs["section"].unique()}


def test_thinning_brings_every_section_to_its_own_shallow_depth(tissue, rng):
    before = tissue.X.copy()
    new = robustness.thinned(tissue, rng)
    assert (tissue.X != before).nnz == 0
    assert (new.X > before).nnz == 0 and (new.X.data == np.rint(new.X.data)).all()
    depths = by_section(tissue, her2st.total_counts(tissue))
    for name, found in by_section(new, her2st.total_counts(new)).items():
        wanted = np.floor(np.quantile(depths[name], 0.1))
        assert np.array_equal(found, np.minimum(depths[name], wanted)) and (found == wanted).mean() >= 0.9
    assert len({np.median(d) for d in depths.values()}) == 4


def test_thinning_draws_genes_in_proportion(tissue, rng):
    some = tissue[tissue.obs["section"] == "A1"].copy()
    row = her2st.total_counts(some).argmax()
    counts = some.X[[row]].toarray()[0]
    drawn = np.mean([robustness.thinned(some, rng).X[[row]].toarray()[0] for _ in range(30)], 0)
    share = drawn.sum() / counts.sum()
    spread = np.sqrt(counts * share * (1 - share) / 30)
    assert share < 0.9 and (np.abs(drawn - share * counts) < 5 * spread + 0.2).all()


def test_half_of_the_genes_are_left(tissue, rng):
    new = robustness.without_genes(tissue, rng)
    assert new.n_vars == tissue.n_vars // 2 and new.var_names.isin(tissue.var_names).all()
    assert (new.X != tissue[:, new.var_names].X).nnz == 0
    assert not robustness.without_genes(tissue, rng).var_names.equals(new.var_names)


def test_turning_and_mirroring_move_image_and_places_together(tissue, rng):
    options = {"library_key": "section", "patch_diameter": 2.0, "patch_size": 16}
    before = extract_patches(tissue, **options).pixels.astype(int)
    for change, image in ((robustness.turned, np.rot90), (robustness.mirrored, lambda p, axes: np.flip(p, axes[1]))):
        new = change(tissue, rng)
        patches = extract_patches(new, **options).pixels.astype(int)
        # Single precision may round what lies half-way between two colours up or down.
        difference = np.abs(patches - image(before, axes=(2, 3)))
        assert difference.max() <= 1 and (difference > 0).mean() < 1e-3
        assert np.abs(patches - before).max() > 50
        again = new
        for _ in range(3 if change is robustness.turned else 1):
            again = change(again, rng)
        assert np.allclose(again.obsm["spatial"], tissue.obsm["spatial"])
        for name, entry in slide_entries(tissue).items():
            hires = (entry["images"]["hires"], again.uns["spatial"][name]["images"]["hires"])
            assert np.array_equal(*hires)


def test_only_sections_without_an_image_are_tilted(tissue, rng):
    new = robustness.tilted(tissue, rng)
    assert list(new.obs["section"].unique()) == ["A2", "C1"]
    old = tissue[new.obs_names].obsm["spatial"]
    assert pdist(new.obsm["spatial"]) == pytest.approx(pdist(old))
    step, back = (xy[1] - xy[0] for xy in (new.obsm["spatial"], old))
    turn = np.degrees(np.arctan2(*step[::-1]) - np.arctan2(*back[::-1])) % 360
    assert turn == pytest.approx(30) or turn == pytest.approx(330)


def test_half_of_the_reference_lies_together(tissue, rng):
    new = robustness.half_reference(tissue, rng)
    kept, healthy = by_section(tissue, new.obs["healthy"]), by_section(tissue, tissue.obs["healthy"])
    places = by_section(tissue, tissue.obsm["spatial"])
    for name in kept:
        half = kept[name].to_numpy()
        left = healthy[name].to_numpy() & ~half
        assert (kept[name] <= healthy[name]).all() and abs(int(half.sum()) - int(left.sum())) <= 1
        low, high = sorted([places[name][half], places[name][left]], key=lambda xy: tuple(xy.mean(0)))
        assert (low.max(0) <= high.min(0)).any()
    assert tissue.obs["healthy"].sum() > new.obs["healthy"].sum()


def test_the_only_patient_with_an_image_stays(tissue):
    without = [
        {*robustness.without_patient(train, np.random.default_rng(seed)).obs["patient"].unique()}
        for train in (her2st.others(tissue, "A"), her2st.others(tissue, "C"))
        for seed in range(8)
    ]
    assert all(some == {"B"} for some in without[:8])
    assert {frozenset(some) for some in without[8:]} == {frozenset("A"), frozenset("B")}


@pytest.fixture(scope="module")
def records(folder) -> list[Record]:
    options = {"max_epochs": 1, "warmup_epochs": 0, "beta": 0.01, "say": lambda line: None}
    return robustness.run(folder, seeds=2, setting=SETTING, **options)


def values(records, metric, setting):
    return {(r.dataset, r.seed): r.value for r in records if (r.metric, r.setting) == (metric, setting)}


def test_every_change_has_its_row(records):
    ours = {r.setting for r in records if r.method != her2st.DEPTH}
    assert ours == {SETTING, *(f"{SETTING}, {name}" for name in CHANGES)}
    counted = {r.setting for r in records if r.method == her2st.DEPTH}
    assert counted == {her2st.DEPTH, *(f"{her2st.DEPTH}, {name}" for name in CHANGES[:2])}
    keys = [(r.dataset, r.method, r.setting, r.seed, r.metric) for r in records]
    assert len(set(keys)) == len(keys) and all(math.isfinite(r.value) for r in records)
    everyone = {(s, seed) for s in ("A1", "A2", "B1", "C1") for seed in (0, 1)}
    for name in CHANGES:
        wanted = {key for key in everyone if key[0] in ("A2", "C1")} if "30" in name else everyone
        assert values(records, "auroc", f"{SETTING}, {name}").keys() == wanted


def test_differences_are_to_the_same_sections_as_they_were(records):
    before = values(records, "auroc", SETTING)
    for name in CHANGES:
        after = {k: v for k, v in values(records, "auroc", f"{SETTING}, {name}").items() if k[0] != ALL}
        for (_, seed), found in values(records, "difference", f"{SETTING}, {name}").items():
            assert found == pytest.approx(np.mean([v - before[k] for k, v in after.items() if k[1] == seed]))
    assert any(values(records, "difference", f"{SETTING}, {CHANGES[0]}").values())


def test_orientation_changes_nothing(records):
    for name in ("turned by 90 degrees", "turned by 30 degrees", "mirrored"):
        assert max(values(records, "score_change", f"{SETTING}, {name}").values()) < 1e-5
    assert min(values(records, "score_change", f"{SETTING}, {CHANGES[0]}").values()) > 0.1
    changed = {r.setting.partition(", ")[2] for r in records if r.metric == "score_change" and r.method != her2st.DEPTH}
    assert changed == robustness.TARGETS.keys()


def test_seeds_are_compared_within_sections(records):
    found = values(records, "seed_correlation", SETTING)
    assert found.keys() == {(name, 0) for name in ("A1", "A2", "B1", "C1")}
    assert all(-1 <= value < 1 for value in found.values())


def test_report_has_a_line_for_every_change(records):
    lines = robustness.report(records).splitlines()
    assert lines[0].split()[:4] == ["setting", "mean_auroc", "sections", "difference"]
    assert len(lines) == 1 + 1 + len(CHANGES) + 3
    thinner = next(line for line in lines if line.startswith(f"{SETTING}, {CHANGES[0]}"))
    means = list(values(records, "mean_auroc", f"{SETTING}, {CHANGES[0]}").values())
    assert f"{np.mean(means):.3f} ± " in thinner


def test_correlation_leaves_out_spots_without_a_score():
    one = np.array([1.0, 2, np.nan, 4, 0])
    assert robustness.correlation(one, np.array([10.0, 20, 0, 40, np.nan])) == pytest.approx(1)


def test_three_patients_are_needed(folder, tmp_path):
    for name in ("A1", "B1"):
        (tmp_path / f"{name}.h5ad").write_bytes((folder / f"{name}.h5ad").read_bytes())
    with pytest.raises(ValueError, match=r"\['A', 'B'\] only: to leave out two, three"):
        robustness.run(tmp_path)
