import numpy as np
import pytest
import torch

from omib_spatial.modalities import Gene, Genome, Image, ObsmFeatures
from omib_spatial.modalities.learned import check_learned
from omib_spatial.modalities.stain import Stain
from omib_spatial.modalities.texture import TEXTURES


def gene():
    made = Gene()
    made.genes, made.mean, made.scale = ["a", "b"], torch.zeros(2), torch.ones(2)
    return made


def genome():
    made = Genome()
    made.genes, made.chromosomes, made.mean, made.scale = ["a", "b"], ["1", "1"], torch.zeros(2), torch.ones(2)
    made.start, made.end = torch.tensor([1.0, 5.0]).double(), torch.tensor([2.0, 6.0]).double()
    return made


def image():
    made = Image()
    made.mean, made.scale, made.width = torch.zeros(len(TEXTURES)), torch.ones(len(TEXTURES)), 12.5
    return made


def features():
    made = ObsmFeatures("x")
    made.columns, made.mean, made.scale = ["p", "q"], torch.zeros(2), torch.ones(2)
    return made


def stained(**changes):
    return Stain(**{**vars(image().reference), **changes})


@pytest.mark.parametrize("make", [gene, genome, image, features])
def test_what_was_learned_passes(make):
    check_learned(make())


@pytest.mark.parametrize(
    ("make", "name", "value", "reason"),
    [
        *((make, "scale", torch.tensor([1.0, -1.0]), "not positive") for make in (gene, genome, features)),
        *((make, "mean", torch.zeros(3), r"mean has the shape \(3,\)") for make in (gene, genome, image, features)),
        (gene, "scale", torch.ones(2, 2), "scale has the shape"),
        (gene, "mean", torch.zeros(2).double(), "mean is of type float64"),
        (gene, "genes", ["a", "a"], "a gene twice"),
        (gene, "genes", ["a"], "1 genes in place of 2"),
        (gene, "genes", "ab", "genes are no names"),
        (gene, "target_sum", -1.0, "target_sum is -1.0"),
        (genome, "target_sum", "1", "target_sum is '1'"),
        (genome, "chromosomes", ["1", 2], "chromosomes are no names"),
        (genome, "start", torch.tensor([3.0, 5.0]).double(), "ends before it starts"),
        (genome, "end", torch.ones(2), "end is of type float32"),
        (features, "columns", ["p"], "1 columns in place of 2"),
        (image, "sides", [1, 2], "numbers of 2 squares"),
        (image, "width", 0.0, "width is 0.0"),
        (image, "weights", 3, "weights are 3"),
        (image, "reference", stained(glass=np.zeros(3)), "glass is no colour"),
        (image, "reference", stained(strength=np.array([1.0, 0.0])), "no strength"),
        (image, "reference", stained(vectors=np.eye(3)), "vectors is of another shape"),
    ],
)
def test_what_no_fit_can_have_left_is_named(make, name, value, reason):
    made = make()
    setattr(made, name, value)
    with pytest.raises((TypeError, ValueError), match=reason):
        check_learned(made)
