"""What a user sets once for all calls, or by environment variables."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any

FIGURE_FORMATS = ("png", "pdf", "svg", "jpg", "jpeg", "tif", "tiff", "webp")
"""Endings of pictures that plots write."""
_MEANINGS = {
    "verbosity": "0 (errors and warnings), 1 (verdicts and a progress bar too) or 2 (what is written where, too)",
    "figure_format": f"one of {', '.join(FIGURE_FORMATS)}",
    "figure_dpi": "a number of dots per inch from 30 to 1200",
    "cache": "the name of a folder",
    "n_threads": "a number of threads, at least 1",
}
RESULT = logging.INFO + 5
"""Level of the log at which results are told: more than what is written where, less than a warning."""
VERDICTS = "omib_spatial.verdicts"
"""Logger of what is concluded of each slide, a child of ``"omib_spatial"``, for programs that print it themselves."""
_LEVELS = (logging.WARNING, RESULT, logging.INFO)
_NONE_ALLOWED = ("cache", "n_threads")


@dataclass
class Settings:
    """Settings of the package: assign to them, or set ``OMIB_VERBOSITY`` and so on before Python starts.

    Attributes
    ----------
    verbosity
        0 says errors and warnings alone, 1 (the default) the verdict on each slide and a progress bar too, 2 also what
        is written where. Where the program logs by handlers of its own, these get the lines, of the logger
        ``"omib_spatial"``.
    figure_format
        Ending of pictures that plots write under a name of their own (``save=True``).
    figure_dpi
        Dots per inch of pictures; the default, 150, keeps maps of many slides below 2 MB.
    cache
        Folder of downloads; None takes ``OMIB_CACHE``, else the system's for caches.
    n_threads
        Threads of torch; None takes one in training, and all cores where pictures are convolved and spots scored,
        or what ``OMP_NUM_THREADS`` says in both. One is fastest for networks of this size beside other work: threads
        that wait for each other wait for the neighbours, too.

    Examples
    --------
    >>> import omib_spatial as omib
    >>> omib.settings.verbosity = 1
    """

    verbosity: int = 1
    figure_format: str = "png"
    figure_dpi: int = 150
    cache: str | None = field(default=None)
    n_threads: int | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        """Set, or raise for what is no setting or no value of one."""
        known = [each.name for each in fields(self)]
        if name not in known:
            raise AttributeError(f"There is no setting {name!r}: known are {', '.join(known)}.")
        object.__setattr__(self, name, _checked(name, value))
        if name == "verbosity":
            logging.getLogger("omib_spatial").setLevel(_LEVELS[self.verbosity])

    def reset(self) -> None:
        """Back to the defaults and the environment's values."""
        for each in fields(self):
            setattr(self, each.name, _from_environment(each.name, each.default))


def _checked(name: str, value: Any) -> Any:
    """A valid value; ValueError says what would be one."""
    if value is None and name in _NONE_ALLOWED:
        return None
    try:
        if name == "figure_format":
            value = str(value).lower().lstrip(".")
            good = value in FIGURE_FORMATS
        elif name == "cache":
            value, good = os.fspath(value), True
        else:
            low, high = {"verbosity": (0, 2), "figure_dpi": (30, 1200), "n_threads": (1, 4096)}[name]
            good = not isinstance(value, bool) and float(value) == int(value) and low <= int(value) <= high
            value = int(value)
    except (TypeError, ValueError):
        good = False
    if not good:
        raise ValueError(f"settings.{name} is {value!r}: it is {_MEANINGS[name]}.")
    return value


def _from_environment(name: str, default: Any) -> Any:
    text = os.environ.get(f"OMIB_{name.upper()}")
    # The cache's variable is read anew with every download.
    if not text or name == "cache":
        return default
    try:
        return _checked(name, text)
    except ValueError:
        raise ValueError(
            f"The environment variable OMIB_{name.upper()} is {text!r}: it is {_MEANINGS[name]}."
        ) from None


@contextmanager
def muted() -> Iterator[None]:
    """Say no verdicts: for whoever tells the result in another way."""
    logger = logging.getLogger(VERDICTS)
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)


class _Voice(logging.Handler):
    """Prints lines where nobody else would."""

    def emit(self, record: logging.LogRecord) -> None:
        if not logging.getLogger().handlers:
            print(self.format(record), file=sys.stderr)


logging.getLogger("omib_spatial").addHandler(_Voice())
settings = Settings()
settings.reset()
