"""ONNX operators with weights, and poolings."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnconv.export.onnx_in.calls import Call, Value, register_onnx_operator

__all__: list[str] = []  # what it has is in the table of operators

_CONV: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: dict[int, Any] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_NORM: dict[int, Any] = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
_FUNCTIONAL: dict[int, Any] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_MAX: dict[int, Any] = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
_AVERAGE: dict[int, Any] = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}


def _padding(
    call: Call, x: Value, kernel: list[int], stride: list[int], dilation: list[int]
) -> tuple[list[int], list[int]]:
    """Padding before and behind each dimension."""
    dims, word = len(kernel), str(call.get("auto_pad", "NOTSET"))
    if word == "NOTSET":
        pads = [int(n) for n in call.get("pads", [0] * 2 * dims)]
        return pads[:dims], pads[dims:]
    if word == "VALID":
        return [0] * dims, [0] * dims
    before, behind = [], []
    for size, k, s, d in zip(x.seen[0].shape[2:], kernel, stride, dilation, strict=True):
        total = max((-(-size // s) - 1) * s + d * (k - 1) + 1 - size, 0)
        small, large = total // 2, total - total // 2
        before.append(small if word == "SAME_UPPER" else large)
        behind.append(large if word == "SAME_UPPER" else small)
    return before, behind


def _padded(call: Call, x: Value, before: list[int], behind: list[int], value: float) -> tuple[Value, list[int]]:
    """The input with what PyTorch's layers cannot pad, and what they can."""
    if before == behind:
        return x, before
    flat = [n for pair in zip(reversed(before), reversed(behind), strict=True) for n in pair]
    return call.emit(F.pad, x, flat, "constant", value), [0] * len(before)


def _filled(module: Any, weight: Tensor, bias: Tensor | None) -> Any:
    with torch.no_grad():
        module.weight.copy_(weight)
        if bias is not None:
            module.bias.copy_(bias)
    return module


@register_onnx_operator("Conv")
def _conv(call: Call) -> Value:
    weight, bias = call.weight(1), call.weight(2)
    dims = call.value(1).seen[0].dim() - 2
    if dims not in _CONV:
        raise call.refuse(f"a convolution in {dims} dimensions")
    kernel = [int(n) for n in call.value(1).seen[0].shape[2:]]
    stride, dilation = (list(call.get(key, [1] * dims)) for key in ("strides", "dilations"))
    x, padding = _padded(call, call.value(0), *_padding(call, call.value(0), kernel, stride, dilation), 0.0)
    groups = int(call.get("group", 1))
    if weight is None or (call.has(2) and bias is None):  # computed weights
        rest = (stride, padding, dilation, groups)
        return call.emit(_FUNCTIONAL[dims], x, call.value(1), call.value(2) if call.has(2) else None, *rest)
    layer = _CONV[dims](
        weight.shape[1] * groups, weight.shape[0], tuple(kernel), tuple(stride), tuple(padding), tuple(dilation),
        groups, bias is not None, dtype=weight.dtype,
    )  # fmt: skip
    return call.module(_filled(layer, weight, bias), x)


@register_onnx_operator("ConvTranspose")
def _conv_transpose(call: Call) -> Value:
    weight, bias = call.tensor(1), call.weight(2)
    dims, groups = weight.dim() - 2, int(call.get("group", 1))
    kernel = [int(n) for n in weight.shape[2:]]
    stride, dilation = (list(call.get(key, [1] * dims)) for key in ("strides", "dilations"))
    more = list(call.get("output_padding", [0] * dims))
    if "output_shape" in call.attributes or str(call.get("auto_pad", "NOTSET")) != "NOTSET":
        raise call.refuse("an output_shape or auto_pad")
    before, behind = _padding(call, call.value(0), kernel, stride, dilation)
    if before != behind or dims not in _TRANSPOSED:
        raise call.refuse("a padding that is not the same on both sides")
    layer = _TRANSPOSED[dims](
        weight.shape[0], weight.shape[1] * groups, tuple(kernel), tuple(stride), tuple(before), tuple(more), groups,
        bias is not None, tuple(dilation), dtype=weight.dtype,
    )  # fmt: skip
    return call.module(_filled(layer, weight, bias), call.value(0))


def _linear(call: Call, x: Value, weight: Tensor, bias: Tensor | None) -> Value:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, dtype=weight.dtype)
    return call.module(_filled(layer, weight, bias), x)


@register_onnx_operator("Gemm")
def _gemm(call: Call) -> Value:
    alpha, beta = float(call.get("alpha", 1.0)), float(call.get("beta", 1.0))
    x, weight, bias = call.value(0), call.weight(1), call.weight(2)
    if call.get("transA", 0):
        x = call.emit(torch.transpose, x, 0, 1)
    if weight is not None and (not call.has(2) or bias is not None):
        rows = weight if call.get("transB", 0) else weight.T
        whole = None if bias is None else (bias * beta).reshape(-1)
        if whole is None or whole.numel() in (1, rows.shape[0]):
            whole = whole if whole is None else whole.expand(rows.shape[0])
            return _linear(call, x, rows * alpha, whole)
    other = call.emit(torch.transpose, call.value(1), 0, 1) if call.get("transB", 0) else call.value(1)
    result = call.emit(torch.matmul, x, other)
    result = result if alpha == 1 else call.emit(torch.mul, result, alpha)
    if not call.has(2):
        return result
    return call.emit(torch.add, result, call.value(2) if beta == 1 else call.emit(torch.mul, call.value(2), beta))


@register_onnx_operator("MatMul")
def _matmul(call: Call) -> Value:
    weight = call.weight(1)
    if weight is not None and weight.dim() == 2 and call.value(0).node is not None:
        return _linear(call, call.value(0), weight.T, None)
    return call.emit(torch.matmul, call.value(0), call.value(1))


@register_onnx_operator("BatchNormalization")
def _batch_norm(call: Call) -> Value:
    if call.get("training_mode", 0):
        raise call.refuse("a batch normalisation in training mode")
    weight, bias, mean, var = (call.tensor(i) for i in range(1, 5))
    dims = call.value(0).seen[0].dim()
    if dims not in _NORM:
        raise call.refuse(f"an input of {dims} dimensions")
    norm = _filled(_NORM[dims](len(weight), eps=float(call.get("epsilon", 1e-5)), dtype=weight.dtype), weight, bias)
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(var)
    return call.module(norm, call.value(0))


@register_onnx_operator("LayerNormalization")
def _layer_norm(call: Call) -> Value:
    x, weight = call.value(0), call.tensor(1)
    shape = x.seen[0].shape[int(call.get("axis", -1)) :] if int(call.get("axis", -1)) < 0 else None
    shape = x.seen[0].shape[int(call.get("axis", -1)) :] if shape is None else shape
    norm = nn.LayerNorm(tuple(shape), eps=float(call.get("epsilon", 1e-5)), dtype=weight.dtype)
    bias = call.tensor(2) if call.has(2) else torch.zeros_like(weight)
    return call.module(_filled(norm, weight.expand(shape), bias.expand(shape)), x)


@register_onnx_operator("InstanceNormalization")
def _instance_norm(call: Call) -> Value:
    weight, bias = call.tensor(1), call.tensor(2)
    norm = nn.GroupNorm(len(weight), len(weight), eps=float(call.get("epsilon", 1e-5)), dtype=weight.dtype)
    return call.module(_filled(norm, weight, bias), call.value(0))


@register_onnx_operator("GroupNormalization")
def _group_norm(call: Call) -> Value:
    weight, bias, groups = call.tensor(1), call.tensor(2), int(call.get("num_groups"))
    channels = int(call.value(0).seen[0].shape[1])
    if len(weight) != channels:  # before version 21 one a group
        weight, bias = (v.repeat_interleave(channels // groups) for v in (weight, bias))
    norm = nn.GroupNorm(groups, channels, eps=float(call.get("epsilon", 1e-5)), dtype=weight.dtype)
    return call.module(_filled(norm, weight, bias), call.value(0))


@register_onnx_operator("MaxPool")
def _max_pool(call: Call) -> Value:
    kernel = [int(n) for n in call.get("kernel_shape")]
    dims = len(kernel)
    stride, dilation = (list(call.get(key, [1] * dims)) for key in ("strides", "dilations"))
    before, behind = _padding(call, call.value(0), kernel, stride, dilation)
    if call.outputs > 1 or dims not in _MAX:
        raise call.refuse("a second output (indices)" if call.outputs > 1 else f"{dims} dimensions")
    x, padding = _padded(call, call.value(0), before, behind, -torch.inf)
    pool = _MAX[dims](tuple(kernel), tuple(stride), tuple(padding), tuple(dilation), False, bool(call.get("ceil_mode")))
    return call.module(pool, x)


@register_onnx_operator("AveragePool")
def _average_pool(call: Call) -> Value:
    kernel = [int(n) for n in call.get("kernel_shape")]
    dims, counted = len(kernel), bool(call.get("count_include_pad", 0))
    stride = list(call.get("strides", [1] * dims))
    if any(d != 1 for d in call.get("dilations", [1])) or dims not in _AVERAGE:
        raise call.refuse("a dilated average pooling")
    before, behind = _padding(call, call.value(0), kernel, stride, [1] * dims)
    if before != behind and not counted:
        raise call.refuse("a padding that is not the same on both sides, and not counted,")
    x, padding = _padded(call, call.value(0), before, behind, 0.0)
    pool = _AVERAGE[dims](tuple(kernel), tuple(stride), tuple(padding), bool(call.get("ceil_mode")), counted)
    return call.module(pool, x)


@register_onnx_operator("GlobalAveragePool")
def _global_average(call: Call) -> Value:
    return _global(call, F.adaptive_avg_pool2d, torch.mean)


@register_onnx_operator("GlobalMaxPool")
def _global_max(call: Call) -> Value:
    return _global(call, F.adaptive_max_pool2d, torch.amax)


def _global(call: Call, function: Any, otherwise: Any) -> Value:
    dims = call.value(0).seen[0].dim()
    if dims == 4:
        return call.emit(function, call.value(0), 1)
    return call.emit(otherwise, call.value(0), list(range(2, dims)), True)
