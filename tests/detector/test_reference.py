import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from omib_spatial.detector.reference import Reference

MASKS = arrays.arrays(bool, 12)
LABELS = st.none() | arrays.arrays(np.int64, 12, elements=st.integers(-1, 2))


@given(MASKS, LABELS, st.none() | MASKS, MASKS)
def test_sets_of_spots_fit_together(spots, labels, healthy_side, held_out):
    reference = Reference(spots, labels, healthy_side=healthy_side)
    assert reference.found == (healthy_side is not None)
    assert not (reference.beside & spots).any()
    if reference.found:
        np.testing.assert_array_equal(reference.beside | spots, healthy_side | spots)
    assert (reference.known >= spots).all() and (reference.known >= reference.taught).all()
    less = reference.without(held_out)
    assert not ((less.spots | less.taught) & held_out).any()
    np.testing.assert_array_equal(less.spots | (spots & held_out), spots)
    np.testing.assert_array_equal(less.taught, reference.taught & ~held_out)
    assert less.healthy_side is healthy_side


def test_labelled_spots_are_known_and_the_rest_of_the_healthy_side_without_labels_only():
    spots, side = np.array([True, False, False, False]), np.array([True, True, False, False])
    labels = np.array([-1, -1, 1, -1])
    assert Reference(spots).known.tolist() == [True, False, False, False]
    assert Reference(spots, healthy_side=side).known.tolist() == [True, True, False, False]
    assert Reference(spots, labels, healthy_side=side).known.tolist() == [True, False, True, False]
    assert Reference(spots, labels).taught.tolist() == [False, False, True, False]
