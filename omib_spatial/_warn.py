"""Warnings of this package: they point at the user's line, and can be told from those of other libraries."""

import sys
import warnings
from pathlib import Path

_HOME = str(Path(__file__).parent)


class OmibWarning(UserWarning):
    """What this package says to the user."""


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
