from __future__ import annotations

from edgekit.runtimes.timer import Executed, Graph, Operator, Tensor

from edgekit.profile.layers.mapping import map_modules


def _graph(*operators: Operator, **notes: str) -> Graph:
    return Graph(operators, {"w": Tensor("float32", (4, 4), stored=True)}, notes)


CONV = Operator("conv", "Conv", ("x", "w"), ("c",))
ADD = Operator("add", "Add", ("c", "x"), ("a",))
RELU = Operator("relu", "Relu", ("a",), ("r",))
HEAD = Operator("head", "MatMul", ("r", "w"), ("y",))
NOTES = {"c": "block.conv (Conv2d)", "a": "block (Block)", "r": "block.relu (ReLU)", "y": "head"}


def test_a_kernel_named_after_its_first_operator_has_what_follows_up_to_the_next() -> None:
    executed = [
        Executed("c_nchwc", "Conv", computes=("c",)),
        Executed("h", "Gemm", computes=("y",)),
    ]
    mapped = map_modules(executed, _graph(CONV, ADD, RELU, HEAD, **NOTES))
    assert mapped.operators(0) == (CONV, ADD, RELU)
    assert mapped.modules(0) == ("block.conv (Conv2d)", "block (Block)", "block.relu (ReLU)")
    assert mapped.operators(1) == (HEAD,)


def test_a_kernel_named_after_its_last_operator_has_the_product_before() -> None:
    executed = [Executed("k", "Conv", computes=("r",)), Executed("h", "Gemm", computes=("head",))]
    mapped = map_modules(executed, _graph(CONV, RELU_OF_CONV, HEAD, **NOTES))
    assert mapped.operators(0) == (CONV, RELU_OF_CONV)


RELU_OF_CONV = Operator("relu", "Relu", ("c",), ("r",))


def test_what_is_dequantized_belongs_to_its_reader_and_what_is_quantized_to_its_maker() -> None:
    quantize = Operator("q", "QuantizeLinear", ("r",), ("q",))
    dequantize = Operator("d", "DequantizeLinear", ("q",), ("d",))
    head = Operator("head", "MatMul", ("d", "w"), ("y",))
    executed = [
        Executed("k", "QLinearConv", computes=("conv",)),
        Executed("h", "QGemm", computes=("head",)),
    ]
    mapped = map_modules(executed, _graph(CONV, RELU_OF_CONV, quantize, dequantize, head, **NOTES))
    assert mapped.operators(0) == (CONV, RELU_OF_CONV, quantize)
    assert mapped.operators(1) == (dequantize, head)


def test_what_an_engine_inserted_is_of_the_module_that_it_feeds() -> None:
    executed = [
        Executed("k", "Conv", computes=("r",)),
        Executed("reorder", "ReorderOutput", reads=(0,), inserted=True),
        Executed("h", "Gemm", computes=("head",), reads=(1,)),
        Executed("last", "ReorderOutput", reads=(2,), inserted=True),
    ]
    mapped = map_modules(executed, _graph(CONV, RELU_OF_CONV, HEAD, **NOTES))
    assert mapped.modules(1) == ("head",)
    assert mapped.operators(1) == ()
    assert mapped.modules(3) == ("head",)  # it feeds nothing


def test_an_operator_without_a_note_is_of_the_module_that_it_feeds() -> None:
    quantize = Operator("q", "QuantizeLinear", ("x",), ("q",))
    head = Operator("head", "MatMul", ("q", "w"), ("y",))
    executed = [
        Executed("q", "QuantizeLinear", computes=("q",)),
        Executed("h", "QGemm", computes=("head",), reads=(0,)),
    ]
    assert map_modules(executed, _graph(quantize, head, **NOTES)).modules(0) == ("head",)


def test_stored_numbers_made_real_anew_in_each_inference_are_told() -> None:
    weight = Operator("dw", "DequantizeLinear", ("w",), ("real",))
    head = Operator("head", "MatMul", ("x", "real"), ("y",))
    alone = [
        Executed("dw", "DequantizeLinear", computes=("dw",)),
        Executed("h", "Gemm", computes=("head",), reads=(0,)),
    ]
    assert map_modules(alone, _graph(weight, head, **NOTES)).operators(0) == (weight,)
    folded = [Executed("h", "Gemm", computes=("head",))]
    assert map_modules(folded, _graph(weight, head, **NOTES)).operators(0) == (head,)


def test_without_a_graph_the_names_of_an_engine_are_looked_up() -> None:
    executed = [Executed("a + b", "Conv", computes=("a + b", "a", "b"))]
    notes = {"a": "one (Conv2d)", "b": "two (ReLU)"}
    assert map_modules(executed, Graph(), notes).modules(0) == ("one (Conv2d)", "two (ReLU)")


def test_a_residual_that_no_kernel_names_goes_to_the_later_of_what_it_adds() -> None:
    first, second = (Operator(n, "Conv", ("x", "w"), (n,)) for n in ("one", "two"))
    total = Operator("sum", "Add", ("one", "two"), ("s",))
    executed = [
        Executed("one", "Conv", computes=("one",)),
        Executed("two", "Conv", computes=("two",), reads=(0,)),
    ]
    assert map_modules(executed, _graph(first, second, total)).operators(1) == (second, total)
