import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from omib_spatial.slides.labels import FEWEST, MISSING, Labels, balanced_weights, healthy_classes, read_labels

N = 3 * FEWEST


def labelled(values) -> ad.AnnData:
    """One spot per value, whose ``obs["tissue"]`` has them."""
    obs = pd.DataFrame({"tissue": values}).set_index(np.arange(len(values)).astype(str))
    return ad.AnnData(np.zeros((len(values), 1), np.float32), obs=obs)


def parts(*values):
    """Each value `FEWEST` times."""
    return [value for value in values for _ in range(FEWEST)]


CODES = np.repeat([1, 0, -1], FEWEST)


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        (parts("b", "a", np.nan), ["a", "b"]),
        (parts("b", "a", None), ["a", "b"]),
        (parts("b", "a", "Unlabelled"), ["a", "b"]),
        (parts("b", "a", "  "), ["a", "b"]),
        (parts(True, False, None), ["False", "True"]),
        (pd.array(parts(True, False, pd.NA), dtype="boolean"), ["False", "True"]),
        (parts(1, 0, -1), ["0", "1"]),
        (parts(10, 9, -7), ["9", "10"]),
        (parts(1.0, 0.0, np.nan), ["0", "1"]),
        (pd.array(parts(1, 0, pd.NA), dtype="Int64"), ["0", "1"]),
        (pd.Categorical(parts("a", "b", None), ["b", "a", "unused"]), ["b", "a"]),
        (pd.Categorical(parts("a", "b", "undetermined"), ["undetermined", "b", "a"]), ["b", "a"]),
        (pd.Categorical(parts(1, 0, -1)), ["0", "1"]),
        (pd.Categorical(parts(1.0, 0.0, np.nan)), ["0", "1"]),
        (parts("b", 3, np.nan), ["3", "b"]),
    ],
)
def test_labels_of_every_kind_are_read(values, classes):
    labels = read_labels(labelled(values), "tissue")
    assert labels.classes == classes and labels.key == "tissue"
    np.testing.assert_array_equal(labels.codes, CODES)
    np.testing.assert_array_equal(labels.among([classes[1]]), CODES == 1)


@settings(max_examples=30)
@given(st.lists(st.sampled_from(["tumour", "stroma", "fat", *sorted(MISSING), None, np.nan]), max_size=30))
def test_every_spot_has_its_own_label_or_none(values):
    values = values + parts("tumour", "stroma", "fat")
    labels = read_labels(labelled(values), "tissue")
    named = np.array([*labels.classes, None], object)[labels.codes]
    wanted = [value if value in labels.classes else None for value in values]
    assert labels.classes == ["fat", "stroma", "tumour"] and list(named) == wanted


def test_columns_that_are_no_labels_are_refused():
    adata = labelled(parts("a", "b"))
    with pytest.raises(KeyError, match=r"'elsewhere'\] does not exist.*'tissue'"):
        read_labels(adata, "elsewhere")
    with pytest.raises(TypeError, match="0.5"):
        read_labels(labelled(parts(0.0, 0.5)), "tissue")
    with pytest.raises(ValueError, match=r"'a': 10\}, at least two"):
        read_labels(labelled(parts("a", "a", None)), "tissue")
    with pytest.raises(ValueError, match=r"\{\}, at least two"):
        read_labels(labelled(parts(np.nan, "unknown")), "tissue")
    with pytest.raises(ValueError, match=r"fewer than 5 spots: \{'rare': 4\}.*NaN"):
        read_labels(labelled(parts("a", "b") + ["rare"] * (FEWEST - 1)), "tissue")


@pytest.mark.parametrize(
    ("key", "classes", "asked", "healthy"),
    [
        ("tissue", ["Normal", "tumour"], None, ["Normal"]),
        ("tissue", ["fat", "healthy", "tumour"], None, ["healthy"]),
        ("tumour", ["False", "True"], None, ["False"]),
        ("healthy", ["False", "True"], None, ["True"]),
        ("anomaly", ["0", "1"], None, ["0"]),
        ("cancer", ["no", "yes"], None, ["no"]),
        ("tissue", ["fat", "stroma", "tumour"], ["fat", "stroma"], ["fat", "stroma"]),
        ("tissue", ["fat", "tumour"], "fat", ["fat"]),
        ("anomaly", ["0", "1"], 1, ["1"]),
        ("healthy", ["False", "True"], False, ["False"]),
        ("tissue", ["a", "b"], np.array(["b"]), ["b"]),
    ],
)
def test_the_healthy_class_is_known_by_its_name_or_told(key, classes, asked, healthy):
    assert healthy_classes(Labels(key, np.zeros(1, int), classes), asked) == healthy


@pytest.mark.parametrize(
    ("classes", "asked", "says"),
    [
        (["fat", "tumour"], None, r"\['fat', 'tumour'\]: pass healthy_label="),
        (["healthy", "normal", "tumour"], None, "does not follow"),
        (["0", "1", "2"], None, "does not follow"),
        (["fat", "tumour"], "Fat", r"\['Fat'\] is not in"),
        (["fat", "tumour"], ["fat", "tumour"], "leave out the rest"),
        (["fat", "tumour"], [], "name what is healthy"),
    ],
)
def test_what_is_healthy_is_never_guessed(classes, asked, says):
    with pytest.raises(ValueError, match=says):
        healthy_classes(Labels("tissue", np.zeros(1, int), classes), asked)


def test_beside_a_reference_no_class_need_be_healthy():
    labels = Labels("tissue", np.zeros(1, int), ["fat", "tumour"])
    assert healthy_classes(labels, required=False) == [] == healthy_classes(None)
    assert healthy_classes(labels, "fat", required=False) == ["fat"]
    with pytest.raises(ValueError, match="pass that too"):
        healthy_classes(None, "fat")


@settings(max_examples=30)
@given(st.lists(st.integers(-1, 3), max_size=40))
def test_classes_weigh_the_same(values):
    codes = np.array([*values, 0, 1, 2, 3])
    known = codes[codes >= 0]
    weights = balanced_weights(codes, 4)
    np.testing.assert_allclose(weights, compute_class_weight("balanced", classes=np.arange(4), y=known))
    assert weights[known].mean() == pytest.approx(1)
    np.testing.assert_allclose(np.bincount(known, weights[known]), len(known) / 4)
