from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.serve.ensemble_file import EnsembleError, Plan, Signature, read_plan, typed
from edgekit.spec import TensorSpec

#: A detector, crops of what it finds, and a recogniser of those.
GOOD = """
inputs:
  - {name: image, datatype: FP32, shape: [-1, 1, 56, 112]}
steps:
  - {model: digits, version: 2, inputs: {image: crops}, outputs: {logits: logits}}
  - {op: argmax, inputs: {values: logits}, outputs: {indices: found}}
  - {op: crop, size: [28, 28], inputs: {image: image, boxes: boxes}, outputs: {crops: crops}}
  - {model: detector, inputs: {image: image}, outputs: {boxes: boxes}}
outputs: [boxes, found]
"""
DETECTOR = Signature(
    (TensorSpec("image", "float32", ("batch", 1, "height", "width")),),
    (
        TensorSpec("boxes", "float32", ("batch", 2, 4)),
        TensorSpec("size", "float32", ("batch", "height")),
    ),
)
DIGITS = Signature(
    (TensorSpec("image", "float32", ("batch", 1, 28, 28)),),
    (TensorSpec("logits", "float32", ("batch", 10)),),
)
MODELS = {0: DIGITS, 3: DETECTOR}


def _plan(folder: Path, text: str) -> Plan:
    path = folder / "pipeline.ensemble.yaml"
    path.write_text(text)
    return read_plan(path)


def test_the_steps_are_ordered_by_what_they_need(tmp_path: Path) -> None:
    plan = _plan(tmp_path, GOOD)
    assert plan.order == (3, 2, 0, 1)
    assert plan.needs == ((2,), (0,), (3,), ())
    assert plan.models[0].version == "2"
    assert plan.inputs == (TensorSpec("image", "float32", ("batch", 1, 56, 112)),)


def test_the_outputs_have_the_types_that_the_steps_give(tmp_path: Path) -> None:
    boxes, found = typed(_plan(tmp_path, GOOD), MODELS)
    assert boxes == TensorSpec("boxes", "float32", ("batch", 2, 4))
    assert found == TensorSpec("found", "int64", ("crops",))


def test_sizes_that_are_known_go_on(tmp_path: Path) -> None:
    text = GOOD.replace("[-1, 1, 56, 112]", "[3, 1, 56, rows]")
    text = text.replace("{boxes: boxes}}\n", "{boxes: boxes, size: size}}\n")
    text = text.replace("[boxes, found]", "[boxes, found, size]")
    outputs = typed(_plan(tmp_path, text), MODELS)
    assert [spec.shape for spec in outputs] == [(3, 2, 4), (6,), (3, 56)]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("inputs: {image: crops}", "inputs: {image: crop}", "tensor 'crop', which nothing makes, "),
        ("[boxes, found]", "[boxes, fund]", "'fund' is made by no step, did you mean 'found'"),
        ("[boxes, found]", "[boxes, boxes]", "an output is named twice"),
        ("{indices: found}", "{indices: boxes}", "'boxes' is made twice, by step 2 and by step 4"),
        ("{indices: found}", "{indices: image}", "made twice, by an input and by step 2"),
        (
            "{image: image}, outputs: {boxes",
            "{image: found}, outputs: {boxes",
            "steps wait for each other",
        ),
        ("FP32", "FP31", "datatype 'FP31' is not supported"),
        ("FP32", "BYTES", "dtype 'object' is not supported"),
        (
            "[-1, 1, 56, 112]",
            "[-2, 1, 56, 112]",
            "inputs.0.shape.0.constrained-int: Input should be",
        ),
        ("op: argmax", "op: argmin", "steps.1: Input tag 'argmin' found"),
        ("size: [28, 28], ", "", "steps.2.crop.size: Field required"),
        ("size: [28, 28]", "size: [0, 28]", "steps.2.crop.size.0: Input should be greater"),
        ("version: 2", "verison: 2", "steps.0.model.verison: Extra inputs are not permitted"),
        ("outputs: [boxes, found]", "outputs: []", "outputs: Tuple should have at least 1"),
        ("outputs: [boxes, found]", "", "outputs: Field required"),
        ("outputs: {boxes: boxes}", "outputs: {}", "steps.3.model.outputs: Dictionary should"),
        ("steps:", "steps: [", "is not YAML"),
    ],
)
def test_a_file_that_makes_no_sense_is_one_line(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert old in GOOD
    with pytest.raises(EnsembleError) as caught:
        _plan(tmp_path, GOOD.replace(old, new))
    assert message in str(caught.value)
    assert str(tmp_path / "pipeline.ensemble.yaml") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "x", "inputs: 1", "{a: *b}", "!!python/object:os.x {}"])
def test_what_is_no_ensemble_is_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(EnsembleError) as caught:
        _plan(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_the_cycle_is_told(tmp_path: Path) -> None:
    with pytest.raises(EnsembleError, match=r"\d -> \d -> \d -> \d -> \d"):
        _plan(tmp_path, GOOD.replace("{image: image}, outputs: {b", "{image: found}, outputs: {b"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{image: crops}", "{imag: crops}", "step 1 (model 'digits'): it has no input 'imag', did"),
        ("{image: crops}", "{image: crops, x: image}", "it has no input 'x'"),
        ("{logits: logits}", "{logit: logits}", "no output 'logit', did you mean 'logits'"),
        ("{values: logits}", "{value: logits}", "step 2 (argmax): it has no input 'value'"),
        ("{indices: found}", "{index: found}", "step 2 (argmax): it has no output 'index'"),
        ("boxes: boxes}, outputs: {c", "x: boxes}, outputs: {c", "step 3 (crop): it has no input"),
        ("image: image, boxes: boxes", "image: image", "its input 'boxes' gets no tensor"),
        ("datatype: FP32", "datatype: FP16", "'image' is float32, tensor 'image' is float16"),
        ("[-1, 1, 56, 112]", "[-1, 56, 112]", "tensor 'image' has [batch, 56, 112]"),
        ("[-1, 1, 56, 112]", "[-1, 3, 56, 112]", "'image' has the shape [batch, 1, height, width]"),
        ("size: [28, 28]", "size: [28, 32]", "tensor 'crops' has [crops, 1, 28, 32]"),
        ("boxes: boxes}, outputs: {c", "boxes: image}, outputs: {c", "it must be float N x K x 4"),
    ],
)
def test_steps_that_do_not_fit_together_are_one_line(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert old in GOOD
    plan = _plan(tmp_path, GOOD.replace(old, new))
    with pytest.raises(EnsembleError) as caught:
        typed(plan, MODELS)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_equal_names_of_sizes_must_be_equal_sizes(tmp_path: Path) -> None:
    both = Signature(
        (TensorSpec("a", "float32", ("n", 2)), TensorSpec("b", "float32", ("n", 2))),
        (TensorSpec("y", "float32", ("n",)),),
    )
    text = """
inputs:
  - {name: a, datatype: FP32, shape: [3, 2]}
  - {name: b, datatype: FP32, shape: [%s, 2]}
steps: [{model: m, inputs: {a: a, b: b}, outputs: {y: y}}]
outputs: [y]
"""
    assert typed(_plan(tmp_path, text % 3), {0: both})[0].shape == (3,)
    with pytest.raises(EnsembleError, match=r"input 'b' has the shape \[n, 2\]"):
        typed(_plan(tmp_path, text % 4), {0: both})
