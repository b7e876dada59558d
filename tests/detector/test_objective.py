from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from omib_spatial.core import OMIB, Batch, Classification, OneClass, Regression
from omib_spatial.detector.objective import FUSED, OBJECTIVES, Reconstruction, choose_objective
from omib_spatial.encoders import MLP
from omib_spatial.stats.distance import Distance

WIDTHS = {"gene": 3, "image": 2}


class Mine(Reconstruction):
    name = "mine"


class Namesake(Reconstruction):
    """An own objective that forgot to take another name."""


def judged(name: str):
    """Evidence of an objective on four spots, of which the last lacks the image; the batch; what the network said."""
    objective, rng = OBJECTIVES[name], torch.Generator().manual_seed(0)
    task = objective.task(sum(WIDTHS.values()), (0.5, 2.0) if objective.needs_labels else ())
    target = torch.randn(4, 5, generator=rng)
    target[3, 3:] = torch.nan
    batch = Batch({}, torch.ones(4, 2, dtype=torch.bool), target)
    output = SimpleNamespace(xi=torch.randn(4, 8, generator=rng), prediction=torch.randn(4, 6, generator=rng))
    if isinstance(task, OneClass):
        task.center = torch.arange(6.0)
    return objective.evidence(task, output, batch, WIDTHS), batch, output


def test_names_are_those_that_a_user_gives():
    assert list(OBJECTIVES) == ["reconstruction", "summaries", "svdd", "classification"]
    assert all(objective.name == name for name, objective in OBJECTIVES.items())


@pytest.mark.parametrize(
    ("name", "kind"), [("reconstruction", Regression), ("summaries", Regression), ("svdd", OneClass)]
)
def test_tasks_without_labels(name, kind):
    assert isinstance(OBJECTIVES[name].task(5, ()), kind)


def test_classes_weigh_as_they_are_told_to():
    task = OBJECTIVES["classification"].task(5, [0.5, 2.0, 1.0])
    assert isinstance(task, Classification)
    torch.testing.assert_close(task.weight, torch.tensor([0.5, 2.0, 1.0]))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_network_is_omib_by_the_config(name):
    objective = OBJECTIVES[name]
    config = objective.config
    network = objective.network({"gene": MLP(4, 8)}, objective.task(5, [1.0, 1.0]), config)
    assert isinstance(network, OMIB) and network.latent_dim == config.latent_dim
    assert isinstance(network, nn.Module) and list(network.encoders) == ["gene"]


def test_reconstruction_judges_the_code_and_each_summary():
    evidence, batch, output = judged("reconstruction")
    assert list(evidence) == [FUSED, "gene", "image"] and FUSED is None
    assert evidence[FUSED] is output.xi
    torch.testing.assert_close(evidence["gene"], batch.target[:, :3])
    assert torch.isnan(evidence["image"][3]).all() and torch.isfinite(evidence["image"][:3]).all()


@pytest.mark.parametrize("name", ["summaries", "classification"])
def test_without_the_code_the_summaries_alone_are_judged(name):
    evidence, batch, _ = judged(name)
    assert list(evidence) == ["gene", "image"]
    torch.testing.assert_close(evidence["image"], batch.target[:, 3:], equal_nan=True)


def test_svdd_judges_the_offset_from_the_centre():
    evidence, _, output = judged("svdd")
    assert list(evidence) == [FUSED]
    torch.testing.assert_close(evidence[FUSED], output.prediction - torch.arange(6.0))


def test_distances_of_the_code_are_along_its_own_axes_and_of_summaries_along_their_columns():
    rng = np.random.default_rng(0)
    values, noise, other = rng.normal(size=(200, 3)), rng.gamma(2, size=200), rng.normal(size=(9, 3))
    for name in ("reconstruction", "summaries", "classification"):
        for part, rotate in ((FUSED, True), ("gene", False)):
            found = OBJECTIVES[name].distance(part, values, noise)(other, noise[:9])
            np.testing.assert_array_equal(found, Distance.fit(values, noise, rotate=rotate)(other, noise[:9]))
    found = OBJECTIVES["svdd"].distance(FUSED, values, noise)(other, noise[:9])
    np.testing.assert_allclose(found, np.linalg.norm(other, axis=1))


def test_the_objective_is_the_one_asked_for_or_what_the_labels_call_for():
    assert choose_objective(None, None) is OBJECTIVES["reconstruction"]
    assert choose_objective(None, "kind") is OBJECTIVES["classification"]
    assert choose_objective("svdd", None) is OBJECTIVES["svdd"]
    assert choose_objective(OBJECTIVES["svdd"], None) is OBJECTIVES["svdd"]
    mine = Mine()
    assert choose_objective(mine, None) is mine


@pytest.mark.parametrize(
    ("objective", "labels_key", "says"),
    [
        ("magic", None, "'reconstruction', 'summaries', 'svdd'.*not 'magic'"),
        ("classification", None, "labels_key="),
        ("svdd", "kind", "leave out objective= or labels_key="),
        (Mine(), "kind", "objective='mine' learns without labels"),
        (Namesake(), None, "has an objective 'reconstruction': give your own one another name"),
    ],
)
def test_objectives_that_do_not_fit_are_refused(objective, labels_key, says):
    with pytest.raises(ValueError, match=says):
        choose_objective(objective, labels_key)
