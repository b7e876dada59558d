import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from transformers import ResNetConfig, ResNetModel, ViTConfig, ViTModel

from omib_spatial.encoders.frozen import digest_of, load_frozen

PATCHES = np.random.default_rng(0).integers(0, 256, (5, 3, 32, 32), dtype=np.uint8)
MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Tiny checkpoints as Hugging Face stores them: a transformer with its own scaling, a ResNet without."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("checkpoints")
    vit = ViTModel(
        ViTConfig(hidden_size=12, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, image_size=32)
    )
    vit.save_pretrained(folder / "vit")
    (folder / "vit" / "preprocessor_config.json").write_text(f'{{"image_mean": {MEAN}, "image_std": {STD}}}')
    ResNetModel(ResNetConfig(embedding_size=4, hidden_sizes=[4, 6], depths=[1, 1], layer_type="basic")).save_pretrained(
        folder / "resnet"
    )
    return folder


def test_a_transformer_gives_its_classification_token_of_scaled_pixels(folders):
    frozen = load_frozen(f"hf:{folders / 'vit'}")
    values = frozen(PATCHES)
    assert values.shape == (5, 12)
    assert values.dtype == np.float32
    scaled = (PATCHES / 255 - np.array(MEAN)[:, None, None]) / np.array(STD)[:, None, None]
    reference = ViTModel.from_pretrained(folders / "vit").eval()
    with torch.no_grad():
        expected = reference(pixel_values=torch.from_numpy(scaled).float()).last_hidden_state[:, 0]
    np.testing.assert_allclose(values, expected, atol=1e-5)


def test_a_convolutional_network_gives_its_pooled_map_of_pixels_scaled_as_imagenet(folders):
    values = load_frozen(f"hf:{folders / 'resnet'}")(PATCHES)
    mean, std = (np.array(v)[:, None, None] for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    reference = ResNetModel.from_pretrained(folders / "resnet").eval()
    with torch.no_grad():
        expected = reference(torch.from_numpy((PATCHES / 255 - mean) / std).float()).last_hidden_state.mean((2, 3))
    np.testing.assert_allclose(values, expected, atol=1e-5)


def test_chunks_change_nothing_and_weights_stay(folders):
    frozen = load_frozen(f"hf:{folders / 'resnet'}")
    before = frozen.fingerprint
    many = np.concatenate([PATCHES] * 15)
    np.testing.assert_allclose(frozen(many)[70:], frozen(PATCHES), atol=1e-6)
    assert frozen.fingerprint == before
    assert not frozen.module.training


def test_the_fingerprint_is_that_of_the_weights(folders):
    one, two = (load_frozen(f"hf:{folders / 'vit'}") for _ in range(2))
    assert one.fingerprint == two.fingerprint != load_frozen(f"hf:{folders / 'resnet'}").fingerprint
    with torch.no_grad():
        next(two.module.parameters()).view(-1)[0] += 1e-4
    assert one.fingerprint != two.fingerprint


def test_weights_that_cannot_be_had_say_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(OSError, match=r"hf auth login.*hf download .* --local-dir FOLDER.*'hf:FOLDER'"):
        load_frozen(f"hf:{tmp_path / 'nothing'}")


@pytest.mark.parametrize("name", ["vgg", "hf:", "", "torch:resnet"])
def test_unknown_names_list_the_known_ones(name):
    with pytest.raises(
        ValueError, match=r"pass one of \['texture', 'stain', 'small', 'resnet18', 'hf:NAME', 'timm:NAME'"
    ):
        load_frozen(name)


@pytest.mark.parametrize(
    ("name", "module", "extra"), [("timm:x", "timm", "timm"), ("lazyslide:uni", "lazyslide_models", "pathology")]
)
def test_a_missing_extra_is_named(monkeypatch, name, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"needs {module}.*pip install 'omib-spatial\[{extra}\]'"):
        load_frozen(name)


class Flat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(3))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.mean((2, 3)) @ self.weight


def test_timm_is_asked_for_features_and_scaled_by_its_own_settings(monkeypatch):
    """Against timm's documented interface; the library itself needs torchvision."""
    asked = {}

    def create_model(name, **options):
        asked.update(options, name=name)
        return Flat()

    fake = ModuleType("timm")
    fake.create_model = create_model
    fake.data = SimpleNamespace(resolve_model_data_config=lambda model: {"mean": MEAN, "std": STD})
    monkeypatch.setitem(sys.modules, "timm", fake)
    values = load_frozen("timm:vit_tiny")(PATCHES)
    assert asked == {"name": "vit_tiny", "pretrained": True, "num_classes": 0}
    np.testing.assert_allclose(values, ((PATCHES / 255).mean((2, 3)) - MEAN) / STD, atol=1e-5)


def test_lazyslide_models_do_their_own_scaling(monkeypatch):
    """Against the interface of lazyslide-models 0.1; the library itself needs torchvision."""

    class Model:
        def __init__(self) -> None:
            self.model = Flat()

        def get_transform(self):
            return lambda pixels: pixels * 2

        def encode_image(self, pixels):
            return self.model(pixels)

    fake = ModuleType("lazyslide_models")
    fake.MODEL_REGISTRY, fake.list_models = {"uni": Model}, lambda: ["uni"]
    monkeypatch.setitem(sys.modules, "lazyslide_models", fake)
    np.testing.assert_allclose(load_frozen("lazyslide:uni")(PATCHES), 2 * (PATCHES / 255).mean((2, 3)), atol=1e-5)
    with pytest.raises(ValueError, match=r"lazyslide-models has \['uni'\]"):
        load_frozen("lazyslide:unknown")


def test_gated_weights_say_what_to_do(monkeypatch):
    def create_model(name, **options):
        raise OSError("401 gated")

    fake = ModuleType("timm")
    fake.create_model = create_model
    monkeypatch.setitem(sys.modules, "timm", fake)
    with pytest.raises(OSError, match="accept the licence.*hf auth login.*401 gated"):
        load_frozen("timm:vit")


def test_an_encoder_must_return_rows():
    class Map(nn.Module):
        def forward(self, pixels):
            return pixels

    with pytest.raises(ValueError, match="one row of features per patch"):
        load_frozen(Map())(PATCHES)


def test_digests_tell_contents_types_and_shapes_apart():
    a = np.arange(6)
    parts = [[a], [a.reshape(2, 3)], [a.astype(float)], [a, 1], [a, "1"], [a, None], [a[::-1]], [a, {"k": 1}]]
    digests = [digest_of(*p) for p in parts]
    assert len(set(digests)) == len(digests)
    assert digest_of(a[::-1]) == digest_of(a[::-1].copy())
