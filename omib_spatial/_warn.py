"""Warnings of this package: they point at the user's line, and can be told from those of other libraries."""

import sys
import warnings
from pathlib import Path
from types import TracebackType
from typing import Any

_HOME = str(Path(__file__).parent)


class OmibWarning(UserWarning):
    """What this package says to the user."""


class ScoredWarning(OmibWarning):
    """What is odd of slides as a model scored them: it is said again whenever they are scored by it."""


def warn(message: str, category: type[Warning] = OmibWarning) -> None:
    """Warn at the first line outside the package, however deep in it the warning comes from.

    Parameters
    ----------
    message
        In words for the user.
    category
        `OmibWarning`, or FutureWarning for an old name.
    """
    level, frame = 1, sys._getframe(1)
    # Decorators of the package lie between its functions and the user: their frames are the package's too.
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_HOME):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level + 1)


class EachOnce:
    """Hold this package's warnings back, and give every different one once at the end.

    For work that is done several times on much the same data. Warnings of other libraries go unheld.

    Parameters
    ----------
    left_out
        Beginnings of warnings that are not given: the caller says the same of all the work together.
    """

    def __init__(self, *left_out: str) -> None:
        self.left_out = left_out
        self.held: dict[str, type[Warning]] = {}
        self._catching = warnings.catch_warnings()

    def __enter__(self) -> None:
        """Begin to hold."""
        self._catching.__enter__()
        warnings.simplefilter("always", OmibWarning)
        self._shown = warnings.showwarning
        warnings.showwarning = self._hold

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give what was held, whether or not the work failed."""
        self._catching.__exit__(kind, error, trace)
        for message, category in self.held.items():
            if not message.startswith(self.left_out):
                warn(message, category)

    def _hold(self, message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if issubclass(category, OmibWarning):
            self.held.setdefault(str(message), category)
        else:
            self._shown(message, category, *place, **more)
