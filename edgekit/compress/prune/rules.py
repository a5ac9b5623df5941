"""What each ATen operation does to labels; one that is not here freezes what it touches.

Operations are those of the core ATen set, which ``ExportedProgram.run_decompositions`` leaves.
"""

from __future__ import annotations

from torch import fx

from edgekit.compress.prune.labels import Value, join, reduce
from edgekit.compress.prune.moves import (
    concatenating,
    embedding,
    expanding,
    gathering,
    indexing,
    moving,
    padding,
    permuting,
    putting,
    scattering,
    selecting,
    splitting,
    striding,
    viewing,
)
from edgekit.compress.prune.products import (
    addmm,
    attention,
    batch_norm,
    convolution,
    group_norm,
    layer_norm,
    product,
    recurrent,
    spatial,
)
from edgekit.compress.prune.walk import (
    Result,
    Rule,
    Walk,
    argument,
    dims_of,
    like,
    name_of,
    several,
    shape_of,
    shapes_of,
)

__all__ = ["RULES", "pointwise"]


def pointwise(walk: Walk, node: fx.Node) -> Result:
    """Operands broadcast; a parameter among activations scales or shifts them."""
    operands = list(node.all_input_nodes)
    if not operands:
        return constant(walk, node)
    result = Value(())
    for one in operands:
        result = join(walk.labels, result, walk.value(one)) if result.shape else walk.value(one)
    if not walk.weights.issuperset(operands):
        result = walk.consumed(result, "scale")
    return result


def constant(_walk: Walk, node: fx.Node) -> Result:
    """Zeros, ones: equal entries, which fit any width."""
    shape = shape_of(node)
    return Value(shape, wild=frozenset(range(len(shape))))


def fixed_source(_walk: Walk, node: fx.Node) -> Result:
    """Numbers that mean positions, as arange gives them."""
    return Value(shape_of(node))


def along(walk: Walk, node: fx.Node) -> Result:
    """Softmax, cumsum, flip: the operand's entries keep their places."""
    return walk.value(node.args[0])


def sorting(walk: Walk, node: fx.Node) -> Result:
    """Top-k, sort: places along the dimension mean nothing afterwards."""
    place = 2 if name_of(node) == "topk" else 1
    return like(walk, node, [argument(node, place, "dim", -1)])


def reduction(walk: Walk, node: fx.Node) -> Result:
    """Mean, sum, max over dimensions."""
    value = walk.value(node.args[0])
    dims = argument(node, 1, "dim")
    dims = None if isinstance(dims, bool) else dims
    rank = len(value.shape)
    kept = len(shape_of(node)) == rank
    result = reduce(walk.labels, value, dims_of(dims, rank), keep=kept)
    if several(node):
        return [result] * len(shapes_of(node))
    return result


def norm_of(walk: Walk, node: fx.Node) -> Result:
    """``linalg_vector_norm``, whose dimensions come third."""
    value = walk.value(node.args[0])
    rank = len(value.shape)
    kept = len(shape_of(node)) == rank
    return reduce(walk.labels, value, dims_of(argument(node, 2, "dim"), rank), keep=kept)


def picking(walk: Walk, node: fx.Node) -> Result:
    """Argmax: its result names places, so these are fixed."""
    value = walk.value(node.args[0])
    dims = dims_of(argument(node, 1, "dim"), len(value.shape))
    value = walk.labels.fixed(value, dims)
    kept = len(shape_of(node)) == len(value.shape)
    return reduce(walk.labels, value, dims, keep=kept)


def checking(_walk: Walk, _node: fx.Node) -> Result:
    """Assertions, which compute nothing."""
    return Value(())


_BY_RULE: dict[Rule, str] = {
    constant: "full empty new_zeros new_ones new_full new_empty zeros ones scalar_tensor",
    fixed_source: "arange rand randn randperm eye",
    along: "_softmax _log_softmax cumsum cumprod clone _to_copy alias detach lift_fresh_copy tril "
    "triu contiguous full_like zeros_like ones_like empty_like rand_like randn_like "
    "native_dropout",
    sorting: "topk sort",
    reduction: "mean sum amax amin any all prod max min var std var_mean logsumexp",
    norm_of: "linalg_vector_norm",
    picking: "argmax argmin",
    moving: "slice select squeeze unsqueeze repeat flip roll transpose t pixel_shuffle "
    "pixel_unshuffle unfold diagonal",
    viewing: "view _unsafe_view reshape _reshape_copy",
    expanding: "expand",
    permuting: "permute",
    padding: "constant_pad_nd",
    concatenating: "cat",
    splitting: "split split_with_sizes chunk unbind",
    embedding: "embedding",
    indexing: "index",
    selecting: "index_select",
    gathering: "gather",
    scattering: "scatter scatter_add scatter_reduce",
    putting: "index_put",
    product: "mm bmm",
    addmm: "addmm",
    attention: "_scaled_dot_product_flash_attention_for_cpu scaled_dot_product_attention "
    "_scaled_dot_product_efficient_attention _scaled_dot_product_attention_math",
    recurrent: "lstm gru",
    convolution: "convolution",
    batch_norm: "_native_batch_norm_legit_no_training",
    layer_norm: "native_layer_norm",
    group_norm: "native_group_norm",
    spatial: "avg_pool1d avg_pool2d avg_pool3d max_pool2d_with_indices max_pool3d_with_indices "
    "_adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_avg_pool1d upsample_nearest1d "
    "upsample_nearest2d upsample_nearest3d upsample_bilinear2d upsample_bicubic2d "
    "reflection_pad1d reflection_pad2d replication_pad2d",
    striding: "as_strided",
    checking: "_assert_tensor_metadata _assert_async _assert_scalar sym_constrain_range_for_size",
}
#: The rule of each operation by its name without overload.
RULES: dict[str, Rule] = {name: rule for rule, names in _BY_RULE.items() for name in names.split()}
