import math

import numpy as np
import pytest
from PIL import Image as Picture
from sklearn.metrics import roc_auc_score

from omib_bench import planted, read_json
from omib_bench._planting import dense_counts, draw_region
from omib_spatial.cli import app
from omib_spatial.datasets import mob, simulate_tissue

QUICK = {"max_epochs": 1, "warmup_epochs": 0, "beta": 0.01}
SECTIONS = sum(planted.ANIMALS, ())
STRENGTHS = (0.0, 1.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four healthy simulated slides as the olfactory bulb's sections."""
    folder = tmp_path_factory.mktemp("mob")
    tissue = simulate_tissue(4, n_spots=60, n_genes=50, n_healthy=4)
    for name, library in zip(SECTIONS, tissue.obs["library_id"].cat.categories, strict=True):
        part = tissue[tissue.obs["library_id"] == library].copy()
        entry = part.uns["spatial"][library]
        Picture.fromarray(entry["images"]["hires"]).save(folder / f"{name}.jpg", quality=95)
        factors = entry["scalefactors"]
        scale = factors["tissue_hires_scalef"]
        part.obsm["spatial"] = part.obsm["spatial"] * scale
        given = {"tissue_hires_scalef": 1.0, "spot_diameter_fullres": factors["spot_diameter_fullres"] * scale}
        part.uns = {"spatial": {name: {"images": {}, "scalefactors": given}}}
        part.obs = part.obs[[]].assign(section=name)
        part.write_h5ad(folder / f"{name}.h5ad")
    return folder


class Oracle:
    """A model that has the sections as they were and scores how much a spot's counts, or its pixel, has changed."""

    def __init__(self, folder, modalities, fitted):
        self.folder, self.modalities, self.fitted = folder, modalities, fitted
        self.scored = set()

    def score(self, adata):
        (name,) = adata.uns["spatial"]
        self.scored.add(name)
        before = mob(self.folder, sections=[name])
        change = np.zeros(adata.n_obs)
        if "gene" in self.modalities:
            change += np.abs(dense_counts(adata) - dense_counts(before)).sum(1)
        if "image" in self.modalities:
            x, y = adata.obsm["spatial"].astype(int).T
            new, old = (a.uns["spatial"][name]["images"]["hires"][y, x].astype(float) for a in (adata, before))
            change += np.abs(new - old).sum(1)
        # Asked whether there is anything, two healthy slides never say so.
        adata.obs["omib_score"], adata.obs["omib_anomaly"] = change, False


def delineate(adata, *, question):
    assert question == "part"
    adata.obs["omib_anomaly"] = adata.obs["omib_score"] > 0


@pytest.fixture(scope="module")
def result(folder):
    """Records, lines and models of one seed, with models that are oracles."""
    lines, models = [], []

    def fit(adata, modalities, **options):
        assert options["library_key"] == "section" and options["seed"] == 0 and "anomaly" not in adata.obs
        models.append(Oracle(folder, modalities, set(adata.obs["section"])))
        return models[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planted.tl, "fit", fit)
        patch.setattr(planted.tl, "score", lambda adata, model: model.score(adata))
        patch.setattr(planted.tl, "call", delineate)
        records = planted.run(folder, seeds=1, n_spots=9, strengths=STRENGTHS, say=lines.append)
    return records, lines, models


def test_every_reference_kind_and_strength_is_scored_by_the_models_that_can_see_it(result):
    records, lines, _ = result
    ours = [row for row in records if row.method == "omib"]
    seen = {"expression": ["gene", "gene+image"], "patches": ["image", "gene+image"], "both": list(planted.SETTINGS)}
    expected = {
        (section, f"{reference}; {modalities}; {kind}; {strength}", metric)
        for section in SECTIONS
        for reference in planted.REFERENCES
        for kind in seen
        for modalities in seen[kind]
        for strength in ("0%", "100%")
        for metric in ("auroc", "auroc_donor", "called", "called_rest")
    }
    assert {(row.dataset, row.setting, row.metric) for row in ours} == expected and len(ours) == len(expected)
    assert all(math.isfinite(row.value) and 0 <= row.value <= 1 for row in records)
    assert len(lines) == 6


def test_one_model_per_setting_scores_the_other_animal_or_the_other_section(result):
    first, second = map(set, planted.ANIMALS)
    pairs = [(first, second), (second, first)]
    pairs += [({name}, animal - {name}) for animal in (first, second) for name in animal]
    found = [(model.fitted, model.scored, "+".join(model.modalities)) for model in result[2]]
    expected = [(*pair, setting) for pair in pairs for setting in planted.SETTINGS]
    assert sorted(found, key=lambda t: repr([*map(sorted, t)])) == sorted(
        expected, key=lambda t: repr([*map(sorted, t)])
    )


def test_planted_spots_are_the_changed_ones_and_come_first(result):
    exact = {"auroc": 1.0, "auroc_donor": 0.5, "called": 1.0, "called_rest": 0.0}
    for row in result[0]:
        if row.method == "omib" and not row.setting.endswith("; 0%"):
            # The donor's pixel can have the colour of the host's; its counts are never all the same.
            sure = "; gene" in row.setting and "; patches" not in row.setting
            assert row.value == pytest.approx(exact[row.metric], abs=0.0 if sure else 0.25)


def test_at_no_strength_nothing_has_changed(result):
    for row in result[0]:
        if row.method == "omib" and row.setting.endswith("; 0%"):
            assert row.value == (0.5 if row.metric.startswith("auroc") else 0.0)


def test_total_counts_rank_the_region_that_is_planted(result, folder):
    rows = [row for row in result[0] if row.method == "total counts"]
    assert [row.dataset for row in rows] == list(SECTIONS)
    for row in rows:
        adata = mob(folder, sections=[row.dataset])
        counts = dense_counts(adata)
        region = draw_region(adata.obsm["spatial"], counts, 9, np.random.default_rng([0, 0]))
        truth = np.isin(np.arange(adata.n_obs), region.host)
        assert row.value == pytest.approx(roc_auc_score(truth, counts.sum(1)))


def test_the_report_has_the_mean_of_the_sections(result):
    records, _, _ = result
    text = planted.report(records)
    block = next(part for part in text.split("\n\n") if "patches, model of the same animal" in part)
    line = next(line for line in block.splitlines() if line.startswith("image"))
    wanted = "same animal; image; patches; 100%"
    values = [row.value for row in records if row.setting == wanted and row.metric == "auroc"]
    assert len(values) == 4 and float(line.split()[-1]) == pytest.approx(np.mean(values), abs=5e-4)
    assert "total counts" in text and "total counts" not in planted.report(records, "called")


def test_expression_of_no_healthy_tissue_is_found(folder, monkeypatch):
    """The real models: foreign genes come out on top, whatever the seed, and not at the bottom."""

    def foreign(counts, xy, region, strength, rng):
        mixed, share = counts.copy(), np.arange(50) / np.arange(50).sum()
        mixed[region.host] = [rng.multinomial(depth, share) for depth in counts[region.host].sum(1)]
        return mixed

    monkeypatch.setattr("omib_bench._planting.mix", foreign)
    monkeypatch.setattr(planted, "SETTINGS", ("gene+image",))
    options = QUICK | {"references": ["same animal"], "strengths": [1.0]}
    records = planted.run(folder, seeds=1, n_spots=9, say=lambda _: None, **options)
    found = {k: [r.value for r in records if r.metric == "auroc" and f"; {k}; " in r.setting] for k in planted.KINDS}
    assert all(len(values) == 4 for values in found.values())
    assert np.mean(found["expression"]) > 0.8 and np.mean(found["both"]) > 0.8


@pytest.mark.parametrize("options", [{"references": ["a twin"]}, {"strengths": [0.5, 1.5]}])
def test_what_is_unknown_is_named(folder, options):
    with pytest.raises(ValueError, match="a twin|1.5"):
        planted.run(folder, **options)


def test_the_command_writes_records_tables_and_the_figure(folder, result, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    seen = {}
    monkeypatch.setattr(planted, "run", lambda data, **options: seen.update(options, data=data) or result[0])
    out, figure = tmp_path / "p.json", tmp_path / "p.png"
    arguments = ["bench", "planted", "--data", folder, "--seeds", 2, "--spots", 9, "--out", out, "--figure", figure]
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    assert (seen["data"], seen["seeds"], seen["n_spots"]) == (folder, 2, 9)
    assert "called_rest, both, model of the other animal" in done.output
    assert read_json(out) == result[0]
    with Picture.open(figure) as picture:
        assert picture.width > 1000 and len(set(picture.convert("RGB").resize((200, 200)).getdata())) > 20
