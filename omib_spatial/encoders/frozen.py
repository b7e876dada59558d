"""Image encoders that were trained elsewhere and are used as they are."""

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from omib_spatial.encoders.image import IMAGENET

_CHUNK = 32
OWN = "own module"
"""Name under which a module that the user gave is remembered; its weights are not stored with the model."""


class Frozen:
    """A network that turns patches into features and is never trained.

    Parameters
    ----------
    name
        How it was asked for.
    module
        Holds the weights.
    encode
        (n, 3, H, W) float pixels in [0, 1] to (n, p), in inference mode.
    """

    def __init__(self, name: str, module: nn.Module, encode: Callable[[Tensor], Tensor]) -> None:
        self.name, self.module, self._encode = name, module.eval(), encode

    @property
    def fingerprint(self) -> str:
        """Of the architecture's names and all weights."""
        digest = hashlib.blake2b(type(self.module).__name__.encode(), digest_size=16)
        for key, value in self.module.state_dict().items():
            digest.update(key.encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    @torch.inference_mode()
    def __call__(self, patches: np.ndarray) -> np.ndarray:
        """(n, 3, H, W) uint8 to (n, p) float32; on a GPU if there is one."""
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.module.to(device)
        found = []
        for chunk in np.array_split(patches, -(-len(patches) // _CHUNK)):
            values = self._encode(torch.from_numpy(chunk).to(device).float() / 255)
            if values.ndim != 2 or len(values) != len(chunk):
                raise ValueError(
                    f"The image encoder {self.name!r} returned {tuple(values.shape)} for {len(chunk)} patches: "
                    "one row of features per patch is needed."
                )
            found.append(values.float().cpu().numpy())
        self.module.to("cpu")
        return np.concatenate(found)


def load_frozen(encoder: str | nn.Module) -> Frozen:
    """Load a frozen encoder.

    Parameters
    ----------
    encoder
        - ``"hf:NAME"``: a vision model of transformers, from a local folder or the Hugging Face hub.
        - ``"timm:NAME"``: a model of timm, without its classifier.
        - ``"lazyslide:NAME"``: a pathology model of lazyslide-models (UNI, Virchow, Phikon, CONCH, H-optimus, ...).
        - a module: gets (n, 3, H, W) pixels in [0, 1] and does its own scaling.

    Raises
    ------
    ImportError
        The library is not installed.
    ValueError
        The name is not known.
    OSError
        The weights could not be had.
    """
    if isinstance(encoder, nn.Module):
        return Frozen(OWN, encoder, encoder)
    kind, _, name = encoder.partition(":")
    if kind not in _LOADERS or not name:
        known = ["texture", "stain", "small", "resnet18", *(f"{prefix}:NAME" for prefix in _LOADERS)]
        raise ValueError(f"The image encoder {encoder!r} is not known: pass one of {known}, or a module.")
    return _LOADERS[kind](encoder, name)


def _scaled(encode: Callable[[Tensor], Tensor], mean: Sequence[float], std: Sequence[float]) -> Callable:
    centre, spread = (torch.tensor(v)[:, None, None] for v in (mean, std))
    return lambda pixels: encode((pixels - centre.to(pixels.device)) / spread.to(pixels.device))


def _hugging_face(encoder: str, name: str) -> Frozen:
    from transformers import AutoModel
    from transformers.image_processing_base import ImageProcessingMixin

    try:
        module = AutoModel.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise OSError(
            f"The image encoder {encoder!r} could not be loaded. If its weights are gated, accept the licence at "
            f"https://huggingface.co/{name} and run 'hf auth login'. Without network, fetch it elsewhere with "
            f"'hf download {name} --local-dir FOLDER' and pass 'hf:FOLDER'. transformers says: {error}"
        ) from error
    try:
        settings, _ = ImageProcessingMixin.get_image_processor_dict(name)
    except OSError:
        settings = {}
    mean, std = (settings.get(key, usual) for key, usual in zip(("image_mean", "image_std"), IMAGENET, strict=True))
    # A classification token is trained even where the pooler on top of it was not.
    has_token = any(key.endswith("cls_token") for key, _ in module.named_parameters())

    def encode(pixels: Tensor) -> Tensor:
        output = module(pixel_values=pixels)
        if has_token:
            return output.last_hidden_state[:, 0]
        return output.pooler_output.flatten(1)

    return Frozen(encoder, module, _scaled(encode, mean, std))


def _timm(encoder: str, name: str) -> Frozen:
    timm = _optional("timm", encoder, "timm")
    try:
        module = timm.create_model(name, pretrained=True, num_classes=0)
    except (OSError, RuntimeError) as error:
        raise OSError(_no_weights(encoder, error)) from error
    settings = timm.data.resolve_model_data_config(module)
    return Frozen(encoder, module, _scaled(module, settings["mean"], settings["std"]))


def _lazyslide(encoder: str, name: str) -> Frozen:
    library = _optional("lazyslide_models", encoder, "pathology")
    if name not in library.MODEL_REGISTRY:
        raise ValueError(f"The image encoder {encoder!r} is not known; lazyslide-models has {library.list_models()}.")
    try:
        wrapper = library.MODEL_REGISTRY[name]()
    except (OSError, RuntimeError) as error:
        raise OSError(_no_weights(encoder, error)) from error
    transform = wrapper.get_transform()
    return Frozen(encoder, wrapper.model, lambda pixels: wrapper.encode_image(transform(pixels)))


_LOADERS: dict[str, Callable[[str, str], Frozen]] = {"hf": _hugging_face, "timm": _timm, "lazyslide": _lazyslide}


def _optional(module: str, encoder: str, extra: str) -> Any:
    from importlib import import_module

    try:
        return import_module(module)
    except (ImportError, RuntimeError) as error:
        raise ImportError(
            f"The image encoder {encoder!r} needs {module}, which could not be imported ({error}): "
            f"pip install 'omib-spatial[{extra}]'."
        ) from error


def _no_weights(encoder: str, error: Exception) -> str:
    return (
        f"The weights of the image encoder {encoder!r} could not be had. If they are gated, accept the licence on the "
        f"model's page at https://huggingface.co and run 'hf auth login'. The library says: {error}"
    )


def digest_of(*parts: Any) -> str:
    """Fingerprint of arrays and of what JSON can hold."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.shape}{part.dtype}".encode())
            digest.update(np.ascontiguousarray(part).reshape(-1).view(np.uint8).data)
        else:
            digest.update(json.dumps(part, sort_keys=True).encode())
    return digest.hexdigest()
