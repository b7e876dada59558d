"""The same thing has the same colour everywhere, and different things differ for colour-blind eyes."""

import re
from importlib.resources import files
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from omib_spatial._colours import ANOMALOUS, GROUPS, HEALTHY, PALETTE, UNKNOWN, ZONES, group_colours, stored_colours
from omib_spatial.reporting import _layers

# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB.
DEFICIENCIES = {
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def lab(colour: str, deficiency: str | None = None) -> np.ndarray:
    """CIE L*a*b* as such eyes see it."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    if deficiency is not None:
        linear = (np.array(DEFICIENCIES[deficiency]) @ linear).clip(0, 1)
    to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    xyz = np.array(to_xyz) @ linear / [0.95047, 1, 1.08883]
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("deficiency", [None, *DEFICIENCIES])
@pytest.mark.parametrize("colours", [[HEALTHY, ANOMALOUS, UNKNOWN], list(PALETTE), [*ZONES.values(), UNKNOWN]])
def test_colours_of_one_map_differ_for_all_eyes(colours, deficiency):
    distances = [np.linalg.norm(lab(a, deficiency) - lab(b, deficiency)) for a, b in combinations(colours, 2)]
    assert min(distances) > 8


def test_reports_have_no_other_colours_for_spots():
    script = (files("omib_spatial.reporting") / "templates" / "report.js").read_text()
    line = next(line for line in script.splitlines() if "abnormal: " in line)
    assert re.findall("#[0-9A-Fa-f]{6}", line) == [HEALTHY, ANOMALOUS]
    assert f'const UNKNOWN = "{UNKNOWN}"' in script


def test_a_clone_has_its_own_colour_on_each_slide_of_a_report(tmp_path):
    from anndata import AnnData

    from omib_spatial._keys import Written

    obs = pd.DataFrame({"omib_score": 0.0, "omib_call": "abnormal"}, [f"s{i}" for i in range(4)])
    obs["omib_clone"] = pd.Categorical(["clone 1", "clone 2", "clone 2", "clone 3"])
    adata = AnnData(obs=obs, uns={"omib": {"params": {}}})
    shown = _layers.layers_of(adata, Written(), np.array([1, 2, 3]), None)["clone"]
    assert dict(zip(shown["names"], shown["colours"], strict=True)) == {"clone 2": GROUPS[1], "clone 3": GROUPS[2]}
    adata.uns["omib_clone_colors"] = ["#111111", "#222222", "#333333"]
    assert _layers.layers_of(adata, Written(), np.array([3]), None)["clone"]["colours"] == ["#333333"]


def test_colours_of_groups_and_stored_ones():
    assert ANOMALOUS not in GROUPS and len(set(GROUPS)) == len(GROUPS) == 14
    assert group_colours(list("abc")) == list(GROUPS[:3]) and len(set(group_colours(["a"] * 40))) == 40
    assert stored_colours({"x_colors": np.array(["#111111", "red"])}, "x", 2) == ["#111111", "red"]
    assert stored_colours({"x_colors": ["#111111", "no colour"]}, "x", 2) is None
    assert stored_colours({"x_colors": ["#111111"]}, "x", 2) is None is stored_colours({}, "x", 1)
