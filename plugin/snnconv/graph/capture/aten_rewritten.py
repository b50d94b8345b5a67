"""ATen's operators whose arguments have another form here: a function each."""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx

from snnconv.graph.capture.aten_call import Call, Uncovered

__all__ = ["REWRITTEN"]


def _scaled_sum(function: Callable[..., Any]) -> Callable[..., fx.Node]:
    def rewrite(call: Call, self: Any, other: Any, alpha: Any = 1) -> fx.Node:
        if not isinstance(self, fx.Node):  # a number and a tensor
            return call.make(getattr(operator, function.__name__), input=self, other=_times(call, other, alpha))
        return call.make(function, input=self, other=_times(call, other, alpha))

    return rewrite


def _times(call: Call, value: Any, alpha: Any) -> Any:
    if alpha == 1 and not isinstance(alpha, fx.Node):
        return value
    return call.make(torch.mul, input=value, other=alpha) if isinstance(value, fx.Node) else value * alpha


def _subtracted_from(call: Call, self: Any, other: Any, alpha: Any = 1) -> fx.Node:
    return call.make(operator.sub, input=other, other=_times(call, self, alpha))


def _divided(call: Call, self: Any, other: Any, rounding_mode: str | None = None) -> fx.Node:
    if not isinstance(self, fx.Node):
        return call.make(operator.truediv, input=self, other=other)
    return call.make(torch.div, input=self, other=other, rounding_mode=rounding_mode)


def _power(call: Call, self: Any, exponent: Any) -> fx.Node:
    return call.make(operator.pow, input=self, exponent=exponent)


def _of_products(call: Call, self: Any, mat1: Any, mat2: Any, beta: Any = 1, alpha: Any = 1) -> fx.Node:
    """self + mat1 @ mat2: a layer, whose weights stand the other way round."""
    if beta != 1 or alpha != 1:
        raise Uncovered("addmm with beta or alpha")
    return call.make(F.linear, input=mat1, weight=call.make("t", input=mat2), bias=self)


def _cut(call: Call, self: Any, dim: int = 0, start: Any = None, end: Any = None, step: Any = 1) -> Any:
    start = None if isinstance(start, int) and start == 0 else start
    end = None if isinstance(end, int) and end >= sys.maxsize else end
    if start is None and end is None and step == 1:
        return self
    index = slice(start, end, None if step == 1 else step)
    before = (slice(None),) * (dim % call.dims)
    return call.graph.call_function(operator.getitem, (self, (*before, index)))


def _written_slice(
    call: Call, self: Any, src: Any, dim: int = 0, start: Any = None, end: Any = None, step: Any = 1
) -> Any:
    end = None if isinstance(end, int) and end >= sys.maxsize else end
    if start in (None, 0) and end is None and step == 1:
        return src
    return call.make(torch.slice_scatter, input=self, src=src, dim=dim, start=start, end=end, step=step)


def _indexed(call: Call, self: Any, indices: list[Any]) -> fx.Node:
    index = tuple(slice(None) if i is None else i for i in indices)
    return call.graph.call_function(operator.getitem, (self, index))


def _looked_up(call: Call, weight: Any, indices: Any, padding_idx: int = -1, **others: Any) -> fx.Node:
    return call.graph.call_function(F.embedding, (indices, weight))


def _where(call: Call, condition: Any, self: Any = None, other: Any = None) -> fx.Node:
    if self is None:
        raise Uncovered("where with one argument")
    return call.make(torch.where, condition=condition, input=self, other=other)


def _dropout(call: Call, p: float = 0.5, train: bool = False, **value: Any) -> Any:
    if train:
        raise Uncovered("dropout in training mode")
    (given,) = value.values()  # "input"; "self" where it is written in place
    return given


def _padded(mode: str) -> Callable[..., fx.Node]:
    def rewrite(call: Call, self: Any, pad: Any = None, padding: Any = None, value: Any = 0) -> fx.Node:
        pad = padding if pad is None else pad
        if mode == "constant":
            return call.make(F.pad, input=self, pad=tuple(pad), mode=mode, value=value)
        return call.make(F.pad, input=self, pad=tuple(pad), mode=mode)

    return rewrite


def _any_pad(call: Call, self: Any, pad: Any, mode: str = "constant", value: Any = None) -> fx.Node:
    return call.make(F.pad, input=self, pad=tuple(pad), mode=mode, value=value if mode == "constant" else None)


def _resized(mode: str, antialias: bool = False) -> Callable[..., fx.Node]:
    def rewrite(
        call: Call, output_size: Any = None, scale_factors: Any = None, align_corners: Any = None, **given: Any
    ) -> fx.Node:
        image = given.pop("input", None) if "input" in given else given.pop("self")
        options: dict[str, Any] = {"mode": mode}
        if mode not in ("nearest", "nearest-exact"):
            options["align_corners"] = bool(align_corners)
        if antialias:
            options["antialias"] = True
        size = None if output_size is None else tuple(output_size)
        scales = None if scale_factors is None else tuple(scale_factors)
        if any(value is not None for value in given.values()):  # scales_h, scales_w, or scales of one dimension
            raise Uncovered(f"{call.name} with a size and factors")
        return call.graph.call_function(F.interpolate, (image, size, scales), options)

    return rewrite


def _pooled_with_places(function: Callable[..., Any]) -> Callable[..., Any]:
    def rewrite(call: Call, self: Any, **given: Any) -> Any:
        if call.only_first:
            return (call.make(function, input=self, **given),)
        return call.make(function, input=self, **given, return_indices=True)

    return rewrite


def _elu(call: Call, self: Any, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> fx.Node:
    if (alpha, scale, input_scale) == (1.6732632423543772, 1.0507009873554805, 1):
        return call.make(F.selu, input=self)
    if scale == 1 and abs(alpha * input_scale - 1) < 1e-12:  # celu: α·(exp(x/α) − 1)
        return call.make(F.celu, input=self, alpha=alpha) if alpha != 1 else call.make(F.elu, input=self, alpha=1.0)
    if scale != 1 or input_scale != 1:
        raise Uncovered("elu with a scale")
    return call.make(F.elu, input=self, alpha=alpha)


def _native_group_norm(
    call: Call, input: Any, weight: Any, bias: Any, N: Any, C: Any, HxW: Any, group: int, eps: float
) -> fx.Node:
    return call.make(F.group_norm, input=input, num_groups=group, weight=weight, bias=bias, eps=eps)


def _convolution(
    call: Call, input: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, transposed: bool,
    output_padding: Any, groups: int,
) -> fx.Node:  # fmt: skip
    size = len(stride)
    if transposed:
        return call.make(
            getattr(torch, f"conv_transpose{size}d"), input=input, weight=weight, bias=bias, stride=stride,
            padding=padding, output_padding=output_padding, groups=groups, dilation=dilation,
        )  # fmt: skip
    return call.make(
        getattr(torch, f"conv{size}d"), input=input, weight=weight, bias=bias, stride=stride, padding=padding,
        dilation=dilation, groups=groups,
    )  # fmt: skip


def _cast(call: Call, self: Any, dtype: Any = None, other: Any = None, **others: Any) -> Any:
    if other is not None:
        return call.make("type_as", input=self, other=other)
    return self if dtype is None else call.make("to", input=self, dtype=dtype)


def _largest(function: Callable[..., Any], of_two: Callable[..., Any]) -> Callable[..., fx.Node]:
    def rewrite(call: Call, self: Any, dim: Any = None, keepdim: bool = False, other: Any = None) -> fx.Node:
        if other is not None:
            return call.make(of_two, input=self, other=other)
        if dim is None:
            return call.make(function, input=self)
        return call.make(function, input=self, dim=dim, keepdim=keepdim)

    return rewrite


def _einsum(call: Call, equation: str, tensors: list[Any], path: Any = None) -> fx.Node:
    return call.graph.call_function(torch.einsum, (equation, *tensors))


def _numbers(function: Callable[..., Any]) -> Callable[..., fx.Node]:
    """Tensors that are made of numbers: on the device on which the network's input is."""

    def rewrite(call: Call, dtype: Any = None, **given: Any) -> fx.Node:
        kwargs = {"dtype": dtype} if dtype is not None else {}
        sizes = any(isinstance(v, fx.Node) for v in _flat(list(given.values())))
        kwargs |= {"device": call.device()} if sizes else {}
        return call.graph.call_function(function, tuple(given.values()), kwargs)

    return rewrite


def _flat(values: list[Any]) -> list[Any]:
    return [leaf for v in values for leaf in (_flat(list(v)) if isinstance(v, (list, tuple)) else [v])]


def _scalar(call: Call, s: Any, dtype: Any = None) -> fx.Node:
    return _numbers(torch.full)(call, size=(), fill_value=s, dtype=dtype)


def _filled(call: Call, self: Any, value: Any) -> fx.Node:
    if isinstance(value, fx.Node):
        zeros = call.make(torch.zeros_like, input=self)
        return call.make(torch.add, input=zeros, other=value)
    return call.make(torch.full_like, input=self, fill_value=value)


def _copied(call: Call, self: Any, src: Any) -> fx.Node:
    return call.make("expand_as", input=call.make("type_as", input=src, other=self), other=self)


def _spread(call: Call, self: Any, **given: Any) -> tuple[fx.Node, fx.Node]:
    """var_mean, std_mean."""
    what = call.name.partition("_")[0]
    dims = {name: value for name, value in given.items() if name in ("dim", "keepdim")}
    return (call.make(what, input=self, **given), call.make(torch.mean, input=self, **dims))


_SAMPLED = ("bilinear", "nearest", "bicubic")
_OUTSIDE = ("zeros", "border", "reflection")


def _sampled(
    call: Call, input: Any, grid: Any, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> fx.Node:
    modes = (_SAMPLED[interpolation_mode], _OUTSIDE[padding_mode], align_corners)
    return call.graph.call_function(F.grid_sample, (input, grid, *modes))


def _folded(call: Call, self: Any, output_size: Any, kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> Any:
    return call.graph.call_function(F.fold, (self, output_size, kernel_size, dilation, padding, stride))


REWRITTEN: dict[str, Callable[..., Any]] = {
    "add": _scaled_sum(torch.add), "sub": _scaled_sum(torch.sub), "rsub": _subtracted_from, "div": _divided,
    "pow": _power, "addmm": _of_products, "slice": _cut, "slice_scatter": _written_slice,
    "index": _indexed, "_unsafe_index": _indexed,
    "embedding": _looked_up, "where": _where, "dropout": _dropout, "feature_dropout": _dropout,
    "alpha_dropout": _dropout, "feature_alpha_dropout": _dropout, "native_dropout": _dropout,
    "pad": _any_pad, "constant_pad_nd": _padded("constant"), "elu": _elu, "native_group_norm": _native_group_norm,
    "convolution": _convolution, "to": _cast, "_to_copy": _cast, "max": _largest(torch.max, torch.maximum),
    "min": _largest(torch.min, torch.minimum), "einsum": _einsum, "fill": _filled, "copy": _copied,
    "zero": lambda call, self: call.make(torch.zeros_like, input=self),
    "var_mean": _spread, "std_mean": _spread, "scalar_tensor": _scalar, "grid_sampler": _sampled,
    "grid_sampler_2d": _sampled, "grid_sampler_3d": _sampled, "col2im": _folded,
    **{name: _numbers(getattr(torch, name))
       for name in ("arange", "zeros", "ones", "full", "linspace", "eye", "empty")},
    **{f"{kind}_pad{n}d": _padded(mode) for kind, mode in (("reflection", "reflect"), ("replication", "replicate"))
       for n in (1, 2, 3)},
    **{f"upsample_{mode}{n}d": _resized(mode) for mode, n in (
        ("nearest", 1), ("nearest", 2), ("nearest", 3), ("linear", 1), ("bilinear", 2), ("bicubic", 2),
        ("trilinear", 3))},
    **{f"_upsample_nearest_exact{n}d": _resized("nearest-exact") for n in (1, 2, 3)},
    "_upsample_bilinear2d_aa": _resized("bilinear", True), "_upsample_bicubic2d_aa": _resized("bicubic", True),
    **{f"max_pool{n}d_with_indices": _pooled_with_places(getattr(F, f"max_pool{n}d")) for n in (1, 2, 3)},
    **{f"adaptive_max_pool{n}d": _pooled_with_places(getattr(F, f"adaptive_max_pool{n}d")) for n in (1, 2, 3)},
}  # fmt: skip
