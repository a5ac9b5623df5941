from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from edgekit import strict_json

documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(documents)
def test_no_document_holds_a_constant_that_json_lacks(document: object) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    json.loads(strict_json.dumps(document), parse_constant=refuse)


def test_infinities_and_nan_are_strings() -> None:
    text = strict_json.dumps({"a": [float("inf"), float("-inf"), float("nan")], "b": (1.5,)})
    assert json.loads(text) == {"a": ["Infinity", "-Infinity", "NaN"], "b": [1.5]}
