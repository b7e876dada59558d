"""Histology around each spot."""

from numbers import Real
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
from anndata import AnnData
from torch import Tensor, nn

from omib_spatial._checked import Fits, Integers, NotNegative, checked, is_a
from omib_spatial.encoders.frozen import OWN, Frozen, digest_of, load_frozen
from omib_spatial.encoders.image import ResNet, StainJitter
from omib_spatial.encoders.tabular import MLP
from omib_spatial.modalities.base import DenseRows, Modality, Prepared, State
from omib_spatial.modalities.image_notices import warn_of_places, warn_of_resolution
from omib_spatial.modalities.image_rows import ImageRows, PatchRows, remember, stored
from omib_spatial.modalities.patch_reader import PatchReader
from omib_spatial.modalities.patches import Side, Slide, slides
from omib_spatial.modalities.slide_statistics import APPEARANCE, SlideDescription, describe_appearance
from omib_spatial.modalities.stain import STANDARD, Stain
from omib_spatial.modalities.texture import NAMES, STATISTICS
from omib_spatial.slides import Tissue

LOOK = 64
"""Side in pixels of the patches by which a slide is compared with others."""
NO_REFERENCE = "No reference spot has an image: leave 'image' out of modalities, or add images to uns."


Sides = Annotated[
    float | tuple[float, ...],
    Fits(
        "a number above 0, or several",
        lambda sides: (
            np.ndim(sides) <= 1
            and all(
                isinstance(side, Real) and not isinstance(side, bool) for side in np.atleast_1d(np.array(sides, object))
            )
        ),
        lambda sides: np.size(sides) > 0 and bool(np.isfinite(sides).all() and (np.asarray(sides) > 0).all()),
    ),
]
"""Lengths of the sides of a spot's squares."""


class Image(Modality):
    """H&E around each spot: squares of one physical size, freed of the slide's own stain, read by an encoder.

    Parameters
    ----------
    encoder
        - ``"texture"``: `omib_spatial.modalities.texture.texture_statistics`, no training.
        - ``"stain"``: `omib_spatial.modalities.texture.tissue_statistics`, no training; the default before.
        - ``"small"``, ``"resnet18"``: a `omib_spatial.encoders.ResNet` trained from scratch; the second is the paper's.
        - ``"hf:..."``, ``"timm:..."``, ``"lazyslide:..."`` or a module: frozen, see
          `omib_spatial.encoders.frozen.load_frozen`. After `omib_spatial.load`, give a module again with `use`.
    patch_diameter
        Sides of the squares in spot diameters, one or several. None takes (2, 4) for ``"stain"``, else 2 (the paper's
        is not stated).
    patch_um
        Sides in micrometres instead; needs ``scalefactors["microns_per_pixel"]``.
    patch_size
        Side in pixels after resampling. None takes 64 for statistics, 32 for networks trained from scratch (the
        paper's), 224 for frozen networks.
    stain
        ``"macenko"`` measures the stains of each slide on its own spots and brings it to those of the reference;
        None leaves colours as they are.
    augment
        Standard deviation of the factors by which stains vary while a network is trained; 0 for none.

    Notes
    -----
    Features of encoders that are not trained are kept in ``obsm["X_image"]`` by `omib_spatial.tl.fit` and
    `omib_spatial.tl.score`, with a fingerprint per slice of image, places, settings and weights in ``uns["X_image"]``;
    a slice whose fingerprint fits is not computed again.

    Examples
    --------
    >>> from omib_spatial.modalities import Image
    >>> [side.value for side in Image().sides], Image().size, Image("resnet18").size, Image(patch_um=110).sides[0].unit
    ([2.0], 64, 32, 'um')
    """

    apart = True
    statistics = APPEARANCE

    @checked
    def __init__(
        self,
        encoder: Annotated[str | nn.Module, Fits("a name or a module", is_a(str, nn.Module))] = "texture",
        *,
        patch_diameter: Sides | None = None,
        patch_um: Sides | None = None,
        patch_size: Annotated[int, Integers(1, 2**12)] | None = None,
        stain: Literal["macenko"] | None = "macenko",
        augment: NotNegative = 0.0,
    ) -> None:
        self.name = OWN if isinstance(encoder, nn.Module) else encoder
        self.trained = self.name in ResNet.SIZES
        self._frozen = load_frozen(encoder) if isinstance(encoder, nn.Module) else None
        if not (self.trained or self.name in (*STATISTICS, OWN) or ":" in self.name):
            load_frozen(self.name)  # raises, and names what is known
        if patch_diameter is not None and patch_um is not None:
            raise ValueError("Give patch_diameter or patch_um, not both.")
        usual = STATISTICS[self.name].sides if self.name in STATISTICS else 2.0
        given = patch_um if patch_um is not None else patch_diameter if patch_diameter is not None else usual
        unit = "diameters" if patch_um is None else "um"
        self.sides = [Side(float(value), unit) for value in np.atleast_1d(given)]
        self.size = patch_size or (64 if self.name in STATISTICS else 32 if self.trained else 224)
        self.stain, self.augment = stain, augment
        self.reference = STANDARD
        self.weights = ""
        self.width: float | None = None
        self.mean = self.scale = torch.empty(0)
        self._kept: dict[str, np.ndarray] = {}

    @classmethod
    def offered(cls, tissue: Tissue) -> bool:
        """Whether some slice has an image."""
        return bool(tissue.images)

    def check(self, tissue: Tissue, *, required: bool) -> None:
        """Raise what is wrong with images, scale factors and spots off the image, or with the encoder."""
        if required:
            tissue.require_images()
        if tissue.images:
            found = slides(tissue)
            warn_of_resolution(found, self.sides[0], self.width)
            warn_of_places(found, self.sides[0])
        if tissue.images and not self.trained and self.name not in STATISTICS:
            self._network()

    def shows(self, tissue: Tissue, reference: np.ndarray) -> bool:
        """Whether slides with ``reference`` spots, (n_obs,) bool, show tissue under any of some spots."""
        with_reference = [slide for slide in slides(tissue) if reference[slide.rows].any()]
        return any(slide.tissue(slide.sample(self.sides[0], 32)).any() for slide in with_reference)

    def slices(self, tissue: Tissue) -> np.ndarray:
        """Which slices have an image, (n_slices,)."""
        return np.isin(tissue.libraries, list(tissue.images))

    def digest(self, tissue: Tissue) -> str:
        """Of images and places."""
        return digest_of(*(part for slide in slides(tissue) for part in slide.identity()))

    def use(self, module: nn.Module) -> None:
        """Give a loaded model its own frozen module again; ValueError if its weights are others."""
        frozen = load_frozen(module)
        if self.weights and frozen.fingerprint != self.weights:
            raise ValueError("This module's weights are not those that the model was fitted with.")
        self._frozen = frozen

    def fit(self, tissue: Tissue, reference: np.ndarray, visible: np.ndarray | None = None) -> None:
        """Learn the reference's stains, then mean and spread of its channels or features."""
        found = slides(tissue)
        with_reference = [slide for slide in found if reference[slide.rows].any()]
        if not with_reference:
            raise ValueError(NO_REFERENCE)
        self.width = max(self.sides[0].pixels(slide.image, slide.name) for slide in with_reference)
        self.reference = STANDARD
        if self.stain is not None:
            self.reference = Stain.median([self.stain_of(slide) for slide in with_reference])
        if not self.trained:
            self.weights = self._network().fingerprint if self.name not in STATISTICS else ""
            values = self._all_features(tissue.adata, found)[0]
            values = values[reference & np.isfinite(values).all(1)]
            if len(values) == 0:
                raise ValueError(NO_REFERENCE)
            self.mean = torch.from_numpy(values.mean(0, dtype=np.float64)).float()
            self.scale = torch.from_numpy(values.std(0, dtype=np.float64) + 1e-3).float()
            return
        pixels, present = self._reader.patches(tissue.n_obs, found)
        if not (reference & present).any():
            raise ValueError(NO_REFERENCE)
        some = pixels[reference & present].astype(np.float32) / 255
        self.mean = torch.from_numpy(some.mean((0, 2, 3)))
        self.scale = torch.from_numpy(some.std((0, 2, 3)) + 1e-3)

    def prepare(self, tissue: Tissue) -> Prepared:
        """Features of all spots, or for a network that is trained their patches."""
        found = slides(tissue)
        if not self.trained:
            values, fingerprints = self._all_features(tissue.adata, found)
            rows = {slide.name: slide.rows for slide in found}
            return ImageRows(values, self.mean, self.scale, self.name, fingerprints, rows)
        pixels, present = self._reader.patches(tissue.n_obs, found)
        return PatchRows(pixels, present, self.mean, self.scale, self.reference)

    def described(self, tissue: Tissue) -> np.ndarray:
        """Features of all spots as they are measured (n_obs, p), NaN where there is no tissue or no image."""
        return self._all_features(tissue.adata, slides(tissue))[0]

    def describes_as(self, other: "Image") -> bool:
        """Whether the features of any patch are the same."""
        own, others = self.state()[0], other.state()[0]
        return all(own.get(key) == others.get(key) for key in (own.keys() | others.keys()) - {"augment", "width"})

    def cut(self, slide: Slide, rows: np.ndarray) -> np.ndarray:
        """Patches of some spots as the slide shows them, (n, 3 per side, size, size) uint8."""
        return self._reader.cut(slide, rows)

    def stain_of(self, slide: Slide) -> Stain:
        """Of a slide, measured on all spots of the slide, so that a slide looks the same in fitting and in scoring."""
        return self._reader.stain_of(slide)

    def prepare_patches(self, patches: np.ndarray, stain: Stain) -> Prepared:
        """What `prepare` would make of spots with these patches, as `cut` gives them, of a slide of this stain."""
        if not self.trained:
            return DenseRows(self._reader.described(patches, stain), self.mean, self.scale)
        present = np.ones(len(patches), bool)
        return PatchRows(self._reader.recoloured(patches, stain), present, self.mean, self.scale, self.reference)

    def describe_slides(self, tissue: Tissue, visible: np.ndarray) -> dict[int, SlideDescription]:
        """Brightness, colours and contrast of each slide, tissue or not: what an odd image takes for glass is odd."""
        found = {}
        for slide in slides(tissue):
            if len(slide.rows[visible[slide.rows]]):
                patches = slide.of(visible).sample(self.sides[0], LOOK)
                found[tissue.libraries.index(slide.name)] = describe_appearance(patches)
        return found

    def encoder(self) -> nn.Module:
        """A residual network, or a perceptron on frozen features."""
        if not self.trained:
            return MLP(len(self.mean))
        network = ResNet(self.name, in_channels=3 * len(self.sides))
        if self.augment == 0:
            return network
        vectors, glass = (torch.from_numpy(v).float() for v in (self.reference.vectors, self.reference.glass / 255))
        return _Augmented(StainJitter(self.augment, vectors, glass, self.mean, self.scale), network)

    def feature_names(self, tissue: Tissue, width: int) -> list[str]:
        """Of the tissue statistics, with the side of the square; numbers of the features of a frozen network."""
        names = STATISTICS[self.name].names if self.name in STATISTICS else NAMES
        if width != len(names) * len(self.sides):
            return super().feature_names(tissue, width)
        return [f"{name} ({side.value:g} {side.unit})" for side in self.sides for name in names]

    def state(self) -> State:
        """Settings, stains of the reference, and statistics of channels or features."""
        sides = tuple(side.value for side in self.sides)
        config: dict[str, Any] = {
            "encoder": self.name,
            "patch_um" if self.sides[0].unit == "um" else "patch_diameter": list(sides),
            "patch_size": self.size,
            "stain": self.stain,
            "augment": self.augment,
            "weights": self.weights,
            "width": self.width,
        }
        colours = {key: torch.from_numpy(np.asarray(v, np.float64)) for key, v in vars(self.reference).items()}
        return config, {"mean": self.mean, "scale": self.scale, **colours}

    @classmethod
    def from_state(cls, config: dict[str, Any], tensors: dict[str, Tensor]) -> Self:
        """A fitted modality from its state."""
        config = dict(config)
        weights, name, width = config.pop("weights"), config.pop("encoder"), config.pop("width", None)
        new = cls(name, **config)
        new.weights, new.width, new.mean, new.scale = weights, width, tensors["mean"], tensors["scale"]
        new.reference = Stain(*(tensors[key].numpy() for key in ("glass", "vectors", "strength")))
        return new

    @property
    def _reader(self) -> PatchReader:
        network = STATISTICS.get(self.name, self._network)
        return PatchReader(self.sides, self.size, self.stain is not None, self.reference, network)

    def _network(self) -> Frozen:
        if self._frozen is None:
            if self.name == OWN:
                raise ValueError(
                    "The model was fitted with your own frozen image encoder, which is not stored: call "
                    "model.modalities['image'].use(module) first."
                )
            frozen = load_frozen(self.name)
            if self.weights and frozen.fingerprint != self.weights:
                raise ValueError(f"The weights of {self.name!r} are not those that the model was fitted with.")
            self._frozen = frozen
        return self._frozen

    def _all_features(self, adata: AnnData, found: list[Slide]) -> tuple[np.ndarray, dict[str, str]]:
        """Features of all spots (n_obs, p), NaN where there is no tissue, and the fingerprint of each slice."""
        parts: dict[str, np.ndarray] = {}
        fingerprints: dict[str, str] = {}
        for slide in found:
            stain = self.stain_of(slide)
            key = fingerprints[slide.name] = self._fingerprint(slide, stain)
            ready = self._kept[key] if key in self._kept else stored(adata, slide, key)
            parts[key] = self._reader.slide(slide, stain) if ready is None else ready
            if self.name in STATISTICS:
                remember(key, parts[key])
        self._kept = parts
        width = next(iter(parts.values())).shape[1] if parts else len(self.mean)
        values = np.full((adata.n_obs, width), np.nan, np.float32)
        for slide in found:
            values[slide.rows] = parts[fingerprints[slide.name]]
        return values, fingerprints

    def _fingerprint(self, slide: Slide, stain: Stain) -> str:
        colours = list(vars(stain).values())
        if self.name not in STATISTICS:
            colours += list(vars(self.reference).values())
        settings = {key: value for key, value in self.state()[0].items() if key not in ("augment", "width")}
        return digest_of(settings, *slide.identity(), *(np.asarray(c, np.float64) for c in colours))


class _Augmented(nn.Sequential):
    def __init__(self, jitter: StainJitter, network: ResNet) -> None:
        super().__init__(jitter, network)
        self.out_features = network.out_features
