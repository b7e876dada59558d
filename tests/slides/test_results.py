import pytest

from omib_spatial.slides.results import recorded_params


@pytest.mark.parametrize("uns", [{}, {"omib": None}, {"omib": "x"}, {"omib": {}}, {"omib": {"params": "x"}}])
def test_of_a_record_that_is_lost_or_something_else_there_are_no_parameters(uns):
    assert dict(recorded_params(uns, "omib")) == {}


def test_parameters_are_those_that_were_recorded():
    assert recorded_params({"omib": {"params": {"seed": 1}}}, "omib") == {"seed": 1}
