"""Histology patches around each spot."""

from typing import Any, Self

import numpy as np
import torch
from anndata import AnnData
from torch import Tensor, nn

from omib_spatial.data.modality import Layout, Modality, Prepared, State
from omib_spatial.data.patches import extract_patches
from omib_spatial.data.slides import library_codes
from omib_spatial.data.stain import stain_statistics
from omib_spatial.data.validation import check_images
from omib_spatial.encoders.image import ResNet


class Image(Modality):
    """H&E patches of one physical size, scaled per colour channel by the reference.

    Parameters
    ----------
    size
        Which `ResNet` reads them: ``"small"`` or the paper's ``"resnet18"``.
    patch_diameter
        Side of the square in spot diameters.
    patch_size
        Side of the square in pixels after resampling; 32 in the paper.
    """

    def __init__(self, size: str = "small", patch_diameter: float = 2.0, patch_size: int = 32) -> None:
        self.size, self.patch_diameter, self.patch_size = size, patch_diameter, patch_size
        self.mean = self.scale = torch.empty(0)

    @classmethod
    def offered(cls, adata: AnnData, layout: Layout) -> bool:
        """Whether some slice has an image."""
        return bool(_pictured(adata, layout, required=False))

    def check(self, adata: AnnData, layout: Layout, *, required: bool) -> None:
        """Raise what is wrong with images, scale factors and spots off the image."""
        _pictured(adata, layout, required=required)

    def slices(self, adata: AnnData, layout: Layout) -> np.ndarray:
        """Which slices have an image, (n_slices,)."""
        return np.isin(library_codes(adata, layout.library_key)[1], _pictured(adata, layout, required=False))

    def fit(self, adata: AnnData, reference: np.ndarray, layout: Layout) -> None:
        """Mean and spread of each channel over the reference's patches."""
        patches = self._extract(adata, layout)
        rows = np.flatnonzero(reference & patches.present)
        if len(rows) == 0:
            raise ValueError("No reference spot has an image: leave 'image' out of modalities, or add images to uns.")
        pixels = patches.pixels[rows].astype(np.float32) / 255
        self.mean = torch.from_numpy(pixels.mean((0, 2, 3)))
        self.scale = torch.from_numpy(pixels.std((0, 2, 3)) + 1e-3)

    def prepare(self, adata: AnnData, layout: Layout) -> "PatchRows":
        """Cut the patches of all spots."""
        patches = self._extract(adata, layout)
        return PatchRows(patches.pixels, patches.present, self.mean, self.scale)

    def encoder(self) -> nn.Module:
        """A residual network, trained from scratch."""
        return ResNet(self.size)

    def state(self) -> State:
        """Settings and channel statistics."""
        config = {"size": self.size, "patch_diameter": self.patch_diameter, "patch_size": self.patch_size}
        return config, {"mean": self.mean, "scale": self.scale}

    @classmethod
    def from_state(cls, config: dict[str, Any], tensors: dict[str, Tensor]) -> Self:
        """A fitted modality from its state."""
        new = cls(**config)
        new.mean, new.scale = tensors["mean"], tensors["scale"]
        return new

    def _extract(self, adata: AnnData, layout: Layout) -> Any:
        return extract_patches(
            adata,
            library_key=layout.library_key,
            image_key=layout.image_key,
            spatial_key=layout.spatial_key,
            patch_diameter=self.patch_diameter,
            patch_size=self.patch_size,
        )


class PatchRows(Prepared):
    """Patches of all spots, (n_obs, 3, side, side) uint8."""

    def __init__(self, pixels: np.ndarray, present: np.ndarray, mean: Tensor, scale: Tensor) -> None:
        self.pixels, self.present = pixels, present
        self.mean, self.scale = mean[:, None, None], scale[:, None, None]

    def batch(self, rows: np.ndarray) -> Tensor:
        """(n, 3, side, side) scaled patches."""
        return (torch.from_numpy(self.pixels[rows]).float() / 255 - self.mean) / self.scale

    def features(self, rows: np.ndarray) -> np.ndarray:
        """(n, 14) stain statistics."""
        return stain_statistics(self.pixels[rows])


def _pictured(adata: AnnData, layout: Layout, *, required: bool) -> list[str]:
    """Check the images and name the slices that have one; with none of them, an error if ``required``."""
    return check_images(
        adata,
        library_key=layout.library_key,
        image_key=layout.image_key,
        spatial_key=layout.spatial_key,
        required=required,
    )
