import inspect
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import omib_spatial as omib
from omib_spatial import _checked
from omib_spatial._checked import Count, Flag, Key, KeyAdded, Seed, Share, checked, checked_fields, checked_value

INTEGERS = [int, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint32, np.uint64]


@given(st.integers(0, 100), st.sampled_from(INTEGERS))
def test_an_integer_of_any_type_becomes_pythons_own(value, kind):
    found = checked_value("seed", kind(value), Seed)
    assert type(found) is int and found == value


@given(st.integers())
def test_an_integer_is_taken_within_its_range_alone(value):
    if 0 <= value <= 2**32 - 1:
        assert checked_value("seed", value, Seed) == value
    else:
        with pytest.raises(ValueError, match=r"^seed is -?\d[\d.]*: it is an integer from 0 to 4294967295\.$"):
            checked_value("seed", value, Seed)


@given(st.floats(), st.sampled_from([float, np.float32, np.float64]))
def test_a_share_lies_between_0_and_1_and_is_no_nan(value, kind):
    with np.errstate(over="ignore"):
        value = kind(value)
    if 0 <= value <= 1:
        found = checked_value("fdr", value, Share | None)
        assert type(found) is float and found == value
    else:
        with pytest.raises(ValueError, match="fdr is .*: it is a share, from 0 to 1, or None"):
            checked_value("fdr", value, Share | None)


@pytest.mark.parametrize("value", [2.5, 3.0, "3", None, True, np.True_, [3], np.array([3])])
def test_what_is_no_integer_is_of_a_wrong_kind(value):
    with pytest.raises(TypeError, match="batch_size is .*: it is an integer of at least 1"):
        checked_value("batch_size", value, Count)


@pytest.mark.parametrize("value", [True, np.True_, np.array(0.5), np.array([0.5]), torch.tensor(0.5), "0.5", 1j, b"1"])
def test_what_can_be_turned_into_a_number_is_none(value):
    with pytest.raises(TypeError, match="fdr is .*: it is a share, from 0 to 1"):
        checked_value("fdr", value, Share)


@pytest.mark.parametrize(
    ("value", "kind"), [("a", Share), (True, Share), (1, Flag), ("yes", Flag), (5, Key), (None, Key)]
)
def test_wrong_kinds_are_type_errors(value, kind):
    with pytest.raises(TypeError, match="^name is .*: it is "):
        checked_value("name", value, kind)


@pytest.mark.parametrize("value", ["", ".", "..", "a/b", "/", " ", "a\\b", "a\nb"])
def test_names_that_a_file_cannot_keep_are_refused(value):
    with pytest.raises(ValueError, match="key_added is .*a name for results"):
        checked_value("key_added", value, KeyAdded)


@given(st.text("abcXYZ019_.- +é", min_size=1).filter(lambda text: text.strip(" .")))
def test_other_names_are_taken_as_they_are(value):
    assert checked_value("key_added", value, KeyAdded) == value


def test_long_values_are_cut_short_in_messages():
    with pytest.raises(TypeError) as caught:
        checked_value("seed", "x" * 10_000, Seed)
    assert len(str(caught.value)) < 150


@checked
def example(adata: Any, *, seed: Seed = 0, library_key: Key | None = None, other: int = 1) -> tuple[Any, ...]:
    return adata, seed, library_key, other


def test_a_function_checks_its_arguments_and_says_its_name():
    assert example("a", seed=np.int8(3), other="anything") == ("a", 3, None, "anything")
    with pytest.raises(TypeError, match=r"^example\(\) has no argument libary_key=\. Did you mean library_key=\?$"):
        example("a", libary_key="x")
    with pytest.raises(TypeError, match=r"no argument zzz=\. It has adata, seed, library_key, other\.$"):
        example("a", zzz=1)
    with pytest.raises(TypeError, match=r"^example\(\): missing a required argument: 'adata'"):
        example()
    with pytest.raises(ValueError, match="^seed is -1"):
        example("a", seed=-1)


@dataclass(frozen=True)
class Record:
    n: int = 1
    word: str = ""


def test_fields_of_a_record_are_checked_by_name():
    assert checked_fields(Record(np.int64(3), "x"), {"n": Count}) == Record(3, "x")
    with pytest.raises(ValueError, match="^n is 0: it is an integer of at least 1"):
        checked_fields(Record(0), {"n": Count})


CALLS = {
    "fit": omib.tl.fit,
    "score": omib.tl.score,
    "call": omib.tl.call,
    "regions": omib.tl.regions,
    "clones": omib.tl.clones,
    "score_files": omib.tl.score_files,
    "check": omib.pp.check,
    "find_reference": omib.pp.find_reference,
    "prepare_files": omib.pp.prepare_files,
}


@pytest.mark.parametrize("name", CALLS)
def test_a_misspelt_argument_is_answered_with_the_name_that_was_meant(name):
    with pytest.raises(TypeError, match=rf"^{name}\(\) has no argument libary_key=.*Did you mean library_key=\?$"):
        CALLS[name](None, libary_key="x")


@pytest.mark.parametrize("name", CALLS)
def test_every_number_name_and_flag_of_a_public_function_has_a_kind(name):
    kinds = _checked._known(inspect.unwrap(CALLS[name]))[1]
    plain = {"all_healthy", "question"}
    for parameter in inspect.signature(CALLS[name]).parameters.values():
        if isinstance(parameter.default, int | float | str) and parameter.name not in plain:
            assert parameter.name in kinds, parameter


@pytest.mark.parametrize("name", ["score", "call", "regions", "clones", "check", "find_reference", "fit"])
def test_a_path_in_place_of_an_anndata_is_answered_with_how_to_read_it(name):
    with pytest.raises(TypeError, match="adata is str: pass an AnnData, as anndata.read_h5ad reads it"):
        CALLS[name]("slide.h5ad", *(["model"] if name == "score" else []))


FUNCTIONS = {
    f"{room}.{name}": getattr(getattr(omib, room), name)
    for room in ("tl", "pp", "pl", "io")
    for name in getattr(omib, room).__all__
    if inspect.isfunction(getattr(getattr(omib, room), name))
} | {"report": omib.report, "read_visium": omib.read_visium, "get.regions": omib.get.regions}
FUNCTIONS |= {"get.explanation": omib.get.explanation, "datasets.simulate_tissue": omib.datasets.simulate_tissue}
FUNCTIONS |= {f"datasets.{name}": getattr(omib.datasets, name) for name in ("her2st", "mob", "cellxgene", "fetch")}
LISTS = {"tl.score_files": {"paths": ["x"]}, "pp.prepare_files": {"paths": ["x"]}}
NEEDED = {"model": None, "path": "file", "folder": "folder", "model_folder": "model"}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_function_takes_a_misspelt_argument_or_another_kind_of_first_one(name):
    function = FUNCTIONS[name]
    needed = [NEEDED[key] for key in _positional(name)[1:]]
    # What cross_fit does not know it hands on to fit, once it has looked at the slides.
    if name != "tl.cross_fit":
        with pytest.raises(TypeError, match=rf"^{function.__name__}\(\) has no argument zzyzx="):
            function(None, zzyzx=1)
    for wrong in (None, 2.5, object(), b"x"):
        with pytest.raises(TypeError, match="."):
            function(wrong, *needed)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_argument_with_a_kind_refuses_others_by_its_name(name):
    kinds = _checked._known(inspect.unwrap(FUNCTIONS[name]))[1]
    for key in kinds:
        for wrong in (object(), 1j):
            with pytest.raises((TypeError, ValueError), match=f"^{key} is "):
                FUNCTIONS[name](**{**dict.fromkeys(_positional(name), "x"), **LISTS.get(name, {}), key: wrong})


def _positional(name):
    return [
        key
        for key, parameter in inspect.signature(FUNCTIONS[name]).parameters.items()
        if parameter.default is inspect.Parameter.empty and parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
