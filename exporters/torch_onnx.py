"""PyTorch to ONNX through ``torch.export``, with names kept and the result checked."""

from __future__ import annotations

import contextlib
import inspect
import re
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import torch
from edgekit.exporters.graph import tensor_specs
from edgekit.exporters.naming import name_dims, name_outputs, note_modules
from edgekit.exporters.recurrent_ops import TRANSLATIONS, runnable, whole_layers
from edgekit.exporters.save import save_onnx
from edgekit.exporters.simplify import simplify_converted
from edgekit.exporters.traced import make_convertible
from edgekit.exporters.unsupported import unsupported
from onnx_ir.passes import common

from edgekit.errors import ExportError, UnsupportedOperatorError, WorkloadError
from edgekit.programs import save_program
from edgekit.quiet import quiet

__all__ = ["describe", "export_onnx"]


def export_onnx(
    model: torch.nn.Module,
    example_inputs: Mapping[str, torch.Tensor],
    path: Path,
    *,
    dynamic: Mapping[str, Mapping[int, str]],
    output_names: Sequence[str],
    opset: int,
    program: Path | None = None,
) -> Path:
    """Export ``model`` in eval mode to an ONNX file.

    Args:
        model: the module; its training flag is restored afterwards.
        example_inputs: one example of each input, in the order of ``forward``'s parameters. The
            names become the names of the graph's inputs.
        path: the file to write; weights over 2 GB go to a sibling ``.data`` file.
        dynamic: ``{input: {axis: dimension name}}``. A dynamic axis of size 1 in the example is
            doubled first, since ``torch.export`` takes size 1 for a constant.
        output_names: names of the graph's outputs, in order.
        opset: the ONNX operator set to write.
        program: a ``.pt2`` file to write what was traced to, too.

    Returns:
        ``path``.

    Raises:
        UnsupportedOperatorError: an operator has no ONNX counterpart; names it and its module.
        ExportError: the model cannot be traced, or the result fails ``onnx.checker``.
        WorkloadError: an output is called as an input.
    """
    _require_names_apart(example_inputs, output_names)
    examples = {name: _double_ones(x, dynamic.get(name, {})) for name, x in example_inputs.items()}
    training = model.training
    model.eval()
    try:
        with quiet():
            _require_forward(model, examples)
            traced, graph = _exported(model, examples, dynamic, output_names, opset)
        name_dims(graph, dynamic)
        note_modules(graph, model)
    finally:
        model.train(training)
    _save_checked(graph, path)
    if program is not None:
        inputs, outputs = graph.graph.inputs, graph.graph.outputs
        save_program(runnable(traced), program, tensor_specs(inputs), tensor_specs(outputs))
    return path


def _require_names_apart(inputs: Iterable[str], outputs: Sequence[str]) -> None:
    """A graph has each name once: the converter would call the output otherwise, unasked."""
    for name in inputs:
        if name in outputs:
            raise WorkloadError(
                f"an input and an output are both called {name!r}",
                where="workload",
                fix=f"Name the output otherwise in output_names, 'next_{name}' say",
            )


def _exported(
    model: torch.nn.Module,
    examples: Mapping[str, torch.Tensor],
    dynamic: Mapping[str, Mapping[int, str]],
    output_names: Sequence[str],
    opset: int,
) -> tuple[torch.export.ExportedProgram, ir.Model]:
    """The first of the ways to export that works; why not, for each way, when none does.

    Returns:
        What the model was traced to, and its graph.
    """
    failures: dict[str, ExportError] = {}
    for name, strict, changed in _WAYS:
        try:
            with changed(model):
                program = _trace(model, examples, dynamic, strict=strict)
                make_convertible(program)
                return program, _convert(program, list(examples), output_names, opset)
        except _NotThisWayError:
            continue
        except ExportError as error:
            failures[name] = error
    first, *others = failures.values()
    if isinstance(first, UnsupportedOperatorError) or all(one.what == first.what for one in others):
        raise first
    told = "; ".join(f"{name}: {error.what}" for name, error in failures.items())
    raise ExportError(f"no way to export it works ({told})", where=first.where, fix=first.fix)


class _NotThisWayError(Exception):
    """The model has no such way."""


#: How models of transformers compute parts that they have several ways for, so that all of it can
#: be exported: the setting, its setter, and the way that is made of matrix products.
_PLAIN = (
    ("_attn_implementation", "set_attn_implementation", "eager"),
    ("_experts_implementation", "set_experts_implementation", "batched_mm"),
)


@contextlib.contextmanager
def _plainly(model: torch.nn.Module) -> Iterator[None]:
    """Let models of transformers compute attention and experts plainly meanwhile."""
    changed: list[tuple[Any, str, str]] = []
    try:
        for part in model.modules():
            for setting, setter, plain in _PLAIN:
                kind = getattr(getattr(part, "config", None), setting, None)
                if hasattr(part, setter) and kind not in {None, plain}:
                    changed.append((part, setter, kind))
                    getattr(part, setter)(plain)
        if not changed:
            raise _NotThisWayError
        yield
    finally:
        for part, setter, kind in reversed(changed):
            getattr(part, setter)(kind)


@contextlib.contextmanager
def _frozen(model: torch.nn.Module) -> Iterator[None]:
    """Let no weight need a gradient meanwhile."""
    trained = [one for one in model.parameters() if one.requires_grad]
    if not trained:
        raise _NotThisWayError
    try:
        for one in trained:
            one.requires_grad = False
        yield
    finally:
        for one in trained:
            one.requires_grad = True


@contextlib.contextmanager
def _unchanged(model: torch.nn.Module) -> Iterator[None]:
    del model
    yield


#: Ways to export: what it is called, whether it traces strictly, and what it does to the model.
#: Torch cannot convert its fused attention with every mask (T5's, for one) nor grouped products of
#: experts. With a mask that is learnt it computes attention in another way while it traces than
#: while it converts, unless no gradient is asked for. Tracing strictly takes Python that tracing
#: otherwise cannot follow.
_WAYS = (
    ("as it is", False, _unchanged),
    ("with plain attention and experts", False, _plainly),
    ("with frozen weights", False, _frozen),
    ("traced strictly", True, _unchanged),
)


def _require_forward(model: torch.nn.Module, examples: Mapping[str, torch.Tensor]) -> None:
    """See that the model runs at all, before its export is to blame."""
    positional, by_name = _arguments(model, examples)
    try:
        with torch.no_grad():
            model(*positional, **by_name)
    except Exception as error:  # the user's forward may raise anything
        given = ", ".join(f"{name} {list(x.shape)}" for name, x in examples.items())
        raise WorkloadError(
            f"forward raised {describe(error)} on example inputs {given}",
            where=_location(error) or "model",
            fix="Give example_inputs that the model accepts, in the order of forward's parameters",
        ) from error


def _trace(
    model: torch.nn.Module,
    examples: Mapping[str, torch.Tensor],
    dynamic: Mapping[str, Mapping[int, str]],
    *,
    strict: bool,
) -> torch.export.ExportedProgram:
    positional, by_name = _arguments(model, examples)
    names = {label for axes in dynamic.values() for label in axes.values()}
    dims = {label: torch.export.Dim(label, min=1) for label in names}
    named = {name: {a: dims[d] for a, d in dynamic.get(name, {}).items()} for name in examples}
    shapes: Any = named if by_name else _grouped(model, tuple(named.values()))

    def export(shapes: Any) -> torch.export.ExportedProgram:
        with contextlib.nullcontext() if strict else whole_layers():
            return torch.export.export(
                model, positional, by_name, dynamic_shapes=shapes, strict=strict
            )

    try:
        try:
            return export(shapes)
        except torch._dynamo.exc.UserError as error:  # noqa: SLF001, the documented type
            # The model itself bounds a dimension (512 position embeddings, say): take the bound.
            return export(_within_bounds(error, shapes))
    except Exception as error:  # torch.export raises many unrelated types
        raise _trace_error(error) from error


def _arguments(
    model: torch.nn.Module, examples: Mapping[str, torch.Tensor]
) -> tuple[tuple[torch.Tensor, ...], dict[str, torch.Tensor]]:
    """Positional, or by name where these are parameters of ``forward`` in another order."""
    parameters = list(inspect.signature(model.forward).parameters)
    names = list(examples)
    if names == parameters[: len(names)] or not set(names) <= set(parameters):
        return tuple(examples.values()), {}
    return (), dict(examples)


def _grouped(model: torch.nn.Module, values: tuple[Any, ...]) -> tuple[Any, ...]:
    """One value a parameter of ``forward``: those of ``*tensors`` are one tuple."""
    parameters = list(inspect.signature(model.forward).parameters.values())
    for place, parameter in enumerate(parameters[: len(values)]):
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            return (*values[:place], values[place:])
    return values


def _within_bounds(error: Exception, shapes: Any) -> Any:
    """The dynamic shapes with the bounds that torch.export found; the error again without any."""
    if "Suggested fixes" not in str(error) or "specialized" in str(error):
        raise error
    refine = torch.export.dynamic_shapes.refine_dynamic_shapes_from_suggested_fixes
    advice = str(error).partition("\n\n")[0]  # refine() takes the text behind it for advice, too
    refined = refine(advice, shapes)
    return tuple(refined) if isinstance(shapes, tuple) else refined


def _trace_error(error: Exception) -> ExportError:
    text = str(error)
    fixed = re.search(
        r"You marked (\w+) as dynamic but your code specialized it .*?\((\d+)\)", text
    )
    if fixed:
        return ExportError(
            f"dimension {fixed[1]!r} cannot be dynamic: the model's code fixes it to {fixed[2]}",
            where=_location(error) or "torch.export",
            fix="Remove the constant from forward, or leave that axis out of dynamic_shapes",
        )
    if "data-dependent" in text:
        return ExportError(
            "control flow depends on the values of a tensor",
            where=_location(error) or "torch.export",
            fix="Rewrite the branch with torch.where or torch.cond",
        )
    return ExportError(
        f"the model cannot be traced: {describe(error)}",
        where=_location(error) or "torch.export",
        fix="Check that torch.export.export(model, inputs) works; --debug shows the traceback",
    )


def _convert(
    program: torch.export.ExportedProgram,
    input_names: Sequence[str],
    output_names: Sequence[str],
    opset: int,
) -> ir.Model:
    try:
        converted = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=opset,
            input_names=list(input_names),
            custom_translation_table=dict(TRANSLATIONS),
            optimize=False,
            verbose=False,
        )
    except Exception as error:  # the converter raises private types
        operator = _missing_operator(error)
        if operator:
            raise unsupported(program, operator) from error
        raise ExportError(
            f"the traced model cannot be converted: {describe(_innermost(error))}",
            where="torch.onnx.export",
            fix="--debug shows the traceback",
        ) from error
    if converted is None:
        raise ExportError("torch.onnx.export returned nothing", fix="Upgrade torch")
    simplify_converted(converted.model)
    name_outputs(converted.model.graph, output_names)
    return converted.model


def _innermost(error: BaseException) -> BaseException:
    """What began it: around that the converter wraps advice to its own developers."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _missing_operator(error: BaseException | None) -> str | None:
    """The operator that the converter had no function for, if that is what went wrong."""
    while error is not None:
        found = re.search(r"No ONNX function found for <OpOverload\(op='([\w.]+)'", str(error))
        if found and error.__cause__ is None:
            return found[1]
        error = error.__cause__
    return None


def _save_checked(model: ir.Model, path: Path) -> None:
    # The converter's optimizer can leave two values with one name; the graph itself is right.
    common.NameFixPass()(model)
    try:
        save_onnx(model, path)
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(
            f"the exported graph is not valid ONNX: {describe(error)}",
            where=str(path),
            fix="Report it with the model's code; --debug shows the traceback",
        ) from error


def _double_ones(example: torch.Tensor, axes: Mapping[int, str]) -> torch.Tensor:
    for axis in axes:
        if example.shape[axis] == 1:
            example = torch.cat([example, example], dim=axis)
    return example


def describe(error: BaseException) -> str:
    """Type and first line of an error that may tell pages."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200] if lines else 'no message'}"


def _location(error: BaseException) -> str:
    """File and line of the innermost frame that is neither edgekit's nor torch's."""
    inside = (str(Path(torch.__file__).parent), str(Path(__file__).parent))
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith((*inside, "<")):
            return f"{frame.filename}:{frame.lineno}"
    return ""
