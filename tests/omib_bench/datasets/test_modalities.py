import numpy as np
import pytest

from omib_spatial.datasets import two_modalities


@pytest.mark.parametrize(("case", "widths"), [("I", (1100, 700)), ("II", (700, 1100)), ("III", (900, 900))])
def test_sizes_are_the_papers(case, widths):
    data = two_modalities(case, n_train=9, n_test=1)
    assert (data.x1.shape, data.x2.shape) == ((10, widths[0]), (10, widths[1]))
    assert data.x1.dtype == data.x2.dtype == np.float32


def test_modalities_share_their_first_and_third_block_and_nothing_else():
    data = two_modalities("III", n_train=2000, n_test=0, superfluous=50)
    np.testing.assert_array_equal(data.x1[:, :200], data.x2[:, :200])
    np.testing.assert_array_equal(data.x1[:, 250:450], data.x2[:, 250:450])
    np.testing.assert_array_equal(data.relevant["a0"], data.x1[:, 250:450])
    np.testing.assert_array_equal(data.relevant["a1"], data.x1[:, 450:])
    np.testing.assert_array_equal(data.relevant["a2"], data.x2[:, 450:])
    own = [np.hstack([x[:, 200:250], x[:, 450:]]) for x in (data.x1, data.x2)]
    correlation = own[0].T @ own[1] / len(own[0])
    assert np.abs(correlation).max() < 6 / np.sqrt(2000)


def test_label_is_the_sign_of_the_relevant_blocks():
    data = two_modalities("II", n_train=500, n_test=100, seed=3)
    margin = sum(data.relevant[name] @ delta for name, delta in data.weights.items())
    np.testing.assert_array_equal(data.y, margin > 0)
    assert data.n_train == 500 and set(data.y) == {0, 1}


@pytest.mark.parametrize("known", [["a0"], ["a1"], ["a1", "a2"], ["a0", "a2"]])
def test_bayes_accuracy_is_that_of_the_best_classifier(known):
    data = two_modalities("I", n_train=40_000, n_test=0, superfluous=1)
    guess = sum(data.relevant[name] @ data.weights[name] for name in known) > 0
    assert (guess == data.y).mean() == pytest.approx(data.bayes_accuracy(known), abs=4 * 0.5 / np.sqrt(40_000))


def test_bayes_accuracy_of_everything_is_1():
    assert two_modalities(n_train=1, n_test=1).bayes_accuracy(["a0", "a1", "a2"]) == 1


def test_seed_decides():
    first, again, other = (two_modalities(n_train=3, n_test=1, seed=s) for s in (0, 0, 1))
    np.testing.assert_array_equal(first.x2, again.x2)
    assert not np.array_equal(first.x2, other.x2)


def test_unknown_case_is_named():
    with pytest.raises(ValueError, match="I, II, III, not 'IV'"):
        two_modalities("IV")
