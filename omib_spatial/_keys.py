"""Every string that omib_spatial reads from or writes into an AnnData."""

from collections.abc import Iterable
from dataclasses import dataclass

CLASSES = "classes"
"""Entry of ``uns[key_added]`` that names the columns of the probabilities."""
SPATIAL = "spatial"
"""``obsm`` key of the coordinates and ``uns`` key of images and scale factors, as scanpy writes them."""
IMAGES = "images"
SCALEFACTORS = "scalefactors"
SPOT_DIAMETER = "spot_diameter_fullres"
UM_PER_PIXEL = "microns_per_pixel"
"""Scale factor that Space Ranger writes for Visium HD: micrometres per full-resolution pixel."""
IMAGE_FEATURES = "X_image"
"""``obsm`` key of the features of a frozen image encoder, and ``uns`` key of what they were computed from."""
LIBRARY = "library_id"
"""``obs`` column that separates slices in the simulated data."""

REFERENCE = "omib_reference"
"""``obs`` column of spots that were found to be healthy, and ``uns`` key of how sure that is."""

NOT_CALLED, ABNORMAL = "not called", "abnormal"
"""Categories of the call. A spot that is not called is not known to be healthy."""
CALL_COLOURS = {NOT_CALLED: "#A9C3DA", ABNORMAL: "#D55E00"}
"""A light blue, and the vermilion of Okabe and Ito, which colour-blind eyes tell from it."""

REGION = "region"
KIND = "anomaly_kind"
ANOMALY = "anomaly"
HEALTHY = "healthy"
"""``obs`` columns of the simulated truth: tissue layer, kind of anomaly, anomalous or not, slice without anomaly."""


def scale_key(image_key: str) -> str:
    """Name of the scale factor that belongs to ``image_key``, as Space Ranger writes it."""
    return f"tissue_{image_key}_scalef"


@dataclass(frozen=True)
class Written:
    """Where the results of one run live, given the user's ``key_added``."""

    key_added: str = "omib"

    @property
    def embedding(self) -> str:
        """``obsm``: the bottleneck embedding."""
        return f"X_{self.key_added}"

    def drawn(self, modality: str) -> str:
        """``obsm``: what one modality shows, for pictures; ``uns[key_added][modality]`` describes its columns."""
        return f"X_{self.key_added}_{modality}"

    @property
    def score(self) -> str:
        """``obs``: the anomaly score, 0 at the border between healthy and abnormal spots of a slide."""
        return f"{self.key_added}_score"

    @property
    def pvalue(self) -> str:
        """``obs``: the conformal p-value."""
        return f"{self.key_added}_pvalue"

    @property
    def slice_pvalue(self) -> str:
        """``obs``: p-value under the healthy group of the slice."""
        return f"{self.key_added}_slice_pvalue"

    @property
    def modalities(self) -> str:
        """``obs``: modalities that each spot was judged by, joined by ``+``; missing where it could not be."""
        return f"{self.key_added}_modalities"

    @property
    def anomaly(self) -> str:
        """``obs``: the call as a boolean, for code of version 0.1; `call` is the one to use."""
        return f"{self.key_added}_anomaly"

    @property
    def call(self) -> str:
        """``obs``: the call, `NOT_CALLED` or `ABNORMAL`, missing where a spot cannot be scored."""
        return f"{self.key_added}_call"

    @property
    def region(self) -> str:
        """``obs``: connected region of called spots; with ``_zone``, where in it a spot lies."""
        return f"{self.key_added}_region"

    @property
    def zone(self) -> str:
        """``obs``: core or edge of a region, or the ring around it."""
        return f"{self.key_added}_region_zone"

    @property
    def regions(self) -> str:
        """``uns``: table of regions, with their outlines as well-known text."""
        return f"{self.key_added}_regions"

    @property
    def clone(self) -> str:
        """``obs``: group of called spots with one genome profile."""
        return f"{self.key_added}_clone"

    @property
    def clones(self) -> str:
        """``uns``: table of the arms that each clone has gained or lost."""
        return f"{self.key_added}_clones"

    @property
    def contributions(self) -> str:
        """``obsm``: how much of each spot's score every modality makes up."""
        return f"{self.key_added}_contributions"

    @property
    def gene_contributions(self) -> str:
        """``layers``: the genes that make up most of each spot's score."""
        return f"{self.key_added}_contributions"

    @property
    def deviation(self) -> str:
        """``obsm``: in which direction a spot deviates from the healthy spots of its slide."""
        return f"X_{self.key_added}_deviation"

    @property
    def explained(self) -> str:
        """``uns``: tables of what makes up the scores of called spots and of regions."""
        return f"{self.key_added}_explain"

    @property
    def patch_contributions(self) -> str:
        """``uns``: which parts of some spots' patches speak for their scores."""
        return f"{self.key_added}_patch_contributions"

    @property
    def subtype(self) -> str:
        """``obs``: kind of anomaly of each called spot."""
        return f"{self.key_added}_subtype"

    @property
    def subtypes(self) -> str:
        """``uns``: table of the kinds of anomaly."""
        return f"{self.key_added}_subtypes"

    @property
    def verdicts(self) -> str:
        """``uns``: table of slides, with what is concluded of each."""
        return f"{self.key_added}_slides"

    @property
    def probability(self) -> str:
        """``obsm``: probability of each class, where the model was fitted with labels."""
        return f"{self.key_added}_probability"

    @property
    def label(self) -> str:
        """``obs``: the most probable class."""
        return f"{self.key_added}_label"

    @property
    def uns(self) -> str:
        """``uns``: parameters and history."""
        return self.key_added

    def places(self, modalities: Iterable[str] = ()) -> dict[str, tuple[str, ...]]:
        """Every key that is written, by attribute of the AnnData; with what is drawn of ``modalities``."""
        grouped = (self.call, self.label, self.clone, self.subtype)
        scored = (self.score, self.pvalue, self.slice_pvalue, self.modalities, self.anomaly)
        explained = (self.contributions, self.deviation, self.probability)
        tables = (self.verdicts, self.regions, self.clones, self.subtypes, self.explained, self.patch_contributions)
        return {
            "obs": (*scored, *grouped, self.region, self.zone),
            "obsm": (self.embedding, *explained, *map(self.drawn, modalities)),
            "layers": (self.gene_contributions,),
            "uns": (self.uns, *tables, *(f"{key}_colors" for key in grouped)),
        }
