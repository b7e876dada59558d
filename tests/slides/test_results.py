import anndata as ad
import pytest

from omib_spatial.slides.results import check_results, recorded_params


@pytest.mark.parametrize("uns", [{}, {"omib": None}, {"omib": "x"}, {"omib": {}}, {"omib": {"params": "x"}}])
def test_of_a_record_that_is_lost_or_something_else_there_are_no_parameters(uns):
    assert dict(recorded_params(uns, "omib")) == {}


def test_parameters_are_those_that_were_recorded():
    assert recorded_params({"omib": {"params": {"seed": 1}}}, "omib") == {"seed": 1}


@pytest.mark.parametrize("part", ["params", "history", "genome", "groups", "shifts", "modalities"])
def test_a_part_of_a_record_that_is_text_is_named(part):
    adata = ad.AnnData(uns={"omib": {"params": {}, part: "text"}})
    with pytest.raises(ValueError, match=rf"uns\['omib'\]\['{part}'\] is str: it was changed after"):
        check_results(adata, "omib")
