import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from omib_spatial import __version__

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_one_version_is_begun_and_one_is_released():
    assert PROJECT["version"] == __version__
    begun, *closed = re.findall(r"^## (\S+) \((.+)\)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    released = next((version for version, when in [begun, *closed] if when != "unreleased"), None)
    if begun[1] == "unreleased":
        assert Version(__version__).base_version == begun[0] and Version(__version__).is_prerelease
    else:
        assert __version__ == begun[0]
    for name in ("CITATION.cff", "meta.yaml"):
        assert yaml.safe_load((ROOT / name).read_text())["version"] == released, name


def test_every_dependency_has_a_lower_bound():
    everything = [
        *PROJECT["dependencies"],
        *(line for extra in PROJECT["optional-dependencies"].values() for line in extra),
    ]
    assert not [line for line in everything if not any(part.operator == ">=" for part in Requirement(line).specifier)]


def test_the_entry_for_the_ecosystem_has_what_its_list_asks_for():
    entry = yaml.safe_load((ROOT / "meta.yaml").read_text())
    asked = {
        "name",
        "description",
        "project_home",
        "documentation_home",
        "install",
        "license",
        "tags",
        "version",
        "authors",
    }
    assert asked <= set(entry)
    assert entry["license"] == PROJECT["license"] and entry["install"]["pypi"] == PROJECT["name"]
    assert entry["project_home"] == PROJECT["urls"]["Source"]


@pytest.mark.parametrize("path", [*ROOT.glob(".github/**/*.yml"), *ROOT.glob(".*.yaml")], ids=lambda path: path.name)
def test_configurations_can_be_read(path):
    assert isinstance(yaml.safe_load(path.read_text()), dict)


def test_targets_that_workflows_name_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = {
        name
        for path in ROOT.glob(".github/workflows/*.yml")
        for name in re.findall(r"make ([a-z-]+)", path.read_text())
    }
    assert named and named <= targets


def test_the_wheel_runs_the_demo_outside_the_checkout(tmp_path):
    # Its dependencies are those of this environment; `make wheel-test` takes an empty one.
    pip = [sys.executable, "-m", "pip", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, ROOT], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", tmp_path / "site", wheel], check=True)
    code = (
        "import sys; sys.path.insert(0, 'site'); import omib_spatial; from omib_spatial.cli import app;"
        "assert omib_spatial.__file__.startswith(sys.argv.pop(1)), omib_spatial.__file__; app()"
    )
    size = ["--slides", "3", "--healthy", "2", "--spots", "120", "--max-epochs", "3"]
    command = [sys.executable, "-c", code, str(tmp_path / "site"), "demo", *size, "--out", "demo.png"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "demo.png").stat().st_size > 10_000
    assert (tmp_path / "site/omib_spatial/py.typed").exists() and (tmp_path / "site/omib_bench/py.typed").exists()
