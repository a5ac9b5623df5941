"""The coupled channels of a module, from its ATen graph.

The module is traced by ``torch.export``. Every axis of every parameter starts with a label of its
own for each entry; the operations of the graph unite labels (:mod:`.rules`). What ends up as one
label is one unit: all of its entries, in all parameters, can only go together. Units that occupy
the same parameters in the same way make up a :class:`.Group`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.export import ExportedProgram

from edgekit.compress.prune.groups import Group, Groups, Member, Role, SizeUse
from edgekit.compress.prune.labels import Axis, Index, Layer, Value
from edgekit.compress.prune.moves import getitem
from edgekit.compress.prune.rules import RULES, pointwise
from edgekit.compress.prune.walk import Walk, shapes_of, unknown
from edgekit.errors import CompressError
from edgekit.quiet import quiet

__all__ = ["Analysis", "Operation", "analyse", "called", "constants_of", "module_of", "trace"]


#: Operations that stay as they are: what they are decomposed to differs from machine to machine.
_WHOLE = (
    torch.ops.aten.scaled_dot_product_attention.default,
    torch.ops.aten.lstm.input,
    torch.ops.aten.gru.input,
)


def trace(model: nn.Module, inputs: Mapping[str, torch.Tensor]) -> ExportedProgram:
    """The module's graph of core ATen operations in eval mode, with static shapes.

    Raises:
        CompressError: it cannot be traced.
    """
    was_training = model.training
    model.eval()
    try:
        with quiet(), torch.no_grad():
            program = torch.export.export(model, tuple(inputs.values()), strict=False)
            table = torch.export.default_decompositions()
            for operation in _WHOLE:
                table.pop(operation, None)
            decomposed: ExportedProgram = program.run_decompositions(table)
            return decomposed
    except Exception as error:  # torch.export raises many unrelated types
        raise CompressError(
            f"the model cannot be traced: {type(error).__name__}: {str(error)[:300]}",
            where=f"module {type(model).__name__}",
            fix="Check that torch.export.export(model, inputs, strict=False) works",
        ) from error
    finally:
        model.train(was_training)


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the graph.

    Attributes:
        name: which one.
        shapes: of its results.
        sizes: those that depend on groups, by result and dimension.
        wild: dimensions of its results that fit any width.
        constants: the numbers that it computes with, other than sizes.
    """

    name: str
    shapes: tuple[tuple[int, ...], ...]
    sizes: Mapping[tuple[int, int], SizeUse]
    wild: frozenset[tuple[int, int]]
    constants: tuple[float, ...]

    def fits(self, shapes: Sequence[tuple[int, ...]], kept: Sequence[Index | None]) -> bool:
        """Whether its results have the right shapes when of each group only ``kept`` stay."""
        if [len(shape) for shape in shapes] != [len(shape) for shape in self.shapes]:
            return False
        for place, (before, after) in enumerate(zip(self.shapes, shapes, strict=True)):
            for dim, (old, new) in enumerate(zip(before, after, strict=True)):
                use = self.sizes.get((place, dim))
                wanted = old if use is None else use.left(kept)
                if new != wanted and (place, dim) not in self.wild:
                    return False
        return True


@dataclass(frozen=True, slots=True)
class Analysis:
    """What a walk over a traced model found.

    Attributes:
        groups: whether or not the model's Python code lets them shrink.
        operations: what the graph does, in order.
    """

    groups: Groups
    operations: tuple[Operation, ...]


def analyse(model: nn.Module, program: ExportedProgram) -> Analysis:
    """Find the groups of a traced model."""
    walk = Walk()
    axes = _placeholders(model, program, walk)
    for node in called(program):
        _step(walk, node)
    for place, node in enumerate(_outputs(program)):
        for layer in walk.value(node).layers:
            walk.labels.freeze(layer.labels, f"output {place} of the model depends on it")
    _couple_heads(model, walk, axes)
    _make_rectangular(walk)
    tensors = [*model.named_parameters(), *model.named_buffers()]
    vectors = frozenset(name for name, tensor in tensors if tensor.ndim == 1)
    collector = _Collector(walk, axes, vectors)
    groups = collector.groups()
    return Analysis(groups, tuple(collector.operations()))


def called(program: ExportedProgram) -> list[fx.Node]:
    """The operations of a graph."""
    return [node for node in program.graph.nodes if node.op == "call_function"]


def constants_of(node: fx.Node) -> tuple[float, ...]:
    """The numbers that an operation computes with entry by entry: no sizes, no axes."""
    if torch.Tag.pointwise not in getattr(node.target, "tags", ()):
        return ()
    return tuple(float(one) for one in node.args if isinstance(one, int | float))


def module_of(node: fx.Node) -> str:
    """Qualified name of the module whose code made a node, empty for the model itself."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path = str(stack[-1][0]) if stack else ""
    return path.removeprefix("L__self__").removeprefix(".")


def _placeholders(model: nn.Module, program: ExportedProgram, walk: Walk) -> dict[Axis, Index]:
    """Give the placeholders their values; returns the labels of each axis of each parameter."""
    tensors: dict[str, torch.Tensor] = {}
    tensors |= dict(model.named_parameters(remove_duplicate=False))
    tensors |= dict(model.named_buffers(remove_duplicate=False))
    first: dict[int, str] = {}
    for name, tensor in tensors.items():
        first.setdefault(id(tensor), name)
    signature = program.graph_signature
    stored = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    constants = signature.inputs_to_lifted_tensor_constants
    axes: dict[Axis, Index] = {}
    for node in program.graph.nodes:
        if node.op != "placeholder":
            continue
        shape = tuple(getattr(node.meta.get("val"), "shape", ()))
        name = stored.get(node.name, "")
        if name or node.name in constants:
            walk.weights.add(node)
        if name not in tensors or not _prunable(tensors[name], node):
            walk.values[node] = Value(shape)
            continue
        name = first[id(tensors[name])]
        layers = []
        for axis, size in enumerate(shape):
            if size == 1:
                continue
            if (name, axis) not in axes:
                axes[name, axis] = walk.labels.fresh(size)
            spread = [1] * len(shape)
            spread[axis] = size
            layers.append(Layer(axes[name, axis].reshape(spread), frozenset({(name, axis)})))
        walk.values[node] = Value(shape, walk.labels.settle(layers))
    return axes


def _prunable(tensor: torch.Tensor, node: fx.Node) -> bool:
    """Whether a stored tensor's axes may be channels.

    A buffer that is one vector is a table of positions or frequencies, except in a batch norm.
    """
    if not tensor.is_floating_point():
        return False
    if isinstance(tensor, nn.Parameter) or tensor.ndim > 1:
        return True
    return all("batch_norm" in str(user.target) for user in node.users)


def _step(walk: Walk, node: fx.Node) -> None:
    if all(one in walk.weights for one in node.all_input_nodes):
        walk.weights.add(node)
    walk.module = module_of(node)
    target: Any = node.target
    packet = str(getattr(target, "overloadpacket", target))
    walk.labels.where = f"{packet} in {walk.module or 'the model'}"
    walk.values[node] = _rule(target, packet.removeprefix("aten."))(walk, node)


def _rule(target: Any, name: str) -> Any:
    if "getitem" in name:
        return getitem
    if name in RULES:
        return RULES[name]
    return pointwise if torch.Tag.pointwise in getattr(target, "tags", ()) else unknown


def _outputs(program: ExportedProgram) -> list[fx.Node]:
    (output,) = (node for node in program.graph.nodes if node.op == "output")
    return [one for one in output.args[0] if isinstance(one, fx.Node)]


def _couple_heads(model: nn.Module, walk: Walk, axes: Mapping[Axis, Index]) -> None:
    """Unite heads of torch's own attention with blocks of its embedding.

    Its code computes the size of a head from the two: ``embed_dim // num_heads``.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.MultiheadAttention):
            weight = "q_proj_weight" if module.in_proj_weight is None else "in_proj_weight"
            rows = axes.get((f"{name}.{weight}".lstrip("."), 0))
            columns = axes.get((f"{name}.{weight}".lstrip("."), 1))
            if rows is not None and columns is not None:
                walk.labels.unite(rows[: len(columns)], columns)


def _make_rectangular(walk: Walk) -> None:
    """Where units still lie across several dimensions, make them slices along the longest."""
    changed = True
    while changed:
        changed = False
        for result in list(walk.values.values()):
            for value in result if isinstance(result, list) else [result]:
                for layer in walk.labels.settle(value.layers):
                    if len(layer.support) > 1:
                        longest = max(sorted(layer.support), key=lambda d: layer.labels.shape[d])
                        walk.labels.fixed(Value(value.shape, (layer,)), layer.support - {longest})
                        changed = True


@dataclass(slots=True)
class _Collector:
    """Makes groups of the labels that are left."""

    walk: Walk
    axes: dict[Axis, Index]
    vectors: frozenset[str]
    _unit: dict[int, tuple[int, int]] = field(default_factory=dict)

    def groups(self) -> Groups:
        places: dict[int, list[tuple[Axis, Index]]] = defaultdict(list)
        for axis, labels in self.axes.items():
            roots = self.walk.labels.live(labels)
            order = np.argsort(roots, kind="stable")
            found, starts = np.unique(roots[order], return_index=True)
            for root, index in zip(found, np.split(order, starts[1:]), strict=True):
                if root:
                    places[int(root)].append((axis, index))
        alike: dict[Any, list[int]] = defaultdict(list)
        for root, where in places.items():
            alike[tuple((axis, len(index)) for axis, index in where)].append(root)
        fixed = self._fixed()
        groups: list[Group] = []
        names: Counter[str] = Counter()
        for together in alike.values():
            group = self._group(together, places, names, fixed)
            if group is not None:
                for unit, root in enumerate(
                    sorted(together, key=lambda r: int(places[r][0][1][0]))
                ):
                    self._unit[root] = (len(groups), unit)
                groups.append(group)
        return Groups(tuple(groups), fixed, tuple(self._sizes()))

    def _group(
        self,
        roots: list[int],
        places: dict[int, list[tuple[Axis, Index]]],
        names: Counter[str],
        fixed: dict[str, str],
    ) -> Group | None:
        ordered = sorted(roots, key=lambda root: int(places[root][0][1][0]))
        members = []
        for number, (axis, _) in enumerate(places[ordered[0]]):
            index = np.stack([places[root][number][1] for root in ordered])
            members.append(Member(axis[0], axis[1], index, self._role(axis)))
        producer = next((one for one in members if one.role == "out"), members[0])
        name = producer.parameter.rpartition(".")[0] or producer.parameter
        if producer.role != "out":
            fixed.setdefault(name, "nothing in the model makes its channels")
            return None
        if len(ordered) < 2:
            fixed.setdefault(name, "it has only one unit")
            return None
        names[name] += 1
        label = name if names[name] == 1 else f"{name}#{names[name]}"
        return Group(label, len(ordered), tuple(members))

    def _role(self, axis: Axis) -> Role:
        role = self.walk.roles.get(axis, "scale")
        if axis[0] in self.vectors or role == "scale":
            return "scale"
        return "out" if role == "out" else "in"

    def _fixed(self) -> dict[str, str]:
        """Why the channels that a module makes cannot be removed, where none can."""
        fixed: dict[str, str] = {}
        for axis, labels in self.axes.items():
            roots = self.walk.labels.find(labels)
            reasons = self.walk.labels.reasons
            if self._role(axis) == "out" and all(int(root) in reasons for root in roots):
                name = axis[0].rpartition(".")[0] or axis[0]
                fixed.setdefault(name, reasons[int(roots[0])])
        return fixed

    def _sizes(self) -> list[SizeUse]:
        uses = (self._use(size.module, size.labels) for size in self.walk.sizes)
        found = {(one.module, one.group.tobytes(), one.unit.tobytes()): one for one in uses if one}
        return list(found.values())

    def _use(self, module: str, labels: Index) -> SizeUse | None:
        roots = self.walk.labels.live(labels)
        pairs = np.array([self._unit.get(int(root), (-1, -1)) for root in roots], dtype=np.int64)
        if (pairs == pairs[0]).all():  # no unit of its own, or the inside of one, as a head's size
            return None
        return SizeUse(module, pairs[:, 0].copy(), pairs[:, 1].copy())

    def operations(self) -> Iterator[Operation]:
        """The operations with the sizes that depend on groups."""
        for node, result in self.walk.values.items():
            if node.op != "call_function":
                continue
            sizes, wild = {}, set[tuple[int, int]]()
            for place, value in enumerate(result if isinstance(result, list) else [result]):
                wild.update((place, dim) for dim in value.wild)
                for layer in self.walk.labels.settle(value.layers):
                    (dim,) = layer.support
                    use = self._use(module_of(node), layer.labels.reshape(-1))
                    if use is not None:
                        sizes[place, dim] = use
            shapes = tuple(shapes_of(node))
            yield Operation(str(node.target), shapes, sizes, frozenset(wild), constants_of(node))
