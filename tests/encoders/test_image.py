import subprocess
import sys

import pytest
import torch

from omib_spatial.encoders import ResNet
from omib_spatial.encoders.image import StainJitter


@pytest.mark.parametrize("size", ["resnet18", "small"])
@pytest.mark.parametrize("side", [32, 48])
def test_patches_of_any_side_become_codes(size, side):
    encoder = ResNet(size, out_features=7).eval()
    codes = encoder(torch.randn(3, 3, side, side))
    assert encoder.out_features == 7
    assert codes.shape == (3, 7)
    assert codes.isfinite().all()


def test_resnet18_has_the_parameters_of_the_paper_it_is_from():
    # torchvision's ResNet-18: 11,689,512, of which 513,000 belong to the classifier of 1,000 classes.
    backbone = sum(p.numel() for p in ResNet("resnet18").backbone.parameters())
    assert backbone == 11_689_512 - (512 * 1000 + 1000)
    everything = sum(p.numel() for p in ResNet("resnet18", out_features=256).parameters())
    assert everything == backbone + 512 * 256 + 256


def test_small_is_a_small_part_of_it():
    small = sum(p.numel() for p in ResNet("small").parameters())
    assert small < 0.04 * sum(p.numel() for p in ResNet("resnet18").parameters())


def test_gradient_reaches_every_parameter_and_inference_is_deterministic():
    torch.manual_seed(0)
    encoder = ResNet("small", out_features=6)
    patches = torch.randn(8, 3, 32, 32)
    encoder(patches).square().sum().backward()
    assert [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.any()] == []
    encoder.eval()
    assert torch.equal(encoder(patches), encoder(patches))
    assert not torch.allclose(encoder(patches)[0], encoder(patches)[1])


def test_unknown_size_names_the_known_ones():
    with pytest.raises(ValueError, match=r"size is one of \['resnet18', 'small'\], not 'resnet50'"):
        ResNet("resnet50")


def test_neither_torchvision_nor_the_network_is_used():
    code = """
import sys, socket
def refuse(*args, **kwargs):
    raise OSError("no network")
socket.socket.connect = refuse
import torch
from omib_spatial.encoders import ResNet
from omib_spatial.encoders.image import StainJitter
ResNet("small", 4)(torch.zeros(2, 3, 32, 32))
import warnings
import scipy.sparse as sp
from omib_spatial.encoders.graph import _layout
# The user's filters are left alone, and torch's word on a layout is heard by nobody all the same.
assert not [rule for rule in warnings.filters if "Sparse CSR" in str(rule[1])]
warnings.simplefilter("error")
_layout(sp.csr_matrix([[1.0, 0.0]], dtype="float32"))
raise SystemExit("torchvision" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_jitter_changes_how_much_of_a_stain_there_is_and_not_its_colour():
    vectors = torch.tensor([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]])
    vectors = vectors / vectors.norm(dim=1, keepdim=True)
    glass, mean, scale = torch.tensor([0.95, 0.9, 0.92]), torch.tensor([0.6, 0.5, 0.7]), torch.tensor([0.2, 0.3, 0.1])
    jitter = StainJitter(0.2, vectors, glass, mean, scale)
    torch.manual_seed(0)
    for stain in vectors:
        light = (glass * torch.exp(-0.8 * stain))[None, :, None, None].expand(200, 3, 2, 2)
        scaled = (light - mean[:, None, None]) / scale[:, None, None]
        assert torch.equal(jitter.eval()(scaled), scaled)
        found = jitter.train()(scaled) * scale[:, None, None] + mean[:, None, None]
        density = -(found / glass[:, None, None]).log()[:, :, 0, 0]
        amount = density @ stain / 0.8
        torch.testing.assert_close(density, 0.8 * amount[:, None] * stain, atol=1e-5, rtol=1e-4)
        assert abs(amount.mean() - 1) < 0.05
        assert 0.15 < amount.std() < 0.25
    both = torch.cat([scaled, scaled], 1)
    double = StainJitter(0.2, vectors, glass, mean.repeat(2), scale.repeat(2)).train()(both)
    torch.testing.assert_close(double[:, :3], double[:, 3:])
