"""ONNX files of a converted network: one step of it, or the quantised network that it is the same as."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from snnconv.export.stepwise import stepwise
from snnconv.export.twin import equal_twin
from snnconv.files.atomic import replacing
from snnconv.graph.source import ConversionError
from snnconv.network import SpikingNetwork

__all__ = ["to_onnx"]

_SINGLE = frozenset({
    "Celu", "Elu", "Erf", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish", "PRelu", "Selu", "Softplus",
    "Softsign", "ThresholdedRelu",
})  # fmt: skip
"""Functions that onnxruntime has no kernel of in float64."""
_VIEWS = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})


def to_onnx(
    snn: SpikingNetwork, path: str | os.PathLike[str], *, twin: bool = False, int8_weights: bool = False
) -> tuple[list[str], list[str]]:
    """Write a converted network as an ONNX file, for any batch size.

    One step (the default): inputs are the network's and the states, outputs are the step's output and the states for
    the next call, as of :func:`snnconv.stepwise`; the mean of the outputs (rate coding) or their sum (sum coding) over
    all steps is the answer. The states before the first step are zeros. Activations other than ReLU are computed in
    float64, as here, where onnxruntime can, else in float32: spikes may then differ where a value is rounded.

    The twin (``twin=True``): the quantised network that a sum-coded one is equal to, with QuantizeLinear and
    DequantizeLinear at every site: what chip tools import, and the fair baseline. ONNX rounds half to even, the neurons
    round half up.

    Args:
        snn: a network that runs as a graph.
        path: the file, written whole or not at all.
        twin: write the quantised network and not a step.
        int8_weights: of the twin, weights in 8 bits, one scale an output channel.

    Returns:
        Names of the inputs and of the outputs.

    Raises:
        ImportError: ``onnx`` or ``onnxscript`` is not installed (``pip install "snnconv-plugin[onnx]"``), or PyTorch is
            older than 2.8.
        ConversionError: a network that runs call by call or does not know its input's shape; an operator that ONNX does
            not have, by name; a twin of rate coding, or of more than 8 bits.
        OSError: the file cannot be written; the message names it.

    Example:
        >>> import snnconv
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        >>> snn = snnconv.convert(model, snnconv.methods.SignedIF(timesteps=4), torch.randn(16, 4))
        >>> snnconv.to_onnx(snn, "step.onnx")  # doctest: +SKIP
        (['input', 'step', '1.v', '1.n'], ['output', 'step.next', '1.v.next', '1.n.next'])
    """
    _needs_packages()
    if int8_weights and not twin:
        raise ValueError("int8_weights=True is for the twin: to_onnx(snn, path, twin=True, int8_weights=True)")
    if twin:
        network = equal_twin(snn, int8_weights).cpu()
        samples, batched = _samples(snn, network.inputs)
        inputs, outputs = list(network.inputs), _numbered(network(*samples))
        _write(Path(path), network, samples, batched, inputs, outputs)
        return inputs, outputs
    step = stepwise(snn).cpu()
    samples, batched = _samples(snn, step.inputs)
    states = step.initial(*samples)
    given = (*samples, *states)
    inputs = [*step.inputs, *step.names]
    outputs = [*_numbered(step(*given)[0]), *(f"{name}.next" for name in step.names)]
    _write(Path(path), step, given, [*batched, *(state.dim() > 0 for state in states)], inputs, outputs)
    return inputs, outputs


def _needs_packages() -> None:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(f'{error.name} is not installed: pip install "snnconv-plugin[onnx]"') from error
    if not hasattr(torch.onnx, "ops"):  # came with the exporter that takes a step and a twin
        raise ImportError(f"to_onnx needs PyTorch 2.8 or newer; this is {torch.__version__}")


def _samples(snn: SpikingNetwork, names: Sequence[str]) -> tuple[list[Tensor], list[bool]]:
    """Inputs of zeros in the order of ``names``, two samples each (one is taken for a constant size), and which have a
    batch.
    """
    entries = snn.input_spec.get("inputs") or [snn.input_spec]
    by_name = {str(entry.get("name")): entry for entry in entries}
    found, batched = [], []
    for entry in [by_name[name] for name in names] if set(names) == set(by_name) else entries:
        shape = entry.get("shape")
        if shape is None or entry.get("dtype") is None:
            raise ConversionError("the network does not know its input's shape: convert it with calibration data")
        batched.append(bool(entry.get("batch", True)))
        found.append(torch.zeros(*([2] if batched[-1] else []), *shape, dtype=getattr(torch, str(entry["dtype"]))))
    return found, batched


def _numbered(output: Any) -> list[str]:
    leaves = torch.utils._pytree.tree_leaves(output)
    return ["output"] if len(leaves) == 1 else [f"output.{i}" for i in range(len(leaves))]


def _write(
    path: Path,
    module: nn.Module,
    given: Sequence[Tensor],
    batched: Sequence[bool],
    inputs: Sequence[str],
    outputs: Sequence[str],
) -> None:
    batch = torch.export.Dim("batch", min=1)
    shapes = tuple({0: batch} if has_batch else None for has_batch in batched)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own, of what it will do later
        program = _exported(
            lambda: torch.onnx.export(
                module, tuple(given), dynamo=True, verbose=False, input_names=list(inputs),
                output_names=list(outputs), dynamic_shapes=(shapes,), optimize=True,
            )
        )  # fmt: skip
    _in_single_precision(program.model)
    _product_by_product(program.model)
    try:
        with replacing(path) as temporary:
            program.save(temporary)
    except OSError as error:
        raise OSError(error.errno, f"cannot write {path}: {error.strerror or error}") from error


def _in_single_precision(model: Any) -> None:
    """Compute in float32, between casts, what onnxruntime has for it alone; neurons take functions in float64."""
    from onnxscript import ir

    for node in list(model.graph):
        if node.op_type not in _SINGLE or node.inputs[0].dtype != ir.DataType.DOUBLE:
            continue
        whole = list(node.inputs)
        for index, value in enumerate(whole):
            if value is not None and value.dtype == ir.DataType.DOUBLE:
                cast = ir.node("Cast", [value], {"to": ir.DataType.FLOAT})
                model.graph.insert_before(node, cast)
                node.replace_input_with(index, cast.outputs[0])
        (out,) = node.outputs
        readers = list(out.uses())
        back = ir.node("Cast", [out], {"to": ir.DataType.DOUBLE})
        out.dtype = ir.DataType.FLOAT
        back.outputs[0].dtype, back.outputs[0].shape = ir.DataType.DOUBLE, out.shape
        model.graph.insert_after(node, back)
        for reader, index in readers:
            reader.replace_input_with(index, back.outputs[0])


def _product_by_product(model: Any) -> None:
    """Keep onnxruntime from one product of integers where scales differ from channel to channel.

    It makes one of a product of two dequantised values, and takes them for values of one scale each: it fails, or
    multiplies by another channel's. A Max of one value, which changes nothing, stands in between.
    """
    from onnxscript import ir

    for node in list(model.graph):
        if node.op_type not in ("MatMul", "Gemm"):
            continue
        read = [_dequantised(value) for value in node.inputs[:2]]
        if None in read:
            continue
        for index, found in enumerate(read):
            if found.inputs[0].producer() is not None and len(found.inputs[1].shape or ()):  # no weight, many scales
                between = ir.node("Max", [node.inputs[index]])
                between.outputs[0].dtype, between.outputs[0].shape = node.inputs[index].dtype, node.inputs[index].shape
                model.graph.insert_before(node, between)
                node.replace_input_with(index, between.outputs[0])


def _dequantised(value: Any) -> Any:
    """The DequantizeLinear that a value comes from through views, or None."""
    node = None if value is None else value.producer()
    while node is not None and node.op_type in _VIEWS:
        node = node.inputs[0].producer()
    return node if node is not None and node.op_type == "DequantizeLinear" else None


def _exported(export: Callable[[], Any]) -> Any:
    """What the exporter gives; its errors in a sentence."""
    try:
        return export()
    except Exception as error:  # of its many kinds, none is public
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise ConversionError(f"this network has no ONNX form: {type(cause).__name__}: {cause}") from error
