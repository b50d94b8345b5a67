"""What a conversion is given: inputs in batches, and the network as a program that runs on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from snnconv.conversion.checks import INPUTS, differs_from
from snnconv.graph.capture.fx import TraceFailure, source_graph
from snnconv.graph.source import ConversionError, SourceGraph
from snnconv.inputs import Reader, input_batches
from snnconv.methods.base import Method
from snnconv.runtime.program import GraphProgram, Program
from snnconv.runtime.signature import Signature
from snnconv.runtime.tree import TreeProgram

__all__ = [
    "CALIBRATION_LIMIT",
    "calibration_batches",
    "example_batches",
    "home_of",
    "source_program",
    "spiking_program",
]

CALIBRATION_LIMIT = 1024


def home_of(model: nn.Module) -> tuple[torch.device | None, torch.dtype | None]:
    """Device and dtype of a network's floating tensors; None where it has none."""
    first = next((p for p in [*model.parameters(), *model.buffers()] if p.is_floating_point()), None)
    return (None, None) if first is None else (first.device, first.dtype)


def calibration_batches(calibration: Any, limit: int, model: nn.Module, reader: Reader) -> list[Any]:
    """The first ``limit`` inputs of a user's data, in batches."""
    device, dtype = home_of(model)
    return input_batches(calibration, limit, device, _dtype_of(calibration, dtype, reader), reader=reader)


def example_batches(example: Any, model: nn.Module, reader: Reader) -> list[Any]:
    """A few inputs to try a network on; none without an example."""
    return [] if example is None else calibration_batches(example, INPUTS, model, reader)


def _dtype_of(inputs: Any, dtype: torch.dtype | None, reader: Reader) -> torch.dtype:
    """Of the network's inputs: its weights' dtype, or that of token indices."""
    first = input_batches(inputs, 1, reader=reader)[0] if not hasattr(inputs, "__next__") else None
    if isinstance(first, Tensor) and first.dtype in (torch.int32, torch.int64):
        return first.dtype
    return dtype if dtype is not None else torch.float32


def source_program(
    model: nn.Module, batches: Sequence[Any], signature: Signature
) -> tuple[SourceGraph | None, Program, str | None]:
    """The source network: as a graph, or, with the reason why it is none, as the module tree that it is.

    Raises:
        ConversionError: a network that has to be run to be read, without inputs.
    """
    try:
        source = source_graph(model, *signature.traced)
        differs = differs_from(model, source, batches)
    except TraceFailure as failure:
        source, differs = None, f"its forward does not trace ({failure})"
    if source is not None and differs is None:
        return source, GraphProgram(source), None
    if not batches:
        raise ConversionError(
            f"{differs}, so that activations are found by running it: give calibration data, or convert(..., example=x)"
        )
    return None, TreeProgram(model, batches[0][:2]), differs


def spiking_program(model: nn.Module, source: SourceGraph | None, method: Method, batches: Sequence[Any]) -> Program:
    """The network that is to become spiking, independent of the source."""
    if source is not None:
        return GraphProgram(source.copy(), method.coding, method.max_pool)
    snn = TreeProgram(model, batches[0][:2], method.coding, method.max_pool)
    snn.check_steps(batches[0][:2])
    return snn
