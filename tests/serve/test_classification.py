from __future__ import annotations

import json

import ml_dtypes
import numpy as np
import pytest
from starlette.testclient import TestClient

from edgekit.bundle import Bundle
from edgekit.serve.classification import best, classified
from edgekit.serve.errors import ServeError
from edgekit.verify import Reference

SCORES = np.array([[0.5, 2.0, -1.0], [9.0, 9.0, 1.0]], np.float32)


def test_the_best_classes_come_first_and_equals_in_order() -> None:
    assert best(SCORES, 2).tolist() == [[1, 0], [0, 1]]


def test_a_class_is_value_index_and_label() -> None:
    found = classified("logits", SCORES, 1, ["cat", "dog", "cow"])
    assert found.tolist() == [[b"2.000000:1:dog"], [b"9.000000:0:cat"]]


def test_labels_that_are_not_one_a_class_are_left_out() -> None:
    assert classified("logits", SCORES, 1, ["cat"]).tolist() == [[b"2.000000:1"], [b"9.000000:0"]]


def test_more_classes_than_there_are_gives_all() -> None:
    assert classified("logits", SCORES, 99).shape == (2, 3)


def test_bfloat16_has_classes_too() -> None:
    assert classified("x", SCORES.astype(ml_dtypes.bfloat16), 1)[0, 0] == b"2.000000:1"


@pytest.mark.parametrize("array", [np.float32(1).reshape(()), np.array([True])])
def test_an_output_without_scores_is_refused(array: np.ndarray) -> None:
    with pytest.raises(ServeError, match="no scores"):
        classified("x", array, 1)


def test_the_server_answers_classes_where_they_are_asked_for(
    client: TestClient, bundle: Bundle
) -> None:
    image = Reference.load(bundle.path / "reference.npz").feeds[0]["image"]
    entry = {"name": "image", "shape": list(image.shape), "datatype": "FP32"}
    request = {
        "inputs": [{**entry, "data": image.ravel().tolist()}],
        "outputs": [{"name": "logits", "parameters": {"classification": 3}}],
    }
    answer = client.post("/v2/models/residual/infer", content=json.dumps(request))
    (output,) = answer.json()["outputs"]
    assert output["datatype"] == "BYTES"
    assert output["shape"] == [len(image), 3]
    values = [float(one.split(":")[0]) for one in output["data"][:3]]
    assert values == sorted(values, reverse=True)
