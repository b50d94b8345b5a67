"""PyTorch's operators, a record each; what is not here is nonlinear, and cannot be written to a file."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from snnconv.graph import axes
from snnconv.graph import functions as kinds
from snnconv.graph.activation import Activation, ReLU, activated
from snnconv.graph.operator_record import Arguments, Contracted, Operator, Varies
from snnconv.graph.ops import SHAPE_ATTRIBUTES, VIEW_ATTRIBUTES, register_operator

__all__ = ["along"]

# --- which dimension ---------------------------------------------------------------------------------------


def _first(dims: Any, ndim: int) -> bool:
    found = dims if isinstance(dims, (tuple, list)) else (dims,)
    return any(isinstance(d, int) and d in (0, -ndim) for d in found)


def along(name: str = "dim", default: Any = None, more: int = 0) -> Callable[[Arguments, int], bool]:
    """Acts on dimension 0 where the parameter ``name`` says so; ``default`` is what stands for one not given.

    ``more`` is how many dimensions the result has beyond the input's.
    """

    def rule(given: Arguments, ndim: int) -> bool:
        dims = given.get(name)
        return _first(default if dims is None or dims == () else dims, ndim + more)

    return rule


def _moved(given: Arguments, ndim: int) -> bool:
    return _first([d for k, d in given.items() if k != "input"], ndim)


def _permuted(given: Arguments, ndim: int) -> bool:
    return not _first(given.get("dims", ())[:1], ndim)


def _reshaped(harmless: int) -> Callable[[Arguments, int], bool]:
    """A new first size, unless it is ``harmless``; a size that depends on the batch is ``None``."""

    def rule(given: Arguments, ndim: int) -> bool:
        sizes = given.get("size", ())
        return bool(sizes) and isinstance(sizes[0], int) and sizes[0] != harmless

    return rule


def _repeated(given: Arguments, ndim: int) -> bool:
    sizes = given.get("size", ())
    return bool(sizes) and isinstance(sizes[0], int) and (sizes[0] != 1 or len(sizes) > ndim)


def _indexed(given: Arguments, ndim: int) -> bool:
    index = given.get("index")
    index = index if isinstance(index, tuple) else (index,)
    return bool(index) and index[0] is not ... and index[0] != slice(None)


def _all_but_first(given: Arguments, ndim: int) -> bool:
    return ndim > 1 and _first(given.get("start_dim", 0), ndim)


# --- kinds and roles ---------------------------------------------------------------------------------------


def _operands(given: Arguments) -> list[Any]:
    return [a for a in (given.get("input"), given.get("other")) if a is not None]


def _layer(given: Arguments, varies: Varies) -> str:
    if varies(given.get("weight")):
        return "nonlinear"
    return "linear" if given.get("bias") is None else "affine"


def _sum(given: Arguments, varies: Varies) -> str:
    return "linear" if all(varies(a) for a in _operands(given)) else "affine"


def _product(given: Arguments, varies: Varies) -> str:
    return "linear" if sum(map(varies, _operands(given))) <= 1 else "nonlinear"


def _einsum(given: Arguments) -> dict[str, Contracted]:
    """Operands of ``einsum``, each with the axes of the letters that the result has not."""
    operands = given.get("operands", ())
    text = str(given.get("equation", "")).replace(" ", "")
    if len(operands) != 2 or "->" not in text or "." in text or text.count(",") != 1:
        return {f"operands.{i}": None for i in range(len(operands))}
    left, right = text.split("->")
    return {
        f"operands.{i}": tuple(axis for axis, letter in enumerate(letters) if letter not in right)
        for i, letters in enumerate(left.split(","))
    }


def _quotient(given: Arguments, varies: Varies) -> str:
    rounded = given.get("rounding_mode") is not None
    return "nonlinear" if varies(given.get("other")) or rounded else "linear"


def _item(given: Arguments, varies: Varies) -> str:
    return "nonlinear" if varies(given.get("index")) else "linear"


def _written(given: Arguments, varies: Varies) -> str:
    return "linear" if varies(given.get("input")) and varies(given.get("src")) else "affine"


def _attribute(given: Arguments, varies: Varies) -> str:
    if given.get("name") in SHAPE_ATTRIBUTES:
        return "shape"
    return "linear" if given.get("name") in VIEW_ATTRIBUTES else "nonlinear"


def _transposes(given: Arguments, ndim: int) -> bool:
    return ndim == 2 and given.get("name") in VIEW_ATTRIBUTES


def _padding(given: Arguments, varies: Varies) -> str:
    return "affine" if given.get("mode", "constant") == "constant" and given.get("value") else "linear"


def _batch_norm(given: Arguments, varies: Varies) -> str:
    return "nonlinear" if given.get("training") else "affine"


def _maximum(given: Arguments, varies: Varies) -> str:
    return "nonlinear" if given.get("return_indices") else "homogeneous"


def _resize(given: Arguments) -> str:
    return "move" if "nearest" in str(given.get("mode", "nearest")) else "sum"


# --- the table ---------------------------------------------------------------------------------------------


def _add(
    functions: tuple[Callable[..., Any], ...],
    methods: str = "",
    parameters: str = "input",
    kind: Any = "nonlinear",
    role: Any = "other",
    **more: Any,
) -> None:
    register_operator(Operator(functions, tuple(methods.split()), tuple(parameters.split()), kind, role, **more))


_f: Any  # overloaded functions have types of their own
_conv = "input weight bias stride padding dilation groups"
for _f in (torch.conv1d, torch.conv2d, torch.conv3d):
    _add((_f,), "", _conv, _layer, synapse="conv", product=lambda given: {"input": None, "weight": None})
_conv = "input weight bias stride padding output_padding groups dilation"
for _f in (torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d):
    _add((_f,), "", _conv, _layer, synapse="conv_transpose", product=lambda given: {"input": None, "weight": None})
_add((F.linear,), "", "input weight bias", _layer, synapse="linear",
     product=lambda given: {"input": (-1,), "weight": (-1,)})  # fmt: skip

# places change: views, joins, cuts
_move: dict[str, Any] = {"kind": "linear", "role": "move"}
_join = {**_move, "channels": axes.same}
_add((torch.cat, torch.concat, torch.concatenate), "", "tensors dim", batch=along(default=0), **_join)
_add((torch.stack,), "", "tensors dim", batch=along(default=0, more=1), channels=axes.added, **_move)
_add((torch.flatten,), "flatten", "input start_dim end_dim", batch=_all_but_first, channels=axes.flattened, **_move)
_add((torch.reshape,), "view reshape", "input *size", batch=_reshaped(-1), channels=axes.reshaped, **_move)
_add((), "expand", "input *size", batch=_reshaped(-1), channels=axes.same, **_move)
_add((), "repeat", "input *size", batch=_repeated, channels=axes.same, **_move)
_add((torch.permute,), "permute", "input *dims", batch=_permuted, channels=axes.permuted, **_move)
_swap = {"batch": _moved, "channels": axes.swapped, **_move}
_add((torch.transpose,), "transpose", "input dim0 dim1", **_swap)
_add((torch.swapaxes,), "swapaxes", "input axis0 axis1", **_swap)
_add((torch.movedim,), "movedim", "input source destination", batch=_moved, channels=axes.moved, **_move)
_add((), "t", "input", batch=lambda given, ndim: ndim == 2, channels=axes.turned, **_move)
_add((torch.squeeze,), "squeeze", "input dim", batch=along(), channels=axes.removed, **_move)
_add((torch.unsqueeze,), "unsqueeze", "input dim", batch=along(more=1), channels=axes.added, **_move)
_add((torch.unflatten,), "unflatten", "input dim sizes", batch=along(), channels=axes.unflattened, **_move)
_add((torch.chunk,), "chunk", "input chunks dim", batch=along(default=0), channels=axes.same, **_move)
_add((torch.split,), "split", "input split_size dim", batch=along(default=0), channels=axes.same, **_move)
_add((torch.tensor_split,), "tensor_split", "input sections dim", batch=along(default=0), channels=axes.same, **_move)
_add((torch.unbind,), "unbind", "input dim", batch=along(default=0), channels=axes.unbound, **_move)
_add((torch.select,), "select", "input dim index", batch=along(), channels=axes.removed, **_move)
_add((torch.narrow,), "narrow", "input dim start length", batch=along(), channels=axes.same, **_move)
_add((torch.index_select,), "index_select", "input dim index", batch=along(), channels=axes.same, **_move)
_add((torch.roll,), "roll", "input shifts dims", batch=along("dims", 0), channels=axes.same, **_move)
_add((torch.flip,), "flip", "input *dims", batch=along("dims", 0), channels=axes.same, **_move)
_add((), "repeat_interleave", "input repeats dim", batch=along(default=0), channels=axes.same, **_move)
_add((operator.getitem,), "__getitem__", "input index", _item, "move", batch=_indexed, channels=axes.picked)
_add((getattr,), "", "input name", _attribute, "move", batch=_transposes, channels=axes.attribute)
_add((torch.select_scatter,), "", "input src dim index", _written, "move", batch=along(), channels=axes.same)
_add((torch.slice_scatter,), "", "input src dim start end step", _written, "move", batch=along(default=0),
     channels=axes.same)  # fmt: skip
_add((torch.index_put,), "", "input indices values accumulate")
for _f, _m in ((torch.tril, "tril"), (torch.triu, "triu")):
    _add((_f,), _m, "input diagonal", "linear", "scale", batch=lambda given, ndim: ndim < 3, channels=axes.same)
_add((F.pixel_shuffle,), "", "input upscale_factor", channels=axes.same, **_move)
_add((F.pixel_unshuffle,), "", "input downscale_factor", channels=axes.same, **_move)
_add((F.channel_shuffle,), "", "input groups", **_join)
_add((F.pad,), "", "input pad mode value", _padding, "move", channels=axes.same)
_resizes = "input size scale_factor mode align_corners"
_add((F.interpolate, F.upsample), "", _resizes, "linear", _resize, channels=axes.same)
# values as they are
_add((torch.clone,), "clone", **_join)
_add((torch.neg, operator.neg), "neg __neg__", **_join)
_add((operator.pos,), "", **_join)
_add((), "contiguous float detach cpu cuda", "input", **_join)
_add((), "half bfloat16", "input", **_join)
_add((), "to type", "input dtype", **_join)
_add((), "type_as view_as reshape_as expand_as", "input other", channels=axes.same, **_move)

# sums and averages
_total: dict[str, Any] = {"kind": "linear", "role": "sum"}
_add((torch.mean,), "mean", "input dim keepdim", batch=along(default=0), channels=axes.reduced, **_total)
_add((torch.sum,), "sum", "input dim keepdim", batch=along(default=0), channels=axes.reduced, **_total)
_total["channels"] = axes.same
_pool = "input kernel_size stride padding ceil_mode count_include_pad divisor_override"
for _f in (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d):
    _add((_f,), "", _pool, **_total)
for _f in (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d):
    _add((_f,), "", "input output_size", **_total)
_two: dict[str, Any] = {"parameters": "input other", "channels": axes.same}
_add((torch.add, operator.add, operator.iadd), "add __add__ __radd__ __iadd__", **_two, kind=_sum, role="sum",
     twins=((operator.iadd, operator.add),))  # fmt: skip
_add((torch.sub, operator.sub, operator.isub), "sub __sub__ __rsub__ __isub__", **_two, kind=_sum, role="sum",
     twins=((operator.isub, operator.sub),))  # fmt: skip

# products
_add((torch.mul, torch.multiply, operator.mul, operator.imul), "mul __mul__ __rmul__ __imul__", **_two, kind=_product,
     role="scale", product=lambda given: {"input": (), "other": ()},
     twins=((operator.imul, operator.mul),))  # fmt: skip
_add((torch.div, torch.true_divide, operator.truediv, operator.itruediv), "div __truediv__ __itruediv__", **_two,
     kind=_quotient, role="scale", twins=((operator.itruediv, operator.truediv),))  # fmt: skip
_add((torch.matmul, operator.matmul, torch.bmm), "matmul bmm __matmul__", "input other", _product,
     channels=axes.product, product=lambda given: {"input": (-1,), "other": (-2,)})  # fmt: skip
_add((), "__rmatmul__", "other input", _product, channels=axes.product,
     product=lambda given: {"input": (-1,), "other": (-2,)})  # fmt: skip

# normalisation and the largest of several
_add((F.batch_norm,), "", "input running_mean running_var weight bias training momentum eps", _batch_norm,
     channels=axes.second)  # fmt: skip
_add((torch.batch_norm,), "", "input weight bias running_mean running_var training momentum eps", _batch_norm,
     channels=axes.second)  # fmt: skip
_pool = "input kernel_size stride padding dilation ceil_mode return_indices"
for _f in (F.max_pool1d, F.max_pool2d, F.max_pool3d, torch.max_pool1d, torch.max_pool2d, torch.max_pool3d):
    _add((_f,), "", _pool, _maximum, channels=axes.same)
for _f in (F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d):
    _add((_f,), "", "input output_size return_indices", _maximum, channels=axes.same)
for _f in (F.lp_pool1d, F.lp_pool2d, F.lp_pool3d):
    _add((_f,), "", "input norm_type kernel_size stride ceil_mode", channels=axes.same)
for _f, _m in ((torch.amax, "amax"), (torch.amin, "amin")):
    _add((_f,), _m, "input dim keepdim", "homogeneous", batch=along(default=0), channels=axes.reduced)

# activations and normalisations, element by element or along a dimension
_act: dict[str, Any] = {"activation": True, "channels": axes.same}
_add((F.relu, torch.relu, torch.relu_), "relu", "input inplace", computes=lambda given: ReLU(),
     twins=((torch.relu_, torch.relu),), **_act)  # fmt: skip
_kinds: dict[Any, Callable[[Arguments], Activation | None]] = {
    F.relu6: lambda given: ReLU(6.0), F.silu: lambda given: kinds.SiLU(), F.hardswish: lambda given: kinds.Hardswish(),
    F.hardsigmoid: lambda given: kinds.Hardsigmoid(), F.mish: lambda given: kinds.Mish(),
}  # fmt: skip
for _f, _kind in _kinds.items():
    _add((_f,), "", "input inplace", computes=_kind, **_act)
_add((F.selu, torch.selu), "", "input inplace", computes=lambda given: kinds.SELU(), **_act)
_add((F.elu,), "", "input alpha inplace", computes=kinds.exponential(kinds.ELU), **_act)
_add((F.celu, torch.celu), "", "input alpha inplace", computes=kinds.exponential(kinds.CELU), **_act)
_add((F.hardtanh,), "", "input min_val max_val inplace", **_act,
     computes=lambda given: kinds.clamped(given.get("min_val", -1.0), given.get("max_val", 1.0)))  # fmt: skip
_add((F.leaky_relu,), "", "input negative_slope inplace", computes=kinds.leaky, **_act)
_add((F.threshold,), "", "input threshold value inplace", computes=kinds.over_zero, **_act)
_add((F.gelu,), "", "input approximate", computes=lambda given: kinds.GELU(given.get("approximate", "none")), **_act)
_add((F.softplus,), "", "input beta threshold", computes=kinds.softplus, **_act)
_add((F.softsign,), "", computes=lambda given: kinds.Softsign(), **_act)
_add((F.tanhshrink,), "", **_act)
_add((F.logsigmoid,), "", computes=lambda given: kinds.LogSigmoid(), **_act)
_add((F.rrelu,), "", "input lower upper training inplace", computes=kinds.randomly_leaky, **_act)
_add((torch.prelu,), "prelu", "input weight", computes=kinds.parametric, **_act)
_add((torch.sigmoid, F.sigmoid), "sigmoid", computes=lambda given: kinds.Sigmoid(), **_act)
_add((torch.tanh, F.tanh), "tanh", computes=lambda given: kinds.Tanh(), **_act)


def _clipped(given: Arguments) -> Activation | None:
    return kinds.clamped(given.get("min"), given.get("max"))


_add((torch.clamp,), "clamp", "input min max", computes=_clipped, **_act)
_add((torch.clip,), "clip", "input min max", computes=_clipped, **_act)
_add((torch.clamp_min,), "clamp_min", "input min", computes=_clipped, **_act)
_add((torch.clamp_max,), "clamp_max", "input max", computes=_clipped, **_act)
for _f, _m in ((torch.exp, "exp"), (torch.sin, "sin"), (torch.cos, "cos"), (torch.erf, "erf"), (torch.abs, "abs"),
               (torch.square, "square")):  # fmt: skip
    _add((_f,), _m, **_act)
_add((torch.pow, operator.pow), "pow __pow__", "input exponent", **_act)
_add((torch.softmax, F.softmax), "softmax", "input dim", batch=along(), **_act)
_add((F.log_softmax,), "log_softmax", "input dim", batch=along(), **_act)
_add((F.glu,), "", "input dim", batch=along(), activation=True, channels=axes.same)
_add((F.normalize,), "", "input p dim eps", batch=along(), **_act)
_add((F.layer_norm,), "", "input normalized_shape weight bias eps", activation=True, channels=axes.last)
_add((F.rms_norm, torch.rms_norm), "", "input normalized_shape weight eps", activation=True, channels=axes.last)
_add((F.group_norm,), "", "input num_groups weight bias eps", activation=True, channels=axes.second)
_add(
    (F.instance_norm,),
    "",
    "input running_mean running_var weight bias use_input_stats momentum eps",
    activation=True,
    channels=axes.second,
)
_add((F.local_response_norm,), "", "input size alpha beta k", **_act)
_add((activated,), "", "input kind", name="activation", **_act)
_add((F.scaled_dot_product_attention,), "", "query key value attn_mask dropout_p is_causal scale", activation=True,
     channels=axes.last)  # fmt: skip

# nonlinear, element by element
_same: dict[str, Any] = {"channels": axes.same}
for _f, _m in ((torch.log, "log"), (torch.sqrt, "sqrt"), (torch.rsqrt, "rsqrt"), (torch.floor, "floor"),
               (torch.ceil, "ceil"), (torch.trunc, "trunc"), (torch.sign, "sign"), (torch.reciprocal, "reciprocal"),
               (torch.log1p, "log1p"), (torch.log2, "log2"), (torch.expm1, "expm1"), (torch.exp2, "exp2"),
               (torch.erfc, "erfc"), (torch.sinh, "sinh"), (torch.cosh, "cosh"), (torch.asin, "asin"),
               (torch.acos, "acos"), (torch.atan, "atan"), (torch.isnan, "isnan"), (torch.isfinite, "isfinite"),
               (torch.isinf, "isinf")):  # fmt: skip
    _add((_f,), _m, **_same)
for _f in (F.softshrink, F.hardshrink):
    _add((_f,), "", "input lambd", **_act)
_add((torch.logical_not, operator.invert, torch.bitwise_not), "logical_not __invert__", **_same)
_add((torch.round,), "round", "input decimals", **_same)
_add((torch.nan_to_num,), "nan_to_num", "input nan posinf neginf", **_same)
for _f, _m in ((torch.addcmul, "addcmul"), (torch.addcdiv, "addcdiv")):
    _add((_f,), _m, "input tensor1 tensor2 value", **_same)
_add((torch.lerp,), "lerp", "input end weight", **_same)
for _g, _m in (((torch.maximum,), "maximum"), ((torch.minimum,), "minimum"), ((operator.floordiv,), ""),
               ((operator.mod,), ""), ((torch.atan2,), "atan2"), ((torch.hypot,), "hypot"),
               ((torch.logaddexp,), "logaddexp"), ((operator.and_, torch.logical_and), "logical_and"),
               ((operator.or_, torch.logical_or), "logical_or"), ((operator.eq, torch.eq), "eq"),
               ((operator.ne, torch.ne), "ne"), ((operator.lt, torch.lt), "lt"), ((operator.gt, torch.gt), "gt"),
               ((operator.le, torch.le), "le"), ((operator.ge, torch.ge), "ge")):  # fmt: skip
    _add(_g, _m, "input other", **_same)
for _f in (torch.bitwise_and, torch.bitwise_or, torch.floor_divide, torch.remainder, torch.copysign):
    _add((_f,), "", "input other", **_same)
_add((operator.not_,), "")
_add((torch.sym_max, torch.sym_min), "", "input other")
_add((torch.sym_not, torch.sym_int, torch.sym_float, torch.sym_ite))
_add((torch.where,), "", "condition input other")
_add((), "where", "input condition other", **_same)
_add((), "masked_fill", "input mask value", **_same)
_add((F.dropout,), "", "input p training inplace", **_same)
# nonlinear, along a dimension
_add((torch.max,), "max", "input dim keepdim", batch=along(default=0), channels=axes.reduced)
_add((torch.min,), "min", "input dim keepdim", batch=along(default=0), channels=axes.reduced)
_add((torch.argmax,), "argmax", "input dim keepdim", batch=along(default=0))
for _f, _m in ((torch.any, "any"), (torch.all, "all")):
    _add((_f,), _m, "input dim keepdim", batch=along(default=0), channels=axes.reduced)
_add((torch.norm,), "norm", "input p dim keepdim", batch=along(default=0), channels=axes.reduced)
for _f, _m in ((torch.var, "var"), (torch.std, "std"), (torch.prod, "prod"), (torch.argmin, "argmin")):
    _add((_f,), _m, "input dim", batch=along(default=0), channels=axes.reduced)
_add((torch.logsumexp,), "logsumexp", "input dim keepdim", batch=along(), channels=axes.reduced)
_add((torch.topk,), "topk", "input k dim", batch=along(), channels=axes.same)
_add((torch.sort,), "", "input dim descending", batch=along(), channels=axes.same)
for _f, _m in ((torch.cumsum, "cumsum"), (torch.cumprod, "cumprod")):
    _add((_f,), _m, "input dim", batch=along(), channels=axes.same)
_add((torch.gather,), "gather", "input dim index", batch=along(), channels=axes.same)
_add((torch.scatter,), "scatter", "input dim index src", batch=along(), channels=axes.same)
# nonlinear, otherwise
_add((F.embedding,), channels=axes.last)
for _f, _m, _p in ((torch.addmm, "addmm", "input mat1 mat2 beta alpha"),
                   (torch.baddbmm, "baddbmm", "input batch1 batch2 beta alpha")):  # fmt: skip
    _pair = _p.split()[1:3]
    _add((_f,), _m, _p, channels=axes.product,
         product=lambda given, pair=_pair: {pair[0]: (-1,), pair[1]: (-2,)})  # fmt: skip
_add((torch.einsum,), "", "equation *operands", product=_einsum)
for _f in (F.one_hot, F.grid_sample, F.unfold, F.fold, torch.arange, torch.tensor, torch.meshgrid,
           torch.linspace):  # fmt: skip
    _add((_f,))
for _f in (torch.zeros, torch.ones):
    _add((_f,), "", "*size")
_add((torch.full,), "", "size fill_value")
for _f in (torch.zeros_like, torch.ones_like):
    _add((_f,))
_add((torch.full_like,), "", "input fill_value")
_add((), "new_zeros new_ones", "input *size")
_add((), "new_full", "input size fill_value")
# shapes
_add((torch.numel, len), "size dim ndimension numel stride is_contiguous get_device", kind="shape")
