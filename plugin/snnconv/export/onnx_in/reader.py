"""from_onnx(): an ONNX file as a PyTorch module."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx

from snnconv import limits
from snnconv.export.onnx_in import elementwise, layers, shaping
from snnconv.export.onnx_in.calls import OPERATORS, Build, Call, Value
from snnconv.export.onnx_in.fuse import fuse_gelu
from snnconv.files.refusal import first_line
from snnconv.graph.source import ConversionError

if TYPE_CHECKING:
    import onnx

__all__ = ["from_onnx"]

_ROOMS = (elementwise, layers, shaping)  # they fill the table
BATCHES = (2, 3)
"""Sizes of the batches that a file is tried with: what differs between them depends on the batch."""
PART = 2**20
"""Numbers that are compared at a time."""


def from_onnx(
    path: str | os.PathLike[str], *, input_shapes: Mapping[str, Sequence[int]] | None = None, check: bool = True
) -> fx.GraphModule:
    """Read an ONNX file as a module of PyTorch's own layers, for :func:`snnconv.convert` and for training.

    Convolutions, linear layers, normalisations, poolings and activations become modules named as the file's nodes; the
    arithmetic of sizes is worked out, so that the module takes any batch size, also where the file was written for one.

    Args:
        path: the file; tensors that it keeps in files beside it are read.
        input_shapes: shape of one sample of inputs whose sizes the file leaves open (besides the batch), by name.
        check: run the file in ONNX's own reference evaluator, and compare.

    Returns:
        The module in evaluation mode; parameters ask for no gradient.

    Raises:
        ImportError: ``onnx`` is not installed (``pip install "snnconv-plugin[onnx]"``).
        ConversionError: a damaged file; operators that are not covered, all of them by name; sizes that the file leaves
            open; outputs other than the reference evaluator's.
        OSError: no such file.

    Example:
        >>> import snnconv
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        >>> _ = torch.onnx.export(model, (torch.randn(2, 4),), "net.onnx", verbose=False)  # doctest: +SKIP
        >>> snnconv.convert(snnconv.from_onnx("net.onnx"), snnconv.methods.SignedIF(8), x)  # doctest: +SKIP
    """
    try:
        import onnx
    except ImportError as error:
        raise ImportError('ONNX files need onnx: pip install "snnconv-plugin[onnx]"', name="onnx") from error
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no ONNX file {path}")
    try:
        model = onnx.load(str(path))
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf's, onnx's and the operating system's have no common class
        why = str(error).strip().splitlines()
        raise ConversionError(
            f"{path}: not a readable ONNX file ({type(error).__name__}: {why[0][:200] if why else 'no reason given'})"
        ) from error
    try:
        return _module(model, dict(input_shapes or {}), check)
    except ConversionError as error:
        raise ConversionError(f"{path}: {error}") from error


def _module(model: onnx.ModelProto, shapes: dict[str, Sequence[int]], check: bool) -> fx.GraphModule:
    proto = model.graph
    known = {*OPERATORS, "Constant"}
    unknown = sorted({f"{_kind(n)[:80]} (node {_name(n)!r:.80})" for n in proto.node if _kind(n) not in known})
    if unknown:
        more = f" and {len(unknown) - 8} more" if len(unknown) > 8 else ""
        raise ConversionError(
            f"operators that are not covered: {', '.join(unknown[:8])}{more}; "
            "snnconv.export.onnx_in.register_onnx_operator can say them"
        )
    weights = {t.name: _tensor(t) for t in proto.initializer}
    inputs = [i for i in proto.input if i.name not in weights]
    if not inputs:
        raise ConversionError("the graph has no input")
    sizes = [_sizes(i, shapes) for i in inputs]
    fixed = sizes[0][0] if isinstance(sizes[0][0], int) else None
    build = Build(BATCHES, fixed)
    values = {name: Value((tensor,) * len(BATCHES)) for name, tensor in weights.items()}
    drawn = torch.Generator().manual_seed(0)
    for entry, (_, shape) in zip(inputs, sizes, strict=True):
        number = entry.type.tensor_type.elem_type
        dtype = shaping.TYPES.get(number)
        if dtype is None:
            raise ConversionError(f"input {entry.name!r:.80} has type {number}, which is not covered")
        node = build.placeholder(entry.name)
        build.first = build.first or node
        values[entry.name] = Value(tuple(_sample((b, *shape), dtype, drawn) for b in BATCHES), node)
    versions = {o.domain or "": o.version for o in model.opset_import}
    last = {name: i for i, node in enumerate(proto.node) for name in node.input}  # a value goes when nothing reads it
    kept = {o.name for o in proto.output}
    with torch.no_grad():
        for i, node in enumerate(proto.node):
            _call(build, node, values, versions)
            for name in {*node.input, *node.output} - kept:
                if last.get(name, -1) <= i:
                    values.pop(name, None)
    missing = [o.name for o in proto.output if o.name not in values]
    if missing or not proto.output:
        raise ConversionError(f"output {missing[0]!r:.80} is given by nothing" if missing else "there is no output")
    results = [build.node_of(values[o.name], f"output {o.name!r:.80}") for o in proto.output]
    build.graph.output(results[0] if len(results) == 1 else tuple(results))
    module = fx.GraphModule(build.root, build.graph, "FromONNX").eval().requires_grad_(False)
    module.graph.eliminate_dead_code()
    module.recompile()
    fuse_gelu(module, build.name("gelu"))
    values.clear()  # the batches it was tried with
    if check:
        _compare(model, module, inputs, sizes, fixed)
    return module


def _kind(node: onnx.NodeProto) -> str:
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}::{node.op_type}"


def _name(node: onnx.NodeProto) -> str:
    """The node's own name, or that of its first output."""
    return node.name or next(iter(node.output), "")


def _tensor(proto: onnx.TensorProto) -> Tensor:
    from onnx import numpy_helper

    try:
        found = torch.from_numpy(numpy_helper.to_array(proto).copy())
    except Exception as error:
        raise ConversionError(f"tensor {proto.name!r:.80} cannot be read: {str(error)[:200]}") from error
    if found.is_floating_point() and bool(torch.isnan(found).any()):
        raise ConversionError(f"tensor {proto.name!r:.80} holds NaN")
    return found


def _sizes(entry: onnx.ValueInfoProto, given: Mapping[str, Sequence[int]]) -> tuple[int | None, tuple[int, ...]]:
    """Size of the batch, None where it is open, and the shape of a sample."""
    dims = entry.type.tensor_type.shape.dim
    if not dims:
        raise ConversionError(f"input {entry.name!r:.80} has no batch dimension")
    batch = dims[0].dim_value or None
    if entry.name in given:
        shape = tuple(int(n) for n in given[entry.name])
    else:
        known = [d.dim_value or None for d in dims[1:]]
        if None in known:
            place = known.index(None) + 1
            name = dims[place].dim_param or "?"
            raise ConversionError(
                f"input {entry.name!r:.80} leaves dimension {place} ({name!r:.80}) open: give "
                f"input_shapes={{{entry.name!r:.80}: [...]}}, the shape of one sample"
            )
        shape = tuple(int(n) for n in known if n is not None)
    if any(n < 1 for n in (batch or 1, *shape)):
        raise ConversionError(f"input {entry.name!r:.80} has the shape {[batch, *shape]}: no network takes that")
    if math.prod(shape) * max(batch or 1, sum(BATCHES)) > limits.CONSTANT:
        raise ConversionError(
            f"input {entry.name!r:.80} has the shape {[batch, *shape]}: samples to try the file with have more "
            f"values than snnconv.limits.CONSTANT = {limits.CONSTANT}"
        )
    return batch, shape


def _sample(shape: tuple[int, ...], dtype: torch.dtype, drawn: torch.Generator) -> Tensor:
    if dtype.is_floating_point:
        return torch.randn(shape, generator=drawn, dtype=torch.float32).to(dtype)
    return torch.randint(0, 2, shape, generator=drawn).to(dtype)


def _call(build: Build, node: onnx.NodeProto, values: dict[str, Value], versions: Mapping[str, int]) -> None:
    name = node.name or f"{node.op_type}_{_name(node)}"
    absent = [i for i in node.input if i and i not in values]
    if absent:
        raise ConversionError(f"{node.op_type} {name!r:.80} reads {absent[0]!r:.80}, which nothing gives")
    given = [values[i] if i else None for i in node.input]
    used = sum(bool(o) for o in node.output)
    call = Call(build, node.op_type, name, given, {}, int(versions.get(node.domain, 1)), used)
    found: Any
    try:
        if node.op_type == "Constant":
            found = Value((_constant(node),) * len(build.batches))
        else:
            call.attributes |= {a.name: _attribute(a) for a in node.attribute}
            found = OPERATORS[_kind(node)](call)
    except ConversionError:
        raise
    except Exception as error:  # of settings and operands that its function does not take
        why = first_line(error)
        raise ConversionError(f"{call.what} fails: {why}{build.alone}") from error
    results = found if isinstance(found, tuple) else (found,)
    for output, value in zip(node.output, results, strict=False):
        values[output] = value


def _constant(node: onnx.NodeProto) -> Tensor:
    found = _attribute(node.attribute[0])
    if isinstance(found, Tensor):
        return found
    return torch.tensor(found, dtype=torch.float32 if _floating(found) else torch.int64)


def _floating(found: Any) -> bool:
    return isinstance(found[0] if isinstance(found, list) and found else found, float)


def _attribute(attribute: onnx.AttributeProto) -> Any:
    import onnx

    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, onnx.TensorProto):
        return _tensor(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return list(value) if hasattr(value, "__iter__") and not isinstance(value, str) else value


def _compare(
    model: onnx.ModelProto, module: fx.GraphModule, inputs: Sequence[Any], sizes: Sequence[Any], fixed: int | None
) -> None:
    """Refuse a module that answers otherwise than ONNX's reference evaluator."""
    import numpy as np
    from onnx.reference import ReferenceEvaluator

    drawn = torch.Generator().manual_seed(1)
    given = {
        entry.name: _sample((fixed or BATCHES[0], *shape), shaping.TYPES[entry.type.tensor_type.elem_type], drawn)
        for entry, (_, shape) in zip(inputs, sizes, strict=True)
    }
    try:
        with np.errstate(all="ignore"):
            wanted = ReferenceEvaluator(model).run(None, {name: x.numpy() for name, x in given.items()})
    except Exception as error:  # of an operator that the evaluator itself does not know, among others
        raise ConversionError(
            f"ONNX's reference evaluator does not run it ({type(error).__name__}: {str(error)[:200]}); check=False "
            "reads it unchecked"
        ) from error
    try:
        with torch.no_grad():
            found = module(*given.values())
    except Exception as error:  # it ran on other batches
        why = first_line(error)
        raise ConversionError(f"it does not run on a batch of {fixed or BATCHES[0]}: {why}") from error
    for output, want, got in zip(
        model.graph.output, wanted, found if isinstance(found, tuple) else (found,), strict=True
    ):
        if not isinstance(want, np.ndarray | np.generic) or want.dtype.kind not in "fiub":
            raise ConversionError(f"output {output.name!r:.80} is no tensor of numbers")
        want = torch.from_numpy(np.array(want))
        if got.shape != want.shape or not _close(got.flatten(), want.flatten()):
            raise ConversionError(
                f"output {output.name!r:.80} is not what ONNX's reference evaluator gives (shapes {tuple(got.shape)} "
                f"and {tuple(want.shape)}): please report the file"
            )


def _close(got: Tensor, want: Tensor) -> bool:
    """Whether numbers agree to 1e-3 of their own size and of the largest; a part at a time, for float64 takes room."""
    largest = 0.0
    for part in want.split(PART):
        finite = part.double()[torch.isfinite(part.double())].abs()
        largest = max(largest, float(finite.max()) if finite.numel() else 0.0)
    close = functools.partial(torch.allclose, rtol=1e-3, atol=1e-3 * largest + 1e-6, equal_nan=True)
    return all(close(a.double(), b.double()) for a, b in zip(got.split(PART), want.split(PART), strict=True))
