"""What each operator does to a sequence of spikes: one table for executor, audit and accounting.

A converted network carries values over time. Four kinds of operator can be told apart:

``linear``
    f(a + b) = f(a) + f(b): applied to every step as it is (views, padding with zeros, sums, pooling ...).
``affine``
    linear plus a constant (a convolution with a bias): in rate coding the constant enters at every step, in
    weighted-sum coding once.
``homogeneous``
    f(c·a) = c·f(a) for c ≥ 0 but not additive (max-pooling): acts on accumulated currents.
``nonlinear``
    everything else; it has no spiking equivalent, acts on the running mean and is reported as analog.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx

__all__ = [
    "ACTIVATIONS",
    "METHODS",
    "SHAPE_ATTRIBUTES",
    "SYNAPSES",
    "VIEW_ATTRIBUTES",
    "acts_on_batch",
    "is_synapse",
    "op_kind",
    "op_name",
    "qualified_name",
    "resolve",
    "shape_query",
]

ACTIVATIONS = frozenset({
    "silu", "gelu", "leaky_relu", "elu", "selu", "celu", "mish", "hardswish", "hardsigmoid", "hardtanh",
    "softplus", "softsign", "tanh", "sigmoid", "softmax", "log_softmax", "prelu", "rrelu", "tanhshrink",
    "logsigmoid", "glu", "clamp", "clip", "threshold", "relu", "relu6", "exp", "sin", "cos", "erf", "abs",
    "square", "pow", "layer_norm", "group_norm", "instance_norm", "local_response_norm", "normalize",
    "scaled_dot_product_attention",
})  # fmt: skip
"""Operators that a reader of a report would call an activation or a normalisation."""

SYNAPSES: dict[Any, str] = {
    torch.conv1d: "conv",
    torch.conv2d: "conv",
    torch.conv3d: "conv",
    torch.conv_transpose1d: "conv_transpose",
    torch.conv_transpose2d: "conv_transpose",
    torch.conv_transpose3d: "conv_transpose",
    F.linear: "linear",
}

_LINEAR = {
    torch.cat, torch.concat, torch.concatenate, torch.stack, torch.flatten, torch.reshape, torch.permute,
    torch.transpose, torch.squeeze, torch.unsqueeze, torch.chunk, torch.split, torch.narrow, torch.neg,
    torch.roll, torch.flip, torch.clone, torch.index_select, torch.movedim, torch.swapaxes, torch.unbind,
    torch.select, torch.mean, torch.sum, torch.tensor_split, torch.unflatten, F.avg_pool1d, F.avg_pool2d,
    F.avg_pool3d, F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d, F.pixel_shuffle,
    F.pixel_unshuffle, F.channel_shuffle, F.upsample, operator.getitem, operator.neg, operator.pos,
}  # fmt: skip
_LINEAR_METHODS = {
    "view", "reshape", "flatten", "permute", "transpose", "contiguous", "squeeze", "unsqueeze", "chunk",
    "split", "narrow", "neg", "roll", "flip", "clone", "index_select", "movedim", "expand", "expand_as",
    "repeat", "mean", "sum", "unflatten", "t", "to", "float", "half", "bfloat16", "type_as", "view_as",
    "reshape_as", "select", "unbind", "swapaxes", "detach", "type", "tensor_split", "repeat_interleave",
    "__getitem__", "__neg__", "cpu", "cuda",
}  # fmt: skip
_ADD = {operator.add, operator.sub, operator.iadd, operator.isub, torch.add, torch.sub}
_ADD_METHODS = {
    "add",
    "add_",
    "sub",
    "sub_",
    "__add__",
    "__radd__",
    "__iadd__",
    "__sub__",
    "__rsub__",
    "__isub__",
}
_MUL = {operator.mul, operator.imul, torch.mul, torch.multiply, operator.matmul, torch.matmul, torch.bmm}
_MUL_METHODS = {
    "mul",
    "mul_",
    "matmul",
    "bmm",
    "__mul__",
    "__rmul__",
    "__imul__",
    "__matmul__",
    "__rmatmul__",
}
_DIV = {operator.truediv, operator.itruediv, torch.div, torch.true_divide}
_DIV_METHODS = {"div", "div_", "__truediv__", "__itruediv__"}
_HOMOGENEOUS = {
    F.max_pool1d, F.max_pool2d, F.max_pool3d, F.adaptive_max_pool1d, F.adaptive_max_pool2d,
    F.adaptive_max_pool3d, torch.max_pool1d, torch.max_pool2d, torch.max_pool3d, torch.amax,
}  # fmt: skip
_ANALOG = {
    F.relu, F.relu6, F.hardtanh, F.silu, F.gelu, F.leaky_relu, F.elu, F.selu, F.celu, F.mish, F.hardswish,
    F.tanh, F.hardsigmoid, F.softplus, F.softmax, F.log_softmax, F.layer_norm, F.group_norm,
    F.instance_norm, F.normalize, F.local_response_norm, F.glu, F.softsign, F.tanhshrink, F.logsigmoid,
    F.scaled_dot_product_attention, F.embedding, F.dropout, F.sigmoid, F.prelu, F.rrelu, F.one_hot,
    F.grid_sample, F.unfold, F.fold, F.threshold, torch.relu, torch.sigmoid, torch.tanh, torch.softmax,
    torch.clamp, torch.exp, torch.log, torch.sqrt, torch.rsqrt, torch.abs, torch.pow, torch.square,
    torch.maximum, torch.minimum, torch.max, torch.min, torch.argmax, torch.where, torch.sin, torch.cos,
    torch.einsum, torch.topk, torch.sort, torch.cumsum, torch.norm, torch.zeros, torch.ones, torch.arange,
    torch.full, torch.zeros_like, torch.ones_like, torch.full_like, torch.tensor, torch.prelu, torch.erf,
    torch.addmm, torch.baddbmm, torch.logical_not, torch.numel, torch.gather, torch.meshgrid,
    torch.linspace, operator.floordiv, operator.mod, operator.pow, operator.eq, operator.ne, operator.lt,
    operator.gt, operator.le, operator.ge, operator.and_, operator.or_, operator.not_, getattr, len,
}  # fmt: skip
_ANALOG_METHODS = {
    "relu", "relu_", "clamp", "clamp_", "clip", "sigmoid", "tanh", "softmax", "log_softmax", "exp", "log",
    "sqrt", "rsqrt", "abs", "pow", "square", "max", "min", "argmax", "norm", "new_zeros", "new_ones",
    "cumsum", "topk", "masked_fill", "gather", "sigmoid_", "tanh_", "amax", "amin", "var", "std",
}  # fmt: skip
SHAPE_ATTRIBUTES = frozenset({"shape", "ndim", "dtype", "device", "itemsize", "is_cuda"})
"""Attributes of a tensor that do not depend on its values."""
VIEW_ATTRIBUTES = frozenset({"T", "mT", "H", "mH"})
"""Attributes of a tensor that are views of it."""
_SHAPE = {"size", "dim", "ndimension", "numel", "stride", "is_contiguous", "get_device"}


def op_name(node: fx.Node) -> str:
    """Name of a node's operator as a user would write it: ``conv2d``, ``.view``, ``max_pool2d``.

    >>> op_name(fx.Graph().call_function(torch.conv2d))
    'conv2d'
    """
    if node.op == "call_method":
        return f".{node.target}"
    if node.op == "call_module":
        return str(node.target)
    for module in (F, torch):
        for name in _names(module, node.target):
            return name
    return str(getattr(node.target, "__name__", node.target))


def _names(module: Any, target: Any) -> list[str]:
    # boolean_dispatch wraps max_pool2d and friends in functions that are all called `fn`
    name = getattr(target, "__name__", None)
    if name and getattr(module, name, None) is target:
        return [name]
    return [n for n, value in vars(module).items() if value is target and not n.startswith("_")]


def resolve(name: str) -> Callable[..., Any]:
    """Operator for a qualified name such as ``torch.cat`` or ``F.pad``.

    Only operators of this table can be named, so that reading a file never runs foreign code.

    >>> resolve("torch.cat") is torch.cat
    True
    >>> resolve("torch.load")
    Traceback (most recent call last):
    ValueError: operator 'torch.load' is not one that a saved network may use
    """
    function = _BY_NAME.get(name)
    if function is None:
        raise ValueError(f"operator {name!r} is not one that a saved network may use")
    return function


def qualified_name(function: Any) -> str | None:
    """Inverse of :func:`resolve`; ``None`` where the operator may not be written to a file.

    >>> qualified_name(torch.conv2d)
    'torch.conv2d'
    """
    return _QUALIFIED.get(function)


def is_synapse(node: fx.Node) -> bool:
    """Whether ``node`` is a layer with weights: convolution, transposed convolution, linear.

    >>> is_synapse(fx.Graph().call_function(torch.relu))
    False
    """
    return node.op == "call_function" and node.target in SYNAPSES


def shape_query(node: fx.Node) -> bool:
    """Whether a node asks for a tensor's shape, dtype or device rather than its values.

    >>> shape_query(fx.Graph().call_method("size"))
    True
    """
    if node.op == "call_method":
        return node.target in _SHAPE
    if node.target is getattr:
        return len(node.args) > 1 and node.args[1] in SHAPE_ATTRIBUTES
    return node.op == "call_function" and node.target in (len, torch.numel)


_ALONG = {
    "chunk": 2, "split": 2, "tensor_split": 2, "unbind": 1, "select": 1, "narrow": 1, "index_select": 1,
    "flip": 1, "roll": 2, "softmax": 1, "log_softmax": 1, "cumsum": 1, "amax": 1, "amin": 1, "max": 1,
    "min": 1, "argmax": 1, "mean": 1, "sum": 1, "norm": 2, "topk": 2, "sort": 1, "glu": 1, "normalize": 2,
    "var": 1, "std": 1, "gather": 1, "squeeze": 1, "unsqueeze": 1, "repeat_interleave": 2, "unflatten": 1,
}  # fmt: skip
"""Position of the argument that says along which dimension an operator works."""
_FIRST_BY_DEFAULT = frozenset({"chunk", "split", "tensor_split", "unbind"})
_WHOLE_BY_DEFAULT = frozenset(
    {"mean", "sum", "amax", "amin", "max", "min", "argmax", "norm", "var", "std", "flip", "roll"}
)


def acts_on_batch(t: Any, method: bool, args: tuple[Any, ...], kwargs: dict[str, Any], ndim: int) -> bool:
    """Whether a call moves, cuts, joins or reduces dimension 0, so that it cannot run on time folded into it.

    Args:
        t, method, args, kwargs: as for :func:`op_kind`; a size that depends on the batch is given as
            ``None``.
        ndim: dimensions of the (first) tensor.

    >>> acts_on_batch(torch.cat, False, (["x", "y"],), {}, 2)
    True
    >>> acts_on_batch("permute", True, ("x", 0, 2, 1), {}, 3)
    False
    """
    name = str(t if method else getattr(t, "__name__", "")).strip("_")
    rest = args[1:]

    def named(*keys: str, default: Any) -> Any:
        return next((kwargs[k] for k in keys if k in kwargs), default)

    def sequence(keys: tuple[str, ...]) -> tuple[Any, ...]:
        given = named(*keys, default=rest)
        return tuple(given[0] if len(given) == 1 and isinstance(given[0], (tuple, list)) else given)

    def first(dims: Any, ndim: int = ndim) -> bool:
        found = dims if isinstance(dims, (tuple, list)) else (dims,)
        return any(isinstance(d, int) and d in (0, -ndim) for d in found)

    if t is getattr:
        return ndim == 2 and rest[:1] != () and rest[0] in VIEW_ATTRIBUTES
    if t is operator.getitem or name == "getitem":
        index = rest[0] if isinstance(rest[0], tuple) else (rest[0],)
        return bool(index) and index[0] is not ... and index[0] != slice(None)
    if name == "permute":
        return not first(sequence(("dims",))[:1])
    if name in ("transpose", "swapaxes", "swapdims", "movedim"):
        return first([d for d in (*rest, *kwargs.values()) if isinstance(d, int)])
    if name == "t":
        return ndim == 2
    if name == "flatten":
        return ndim > 1 and first(named("start_dim", default=rest[0] if rest else 0))
    if name in ("cat", "concat", "concatenate", "stack"):
        return first(named("dim", "axis", default=rest[0] if rest else 0), ndim + (name == "stack"))
    if name in ("view", "reshape", "expand", "repeat"):
        shape = sequence(("size", "shape", "sizes", "repeats"))
        harmless = {"expand": (-1,), "repeat": (1,)}.get(name, (-1,))
        return bool(shape) and isinstance(shape[0], int) and shape[0] not in harmless
    if name in _ALONG:
        at = _ALONG[name]
        dims = named("dim", "dims", "axis", default=args[at] if len(args) > at else None)
        if dims is None:
            return name in _FIRST_BY_DEFAULT or name in _WHOLE_BY_DEFAULT
        return first(dims, ndim + (name == "unsqueeze"))
    return False


def op_kind(t: Any, method: bool, args: tuple[Any, ...], kwargs: dict[str, Any], varies: Callable[[Any], bool]) -> str:
    """Kind of a call: ``linear``, ``affine``, ``homogeneous`` or ``nonlinear``.

    Args:
        t: the function, or the method's name.
        method: whether ``t`` is a method's name.
        args, kwargs: the call's arguments.
        varies: says whether an argument depends on the network's input (one that does not is a weight).

    >>> op_kind(torch.add, False, ("x", "weight"), {}, lambda a: a == "x")
    'affine'
    """
    if not method and t in SYNAPSES:
        weight = kwargs.get("weight", args[1] if len(args) > 1 else None)
        bias = kwargs.get("bias", args[2] if len(args) > 2 else None)
        if varies(weight):
            return "nonlinear"
        return "linear" if bias is None else "affine"
    if (method and t in _ADD_METHODS) or (not method and t in _ADD):
        operands = [a for a in (*args[:2], kwargs.get("other")) if a is not None]
        return "linear" if all(varies(a) for a in operands) else "affine"
    if (method and t in _MUL_METHODS) or (not method and t in _MUL):
        operands = [a for a in (*args[:2], kwargs.get("other")) if a is not None]
        return "linear" if sum(map(varies, operands)) <= 1 else "nonlinear"
    if (method and t in _DIV_METHODS) or (not method and t in _DIV):
        divisor = kwargs.get("other", args[1] if len(args) > 1 else None)
        rounded = kwargs.get("rounding_mode") is not None
        return "nonlinear" if varies(divisor) or rounded else "linear"
    if (method and t == "__getitem__") or (not method and t is operator.getitem):
        return "nonlinear" if varies(args[1]) else "linear"
    if t is getattr:
        return "linear" if len(args) > 1 and args[1] in VIEW_ATTRIBUTES else "nonlinear"
    if (method and t in _LINEAR_METHODS) or (not method and t in _LINEAR):
        return "linear"
    if not method and t is F.pad:
        mode = kwargs.get("mode", args[2] if len(args) > 2 else "constant")
        value = kwargs.get("value", args[3] if len(args) > 3 else None)
        return "affine" if mode == "constant" and value else "linear"
    if not method and t is F.interpolate:
        return "linear"
    if not method and t in (F.batch_norm, torch.batch_norm):
        training = kwargs.get("training", args[5] if len(args) > 5 else False)
        return "nonlinear" if training else "affine"
    if not method and t in _HOMOGENEOUS:
        return "nonlinear" if kwargs.get("return_indices") else "homogeneous"
    return "nonlinear"


METHODS = _LINEAR_METHODS | _ADD_METHODS | _MUL_METHODS | _DIV_METHODS | _ANALOG_METHODS | _SHAPE
_QUALIFIED: dict[Any, str] = {getattr: "builtins.getattr", len: "builtins.len"}
for _function in (
    set(SYNAPSES) | _LINEAR | _ADD | _MUL | _DIV | _HOMOGENEOUS | _ANALOG | {F.pad, F.interpolate, F.batch_norm}
):
    for _space, _module in (("torch", torch), ("F", F), ("operator", operator)):
        if _function not in _QUALIFIED and (_found := _names(_module, _function)):
            _QUALIFIED[_function] = f"{_space}.{_found[0]}"
_BY_NAME = {name: function for function, name in _QUALIFIED.items()}
