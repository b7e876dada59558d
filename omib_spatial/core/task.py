"""What the fused code is for: a head, a loss, a divergence between two predictions, and the final prediction."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def perceptron(widths: Sequence[int], activation: type[nn.Module], *, bias: bool = True) -> nn.Sequential:
    """Linear layers of the given ``widths`` with ``activation`` between them."""
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(widths):
        layers += [nn.Linear(n_in, n_out, bias=bias), activation()]
    return nn.Sequential(*layers[:-1])


class Task(nn.Module, ABC):
    """One task, seen by the branches and by the fused code alike.

    Examples
    --------
    >>> from omib_spatial.core import Classification, OneClass, Regression, Task
    >>> [issubclass(kind, Task) for kind in (Classification, Regression, OneClass)]
    [True, True, True]
    """

    @abstractmethod
    def head(self, in_features: int) -> nn.Module:
        """A fresh head from (N, in_features) to (N, out)."""

    @abstractmethod
    def loss(self, prediction: Tensor, target: Tensor | None) -> Tensor:
        """``-log q(y | .)`` up to constants, per sample, (N,): of a branch in equation (4), of xi in equation (10)."""

    @abstractmethod
    def divergence(self, prediction: Tensor, fused: Tensor) -> Tensor:
        """``KL(p(yhat_i | xi, z_i) || p(yhat | xi))`` per sample in nats, (N,): what r compares, equation (11)."""

    @abstractmethod
    def predict(self, prediction: Tensor) -> Tensor:
        """Head output to what a user reads."""


class Classification(Task):
    """Softmax and cross-entropy; the head is the paper's in-512-100-classes.

    Parameters
    ----------
    n_classes
        Number of classes; targets are (N,) int64 in [0, n_classes), negative where the class is not known.
    hidden
        Hidden widths of every head.
    weight
        Of each class in the loss, (n_classes,); None weighs all samples the same.

    Examples
    --------
    >>> from omib_spatial.core import Classification
    >>> task = Classification(3)
    >>> scores = torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    >>> task.predict(scores).argmax(1), task.loss(scores, torch.tensor([0, -1]))  # -1: the class is not known
    (tensor([0, 0]), tensor([0.2395, 0.0000]))
    """

    weight: Tensor

    def __init__(self, n_classes: int, hidden: Sequence[int] = (512, 100), weight: Tensor | None = None) -> None:
        super().__init__()
        self.n_classes, self.hidden = n_classes, tuple(hidden)
        self.register_buffer("weight", torch.ones(n_classes) if weight is None else weight, persistent=False)

    def head(self, in_features: int) -> nn.Module:
        """Perceptron to (N, n_classes) logits."""
        return perceptron([in_features, *self.hidden, self.n_classes], nn.GELU)

    def loss(self, prediction: Tensor, target: Tensor | None) -> Tensor:
        """Weighted cross-entropy of logits (N, classes) against labels (N,); 0 where there is no label."""
        target = _required(target)
        weight = self.weight.to(prediction.dtype)
        return F.cross_entropy(prediction, target.clamp(min=-1), weight, ignore_index=-1, reduction="none")

    def divergence(self, prediction: Tensor, fused: Tensor) -> Tensor:
        """KL between the two categorical predictions, branch first."""
        return F.kl_div(fused.log_softmax(-1), prediction.log_softmax(-1), log_target=True, reduction="none").sum(-1)

    def predict(self, prediction: Tensor) -> Tensor:
        """Class probabilities (N, classes)."""
        return prediction.softmax(-1)


class Regression(Task):
    """A Gaussian of unit variance around the prediction; the head is the paper's in-50-outputs.

    The paper trains on the squared error and gives regression no predictive distribution. Unit variance supplies one:
    the loss is half the squared error, which is the ``-log q(y | xi)`` of equation (10) up to a constant, and the
    divergence in r follows from the same assumption.

    Parameters
    ----------
    n_outputs
        Number of regressed values; targets are (N, n_outputs) or (N,), NaN where a value is not known.
    hidden
        Hidden widths of every head.

    Examples
    --------
    >>> from omib_spatial.core import Regression
    >>> Regression(2).loss(torch.tensor([[1.0, 5.0]]), torch.tensor([[0.0, torch.nan]]))  # nan: not known
    tensor([0.5000])
    """

    def __init__(self, n_outputs: int = 1, hidden: Sequence[int] = (50,)) -> None:
        super().__init__()
        self.n_outputs, self.hidden = n_outputs, tuple(hidden)

    def head(self, in_features: int) -> nn.Module:
        """Perceptron to (N, n_outputs)."""
        return perceptron([in_features, *self.hidden, self.n_outputs], nn.GELU)

    def loss(self, prediction: Tensor, target: Tensor | None) -> Tensor:
        """Half the squared error, summed over the known outputs."""
        target = _required(target).reshape(prediction.shape)
        return unit_gaussian_kl(prediction, torch.where(target.isnan(), prediction.detach(), target))

    def divergence(self, prediction: Tensor, fused: Tensor) -> Tensor:
        """KL between two Gaussians of unit variance, half the squared distance of their means."""
        return unit_gaussian_kl(prediction, fused)

    def predict(self, prediction: Tensor) -> Tensor:
        """The regressed values as they are."""
        return prediction


class OneClass(Task):
    """Deep SVDD (Ruff et al. 2018): everything healthy lies near one centre.

    ``L = mean ||yhat - c||^2``; the paper's ``lambda R(theta)`` is the optimiser's weight decay. Heads have no bias
    and the centre is set once, before training, and kept off zero, which makes the collapse to a constant harder.
    It does not prevent it: encoders and fusion keep their biases, and with a single class an empty code is what the
    compression of equation (10) asks for (docs/faithfulness.md has figures). Branches and fused head share c, since
    r compares their outputs.

    Parameters
    ----------
    n_outputs
        Width of the space in which the centre lies.
    hidden
        Hidden widths of every head; the paper's is in-256-256 with LeakyReLU.

    Examples
    --------
    >>> from omib_spatial.core import OneClass
    >>> task = OneClass(n_outputs=2)
    >>> task.set_center(torch.tensor([[1.0, 1.0], [3.0, 1.0]]))  # the mean of what the network makes of healthy samples
    >>> task.predict(torch.tensor([[2.0, 1.0], [2.0, 4.0]]))
    tensor([0., 3.])
    """

    center: Tensor

    def __init__(self, n_outputs: int = 256, hidden: Sequence[int] = (256,)) -> None:
        super().__init__()
        self.n_outputs, self.hidden = n_outputs, tuple(hidden)
        self.register_buffer("center", torch.zeros(n_outputs))

    def head(self, in_features: int) -> nn.Module:
        """Perceptron without bias to (N, n_outputs)."""
        return perceptron([in_features, *self.hidden, self.n_outputs], nn.LeakyReLU, bias=False)

    def set_center(self, outputs: Tensor, margin: float = 0.1) -> None:
        """Place c at the mean of head ``outputs`` (N, n_outputs), every coordinate at least ``margin`` from zero."""
        mean = outputs.mean(0)
        sign = torch.where(mean < 0, -1.0, 1.0)
        self.center.copy_(torch.where(mean.abs() < margin, sign * margin, mean))

    def loss(self, prediction: Tensor, target: Tensor | None) -> Tensor:
        """Squared distance to the centre."""
        return (prediction - self.center).square().sum(-1)

    def divergence(self, prediction: Tensor, fused: Tensor) -> Tensor:
        """KL between two Gaussians of unit variance, half the squared distance of their means."""
        return unit_gaussian_kl(prediction, fused)

    def predict(self, prediction: Tensor) -> Tensor:
        """Distance to the centre (N,): higher is more anomalous."""
        return (prediction - self.center).norm(dim=-1)


def unit_gaussian_kl(mean: Tensor, other: Tensor) -> Tensor:
    """``KL(N(mean, I) || N(other, I))`` in nats, summed over the last axis, (N,)."""
    return 0.5 * (mean - other).square().sum(-1)


def _required(target: Tensor | None) -> Tensor:
    if target is None:
        raise ValueError("This task needs a target with every batch: set Batch.target.")
    return target
