"""ONNX operators that move values, and the arithmetic of sizes."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from snnconv import limits
from snnconv.export.onnx_in.calls import Call, Value, register_onnx_operator
from snnconv.files.refusal import brief
from snnconv.graph.source import ConversionError

__all__ = ["TYPES"]

_FAR = 2**31 - 1
TYPES = {
    1: torch.float32, 2: torch.uint8, 3: torch.int8, 5: torch.int16, 6: torch.int32, 7: torch.int64, 9: torch.bool,
    10: torch.float16, 11: torch.float64, 16: torch.bfloat16,
}  # fmt: skip
"""ONNX's numbers of types."""


@register_onnx_operator("Shape")
def _shape(call: Call) -> Value:
    first, last = int(call.get("start", 0)), call.get("end")
    return Value(tuple(torch.tensor(list(x.shape)[first:last], dtype=torch.int64) for x in call.value(0).seen))


@register_onnx_operator("Cast")
def _cast(call: Call) -> Value:
    number = int(call.get("to"))
    if number not in TYPES:
        raise call.refuse(f"type {number}")
    x = call.value(0)
    return x if x.seen[0].dtype == TYPES[number] else call.emit(torch.Tensor.to, x, TYPES[number])


@register_onnx_operator("ConstantOfShape")
def _constant_of_shape(call: Call) -> Value:
    fill = call.get("value", torch.zeros(1)).reshape(())
    seen = [s.tolist() for s in call.value(0).seen]
    _check_made(call, max(math.prod(s) for s in seen))
    return Value(tuple(fill.expand(s).clone() for s in seen))


def _check_made(call: Call, count: float) -> None:
    """Refuse more values out of numbers alone than any network needs."""
    if count > limits.CONSTANT:
        raise ConversionError(
            f"{call.what} makes {count:.4g} values, more than snnconv.limits.CONSTANT = {limits.CONSTANT}"
        )


@register_onnx_operator("Range")
def _range(call: Call) -> Value:
    if any(call.value(i).node is not None for i in range(3)):
        raise call.refuse("a range of computed numbers")
    bounds = [[v.item() for v in found] for found in zip(*(call.value(i).seen for i in range(3)), strict=True)]
    _check_made(call, max((last - first) / step if step else 0.0 for first, last, step in bounds))
    return Value(tuple(torch.arange(*found) for found in bounds))


@register_onnx_operator("Reshape")
def _reshape(call: Call) -> Value:
    x, wanted = call.value(0), call.value(1)
    if wanted.node is not None:
        raise call.refuse("a shape that is computed from values")
    fixed, seen = call.build.fixed, []
    for given, target, batch in zip(x.seen, wanted.seen, call.build.batches, strict=True):
        sizes = [int(n) for n in target]
        if not call.get("allowzero", 0):
            sizes = [given.shape[i] if n == 0 else n for i, n in enumerate(sizes)]
        if fixed is not None and sizes and sizes[0] == fixed and given.shape[:1] == (batch,):
            sizes[0] = batch  # the file was written for one size of the batch
        try:
            seen.append(list(given.reshape(sizes).shape))
        except RuntimeError as error:
            raise ConversionError(f"{call.what}: {brief(error)}{call.build.alone}") from None
    return call.emit_sizes(torch.reshape, x, seen, last=True)


@register_onnx_operator("Expand")
def _expand(call: Call) -> Value:
    x, wanted = call.value(0), call.value(1)
    if wanted.node is not None:
        raise call.refuse("a shape that is computed from values")
    seen = [list(torch.broadcast_shapes(a.shape, s.tolist())) for a, s in zip(x.seen, wanted.seen, strict=True)]
    return call.emit_sizes(_expanded, x, seen, last=False)


def _expanded(x: Tensor, sizes: list[int]) -> Tensor:
    return x.expand(sizes)


@register_onnx_operator("Flatten")
def _flatten(call: Call) -> Value:
    axis, x = int(call.get("axis", 1)), call.value(0)
    axis %= x.seen[0].dim() + 1
    if axis == 1:
        return call.emit(torch.flatten, x, 1)
    seen = [[int(torch.tensor(v.shape[:axis]).prod()), int(torch.tensor(v.shape[axis:]).prod())] for v in x.seen]
    return call.emit_sizes(torch.reshape, x, seen, last=True)


@register_onnx_operator("Transpose")
def _transpose(call: Call) -> Value:
    order = call.get("perm") or list(reversed(range(call.value(0).seen[0].dim())))
    return call.emit(torch.permute, call.value(0), [int(n) for n in order])


@register_onnx_operator("Concat")
def _concat(call: Call) -> Value:
    return call.emit(torch.cat, [call.value(i) for i in range(len(call.inputs))], int(call.get("axis", 0)))


@register_onnx_operator("Split")
def _split(call: Call) -> tuple[Value, ...]:
    x, axis = call.value(0), int(call.get("axis", 0))
    sizes = call.ints(1, "split")
    if sizes is None:
        size, count = int(x.seen[0].shape[axis]), int(call.get("num_outputs", call.outputs))
        part = -(-size // count)
        sizes = [part] * (size // part) + ([size % part] if size % part else [])
    return call.each(call.emit(torch.split, x, sizes, axis), len(sizes))


@register_onnx_operator("Slice")
def _slice(call: Call) -> Value:
    x = call.value(0)
    if call.version < 10:
        starts, ends, axes, steps = call.get("starts"), call.get("ends"), call.get("axes"), None
    else:
        starts, ends, axes, steps = call.ints(1), call.ints(2), call.ints(3), call.ints(4)
    dims = x.seen[0].dim()
    cut: list[Any] = [slice(None)] * dims
    for i, (a, b) in enumerate(zip(starts or [], ends or [], strict=True)):
        axis, step = int(axes[i]) % dims if axes else i, steps[i] if steps else 1
        if step < 0:
            raise call.refuse("a slice that goes backwards")
        cut[axis] = slice(max(int(a), -_FAR), None if b >= _FAR else max(int(b), -_FAR), int(step))
    return call.emit(_item, x, tuple(cut))


def _item(x: Tensor, index: Any) -> Tensor:
    return x[index]


@register_onnx_operator("Gather")
def _gather(call: Call) -> Value:
    x, index, axis = call.value(0), call.value(1), int(call.get("axis", 0))
    if index.node is not None:  # a look-up in a table
        if x.node is not None or axis:
            raise call.refuse("a computed index")
        return call.emit(F.embedding, index, x)
    places = call.tensor(1)
    dims = x.seen[0].dim()
    axis %= dims
    if not places.dim():
        return call.emit(torch.select, x, axis, int(places))
    if places.dim() == 1:
        return call.emit(torch.index_select, x, axis, index)
    raise call.refuse("an index of several dimensions")


@register_onnx_operator("Squeeze")
def _squeeze(call: Call) -> Value:
    axes = call.ints(1, "axes")
    x = call.value(0)
    if axes is None:
        axes = [d for d in range(x.seen[0].dim()) if all(v.shape[d] == 1 for v in x.seen)]
    for axis in sorted((a % x.seen[0].dim() for a in axes), reverse=True):
        x = call.emit(torch.squeeze, x, axis)
    return x


@register_onnx_operator("Unsqueeze")
def _unsqueeze(call: Call) -> Value:
    x, axes = call.value(0), call.ints(1, "axes") or []
    dims = x.seen[0].dim() + len(axes)
    for axis in sorted(a % dims for a in axes):
        x = call.emit(torch.unsqueeze, x, axis)
    return x


@register_onnx_operator("Pad")
def _pad(call: Call) -> Value:
    x, pads = call.value(0), call.ints(1, "pads") or []
    dims, mode = x.seen[0].dim(), str(call.get("mode", "constant"))
    mode = "replicate" if mode == "edge" else mode
    axes = [a % dims for a in call.ints(3) or range(dims)]
    value = float(call.tensor(2)) if call.has(2) else float(call.get("value", 0.0))
    sides = {a: (pads[i], pads[i + len(axes)]) for i, a in enumerate(axes)}
    flat = [n for d in reversed(range(dims)) for n in sides.get(d, (0, 0))]
    while len(flat) > 2 and flat[-2:] == [0, 0]:
        flat = flat[:-2]
    if not any(flat):
        return x
    return call.emit(F.pad, x, flat, mode, value if mode == "constant" else None)


@register_onnx_operator("Tile")
def _tile(call: Call) -> Value:
    return call.emit(torch.Tensor.repeat, call.value(0), call.ints(1) or [])


@register_onnx_operator("Resize")
@register_onnx_operator("Upsample")
def _resize(call: Call) -> Value:
    x, mode = call.value(0), str(call.get("mode", "nearest"))
    scales = call.weight(1 if call.kind == "Upsample" or call.version < 11 else 2)
    if scales is not None and scales.numel():
        size = [int(n * s) for n, s in zip(x.seen[0].shape, scales.tolist(), strict=True)][2:]
    else:
        size = [int(n) for n in call.tensor(3)][2:]
    way = str(call.get("coordinate_transformation_mode", "half_pixel"))
    if x.seen[0].dim() != 4 or mode not in ("nearest", "linear"):
        raise call.refuse(f"mode {mode!r} in {x.seen[0].dim() - 2} dimensions")
    if mode == "nearest":
        if any(n % m for n, m in zip(size, x.seen[0].shape[2:], strict=True)):
            raise call.refuse("enlarging by a fraction with the nearest value")
        return call.emit(F.interpolate, x, size)
    if way not in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        raise call.refuse(f"coordinate_transformation_mode {way!r}")
    return call.emit(F.interpolate, x, size, None, "bilinear", way == "align_corners")


@register_onnx_operator("Einsum")
def _einsum(call: Call) -> Value:
    return call.emit(torch.einsum, str(call.get("equation")), *(call.value(i) for i in range(len(call.inputs))))


@register_onnx_operator("DepthToSpace")
def _depth_to_space(call: Call) -> Value:
    if str(call.get("mode", "DCR")) != "CRD":
        raise call.refuse("mode DCR")
    return call.emit(F.pixel_shuffle, call.value(0), int(call.get("blocksize")))
