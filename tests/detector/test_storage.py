import json
import shutil
from dataclasses import asdict, fields, replace
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file, save_file
from scipy.stats import spearmanr

import omib_spatial as omib
from omib_spatial.core import checkpoint
from omib_spatial.detector.objective import FUSED, OBJECTIVES, Reconstruction
from omib_spatial.detector.storage import FORMAT
from omib_spatial.detector.storage_v2 import from_format_2
from omib_spatial.encoders import MLP
from omib_spatial.modalities import ObsmFeatures
from omib_spatial.stats.settings import CalibrationSettings

MODELS = Path(__file__).parent / "models"
FORMAT_2 = ["format2_classification", "format2_reconstruction"]
OLD = [*FORMAT_2, "format3_reconstruction"]
EVERY = [*OLD, "format4_reconstruction", "format5_given"]
CONFIG = replace(OBJECTIVES["reconstruction"].config, warmup_epochs=1, beta=0.05)
QUICK = {
    "config": CONFIG,
    "max_epochs": 2,
    "enable_progress_bar": False,
    "library_key": "library_id",
    "accelerator": "cpu",
}
RESULTS = ("score", "pvalue", "slice_pvalue", "anomaly")


@pytest.fixture(scope="module")
def adata():
    adata = omib.datasets.simulate_tissue(n_slides=2, n_healthy=1, n_spots=100, n_genes=80, image=False)
    adata.obsm["X_extra"] = np.random.default_rng(0).normal(size=(adata.n_obs, 4))
    return adata


def fit(adata: ad.AnnData, **options):
    return omib.tl.fit(adata, reference_key="healthy", **({"modalities": ["X_extra"]} | QUICK | options))


def scored(adata: ad.AnnData, model) -> ad.AnnData:
    return omib.tl.score(adata, model, accelerator="cpu", copy=True)


def assert_same(one: ad.AnnData, other: ad.AnnData) -> None:
    """Bit for bit."""
    for name in RESULTS:
        np.testing.assert_array_equal(one.obs[f"omib_{name}"], other.obs[f"omib_{name}"])
    for key in ("X_omib", "X_omib_genome", "omib_probability"):
        assert (key in one.obsm) == (key in other.obsm)
        if key in one.obsm:
            np.testing.assert_array_equal(one.obsm[key], other.obsm[key])


@pytest.fixture(scope="module")
def plain(adata):
    return fit(adata.copy())


# The folder


def test_the_folder_holds_weights_and_json_only(adata, tmp_path):
    model = fit(adata.copy(), modalities=["gene"])
    model.save(tmp_path)
    assert [p.suffix for p in sorted(tmp_path.iterdir())] == [".json", ".safetensors"]
    config = json.loads((tmp_path / "config.json").read_text(), parse_constant=pytest.fail)
    assert config["modalities"][0]["settings"]["genes"] == model.modalities["gene"].genes
    assert config["format"] == FORMAT == 6


def test_everything_comes_back(adata, tmp_path):
    model = fit(adata.copy(), modalities=["gene", "X_extra"], donor_key="library_id", n_neighbors=4)
    model.save(tmp_path)
    back = omib.load(tmp_path)
    assert (back.layout, back.params, back.calibration) == (model.layout, model.params, model.calibration)
    assert back.objective is model.objective and back.classes == [] and back.stacking is None
    assert list(back.modalities) == list(model.modalities)
    assert {c: list(parts) for c, parts in back.distances.items()} == {
        ("gene",): [FUSED, "gene"],
        ("X_extra",): [FUSED, "X_extra"],
        ("gene", "X_extra"): [FUSED, "gene", "X_extra"],
    }
    for combination, distances in model.distances.items():
        for part, distance in distances.items():
            for name, value in vars(distance).items():
                np.testing.assert_array_equal(getattr(back.distances[combination][part], name), value)
        for name, value in vars(model.scores[combination]).items():
            np.testing.assert_array_equal(getattr(back.scores[combination], name), value)
    assert list(back.intervals) == ["gene", "X_extra"]
    for modality, interval in model.intervals.items():
        for name, value in vars(interval).items():
            np.testing.assert_array_equal(getattr(back.intervals[modality], name), value)


def test_a_model_that_was_saved_before_there_were_intervals_has_none(plain, tmp_path):
    plain.save(tmp_path)
    tensors, config = checkpoint.read(tmp_path)
    assert config.pop("intervals") == ["X_extra"]
    checkpoint.write(tmp_path, {name: v for name, v in tensors.items() if not name.startswith("interval.")}, config)
    assert omib.load(tmp_path).intervals == {}
    assert omib.load(MODELS / FORMAT_2[0]).intervals == {}


def test_a_combination_without_a_score_comes_back_too(adata, tmp_path):
    model = fit(adata.copy(), modalities=["gene", "X_extra"])
    model = replace(model, scores={c: score for c, score in model.scores.items() if c != ("X_extra",)})
    model.save(tmp_path)
    back = omib.load(tmp_path)
    assert list(back.scores) == [("gene",), ("gene", "X_extra")]
    assert list(back.distances) == [("gene",), ("X_extra",), ("gene", "X_extra")]
    assert_same(scored(adata, back), scored(adata, model))


def test_own_encoders_must_come_along(adata, tmp_path):
    encoder = MLP(4, 16)
    own = adata.copy()
    model = fit(own, encoders={"X_extra": encoder})
    model.save(tmp_path)
    with pytest.raises(KeyError, match="X_extra"):
        omib.load(tmp_path)
    back = omib.load(tmp_path, encoders={"X_extra": MLP(4, 16)})
    other = adata.copy()
    omib.tl.score(other, back)
    np.testing.assert_allclose(other.obs["omib_score"], own.obs["omib_score"], atol=1e-6)


class Halved(ObsmFeatures):
    """An own kind of modality."""

    def values(self, adata):
        return super().values(adata) / 2


def test_own_kinds_of_modalities_must_come_along(adata, tmp_path):
    own, other = adata.copy(), adata.copy()
    model = fit(own, modalities={"mine": Halved("X_extra")})
    model.save(tmp_path)
    with pytest.raises(KeyError, match=r"kinds=\[Halved\]"):
        omib.load(tmp_path)
    back = omib.load(tmp_path, kinds=[Halved])
    assert type(back.modalities["mine"]) is Halved
    omib.tl.score(other, back)
    np.testing.assert_allclose(other.obs["omib_score"], own.obs["omib_score"], atol=1e-6)


class Plain(Reconstruction):
    """An own objective: the summaries alone say how far a spot is."""

    name = "plain"

    def evidence(self, task, output, batch, widths):
        return {part: v for part, v in super().evidence(task, output, batch, widths).items() if part is not FUSED}


class Other(Reconstruction):
    name = "other"


def test_an_own_objective_must_come_along(adata, tmp_path):
    own = adata.copy()
    model = fit(own, objective=Plain(), modalities=["gene", "X_extra"])
    assert own.uns["omib"]["params"]["objective"] == "plain" and "plain" in repr(model)
    assert all(FUSED not in distances for distances in model.distances.values())
    model.save(tmp_path)
    with pytest.raises(KeyError, match=r"own objective, 'plain': pass it as load\(..., objective="):
        omib.load(tmp_path)
    with pytest.raises(KeyError, match="'plain'"):
        omib.load(tmp_path, objective=Other())
    mine = Plain()
    back = omib.load(tmp_path, objective=mine)
    assert back.objective is mine
    assert_same(scored(adata, back), own)


def test_a_model_of_another_format_is_refused(plain, tmp_path):
    plain.save(tmp_path)
    tensors, config = checkpoint.read(tmp_path)
    checkpoint.write(tmp_path, tensors, config | {"format": 1, "version": "0.0.7"})
    with pytest.raises(ValueError, match=r"saved by omib_spatial 0.0.7.*fit it again"):
        omib.load(tmp_path)


# Damage


def changed(model, folder: Path, change) -> None:
    """Save ``model`` with ``change(tensors, config)`` made to it, under digests that are right."""
    model.save(folder)
    tensors, config = checkpoint.read(folder)
    change(tensors, config)
    checkpoint.write(folder, tensors, config)


def entry(name: str, value):
    """Replace a tensor, or what a function makes of it."""

    def change(tensors, _):
        (key,) = [key for key in tensors if key == name]
        tensors[key] = value(tensors[key]) if callable(value) else torch.as_tensor(value)

    return change


def first_weight(value):
    def change(tensors, _):
        key = next(key for key in tensors if key.startswith("network.") and key.endswith("weight"))
        tensors[key] = value(tensors[key])

    return change


def filled(number: float):
    return lambda tensor: torch.full_like(tensor, number)


DAMAGES = {
    "is missing in it": lambda t, c: c.pop("layout"),
    "'params' is missing": lambda t, c: c.pop("params"),
    "'format' is missing": lambda t, c: c.pop("format"),
    "damaged": lambda t, c: c.update(modalities=[3]),
    "weights": lambda t, c: c["params"].update(latent_dim=2 * c["params"]["latent_dim"]),
    "missing": lambda t, c: [t.pop(key) for key in list(t) if key.startswith("network.")],
    "NaN or infinity": first_weight(filled(np.nan)),
    "of float64 in place of": first_weight(lambda w: w.double()),
    "in place of": first_weight(lambda w: w[:-1].clone()),
    "scale that is not positive": entry("summary.0.scale", filled(0)),
    "do not fit together": entry("summary.0.scale", lambda x: x[:-1].clone()),
    "required positional argument": lambda t, c: t.pop("distance.0.0.mean"),
    "variance below 0": entry("distance.0.0.variance", filled(-1)),
    "axes of shape": entry("distance.0.0.axes", lambda x: x[:-1].clone()),
    "span that ends": entry("distance.0.0.span", lambda x: x + torch.tensor([1e6, 0])),
    "of type int64": entry("score.0.spread", lambda x: x.long()),
    "spread that is not positive": entry("score.0.spread", lambda x: -x),
    "mean distance below 0": entry("score.0.location", lambda x: -x),
    "location of shape": entry("score.0.location", lambda x: x[:-1].clone()),
    "no sorted scores": entry("score.0.calibration", lambda x: x[:0].clone()),
    "scores of healthy": entry("score.0.calibration", lambda x: x.flip(0)),
    "slides with values": entry("score.0.slides", lambda x: x * torch.tensor([1, -1, 1, 1, 1])),
    "slides of shape": entry("score.0.slides", lambda x: x[:, :4].clone()),
    "wrong way round": entry("interval.0.high", filled(-1e9)),
    "or no location": entry("interval.0.spread", filled(0)),
    "is -1: it is an integer of at least 1": lambda t, c: c["layout"].update(n_neighbors=-1),
    "spatial_key is None": lambda t, c: c["layout"].update(spatial_key=None),
    "between_slice_sd is": lambda t, c: c["calibration"].update(between_slice_sd=[0.3, "a"]),
    "pooling_hops is": lambda t, c: c["calibration"].update(pooling_hops=10**12),
    "of the modality 'X_extra', its scale is not positive": entry("modality.0.scale", filled(0)),
    "of the modality 'X_extra', its mean has the shape": entry("modality.0.scale", lambda x: x[:-1].clone()),
    "its mean is of type float16": entry("modality.0.mean", lambda x: x.half()),
    "modality.9.mean belongs to no part of it": lambda t, c: t.update({"modality.9.mean": torch.ones(3)}),
    "not of type float32": entry("summary.0.scale", lambda x: x.half()),
    r"objective is \[\]": lambda t, c: c["params"].update(objective=[]),
    "fdr is 'x'": lambda t, c: c["params"].update(fdr="x"),
    "'fdr' is missing": lambda t, c: c["params"].pop("fdr"),
    "modalities are said to be": lambda t, c: c["params"].update(modalities=["gene"]),
    "is of no modality there": lambda t, c: c["distances"][0][1].__setitem__(1, "y"),
    "axis without length": entry("distance.0.0.axes", filled(0)),
    "slides of type float16": entry("score.0.slides", lambda x: x.half()),
    "no modality of it": lambda t, c: c.update(intervals=["X_other"]),
}


@pytest.mark.parametrize("reason", DAMAGES)
def test_a_model_with_what_cannot_be_is_damaged(plain, tmp_path, reason):
    changed(plain, tmp_path, DAMAGES[reason])
    with pytest.raises(ValueError, match=rf"^The model in .*{reason}.*Save it again, or fit again\.$") as caught:
        omib.load(tmp_path)
    assert str(caught.value).startswith(f"The model in {tmp_path} is damaged: ")


def test_healthy_slides_may_have_an_unknown_clonal_spread_and_any_worth(plain, tmp_path):
    nothing = torch.tensor([0, 0, 0, np.nan, 0])
    changed(plain, tmp_path, entry("score.0.slides", lambda x: x + nothing + torch.tensor([0, 0, 0, 0, np.inf])))
    slides = omib.load(tmp_path).scores["X_extra",].slides
    assert np.isnan(slides[:, 3]).all() and np.isinf(slides[:, 4]).all()


@pytest.mark.parametrize("file", ["config.json", "weights.safetensors"])
@pytest.mark.parametrize("name", OLD)
def test_old_models_that_were_cut_short_are_damaged(name, file, tmp_path):
    shutil.copytree(MODELS / name, tmp_path, dirs_exist_ok=True)
    path = tmp_path / file
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"^The model in .* is damaged: .* Save it again, or fit again\.$"):
        omib.load(tmp_path)


def test_an_old_model_is_replaced_as_a_whole(plain, tmp_path):
    shutil.copytree(MODELS / OLD[0], tmp_path, dirs_exist_ok=True)
    (tmp_path / "expected.npz").unlink()
    plain.save(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2 and list(omib.load(tmp_path).modalities) == ["X_extra"]


def test_another_encoder_than_in_the_fit_is_told(adata, tmp_path):
    fit(adata.copy(), encoders={"X_extra": MLP(4, 16)}).save(tmp_path)
    with pytest.raises(ValueError, match=r"the encoder given for \['X_extra'\] is another one than in the fit"):
        omib.load(tmp_path, encoders={"X_extra": MLP(4, 17)})


def test_an_empty_folder_is_no_model(tmp_path):
    with pytest.raises(FileNotFoundError, match="no saved model"):
        omib.load(tmp_path)


# Names that are keys elsewhere


@pytest.mark.parametrize("with_genes", [False, True])
@pytest.mark.parametrize("name", ["xi", "code", "probability", "a+b", "center"])
def test_a_modality_of_any_name_scores_and_is_stored_as_one_of_a_harmless_name(adata, name, with_genes, tmp_path):
    def fitted(name: str):
        own = adata.copy()
        own.obsm[name] = own.obsm["X_extra"]
        return own, fit(own, modalities=["gene", name] if with_genes else [name])

    harmless, _ = fitted("harmless")
    own, model = fitted(name)
    assert_same(own, harmless)
    assert own.obsm["X_omib"].shape == (own.n_obs, CONFIG.latent_dim)
    model.save(tmp_path)
    assert_same(scored(own, omib.load(tmp_path)), harmless)


@pytest.mark.parametrize("name", ["xi", "code", "probability", "center"])
def test_with_labels_too(adata, name, tmp_path):
    def fitted(name: str):
        own = adata.copy()
        own.obsm[name] = own.obsm["X_extra"]
        return own, omib.tl.fit(own, labels_key="anomaly", modalities=["gene", name], **QUICK)

    harmless, _ = fitted("harmless")
    own, model = fitted(name)
    assert "omib_probability" in own.obsm
    assert_same(own, harmless)
    model.save(tmp_path)
    assert_same(scored(own, omib.load(tmp_path)), harmless)


def test_a_name_that_reads_like_a_combination_is_none(adata, tmp_path):
    def fitted(*names: str):
        own, rng = adata.copy(), np.random.default_rng(1)
        for i, name in enumerate(names):
            own.obsm[name] = rng.normal(size=(own.n_obs, 3)) + 0.1 * i
        own.obsm[names[2]][:20] = np.nan  # spots that have the first two only
        return own, fit(own, modalities=list(names))

    harmless, _ = fitted("one", "two", "three")
    own, model = fitted("a", "b", "a+b")
    assert set(model.scores) >= {("a", "b"), ("a+b",)}
    assert_same(own, harmless)
    model.save(tmp_path)
    assert_same(scored(own, omib.load(tmp_path)), harmless)


# Settings of the calibration


def test_a_model_scores_with_its_own_calibration_settings_whatever_the_defaults_are(adata, tmp_path, monkeypatch):
    settings = CalibrationSettings(
        pooling_hops=1, pooled_spots=7.0, between_slice_sd=(0.1, 0.2), n_quantiles=64, min_log_spread=0.01
    )
    own, other = adata.copy(), adata.copy()
    model = fit(own, modalities=["gene", "X_extra"], calibration=settings)
    fit(other, modalities=["gene", "X_extra"])
    assert (own.obs["omib_score"] != other.obs["omib_score"]).mean() > 0.9
    model.save(tmp_path)
    changed = asdict(CalibrationSettings()) | {"pooling_hops": 4, "pooled_spots": 50.0, "between_slice_sd": (3.0, 4.0)}
    changed |= {"n_quantiles": 9, "min_log_spread": 0.3, "min_relative_distance": 0.9}
    monkeypatch.setattr(CalibrationSettings.__init__, "__defaults__", tuple(changed.values()))
    assert CalibrationSettings().pooling_hops == 4 and CalibrationSettings() != settings
    back = omib.load(tmp_path)
    assert back.calibration == model.calibration == settings
    assert_same(scored(adata, back), own)


@pytest.mark.parametrize("name", [field.name for field in fields(CalibrationSettings)])
def test_every_calibration_setting_is_stored(name, plain, tmp_path):
    values = {"between_slice_sd": (0.25, 0.5), "pooled_spots": 11.0}
    default = getattr(CalibrationSettings(), name)
    settings = CalibrationSettings(**{name: values[name] if name in values else default * 2})
    replace(plain, calibration=settings).save(tmp_path)
    assert omib.load(tmp_path).calibration == settings != CalibrationSettings()


def test_a_model_of_before_slides_had_an_order_scores_as_it_did(plain, tmp_path):
    plain.save(tmp_path)
    tensors, config = checkpoint.read(tmp_path)
    assert config["calibration"].pop("min_ordered") == 130
    checkpoint.write(tmp_path, tensors, config)
    assert omib.load(tmp_path).calibration == replace(plain.calibration, min_ordered=None)


def test_a_model_of_before_the_picture_shortened_averages_scores_as_it_did(plain, tmp_path):
    replace(plain, calibration=replace(plain.calibration, pooling_hops=3)).save(tmp_path)
    tensors, config = checkpoint.read(tmp_path)
    assert config["calibration"].pop("crossed_hops") == 1
    checkpoint.write(tmp_path, tensors, config)
    assert omib.load(tmp_path).calibration == replace(plain.calibration, pooling_hops=3, crossed_hops=3)


# Format 2


ACROSS_CPUS = 1e-4
"""Tolerance of float32 networks whose expected results were computed on another processor."""


def tissue_of_format_2() -> ad.AnnData:
    adata = omib.datasets.simulate_tissue(4, n_spots=80, n_genes=120, n_healthy=2)
    adata.obsm["features"] = np.asarray(adata.X[:, :5].todense())
    return adata


def as_expected(adata: ad.AnnData, expected) -> None:
    """Distances are as they were: scores rank the spots of a slide alike, on another scale."""
    scores = pd.DataFrame({"old": expected["score"], "new": adata.obs["omib_score"].to_numpy()})
    for _, own in scores.groupby([adata.obs["library_id"].to_numpy(), adata.obs["omib_modalities"].to_numpy()]):
        assert len(own) < 10 or spearmanr(own["old"], own["new"])[0] > 0.9999
    assert adata.obs["omib_pvalue"].between(0, 1).all() and adata.obs["omib_slice_pvalue"].between(0, 1).all()
    np.testing.assert_allclose(adata.obsm["X_omib"], expected["xi"], rtol=ACROSS_CPUS, atol=ACROSS_CPUS)
    assert ("probability" in expected) == ("omib_probability" in adata.obsm)
    if "probability" in expected:
        np.testing.assert_allclose(
            adata.obsm["omib_probability"], expected["probability"], rtol=ACROSS_CPUS, atol=ACROSS_CPUS
        )


@pytest.mark.parametrize("name", EVERY)
def test_models_of_old_formats_load_and_rank_as_they_did_and_are_saved_as_new_ones(name, tmp_path):
    assert json.loads((MODELS / name / "config.json").read_text())["format"] == int(name[len("format")])
    model, adata = omib.load(MODELS / name), tissue_of_format_2()
    first = scored(adata, model)
    as_expected(first, np.load(MODELS / name / "expected.npz"))
    model.save(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["format"] == FORMAT
    assert_same(scored(adata, omib.load(tmp_path)), first)


@pytest.mark.parametrize("name", FORMAT_2)
def test_models_of_format_2_keep_the_settings_of_their_time(name, monkeypatch):
    monkeypatch.setattr(
        CalibrationSettings.__init__,
        "__defaults__",
        (0.5, 9, 3, 2, 70, 5, 4, 3, 3.0, (2.0, 2.0), 2.0, 0.05, 4.0, 0.02, 3, 7, 0.1, 0.1),
    )
    model, adata = omib.load(MODELS / name), tissue_of_format_2()
    as_expected(scored(adata, model), np.load(MODELS / name / "expected.npz"))
    assert (model.calibration.pooling_hops, model.calibration.pooled_spots) == (2, 19)


def test_models_of_format_2_with_an_odd_name_or_an_unscored_combination(tmp_path):
    """Names were parts of keys, and a combination without a score had no distances."""
    folder = MODELS / "format2_reconstruction"
    tensors, config = load_file(folder / "weights.safetensors"), json.loads((folder / "config.json").read_text())

    def renamed(key: str) -> str:
        return ".".join("code" if word == "genome" else word.replace("+genome", "+code") for word in key.split("."))

    tensors = {renamed(k): v for k, v in tensors.items() if not k.startswith(("surprise.image.", "distance.image."))}
    # What the code is and what the modality of that name shows were one part then, the latter.
    tensors = {k: v for k, v in tensors.items() if not (k.startswith("distance.") and k.split(".")[2] == "image")}
    config["modalities"][1]["name"] = config["params"]["modalities"][1] = "code"
    config["parts"] = {"image": ["image"], "code": ["code"], "image+code": ["code"]}
    found, new = from_format_2(tensors, config)
    assert new["scores"] == [["code"], ["image", "code"]]
    assert new["distances"] == [[["code"], ["code"]], [["image", "code"], ["code"]]]
    assert {key.split(".")[0] for key in found} == {"network", "modality", "summary", "distance", "score"}
    assert {".".join(key.split(".")[:2]) for key in found if key.startswith("score")} == {"score.0", "score.1"}
    save_file(tensors, tmp_path / "weights.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert list(omib.load(tmp_path).scores) == [("code",), ("image", "code")]


def test_models_of_format_3_have_their_held_out_spots_as_one_healthy_slide():
    folder = MODELS / "format3_reconstruction"
    old, model = load_file(folder / "weights.safetensors"), omib.load(folder)
    for i, calibrated in enumerate(model.scores.values()):
        np.testing.assert_array_equal(calibrated.slides[:, :2], old[f"score.{i}.slides"])
        np.testing.assert_array_equal(calibrated.slides[:, 2], calibrated.slides[:, 1])
        assert np.isnan(calibrated.slides[:, 3]).all() and np.isposinf(calibrated.slides[:, 4]).all()
        assert len(calibrated.calibration) == len(old[f"score.{i}.calibration"])
        assert (np.diff(calibrated.calibration) >= 0).all() and np.isfinite(calibrated.calibration).all()
        np.testing.assert_array_equal(calibrated.location, old[f"score.{i}.location"][:-1])


@pytest.mark.parametrize("name", ["format4_reconstruction", "format5_given"])
def test_models_of_formats_4_and_5_judge_slides_by_the_standard_deviation_of_log_distances(name):
    (old, _), model = checkpoint.read(MODELS / name), omib.load(MODELS / name)
    assert (model.calibration.tail_power, model.calibration.verdict_level) == (None, 0.05)
    for i, calibrated in enumerate(model.scores.values()):
        stored = old[f"score.{i}.slides"]
        np.testing.assert_array_equal(calibrated.slides, stored[:, [0, 1, 1, 2, 3]])


# What a changed config may ask for


def with_params(folder: Path, tmp_path: Path, **params) -> Path:
    """A copy whose config has other ``params``, with digests that fit."""
    tensors, config = checkpoint.read(folder)
    config["params"] |= params
    checkpoint.write(tmp_path / "changed", tensors, config)
    return tmp_path / "changed"


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"latent_dim": 10**9}, "latent_dim is 1000000000"),
        ({"latent_dim": 2**14}, "of its network's weights"),
        ({"latent_dim": -4}, "latent_dim is -4"),
        ({"latent_dim": "8"}, "latent_dim is '8'"),
        ({"beta": -1.0}, "beta is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"batch_size": 2.5}, "batch_size is 2.5"),
    ],
)
def test_settings_and_sizes_are_checked_before_memory_is_taken(params, reason, tmp_path):
    folder = with_params(MODELS / "format4_reconstruction", tmp_path, **params)
    with pytest.raises(ValueError, match=f"is damaged: {reason}"):
        omib.load(folder)


def test_calibration_settings_that_cannot_be_are_damage(tmp_path):
    tensors, config = checkpoint.read(MODELS / "format4_reconstruction")
    config["calibration"]["held_out_fraction"] = -1
    checkpoint.write(tmp_path, tensors, config)
    with pytest.raises(ValueError, match="is damaged: held_out_fraction is -1"):
        omib.load(tmp_path)


@pytest.mark.parametrize("encoder", ["hf:someone/model", "timm:vit", "lazyslide:uni"])
def test_nothing_is_asked_of_a_hub_unless_the_caller_allows_it(encoder, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("omib_spatial.modalities.image.load_frozen", asked.append)
    tensors, config = checkpoint.read(MODELS / "format4_reconstruction")
    next(entry for entry in config["modalities"] if entry["kind"] == "Image")["settings"]["encoder"] = encoder
    checkpoint.write(tmp_path, tensors, config)
    with pytest.raises(ValueError, match=f"reads images with '{encoder}'.*allow_download=True"):
        omib.load(tmp_path)
    assert not asked
    assert omib.load(tmp_path, allow_download=True).modalities["image"].name == encoder
