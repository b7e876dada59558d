"""Where arguments become what they should be: types with ranges, and functions that check theirs before any work.

A parameter whose annotation is one of the types below is checked when its function is called: a wrong value is a
ValueError, a wrong kind a TypeError, both with the name, the value and what it must be.
"""

import inspect
import math
import operator
import os
import reprlib
import types
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from difflib import get_close_matches
from functools import cache, wraps
from numbers import Integral, Real
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import AfterValidator, BeforeValidator, Field, Strict, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError, core_schema

F = TypeVar("F", bound=Callable[..., Any])
R = TypeVar("R")

MAX_SEED = 2**32 - 1
"""The largest seed that numpy, scikit-learn and torch all take."""
_WRONG_KIND = ("_type", "_parsing", "is_instance_of", "none_required", "int_from_float")
"""Endings of pydantic's errors that are of a wrong kind; the others are of a wrong value."""


def _integer(value: Any) -> Any:
    """Any type of integer as Python's own; booleans are none."""
    return operator.index(value) if isinstance(value, Integral) and not isinstance(value, bool) else value


def _number(value: Any) -> float:
    """Any type of real number as Python's float; booleans and arrays are none, though they can be turned into one."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise PydanticCustomError("float_type", "another kind")
    return float(value)


def _flag(value: Any) -> Any:
    return bool(value) if type(value).__name__ in ("bool", "bool_") else value


class Integers:
    """Integers from ``low`` to ``high``, of any integer type."""

    def __init__(self, low: int, high: int | None = None) -> None:
        self.limits = {"ge": low} if high is None else {"ge": low, "le": high}
        self.description = f"an integer of at least {low}" if high is None else f"an integer from {low} to {high}"

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        return core_schema.no_info_before_validator_function(
            _integer,
            core_schema.int_schema(strict=True, **self.limits),  # type: ignore[arg-type]
        )


class Numbers:
    """Finite numbers of any type within pydantic's ``limits`` (``ge``, ``gt``, ``le``, ``lt``), which words say."""

    def __init__(self, description: str, **limits: float) -> None:
        self.limits, self.description = limits, description

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        return core_schema.no_info_before_validator_function(
            _number,
            core_schema.float_schema(strict=True, allow_inf_nan=False, **self.limits),  # type: ignore[arg-type]
        )


class Fits:
    """Whatever passes the test of its ``kind`` and then that of its ``value``, as it is."""

    def __init__(
        self, description: str, kind: Callable[[Any], bool], value: Callable[[Any], bool] = lambda value: True
    ) -> None:
        self.description, self.kind, self.value = description, kind, value

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        return core_schema.no_info_plain_validator_function(self._test)

    def _test(self, value: Any) -> Any:
        if not self.kind(value):
            raise PydanticCustomError("kind_type", "another kind")
        if not self.value(value):
            raise PydanticCustomError("value", "another value")
        return value


def is_a(*classes: type) -> Callable[[Any], bool]:
    """A test of `Fits`: an instance of one of ``classes``."""
    return lambda value: isinstance(value, classes)


def _is_path(value: Any) -> bool:
    return isinstance(value, str | os.PathLike)


def _can_be_path(value: Any) -> bool:
    return bool(os.fspath(value).strip()) and "\0" not in os.fspath(value)


def _are_names(value: Any) -> bool:
    """Text, or a list, tuple, array or column of text."""
    if isinstance(value, str):
        return True
    several = isinstance(value, Collection) and not isinstance(value, Mapping) and getattr(value, "ndim", 1) == 1
    return several and all(isinstance(name, str) for name in value)


def _are_two_numbers(value: Any) -> bool:
    return (
        isinstance(value, Collection)
        and not isinstance(value, Mapping)
        and getattr(value, "ndim", 1) == 1
        and len(value) == 2
        and all(isinstance(part, Real) and not isinstance(part, bool) for part in value)
    )


def _listed(value: Any) -> Any:
    """A list of what can be gone through, for it may be gone through but once."""
    return list(value) if isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping) else value


Seed = Annotated[int, Integers(0, MAX_SEED)]
Count = Annotated[int, Integers(1)]
Few = Annotated[int, Integers(1, 1000)]
"""Of what fits into one figure, or is done again and again."""
Many = Annotated[int, Integers(1, 100_000)]
"""Of draws: more would take days."""
Whole = Annotated[int, Integers(0)]
Share = Annotated[float, Numbers("a share, from 0 to 1", ge=0, le=1)]
InnerShare = Annotated[float, Numbers("a share above 0 and below 1", gt=0, lt=1)]
Positive = Annotated[float, Numbers("a number above 0", gt=0)]
Number = Annotated[float, Numbers("a finite number")]
NotNegative = Annotated[float, Numbers("a number of at least 0", ge=0)]
Flag = Annotated[bool, BeforeValidator(_flag), Strict(), Field(description="True or False")]
Key = Annotated[str, Strict(), Field(min_length=1, description="a name, as text that is not empty")]
KeyAdded = Annotated[
    str,
    Strict(),
    Field(
        pattern=r"^[^/\\\x00-\x1f]*[^./\\\x00-\x1f\s][^/\\\x00-\x1f]*$",
        description="a name for results, as text with a letter or digit and without '/'",
    ),
]
Text = Annotated[str, Strict(), Field(description="text")]
Names = Annotated[
    str | Sequence[str], Fits("a name, or a list of names, as text", _are_names, lambda names: len(names) > 0)
]
File = Annotated[str | Path, Fits("the path of a file or folder", _is_path, _can_be_path)]
Files = Annotated[
    Iterable[str | Path],
    Fits(
        "a list of paths",
        lambda paths: isinstance(paths, list) and all(map(_is_path, paths)),
        lambda paths: all(map(_can_be_path, paths)),
    ),
    BeforeValidator(_listed),
]
SaveAs = Annotated[
    str | Path | bool,
    Fits("the name of a file, True or False", lambda name: isinstance(name, bool) or _is_path(name)),
]
FigSize = Annotated[
    tuple[float, float],
    Fits(
        "a width and a height in inches, two numbers above 0 and up to 300",
        _are_two_numbers,
        lambda size: all(math.isfinite(part) and 0 < part <= 300 for part in size),
    ),
]
PositivePair = Annotated[
    tuple[float, float],
    Fits("two numbers above 0", _are_two_numbers, lambda pair: all(math.isfinite(part) and part > 0 for part in pair)),
    AfterValidator(lambda pair: tuple(map(float, pair))),
]
CountsKind = Literal["raw", "corrected"]
Accelerator = Literal["auto", "cpu", "gpu", "cuda", "mps"]


def checked_value(name: str, value: Any, kind: Any) -> Any:
    """``value`` as what ``kind`` says.

    Parameters
    ----------
    name
        Of the argument.
    value
        That was given.
    kind
        One of the types here, alone or beside None.

    Raises
    ------
    ValueError
        It is out of range.
    TypeError
        It is of another kind.
    """
    try:
        return _adapter(kind).validate_python(value)
    except ValidationError as error:
        # Of alternatives, one that is of the right kind tells more.
        wrong_value = any(not found["type"].endswith(_WRONG_KIND) for found in error.errors())
        message = f"{name} is {reprlib.repr(value)}: it is {_in_words(kind)}."
        raise (ValueError if wrong_value else TypeError)(message) from None


def checked_fields(record: R, kinds: Mapping[str, Any]) -> R:
    """A dataclass with each field as its kind says; `checked_value` raises what is wrong.

    Parameters
    ----------
    record
        Instance of a dataclass.
    kinds
        By field; the others are taken as they are.
    """
    values = {f.name: getattr(record, f.name) for f in fields(record)}  # type: ignore[arg-type]
    changed = {name: checked_value(name, values[name], kind) for name, kind in kinds.items()}
    return replace(record, **changed)  # type: ignore[type-var]


def checked_arguments(function: Callable[..., Any], args: Iterable[Any], kwargs: Mapping[str, Any]) -> Any:
    """Arguments bound to the parameters of ``function``, those with one of the types here checked.

    Raises
    ------
    TypeError
        An argument that it does not have, with the closest one that it has; one that is missing, or of a wrong kind.
    ValueError
        One out of its range.
    """
    signature, kinds = _known(function)
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(_unbound(function, signature, kwargs, error)) from None
    for name, kind in kinds.items():
        if name in bound.arguments:
            bound.arguments[name] = checked_value(name, bound.arguments[name], kind)
    return bound


def checked(function: F) -> F:
    """Let a function check its arguments before it does anything (`checked_arguments`)."""

    @wraps(function)
    def with_checks(*args: Any, **kwargs: Any) -> Any:
        bound = checked_arguments(function, args, kwargs)
        return function(*bound.args, **bound.kwargs)

    return with_checks  # type: ignore[return-value]


def _unbound(
    function: Callable[..., Any], signature: inspect.Signature, given: Mapping[str, Any], error: TypeError
) -> str:
    name = function.__qualname__.removesuffix(".__init__").rpartition(".")[2]
    strange = [key for key in given if key not in signature.parameters]
    if not strange:
        return f"{name}(): {error}."
    close = get_close_matches(strange[0], list(signature.parameters), n=1)
    hint = f" Did you mean {close[0]}=?" if close else f" It has {', '.join(signature.parameters)}."
    return f"{name}() has no argument {strange[0]}=.{hint}"


@cache
def _known(function: Callable[..., Any]) -> tuple[inspect.Signature, dict[str, Any]]:
    """Signature of a function, and the kind of each parameter that has one."""
    signature = inspect.signature(function)
    return signature, {name: p.annotation for name, p in signature.parameters.items() if _is_kind(p.annotation)}


def _is_kind(annotation: Any) -> bool:
    if get_origin(annotation) in (Union, types.UnionType):
        return all(_is_kind(part) or part is type(None) for part in get_args(annotation))
    return get_origin(annotation) in (Annotated, Literal)


_adapter = cache(TypeAdapter)


def _in_words(kind: Any) -> str:
    *others, last = _words(kind)
    return f"{', '.join(others)}{',' if ',' in ''.join(others) else ''} or {last}" if others else last


def _words(kind: Any) -> list[str]:
    if get_origin(kind) in (Union, types.UnionType):
        return [word for part in get_args(kind) for word in _words(part)]
    if get_origin(kind) is Literal:
        return [repr(value) for value in get_args(kind)]
    described = [part.description for part in getattr(kind, "__metadata__", ()) if hasattr(part, "description")]
    return described or ["None" if kind is type(None) else getattr(kind, "__name__", str(kind))]
