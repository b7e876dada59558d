"""What a distance is made of: features, through a summary exactly, through the fused code by integrated gradients."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from captum.attr import IntegratedGradients
from torch import Tensor

from omib_spatial.core import OMIB, Batch, OMIBOutput
from omib_spatial.detector.model import AnomalyModel
from omib_spatial.detector.objective import FUSED
from omib_spatial.modalities import Prepared, Spots, Summary
from omib_spatial.modalities.sources import Source, source_of
from omib_spatial.stats.distance import Distance

ROWS = 4096
"""Spots times steps of the integral that are in memory at a time."""


class Made(NamedTuple):
    """Terms of a distance, one per feature.

    Attributes
    ----------
    gradient
        Mean slope of each spot's distance along each feature, (n, p).
    change
        What each feature has beyond its origin, (n, p).
    origin
        Of the features, (p,), where it is the same for all spots and not 0.
    """

    gradient: np.ndarray
    change: np.ndarray
    origin: np.ndarray | None = None

    @property
    def terms(self) -> np.ndarray:
        """(n, p)."""
        return self.gradient * self.change


def of_summaries(
    distance: Distance,
    modalities: Sequence[tuple[Summary, Prepared]],
    rows: np.ndarray,
    values: np.ndarray,
    noise: np.ndarray,
    usual: float,
) -> list[Made]:
    """Terms of a distance of summaries, exact but for what counting noise shifts: it is a norm, linear along any ray.

    The ray starts at the reference's mean for a spot of usual noise. Of a modality given another one both have terms:
    what was expected of the first one is made of the other one's features.

    Parameters
    ----------
    distance
        Of one modality, or of one given another.
    modalities
        Summary and data of each, in this order.
    rows
        Spots that have them, (n,).
    values
        Their summaries side by side, (n, q).
    noise
        Counting noise of the distance, of all spots, (n_obs,).
    usual
        Noise of the spot where the ray starts: the mean of the slice, whatever other slices are at hand.
    """
    slope, made, first = distance.gradient(values, noise[rows]), list[Made](), 0
    # The line may start far away at no noise, and summaries be centred elsewhere: those of a slide that is its own
    # reference are, on the whole slide.
    start = distance.mean[0] + np.clip(usual, *distance.span) * distance.mean[1]
    for summary, data in modalities:
        columns = slice(first, first := first + summary.width)
        mean, axes = (part.numpy() for part in (summary.mean, summary.axes / summary.scale.unsqueeze(1)))
        origin = mean + start[columns] @ np.linalg.pinv(axes)
        made.append(Made(slope[:, columns] @ axes.T, data.features(rows) - origin, origin))
    return made


@dataclass(frozen=True)
class FusedDistance:
    """The distance of the fused code as a function of every modality's input.

    Attributes
    ----------
    model
        Fitted.
    combination
        Modalities that the spots have.
    distance
        Of the fused code.
    origins
        Mean code (1, d) of healthy spots, of each modality that has no other origin.
    device
        Where the network runs.
    """

    model: AnomalyModel
    combination: tuple[str, ...]
    distance: Distance
    origins: Mapping[str, Tensor]
    device: str

    def __post_init__(self) -> None:
        if not isinstance(self.model.network, OMIB):
            raise TypeError(f"explain() looks into an OMIB, not into a {type(self.model.network).__name__}.")

    def sources(self, spots: Spots, rows: np.ndarray) -> dict[str, Source]:
        """Inputs of some ``rows`` (n,), by modality."""
        encoders, summaries = self.model.network.encoders, self.model.summaries
        return {
            name: source_of(
                encoders[name], spots.prepared[name], summaries[name], rows, self.device, self.origins.get(name)
            )
            for name in self.combination
        }

    def __call__(self, sources: Mapping[str, Source], values: Sequence[Tensor], beside: Sequence[Tensor]) -> Tensor:
        """(N,) distances; ``beside`` is the noise (N,), then what each source needs."""
        network, (noise, *rest) = self.model.network, beside
        codes, n = dict[str, Tensor](), len(noise)
        for (name, source), value in zip(sources.items(), values, strict=True):
            own, rest = rest[: len(source.beside)], rest[len(source.beside) :]
            codes[name] = source.code(value, *own)
        like = next(iter(codes.values()))
        for name in set(network.modalities) - set(codes):
            codes[name] = like.new_zeros(n, int(network.encoders[name].out_features))  # type: ignore[arg-type]
        codes = {name: codes[name] for name in network.modalities}
        here = torch.tensor([name in sources for name in network.modalities], device=like.device)
        present = here.expand(n, -1)
        fused = network.fusion(codes, present)
        output = OMIBOutput(codes, {}, fused.xi, network.head(fused.xi), fused.kl)
        widths = {name: summary.width for name, summary in self.model.summaries.items()}
        batch = Batch({}, present, like.new_zeros(n, sum(widths.values())))
        code = self.model.objective.evidence(network.task, output, batch, widths)[FUSED]
        return _torch_distance(self.distance, code, noise)

    def integrated(self, sources: Mapping[str, Source], noise: Tensor, n_steps: int) -> dict[str, Tensor]:
        """Mean gradient of each spot's distance along the straight line from the origins, shaped as the values.

        Parameters
        ----------
        sources
            Of n spots.
        noise
            Of theirs, (n,).
        n_steps
            Of the integral.
        """
        names = list(sources)

        def distances(*arguments: Tensor) -> Tensor:
            return self(sources, arguments[: len(names)], arguments[len(names) :])

        gradients = IntegratedGradients(distances, multiply_by_inputs=False).attribute(
            tuple(source.values for source in sources.values()),
            tuple(source.origin for source in sources.values()),
            additional_forward_args=(noise, *_beside(sources)),
            n_steps=n_steps,
            internal_batch_size=max(ROWS, len(noise)),
        )
        return {name: gradient.detach() for name, gradient in zip(names, gradients, strict=True)}

    @torch.no_grad()
    def without(self, sources: Mapping[str, Source], noise: Tensor, name: str) -> np.ndarray:
        """(n,) distances with one modality at its origin."""
        moved = {
            own: source._replace(values=source.origin.expand_as(source.values)) if own == name else source
            for own, source in sources.items()
        }
        return self.at(moved, noise).cpu().numpy()

    def at(self, sources: Mapping[str, Source], noise: Tensor) -> Tensor:
        """(n,) distances of the sources as they are."""
        return self(sources, [source.values for source in sources.values()], (noise, *_beside(sources)))


def _beside(sources: Mapping[str, Source]) -> tuple[Tensor, ...]:
    return tuple(extra for source in sources.values() for extra in source.beside)


def _torch_distance(distance: Distance, values: Tensor, noise: Tensor) -> Tensor:
    """`Distance` with a gradient."""
    mean, axes, variance = (
        torch.as_tensor(part, dtype=torch.float64, device=values.device)
        for part in (distance.mean, distance.axes, distance.variance)
    )
    noise = noise.clamp(*distance.span)[:, None]
    along = (values.double() - mean[0] - noise * mean[1]) @ axes
    return (along.square() / (variance[0] + noise * variance[1])).sum(1).clamp(min=1e-24).sqrt()
