import warnings

import pytest

from omib_spatial._deprecation import renamed_arguments


@renamed_arguments(old="new", former="latter")
def called(first: int, *, new: int = 1, latter: int = 2) -> tuple[int, int, int]:
    """Says what it was given."""
    return first, new, latter


def test_old_names_reach_the_new_with_a_warning_that_names_both():
    with pytest.warns(FutureWarning, match="old= is now new=") as caught:
        assert called(0, old=5) == (0, 5, 2)
    assert [warning.filename for warning in caught] == [__file__]
    with pytest.warns(FutureWarning) as caught:
        assert called(0, old=5, former=6) == (0, 5, 6)
    assert len(caught) == 2


def test_new_names_pass_in_silence_and_the_function_is_as_it_was():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert called(0) == (0, 1, 2) and called(0, new=3, latter=4) == (0, 3, 4)
    assert called.__name__ == "called" and called.__doc__ == "Says what it was given."


def test_both_names_at_once_and_unknown_ones_are_refused():
    with pytest.raises(TypeError, match="old= is the old name of new="):
        called(0, old=5, new=3)
    with pytest.raises(TypeError, match="other"):
        called(0, other=1)
