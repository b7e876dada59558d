"""The tissue in an AnnData: coordinates, slices, donors, graph, counts and images, each read once."""

from functools import cached_property
from uuid import uuid4

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from omib_spatial.slides.counts import check_counts, counts_matrix
from omib_spatial.slides.digests import counts_digest, digest
from omib_spatial.slides.gene_positions import Placed, positions
from omib_spatial.slides.graph import spatial_graph
from omib_spatial.slides.layout import Layout
from omib_spatial.slides.measured import MeasuredGenes
from omib_spatial.slides.rows import CountRows, size_factors
from omib_spatial.slides.slides import SlideImage, coordinates, library_codes, named, slide_image
from omib_spatial.slides.split import SpotLocations
from omib_spatial.slides.validation import check_images


class Tissue:
    """An AnnData under the keys by which it is read. Nothing is written, and each thing is made when first asked for.

    Parameters
    ----------
    adata
        Spots by genes: raw counts, coordinates and, if any, images. It must not change while the tissue is used.
    layout
        Where these are.
    donor_key
        ``obs`` column of patients or animals; None takes every slice as a donor of its own.
    genes
        Those that a model's reference measured: depth is what spots would have with these. None takes all.

    Attributes
    ----------
    identity
        Text that no other tissue has, for whoever keeps results.

    Examples
    --------
    >>> from omib_spatial.slides import Layout, Tissue
    >>> tissue = Tissue(adata, Layout(library_key="library_id"))
    >>> tissue.libraries, tissue.graph.shape
    (['slide1', 'slide2', 'slide3'], (600, 600))
    """

    def __init__(
        self,
        adata: AnnData,
        layout: Layout | None = None,
        donor_key: str | None = None,
        genes: MeasuredGenes | None = None,
    ) -> None:
        self.adata, self.layout, self.donor_key, self.genes = adata, layout or Layout(), donor_key, genes
        self.identity = uuid4().hex
        self._counts_checked = False
        self._normalised: tuple[tuple[bytes, float], sparse.csr_matrix] | None = None

    @property
    def n_obs(self) -> int:
        """Number of spots."""
        return self.adata.n_obs

    @cached_property
    def _slices(self) -> tuple[np.ndarray, list[str]]:
        return library_codes(self.adata, self.layout.library_key)

    @property
    def codes(self) -> np.ndarray:
        """The slice that each spot is on, (n_obs,) int64, as its position in `libraries`."""
        return self._slices[0]

    @property
    def libraries(self) -> list[str]:
        """Names of the slices that have spots."""
        return self._slices[1]

    @cached_property
    def donors(self) -> np.ndarray:
        """Donor of every spot, (n_obs,) int64.

        Raises
        ------
        ValueError
            A slice has spots of several donors.
        """
        if self.donor_key is None:
            return self.codes
        donors, names = library_codes(self.adata, self.donor_key)
        own = pd.DataFrame({"slice": self.codes, "donor": donors}).drop_duplicates()
        if (several := own["slice"].duplicated()).any():
            code = own.loc[several, "slice"].iloc[0]
            found = named(np.array(names)[own.loc[own["slice"] == code, "donor"]])
            raise ValueError(
                f"obs[{self.donor_key!r}] has several donors on slice {self.libraries[code]!r}: {found}. Pass the "
                "column of patients or animals as donor_key=, and separate what lies on one slide by library_key=."
            )
        return donors

    @cached_property
    def coordinates(self) -> np.ndarray:
        """(n_obs, >= 2) float64, in full-resolution pixels."""
        return coordinates(self.adata, self.layout.spatial_key)

    @property
    def locations(self) -> SpotLocations:
        """Coordinates and slice of every spot."""
        return SpotLocations(self.coordinates, self.codes)

    @cached_property
    def graph(self) -> sparse.csr_matrix:
        """Spatial graph, (n_obs, n_obs), as `omib_spatial.slides.graph.spatial_graph` builds it; do not change it."""
        return spatial_graph(
            self.adata,
            spatial_key=self.layout.spatial_key,
            library_key=self.layout.library_key,
            n_neighbors=self.layout.n_neighbors,
            neighbors_key=self.layout.neighbors_key,
        )

    @cached_property
    def counts(self) -> CountRows:
        """Raw counts by rows, from wherever they are."""
        return CountRows(counts_matrix(self.adata, self.layout.layer))

    @cached_property
    def depth(self) -> np.ndarray:
        """Total counts of every spot, (n_obs,) float64, as it would be in the table of the model's reference."""
        known = None if self.genes is None else self.genes.depth(self.counts, self.adata.var)
        return self.counts.depth() if known is None else known

    @cached_property
    def noise_ratio(self) -> np.ndarray | None:
        """Variance of a spot's counts by their mean, (n_obs,); None for raw counts, of which it is 1.

        A corrected count keeps the noise of the count that it was made of, which was no less than it, and an integer:
        its variance is taken as itself rounded up.
        """
        if self.layout.counts == "raw":
            return None
        total = self.counts.depth()
        return np.divide(self.counts.observed(), total, out=np.ones(self.n_obs), where=total > 0)

    def check_counts(self) -> None:
        """Read every count, the first time, and raise what `omib_spatial.slides.counts.check_counts` does."""
        if not self._counts_checked:
            check_counts(self.adata, self.layout.layer, corrected=self.layout.counts == "corrected")
            self._counts_checked = True

    def normalised(self, genes: np.ndarray, target_sum: float) -> sparse.csr_matrix:
        """Counts of some columns per ``target_sum`` of the spot's depth, (n_obs, len(genes)) float32.

        The matrix that was asked for last is kept: whoever learns from it applies what was learned to it next.
        """
        asked = np.ascontiguousarray(genes).tobytes(), target_sum
        if self._normalised is None or self._normalised[0] != asked:
            self._normalised = asked, self.counts.chosen(genes, size_factors(self.depth, target_sum))
        return self._normalised[1]

    @cached_property
    def digests(self) -> dict[str, str]:
        """Of counts, genes, places and graph, each another one where these are other ones."""
        graph = self.graph
        return {
            "counts": counts_digest(self.counts),
            "genes": digest(map(str, self.adata.var_names)),
            "places": digest([self.coordinates, self.codes]),
            "graph": digest([graph.indptr, graph.indices]),
        }

    @cached_property
    def gene_positions(self) -> Placed | None:
        """Where genes lie, by columns of ``var`` or by the table that comes with the package; None if unknown."""
        return positions(self.adata.var)

    @cached_property
    def images(self) -> dict[str, SlideImage]:
        """Image of each slice that has one, in the order of `libraries`, checked: spots lie on it.

        Raises
        ------
        KeyError, TypeError, ValueError
            As `omib_spatial.slides.validation.check_images`.
        """
        return self._images(required=False)

    def require_images(self) -> None:
        """Raise KeyError unless some slice has an image; those that have one are `images`."""
        if not vars(self).get("images"):
            self.images = self._images(required=True)

    def _images(self, *, required: bool) -> dict[str, SlideImage]:
        return check_images(
            self.adata,
            library_key=self.layout.library_key,
            image_key=self.layout.image_key,
            spatial_key=self.layout.spatial_key,
            required=required,
        )

    def image(self, library: str) -> SlideImage | None:
        """Image of one slice, whether its spots lie on it or not; None without one."""
        return slide_image(self.adata, library, self.layout.image_key)
