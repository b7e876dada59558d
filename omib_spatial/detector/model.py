"""The fitted model: all that scoring another slide needs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from torch import nn

from omib_spatial._checked import File, Fits, Flag, checked, checked_value, is_a
from omib_spatial.core import Network
from omib_spatial.detector import storage
from omib_spatial.detector.distances import Combination
from omib_spatial.detector.evidence import TrainedNetwork
from omib_spatial.detector.objective import Objective, Part
from omib_spatial.modalities import Contrast, Modality, Spots, Summary
from omib_spatial.slides import Layout, Tissue
from omib_spatial.slides.measured import MeasuredGenes
from omib_spatial.stats.distance import Distance
from omib_spatial.stats.score import ScoreCalibration
from omib_spatial.stats.settings import CalibrationSettings
from omib_spatial.stats.shift import ReferenceInterval
from omib_spatial.stats.stacking import Stacking


@dataclass(frozen=True, repr=False)
class AnomalyModel:
    """What `omib_spatial.tl.fit` returns.

    Attributes
    ----------
    trained
        Preprocessing and network, from raw data to evidence.
    layout
        Where inputs are read and how the graph is built.
    params
        Settings of the run and what was estimated: objective, seed, beta, M_l, M_u, ...
    calibration
        Settings by which distances become scores, p-values and calls.
    distances
        By combination of modalities, from the reference, of each part of the evidence.
    scores
        By combination of modalities, how these distances make a score and p-values.
    stacking
        With labels of which some are healthy: how network and distances make the probability that a spot is.
    intervals
        By modality, what healthy slides show as a whole; none in models of earlier versions.
    genes
        That the reference measured, for the depth of spots from other tables; None in models of earlier versions.

    Examples
    --------
    >>> model
    AnomalyModel(gene + image + genome; objective='reconstruction', latent_dim=64, beta=..., 400 reference spots, ...)
    >>> len(model.history["loss"]), model.layout.library_key
    (6, 'library_id')
    """

    trained: TrainedNetwork
    layout: Layout
    params: dict[str, Any]
    calibration: CalibrationSettings = field(default_factory=CalibrationSettings)
    distances: dict[Combination, dict[Part, Distance]] = field(default_factory=dict)
    scores: dict[Combination, ScoreCalibration] = field(default_factory=dict)
    stacking: Stacking | None = None
    intervals: dict[str, ReferenceInterval] = field(default_factory=dict)
    genes: MeasuredGenes | None = None

    def __repr__(self) -> str:
        p = self.params
        return (
            f"AnomalyModel({' + '.join(self.modalities)}; objective={p['objective']!r}, latent_dim={p['latent_dim']}, "
            f"beta={p['beta']:.3g}, {p['n_reference']} reference spots, calibrated by {p['n_calibration']})"
        )

    @property
    def network(self) -> Network:
        """The trained `omib_spatial.core.OMIB`."""
        return self.trained.network

    @property
    def modalities(self) -> dict[str, Modality]:
        """Fitted modality by name, in the network's order."""
        return self.trained.modalities

    @property
    def summaries(self) -> dict[str, Summary]:
        """Fitted summary of each modality."""
        return self.trained.summaries

    @property
    def objective(self) -> Objective:
        """What the network was trained for."""
        return self.trained.objective

    @property
    def history(self) -> dict[str, list[float]]:
        """Losses, r and KL, one value per epoch."""
        return self.trained.history

    @property
    def classes(self) -> list[str]:
        """Names of the classes of the labels that the model was fitted with; none without labels."""
        return list(self.trained.classes)

    def prepare(self, tissue: Tissue) -> Spots:
        """Apply the fitted preprocessing; nothing is written. Spots have what they can be judged by."""
        return self.judgeable(self.trained.prepare(tissue))

    def judgeable(self, spots: Spots) -> Spots:
        """The same spots with as many of their modalities as two healthy slides were calibrated by together.

        One picture among the slides of a reference does not say how pictures differ: spots that have one are judged as
        if they had none. Where no choice of modalities has two slides, where the reference was found on the slides,
        which have no verdict, and where classes are told apart, any that is calibrated will do.

        Parameters
        ----------
        spots
            Prepared by this model.
        """
        names, there = np.array(list(self.modalities)), spots.present.copy()
        own_reference = any(isinstance(modality, Contrast) for modality in self.modalities.values())
        least = 1 if own_reference or self.classes else 2
        for present in np.unique(there, axis=0):
            usable = [some for some in self.scores if set(some) <= set(names[present].tolist())]
            enough = [some for some in usable if len(self.scores[some].slides) >= least]
            if usable:
                there[(spots.present == present).all(1)] = np.isin(names, max(enough or usable, key=len))
        return spots if np.array_equal(there, spots.present) else spots.restricted(there)

    def save(self, folder: str | Path) -> None:
        """Write the model to ``folder`` as safetensors and JSON; `omib_spatial.load` reads it.

        Parameters
        ----------
        folder
            Made if missing; a model in it is replaced, in one step: whoever loads meanwhile, or after a kill, finds one
            or the other.

        Raises
        ------
        FileExistsError
            ``folder`` holds another program's ``config.json``.
        OSError
            It cannot be written; a model that was there is as it was.

        Examples
        --------
        >>> model.save("breast/")
        >>> again = omib.load("breast/")
        >>> again.params["n_reference"] == model.params["n_reference"]
        True
        """
        folder = checked_value("folder", folder, File)
        storage.write_model(storage.ModelFields(**vars(self)), folder)


Modules = Annotated[
    Mapping[str, nn.Module],
    Fits(
        "a mapping from modality to torch.nn.Module",
        lambda given: isinstance(given, Mapping) and all(isinstance(each, nn.Module) for each in given.values()),
    ),
]
Kinds = Annotated[
    Sequence[type[Modality]],
    Fits(
        "a list of subclasses of omib_spatial.modalities.Modality",
        lambda given: (
            isinstance(given, list | tuple)
            and all(isinstance(each, type) and issubclass(each, Modality) for each in given)
        ),
    ),
]
OwnObjective = Annotated[Objective, Fits("an omib_spatial.detector.Objective", is_a(Objective))]


@checked
def load(
    folder: File,
    *,
    encoders: Modules | None = None,
    kinds: Kinds = (),
    objective: OwnObjective | None = None,
    allow_download: Flag = False,
) -> AnomalyModel:
    """Load a model that ``model.save(folder)`` wrote. Nothing that is read is executed.

    Parameters
    ----------
    folder
        The folder given to ``save``.
    encoders
        By modality, modules of the same architecture as the own encoders that were given to `omib_spatial.tl.fit`, if
        any were. Their weights are overwritten.
    kinds
        Own subclasses of `omib_spatial.modalities.Modality` that the model was fitted with, if any.
    objective
        The own objective that was given to `omib_spatial.tl.fit`, if one was.
    allow_download
        Whether an image encoder that the model names (``"hf:..."``, ``"timm:..."``, ``"lazyslide:..."``) may be taken
        from its hub. Without it such a model is refused, and nothing leaves this machine.

    Returns
    -------
    The fitted model; it gives the scores that it gave when it was saved.

    Raises
    ------
    FileNotFoundError
        If ``folder`` holds no saved model.
    KeyError
        If the model has an own encoder, objective, or modality of an own kind, that is not given.
    ValueError
        If the model needs an image encoder of a hub and ``allow_download`` is not given, or if it was saved in a
        format that cannot be read, or is damaged: a file is cut short, was changed or is
        missing, or values in it cannot be.

    Examples
    --------
    >>> model.save("breast/")
    >>> model = omib.load("breast/")
    >>> list(model.modalities)
    ['gene', 'image', 'genome']
    """
    fields = storage.read_model(
        folder, encoders=encoders, kinds=kinds, objective=objective, allow_download=allow_download
    )
    return AnomalyModel(**fields._asdict())
