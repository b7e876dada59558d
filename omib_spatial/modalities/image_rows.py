"""Histology of all spots: patches for a network that is trained, or features of one that is not."""

from collections import OrderedDict

import numpy as np
import torch
from anndata import AnnData
from torch import Tensor

from omib_spatial._keys import IMAGE_FEATURES
from omib_spatial.encoders.frozen import digest_of
from omib_spatial.modalities.base import DenseRows, Prepared
from omib_spatial.modalities.patches import Slide
from omib_spatial.modalities.stain import Stain
from omib_spatial.modalities.texture import tissue_statistics

_RECENT = 2**24
"""Bytes of statistics that are remembered, of the slides that were asked last: the evidence inside a slide and the
modality of a fit read the same ones."""
_recent: OrderedDict[str, np.ndarray] = OrderedDict()


class ImageRows(DenseRows):
    """Features of an encoder that is not trained, which a later run can take up."""

    def __init__(
        self,
        values: np.ndarray,
        mean: Tensor,
        scale: Tensor,
        encoder: str,
        fingerprints: dict[str, str],
        rows: dict[str, np.ndarray],
    ) -> None:
        super().__init__(values, mean, scale)
        self.encoder, self.fingerprints, self.rows = encoder, fingerprints, rows

    def keep(self, adata: AnnData) -> None:
        """Write features and fingerprints; an ``obsm["X_image"]`` that the user has made is left alone."""
        if IMAGE_FEATURES in adata.obsm and IMAGE_FEATURES not in adata.uns:
            return
        adata.obsm[IMAGE_FEATURES] = self.values
        adata.uns[IMAGE_FEATURES] = {
            "encoder": self.encoder,
            "slices": np.array(list(self.fingerprints), str),
            "fingerprints": np.array(list(self.fingerprints.values()), str),
            "digests": np.array([digest_of(self.values[rows]) for rows in self.rows.values()], str),
        }


class PatchRows(Prepared):
    """Patches of all spots, (n_obs, 3 per scale, side, side) uint8, in the stains of the reference."""

    def __init__(self, pixels: np.ndarray, present: np.ndarray, mean: Tensor, scale: Tensor, stain: Stain) -> None:
        self.pixels, self.present, self.stain = pixels, present, stain
        self.mean, self.scale = mean[:, None, None], scale[:, None, None]

    def batch(self, rows: np.ndarray) -> Tensor:
        """(n, 3 per scale, side, side) scaled patches."""
        return (torch.from_numpy(self.pixels[rows]).float() / 255 - self.mean) / self.scale

    def features(self, rows: np.ndarray) -> np.ndarray:
        """(n, 6 per scale) tissue statistics."""
        scales = np.split(self.pixels[rows], self.pixels.shape[1] // 3, 1)
        return np.concatenate([tissue_statistics(self.stain.separate(pixels)) for pixels in scales], 1)


def remember(fingerprint: str, features: np.ndarray) -> None:
    """Keep statistics (n, p) of a slide for whoever asks next; those that were asked for longest ago make room."""
    _recent[fingerprint] = features
    _recent.move_to_end(fingerprint)
    while sum(each.nbytes for each in _recent.values()) > _RECENT:
        _recent.popitem(last=False)


def stored(adata: AnnData, slide: Slide, fingerprint: str) -> np.ndarray | None:
    """Features (n, p) of a slide that an earlier run made, None unless they have this fingerprint and are unchanged."""
    if fingerprint in _recent:
        _recent.move_to_end(fingerprint)
        return _recent[fingerprint]
    record = adata.uns.get(IMAGE_FEATURES)
    if IMAGE_FEATURES not in adata.obsm or not isinstance(record, dict):
        return None
    said = [record.get(key, ()) for key in ("slices", "fingerprints", "digests")]
    known = {name: (print_, digest) for name, print_, digest in zip(*said, strict=False)}
    if known.get(slide.name, ("", ""))[0] != fingerprint:
        return None
    values = np.asarray(adata.obsm[IMAGE_FEATURES])[slide.rows]
    return values if digest_of(values) == known[slide.name][1] else None
