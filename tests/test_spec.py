from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.errors import SpecError
from edgekit.manifest import Spec
from edgekit.spec import DTYPES, TensorSpec, check_feeds

IMAGE = TensorSpec("image", "float32", ("batch", 3, 4))
MASK = TensorSpec("mask", "int64", ("batch",))


def test_feeds_that_fit_give_the_dynamic_sizes() -> None:
    feeds = {"image": np.zeros((5, 3, 4), np.float32), "mask": np.zeros(5, np.int64)}
    assert check_feeds([IMAGE, MASK], feeds) == {"batch": 5}


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((5, 3, 4)), "dtype is float64, expected float32"),
        (np.zeros((5, 3), np.float32), "2 dimensions instead of 3"),
        (np.zeros((5, 2, 4), np.float32), "axis 1 is 2, expected 3"),
        (np.zeros((4, 3, 4), np.float32), "axis 0 (batch) is 5, expected 4"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named_with_the_reason(
    image: np.ndarray, message: str
) -> None:
    with pytest.raises(SpecError) as caught:
        check_feeds([IMAGE, MASK], {"image": image, "mask": np.zeros(5, np.int64)})
    assert message in str(caught.value)


def test_a_missing_input_suggests_the_nearest_name() -> None:
    with pytest.raises(SpecError, match="did you mean 'imagee'"):
        check_feeds([IMAGE], {"imagee": np.zeros((1, 3, 4), np.float32)})


def test_an_unknown_input_is_refused() -> None:
    feeds = {"image": np.zeros((1, 3, 4), np.float32), "extra": np.zeros(1)}
    with pytest.raises(SpecError, match="'extra' is not an input"):
        check_feeds([IMAGE], feeds)


def test_unknown_dtype_and_negative_dimension_are_refused() -> None:
    with pytest.raises(SpecError, match="complex64"):
        TensorSpec("x", "complex64", (1,))
    with pytest.raises(SpecError, match="negative"):
        TensorSpec("x", "float32", (-1,))


@given(
    st.sampled_from(DTYPES),
    st.lists(st.one_of(st.integers(0, 9), st.text(min_size=1, max_size=5)), max_size=4),
)
def test_a_spec_survives_the_manifest(dtype: str, shape: list[int | str]) -> None:
    spec = TensorSpec("x", dtype, tuple(shape))
    assert Spec.model_validate_json(Spec.of(spec).model_dump_json()).tensor == spec


def test_concrete_replaces_dynamic_dimensions_only() -> None:
    assert IMAGE.concrete({"batch": 7}) == (7, 3, 4)
    assert IMAGE.concrete({}) == (1, 3, 4)
