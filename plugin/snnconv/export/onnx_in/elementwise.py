"""ONNX operators that act element by element, or along a dimension."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnconv.export.onnx_in.calls import Call, Value, register_onnx_operator

__all__: list[str] = []  # what it has is in the table of operators

_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "Abs": torch.abs, "Neg": torch.neg, "Exp": torch.exp, "Log": torch.log, "Sqrt": torch.sqrt, "Erf": torch.erf,
    "Sin": torch.sin, "Cos": torch.cos, "Floor": torch.floor, "Ceil": torch.ceil, "Round": torch.round,
    "Reciprocal": torch.reciprocal, "Sign": torch.sign, "Not": torch.logical_not, "Softsign": F.softsign,
    "IsNaN": torch.isnan,
}  # fmt: skip
_TWO: dict[str, Callable[..., Any]] = {
    "Add": operator.add, "Sub": operator.sub, "Mul": operator.mul, "Equal": torch.eq, "Greater": torch.gt,
    "Less": torch.lt, "GreaterOrEqual": torch.ge, "LessOrEqual": torch.le, "And": torch.logical_and,
    "Or": torch.logical_or, "Xor": torch.logical_xor,
}  # fmt: skip
_SEVERAL: dict[str, Callable[..., Any]] = {"Min": torch.minimum, "Max": torch.maximum, "Sum": operator.add}
_MODULES: dict[str, Callable[[Call], nn.Module]] = {
    "Relu": lambda call: nn.ReLU(),
    "LeakyRelu": lambda call: nn.LeakyReLU(float(call.get("alpha", 0.01))),
    "Elu": lambda call: nn.ELU(float(call.get("alpha", 1.0))),
    "Sigmoid": lambda call: nn.Sigmoid(),
    "Tanh": lambda call: nn.Tanh(),
    "HardSwish": lambda call: nn.Hardswish(),
    "Softplus": lambda call: nn.Softplus(),
    "Mish": lambda call: nn.Mish(),
    "Gelu": lambda call: nn.GELU(str(call.get("approximate", "none"))),
}


def _one(function: Callable[[Tensor], Tensor], call: Call) -> Value:
    return call.emit(function, call.value(0))


def _two(function: Callable[..., Any], call: Call) -> Value:
    return call.emit(function, _plain(call, 0), _plain(call, 1))


def _several(function: Callable[..., Any], call: Call) -> Value:
    result = call.value(0)
    for i in range(1, len(call.inputs)):
        result = call.emit(function, result, call.value(i))
    return result


def _module(make: Callable[[Call], nn.Module], call: Call) -> Value:
    return call.module(make(call), call.value(0))


def _plain(call: Call, index: int) -> Any:
    """An operand; a constant of one number beside a computed one as that number."""
    value, other = call.value(index), call.value(1 - index)
    if value.constant and not value.seen[0].dim() and other.node is not None:
        return value.seen[0].item()
    return value


for _name, _function in _FUNCTIONS.items():
    register_onnx_operator(_name)(partial(_one, _function))
for _name, _function in _TWO.items():
    register_onnx_operator(_name)(partial(_two, _function))
for _name, _function in _SEVERAL.items():
    register_onnx_operator(_name)(partial(_several, _function))
for _name, _make in _MODULES.items():
    register_onnx_operator(_name)(partial(_module, _make))


@register_onnx_operator("Div")
def _div(call: Call) -> Value:
    whole = not call.value(0).seen[0].is_floating_point()
    a, b = _plain(call, 0), _plain(call, 1)
    return call.emit(torch.div, a, b, rounding_mode="trunc") if whole else call.emit(operator.truediv, a, b)


@register_onnx_operator("Mod")
def _mod(call: Call) -> Value:
    return call.emit(torch.fmod if call.get("fmod", 0) else torch.remainder, _plain(call, 0), _plain(call, 1))


@register_onnx_operator("Pow")
def _pow(call: Call) -> Value:
    return call.emit(torch.pow, call.value(0), _plain(call, 1))


@register_onnx_operator("Where")
def _where(call: Call) -> Value:
    return call.emit(torch.where, call.value(0), call.value(1), call.value(2))


@register_onnx_operator("PRelu")
def _prelu(call: Call) -> Value:
    slope = call.tensor(1)
    if slope.numel() not in (1, max(slope.shape, default=1)):
        raise call.refuse("a PReLU with a slope an element")
    layer = nn.PReLU(slope.numel(), dtype=slope.dtype)
    with torch.no_grad():
        layer.weight.copy_(slope.reshape(-1))
    return call.module(layer, call.value(0))


@register_onnx_operator("Selu")
def _selu(call: Call) -> Value:
    alpha, gamma = float(call.get("alpha", 1.67326319)), float(call.get("gamma", 1.05070102))
    if abs(alpha - 1.67326324) > 1e-6 or abs(gamma - 1.05070098) > 1e-6:
        raise call.refuse("a SELU with other constants than the usual ones")
    return call.module(nn.SELU(), call.value(0))


@register_onnx_operator("HardSigmoid")
def _hard_sigmoid(call: Call) -> Value:
    alpha, beta = float(call.get("alpha", 0.2)), float(call.get("beta", 0.5))
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        return call.module(nn.Hardsigmoid(), call.value(0))
    return call.emit(torch.clamp, call.emit(operator.add, call.emit(operator.mul, call.value(0), alpha), beta), 0, 1)


@register_onnx_operator("Clip")
def _clip(call: Call) -> Value:
    low, high = (
        float(call.tensor(i)) if call.has(i) else call.get(name) for i, name in ((1, "min"), (2, "max"))
    )  # fmt: skip
    if low == 0 and high == 6 and call.value(0).node is not None:
        return call.module(nn.ReLU6(), call.value(0))
    if low is None and high is None:
        return call.value(0)
    return call.emit(torch.clamp, call.value(0), low, high)


def _axis_default(call: Call) -> int:
    return int(call.get("axis", -1 if call.version >= 13 else 1))


@register_onnx_operator("Softmax")
def _softmax(call: Call) -> Value:
    return _along(call, F.softmax)


@register_onnx_operator("LogSoftmax")
def _log_softmax(call: Call) -> Value:
    return _along(call, F.log_softmax)


def _along(call: Call, function: Callable[..., Tensor]) -> Value:
    axis, dims = _axis_default(call), call.value(0).seen[0].dim()
    if call.version < 13 and axis % dims != dims - 1:
        raise call.refuse("a softmax over several dimensions (operator set before 13)")
    return call.emit(function, call.value(0), axis)


@register_onnx_operator("Dropout")
def _dropout(call: Call) -> Value:
    return call.value(0)


@register_onnx_operator("Identity")
def _identity(call: Call) -> Value:
    return call.value(0)


def _reduced(function: Callable[..., Tensor], call: Call) -> Value:
    x, axes, keep = call.value(0), call.ints(1, "axes"), bool(call.get("keepdims", 1))
    if axes is None or not axes:
        if call.get("noop_with_empty_axes", 0):
            return x
        axes = list(range(x.seen[0].dim()))
    return call.emit(function, x, axes, keep)


def _norm(x: Tensor, dim: list[int], keepdim: bool) -> Tensor:
    found: Tensor = torch.linalg.vector_norm(x, dim=dim, keepdim=keepdim)
    return found


_REDUCTIONS: dict[str, Callable[..., Tensor]] = {
    "ReduceMean": torch.mean, "ReduceSum": torch.sum, "ReduceMax": torch.amax, "ReduceMin": torch.amin,
    "ReduceL2": _norm,
}  # fmt: skip
for _name, _reduction in _REDUCTIONS.items():
    register_onnx_operator(_name)(partial(_reduced, _reduction))


@register_onnx_operator("ArgMax")
def _arg_max(call: Call) -> Value:
    return call.emit(torch.argmax, call.value(0), int(call.get("axis", 0)), bool(call.get("keepdims", 1)))


def _rounded(x: Tensor, scale: Tensor, zero: Tensor, axis: int) -> Tensor:
    limits = torch.iinfo(zero.dtype)
    code = torch.round(x / _channel(scale, x, axis)) + _channel(zero, x, axis)
    return code.clamp(limits.min, limits.max).to(zero.dtype)


def _restored(code: Tensor, scale: Tensor, zero: Tensor, axis: int) -> Tensor:
    return (code.to(scale.dtype) - _channel(zero, code, axis).to(scale.dtype)) * _channel(scale, code, axis)


def _channel(value: Tensor, x: Tensor, axis: int) -> Tensor:
    if not value.dim() or value.numel() == 1:
        return value.reshape(())
    return value.reshape([-1 if d == axis % x.dim() else 1 for d in range(x.dim())])


@register_onnx_operator("QuantizeLinear")
def _quantize(call: Call) -> Value:
    zero = call.tensor(2) if call.has(2) else torch.zeros((), dtype=torch.uint8)
    kept = Value((zero,) * len(call.build.batches))
    return call.emit(_rounded, call.value(0), call.value(1), kept, int(call.get("axis", 1)))


@register_onnx_operator("DequantizeLinear")
def _dequantize(call: Call) -> Value:
    zero = call.tensor(2) if call.has(2) else torch.zeros((), dtype=call.value(0).seen[0].dtype)
    kept = Value((zero,) * len(call.build.batches))
    return call.emit(_restored, call.value(0), call.value(1), kept, int(call.get("axis", 1)))
