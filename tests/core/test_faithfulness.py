"""docs/faithfulness.md maps the paper's equations to names; here the names and their numbers are looked up."""

import importlib
import inspect
import pkgutil
import re
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest

from omib_spatial import core

TEXT = (Path(__file__).parents[2] / "docs" / "faithfulness.md").read_text(encoding="utf-8")
CELLS = re.compile(r"^\| \((\d+)\) \| (.+?) \| (.+) \|$", re.MULTILINE)
ROWS = {int(number): here for number, _, here in CELLS.findall(TEXT)}
THEORY = "Theory only"
UNNUMBERED = re.findall(
    r"^\| .+ \| (.+) \|$", TEXT.partition("Without a number in the paper:")[2].partition("\n## ")[0], re.M
)
MODULES = [importlib.import_module(f"{core.__name__}.{m.name}") for m in pkgutil.iter_modules(core.__path__)]


def names(cell: str) -> list[str]:
    """Names in backticks; an argument such as ``beta=`` is none."""
    return [name for name in re.findall(r"`([^`]+)`", cell) if re.fullmatch(r"[A-Za-z_.]+", name)]


def found(name: str) -> Any:
    """What a name such as ``OMIB.forward`` stands for in `omib_spatial.core`."""
    for module in MODULES:
        try:
            return attrgetter(name)(module)
        except AttributeError:
            continue
    raise AttributeError(f"docs/faithfulness.md names {name}, which is nowhere in omib_spatial.core.")


def test_every_equation_from_2_to_21_has_one_row():
    assert [int(n) for n, *_ in CELLS.findall(TEXT)] == list(range(2, 22))


@pytest.mark.parametrize("number", range(2, 12))
def test_mapped_names_exist_and_carry_the_number(number):
    mapped = names(ROWS[number])
    assert mapped and not ROWS[number].startswith(THEORY)
    for name in mapped:
        written = inspect.getsource(found(name))
        spans = [range(int(a), int(b) + 1) for a, b in re.findall(r"\((\d+)\) to \((\d+)\)", written)]
        assert f"({number})" in written or any(number in span for span in spans), f"{name} does not name ({number})"


@pytest.mark.parametrize("number", range(12, 22))
def test_theory_is_said_to_be_theory(number):
    assert ROWS[number].startswith(THEORY)
    for name in names(ROWS[number]):
        found(name)


def test_names_without_a_number_exist():
    mapped = [name for cell in UNNUMBERED for name in names(cell)]
    assert {"beta_bounds", "Mine"} <= set(mapped)
    for name in mapped:
        found(name)


def test_no_equation_is_named_in_core_that_the_table_does_not_have():
    written = "".join(inspect.getsource(module) for module in MODULES)
    numbers = {int(n) for n in re.findall(r"equations? \((\d+)\)", written)}
    assert set(range(2, 12)) <= numbers <= set(ROWS)


def test_a_name_that_is_not_there_is_found_out():
    with pytest.raises(AttributeError, match="NoSuchThing"):
        found("OMIB.NoSuchThing")
