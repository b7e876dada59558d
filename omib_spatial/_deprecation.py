"""Old names that work for one version more."""

import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def renamed_arguments(**new_names: str) -> Callable[[F], F]:
    """Let a function take arguments under their old names, with a warning that says the new one.

    Parameters
    ----------
    new_names
        New name by old name.
    """

    def decorate(function: F) -> F:
        @wraps(function)
        def with_old_names(*args: Any, **kwargs: Any) -> Any:
            for old in kwargs.keys() & new_names.keys():
                new = new_names[old]
                if new in kwargs:
                    raise TypeError(f"{old}= is the old name of {new}=: pass the latter alone.")
                warnings.warn(f"{old}= is now {new}=, and will go with the next version.", FutureWarning, stacklevel=2)
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return with_old_names  # type: ignore[return-value]

    return decorate
