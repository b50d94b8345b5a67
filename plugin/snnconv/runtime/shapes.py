"""What a batch is to an operator: which treat its inputs one by one, and what shapes say at every number of steps."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves, tree_map

from snnconv.graph.ops import acts_on_batch, op_name, part_of_ladder
from snnconv.runtime.values import Accumulated, Args, Kwargs, Pair, Sized, Static, Temporal, Wrapped, leafwise, leaves

__all__ = ["ELEMENTWISE", "PER_SAMPLE", "both_worlds", "known_name", "one_by_one"]

ELEMENTWISE = frozenset({
    "add", "sub", "subtract", "rsub", "mul", "multiply", "div", "divide", "true_divide", "neg", "negative", "radd",
    "rmul", "iadd", "isub", "imul", "itruediv", "truediv", "rdiv", "rtruediv", "pow", "rpow", "square", "abs",
    "absolute",
    "sqrt", "rsqrt", "exp", "expm1", "log", "log1p", "log2", "log10", "sin", "cos", "tan", "erf", "reciprocal", "sign",
    "sigmoid", "tanh", "silu", "gelu", "mish", "elu", "selu", "celu", "hardswish", "hardsigmoid", "hardtanh",
    "leaky_relu", "softplus", "softsign", "tanhshrink", "logsigmoid", "relu6", "gt", "lt", "ge", "le", "eq", "ne",
    "maximum", "minimum", "where", "clamp", "clip", "clamp_min", "clamp_max", "isnan", "isfinite", "isinf",
    "logical_and", "logical_or", "logical_not", "round", "floor", "ceil", "trunc", "clone",
})  # fmt: skip
"""Functions of each element by itself: whatever dimensions stand before or behind it."""
_POINTWISE = ELEMENTWISE | {
    "and", "bfloat16", "contiguous", "cpu", "cuda", "detach", "double", "dropout", "float", "floordiv", "full_like",
    "half", "masked_fill", "mod", "ones_like", "or", "pos", "prelu", "relu", "threshold", "to", "type", "type_as",
    "zeros_like",
}  # fmt: skip
PER_SAMPLE = {
    "conv1d": 3, "conv2d": 4, "conv3d": 5, "conv_transpose1d": 3, "conv_transpose2d": 4, "conv_transpose3d": 5,
    "avg_pool1d": 3, "avg_pool2d": 4, "avg_pool3d": 5, "max_pool1d": 3, "max_pool2d": 4, "max_pool3d": 5,
    "adaptive_avg_pool1d": 3, "adaptive_avg_pool2d": 4, "adaptive_avg_pool3d": 5, "adaptive_max_pool1d": 3,
    "adaptive_max_pool2d": 4, "adaptive_max_pool3d": 5, "pixel_shuffle": 4, "pixel_unshuffle": 4, "unfold": 4,
    "fold": 3,
}  # fmt: skip
"""Operators of one tensor whose dimension 0 is the batch where there are so many dimensions."""
_AT_LEAST = {
    "linear": 2, "group_norm": 2, "instance_norm": 3, "local_response_norm": 3, "interpolate": 3,
    "upsample": 3, "channel_shuffle": 3,
}  # fmt: skip
"""The same, where there are at least so many."""
_VIEWS = frozenset({"permute", "transpose", "swapaxes", "swapdims", "flatten", "view", "reshape", "expand", "repeat"})
_OTHERS = frozenset({"expand_as", "view_as", "reshape_as"})
_JOINS = frozenset({"cat", "concat", "concatenate", "stack"})
_ALONG = frozenset({
    "chunk", "split", "tensor_split", "unbind", "select", "narrow", "index_select", "roll", "softmax", "log_softmax",
    "cumsum", "amax", "amin", "max", "min", "argmax", "mean", "sum", "norm", "topk", "sort", "glu",
    "normalize", "var", "std", "gather", "squeeze", "unsqueeze", "repeat_interleave", "unflatten",
})  # fmt: skip
_NEEDS_DIM = frozenset({"softmax", "log_softmax", "repeat_interleave", "squeeze"})
"""Without a dimension these choose one, or act on all."""
_SIZES = frozenset({"view", "reshape", "expand"})
_MODULES: dict[type[nn.Module], int] = {
    nn.InstanceNorm1d: 3, nn.InstanceNorm2d: 4, nn.InstanceNorm3d: 5, nn.LocalResponseNorm: 3, nn.SyncBatchNorm: 2,
    nn.RNNCell: 2, nn.LSTMCell: 2, nn.GRUCell: 2, nn.MultiheadAttention: 3, nn.TransformerEncoderLayer: 3,
}  # fmt: skip
"""Modules that are kept whole, with the number of dimensions at which the first one is a batch (if ``batch_first``)."""


def known_name(node: fx.Node) -> str:
    """Name of an operator of PyTorch or Python's ``operator``; empty for any other.

    >>> known_name(fx.Graph().call_function(torch.conv2d)), known_name(fx.Graph().call_method("relu_"))
    ('conv2d', 'relu')
    """
    if node.op == "call_method":
        return str(node.target).strip("_")
    if node.op != "call_function":
        return ""
    if node.target is getattr:
        return "getattr"
    name = op_name(node)
    spaces = (torch, F, operator)
    return name.strip("_") if any(getattr(space, name, None) is node.target for space in spaces) else ""


def one_by_one(node: fx.Node, name: str, module: nn.Module | None, args: Args, kwargs: Kwargs, timesteps: int) -> bool:
    """Whether a call treats the rows of dimension 0 alike and apart, so that ``T·B`` of them are ``B``, ``T`` times.

    What is not known to do so runs step by step. So does a call that would broadcast a constant along the batch, or
    that takes a number which depends on the size of the batch.

    Args:
        node: the call.
        name: of its operator, as :func:`known_name` gives it.
        module: what a ``call_module`` calls.
        args, kwargs: its arguments; values over time are folded.
        timesteps: T.
    """
    values = leaves((args, kwargs))
    moving = [v for v in values if isinstance(v, Temporal | Accumulated)]
    if not moving or any(v.scalar for v in moving):
        return False
    ndim, rows = moving[0].data.dim(), moving[0].data.shape[0]
    fixed = [v.data for v in values if isinstance(v, Static)]
    if any(v.data.dim() != ndim or v.data.shape[0] != rows for v in moving):
        return False
    if any(v.dim() != ndim or v.shape[0] * timesteps != rows for v in fixed):
        return False
    plain = [v for v in values if isinstance(v, Tensor)]
    uneven = [v for v in values if isinstance(v, Pair) and v.static != v.folded]
    alone = len(moving) == 1 and not fixed
    if module is not None:
        return not plain and not uneven and _module(module, ndim)
    if name in _SIZES and len(uneven) == 1:
        return not plain and _first_size(uneven[0], args, kwargs, timesteps) and not _acts(node, args, kwargs, ndim)
    if part_of_ladder(node):
        return not uneven and all(v.dim() < ndim for v in plain) and not _acts(node, args, kwargs, ndim)
    if not name or uneven:
        return False
    if name in _POINTWISE:
        return all(v.dim() < ndim or (v.dim() == ndim and v.shape[0] == 1) for v in plain) and (
            name != "where" or len(args) == 3
        )
    if name in PER_SAMPLE:
        method = node.op == "call_method"  # Tensor.unfold cuts windows out of one dimension
        return alone and ndim == PER_SAMPLE[name] and not (method and name == "unfold")
    if name in _AT_LEAST:
        return alone and ndim >= _AT_LEAST[name] and isinstance(args[0] if args else kwargs["input"], type(moving[0]))
    rule = _RULES.get(name)
    if rule is not None:
        return rule(node, args, kwargs, ndim, plain)
    if name in _ALONG:
        if (plain and name not in ("index_select", "repeat_interleave")) or isinstance((*args, 0, 0)[1], bool):
            return False  # x.std(True): of everything
        if name in _NEEDS_DIM and not _has_dim(name, args, kwargs):
            return name == "squeeze" and rows > timesteps
        return ndim >= 2 and not _acts(node, args, kwargs, ndim)
    if name in _VIEWS:
        return not plain and _fits(name, args, kwargs, ndim) and not _acts(node, args, kwargs, ndim)
    if name in _JOINS:
        return not plain and ndim >= 2 and not _acts(node, args, kwargs, ndim)
    return name in _OTHERS and not plain


def _acts(node: fx.Node, args: Args, kwargs: Kwargs, ndim: int) -> bool:
    """Whether it moves, cuts, joins or reduces dimension 0, by its arguments."""

    def known(value: object) -> object:
        if not isinstance(value, Pair):
            return value
        return value.static if value.static == value.folded else None

    given = leafwise(known, args), leafwise(known, kwargs)
    return acts_on_batch(node.target, node.op == "call_method", *given, ndim)


def _module(module: nn.Module, ndim: int) -> bool:
    attention = getattr(module, "self_attn", module)
    return _MODULES.get(type(module)) == ndim and bool(getattr(attention, "batch_first", True))


def _sizes(args: Args, kwargs: Kwargs) -> Args:
    given = next((kwargs[k] for k in ("size", "shape", "sizes", "dims", "repeats") if k in kwargs), args[1:])
    if not isinstance(given, (tuple, list)):
        return (given,)
    return tuple(given[0] if len(given) == 1 and isinstance(given[0], (tuple, list)) else given)


def _first_size(pair: Pair, args: Args, kwargs: Kwargs, timesteps: int) -> bool:
    """Whether the one size that depends on the batch is the first one, and grows with it."""
    sizes = _sizes(args, kwargs)
    grows = isinstance(pair.static, int | torch.SymInt) and pair.folded == pair.static * timesteps
    return bool(sizes) and sizes[0] is pair and grows


def _fits(name: str, args: Args, kwargs: Kwargs, ndim: int) -> bool:
    if name in ("expand", "repeat"):
        return len(_sizes(args, kwargs)) == ndim
    if name in ("transpose", "swapaxes", "swapdims", "permute", "flatten"):
        return ndim >= 2
    return True


def _has_dim(name: str, args: Args, kwargs: Kwargs) -> bool:
    at = 2 if name == "repeat_interleave" else 1
    value = next((kwargs[k] for k in ("dim", "axis") if k in kwargs), args[at] if len(args) > at else None)
    return value is not None


def _indexed(node: fx.Node, args: Args, kwargs: Kwargs, ndim: int, plain: list[Tensor]) -> bool:
    """All of dimension 0, and at most one list of places elsewhere."""
    index = args[1] if isinstance(args[1], tuple) else (args[1],)
    lists = [i for i in index if isinstance(i, (Tensor, list))]
    if any(isinstance(i, Temporal | Accumulated | Static | bool) for i in index) or len(lists) > 1:
        return False
    if lists and any(isinstance(i, int) or i is None for i in index):
        return False  # a number beside a list is a list, and two lists may move to the front
    if index and index[0] is ...:
        used = (i.dim() if isinstance(i, Tensor) and i.dtype == torch.bool else i is not None for i in index[1:])
        return sum(used) < ndim
    return bool(index) and isinstance(index[0], slice) and index[0] == slice(None)


def _attribute(node: fx.Node, args: Args, kwargs: Kwargs, ndim: int, plain: list[Tensor]) -> bool:
    return args[1] == "mT" and ndim >= 3


def _flipped(node: fx.Node, args: Args, kwargs: Kwargs, ndim: int, plain: list[Tensor]) -> bool:
    dims = _sizes(args, kwargs)
    return bool(dims) and not any(d in (0, -ndim) for d in dims)


def _normalised(node: fx.Node, args: Args, kwargs: Kwargs, ndim: int, plain: list[Tensor]) -> bool:
    return ndim >= 2 and not kwargs.get("training", args[5] if len(args) > 5 else False)


def _padded(node: fx.Node, args: Args, kwargs: Kwargs, ndim: int, plain: list[Tensor]) -> bool:
    pad = kwargs.get("pad", args[1] if len(args) > 1 else ())
    mode = kwargs.get("mode", args[2] if len(args) > 2 else "constant")
    if not isinstance(pad, Sequence):
        return False
    return len(pad) // 2 < ndim if mode == "constant" else len(pad) // 2 == ndim - 2


def _layer_norm(node: fx.Node, args: Args, kwargs: Kwargs, ndim: int, plain: list[Tensor]) -> bool:
    shape = kwargs.get("normalized_shape", args[1] if len(args) > 1 else ())
    if not isinstance(shape, Sequence) or len(shape) >= ndim:
        return False
    return isinstance(args[0] if args else kwargs["input"], Temporal | Accumulated)


def _product(node: fx.Node, args: Args, kwargs: Kwargs, ndim: int, plain: list[Tensor]) -> bool:
    """Batches of matrices, or rows times one matrix."""
    if len(args) != 2 or kwargs or str(node.target).startswith("__r"):
        return False
    if not plain:
        return ndim >= 3
    left, right = args
    if isinstance(right, Tensor):
        return right.dim() == 2 and ndim >= 2
    return isinstance(left, Tensor) and left.dim() == 2 and ndim >= 3


def _attention(node: fx.Node, args: Args, kwargs: Kwargs, ndim: int, plain: list[Tensor]) -> bool:
    return ndim >= 3 and all(v.dim() < ndim or (v.dim() == ndim and v.shape[0] == 1) for v in plain)


def _sampled(node: fx.Node, args: Args, kwargs: Kwargs, ndim: int, plain: list[Tensor]) -> bool:
    return ndim >= 4 and not plain


def _embedded(node: fx.Node, args: Args, kwargs: Kwargs, ndim: int, plain: list[Tensor]) -> bool:
    return bool(args) and isinstance(args[0], Temporal | Accumulated) and len(plain) == 1


_Rule = Callable[[fx.Node, Args, Kwargs, int, list[Tensor]], bool]
_RULES: dict[str, _Rule] = {
    "getitem": _indexed, "getattr": _attribute, "pad": _padded, "layer_norm": _layer_norm, "matmul": _product,
    "bmm": _product, "scaled_dot_product_attention": _attention, "grid_sample": _sampled, "embedding": _embedded,
    "flip": _flipped, "batch_norm": _normalised,
}  # fmt: skip


def both_worlds(function: Callable[..., object], args: Args, kwargs: Kwargs, timesteps: int) -> object:
    """Shape arithmetic: evaluate for a batch of B and for the folded batch, without touching data.

    Returns:
        a `Pair`; for a tensor, which is a constant like a weight, itself, or `Sized` where it has a batch dimension.
    """
    steps = max(timesteps, 2)  # of one step the folded batch would not tell

    def shaped(value: Wrapped, folded: bool) -> object:
        if isinstance(value, Pair):
            return value.folded if folded else value.static
        data = value.data
        if not data.dim() or getattr(value, "scalar", False):
            return torch.empty((), dtype=data.dtype, device="meta")
        batch = data.shape[0] if isinstance(value, Static) else data.shape[0] // max(timesteps, 1)
        return torch.empty((batch * steps if folded else batch, *data.shape[1:]), dtype=data.dtype, device="meta")

    def world(folded: bool) -> object:
        positional, named = leafwise(lambda v: shaped(v, folded), (args, kwargs))
        result = function(*positional, **named)
        if isinstance(result, torch.device):
            found = [v for v in leaves((args, kwargs)) if isinstance(v, Static | Temporal | Accumulated)]
            return found[0].data.device
        return result

    static, folded = world(False), world(True)
    if not any(isinstance(v, Tensor) for v in tree_leaves(static)):
        return Pair(static, folded)

    def constant(one: object, other: object) -> object:
        sized = isinstance(one, Tensor) and isinstance(other, Tensor) and one.shape != other.shape
        return Sized(one) if isinstance(one, Tensor) and sized else one

    return tree_map(constant, static, folded)
