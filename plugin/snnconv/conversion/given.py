"""What a conversion is given: inputs in batches, and the network as a program that runs on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from snnconv.graph.cover import RELUS, Cover
from snnconv.graph.source import ConversionError, SourceGraph
from snnconv.inputs import Reader, input_batches
from snnconv.methods.base import Method
from snnconv.progress import ProgressFn
from snnconv.runtime.batch import entries
from snnconv.runtime.capture import INPUTS, Captured, captured
from snnconv.runtime.covering import encode, shapes_of
from snnconv.runtime.ladder_pass import place_ladders
from snnconv.runtime.program import GraphProgram, Program
from snnconv.runtime.sequence import frames
from snnconv.runtime.signature import Signature
from snnconv.runtime.tree import TreeProgram

__all__ = [
    "CALIBRATION_LIMIT",
    "calibration_batches",
    "example_batches",
    "home_of",
    "leave_analog",
    "single_frames",
    "source_program",
    "spiking_program",
]

CALIBRATION_LIMIT = 1024


def home_of(model: nn.Module) -> tuple[torch.device | None, torch.dtype | None]:
    """Device and dtype of a network's floating tensors; None where it has none."""
    first = next((p for p in [*model.parameters(), *model.buffers()] if p.is_floating_point()), None)
    return (None, None) if first is None else (first.device, first.dtype)


def calibration_batches(
    calibration: Any, limit: int, model: nn.Module, reader: Reader, sequence: bool = False
) -> list[Any]:
    """The first ``limit`` inputs of a user's data, in batches; of sequences ``limit`` of their frames."""
    if sequence:
        calibration = single_frames(calibration, limit, reader)
    device, dtype = home_of(model)
    return input_batches(calibration, limit, device, _dtype_of(calibration, dtype, reader), reader=reader)


def example_batches(example: Any, model: nn.Module, reader: Reader, sequence: bool = False) -> list[Any]:
    """A few inputs to try a network on; none without an example."""
    return [] if example is None else calibration_batches(example, INPUTS, model, reader, sequence)


def single_frames(data: Any, limit: int, reader: Reader) -> list[Any]:
    """Frames of sequences, ``limit`` of them spread evenly over the steps and samples of each batch.

    Args:
        data: as calibration data, with two leading axes for one: time and samples, in either order.

    Raises:
        ConversionError: a batch without a time axis.

    >>> [len(x) for x in single_frames(torch.zeros(20, 8, 3), 50, Reader())]
    [50]
    """
    found: list[Any] = []
    left = limit
    for index, batch in enumerate([data] if isinstance(data, (Tensor, Mapping)) else data):
        given, _ = reader.divide(batch)
        tensors = list(entries(given).values())
        if any(v.dim() < 3 for v in tensors) or len({v.shape[:2] for v in tensors}) != 1:
            shapes = ", ".join(str(list(v.shape)) for v in tensors)
            raise ConversionError(f"calibration batch {index}: a sequence is [T, B, ...] or [B, T, ...], got {shapes}")
        count = tensors[0].shape[0] * tensors[0].shape[1]
        picked = torch.linspace(0, count - 1, min(left, count)).round().long() if count else torch.arange(0)
        found.append(tree_map(lambda v, rows=picked: v[rows.to(v.device)], frames(given)))
        left -= len(picked)
        if not left:
            break
    return found


def _dtype_of(inputs: Any, dtype: torch.dtype | None, reader: Reader) -> torch.dtype:
    """Of the network's inputs: its weights' dtype, or that of token indices."""
    first = input_batches(inputs, 1, reader=reader)[0] if not hasattr(inputs, "__next__") else None
    if isinstance(first, Tensor) and first.dtype in (torch.int32, torch.int64):
        return first.dtype
    return dtype if dtype is not None else torch.float32


def source_program(
    model: nn.Module,
    batches: Sequence[Any],
    signature: Signature,
    cover: Cover = RELUS,
    progress: ProgressFn | None = None,
) -> tuple[Captured, Program]:
    """The source network, with sites and encoders where ``cover`` has them.

    As a graph, or, where it cannot be captured, as the module tree that it is.

    Raises:
        ConversionError: a network that has to be run to be read, without inputs; one without a graph where encoders are
            wanted.
    """
    found = captured(model, signature, batches, cover, progress)
    if found.source is not None:
        if cover.synapses and not batches:
            raise ConversionError(
                "cover='synapses' runs the network once: give calibration data, or convert(..., example=x)"
            )
        encode(found.source, cover, batches[0][:INPUTS] if batches else None)
        return found, GraphProgram(found.source)
    if not batches:
        raise ConversionError(
            f"{found.failures[0]}, so that activations are found by running it: give calibration data, or convert(..., "
            "example=x)"
        )
    if cover.synapses:
        raise ConversionError(f"cover='synapses' needs the network's graph, and {found.why}")
    return found, TreeProgram(model, batches[0])


def leave_analog(source: SourceGraph | None, sites: Sequence[str]) -> tuple[SourceGraph, Program]:
    """The source network with these activations as operators like any other.

    Raises:
        ConversionError: a network that does not trace, trained activations.
    """
    if source is None:
        raise ConversionError("exclude needs a network that traces; this one is converted call by call")
    for site in sites:
        source.leave_analog(site)
    return source, GraphProgram(source)


def spiking_program(
    model: nn.Module,
    source: SourceGraph | None,
    method: Method,
    batches: Sequence[Any],
    differs: str | None = None,
    cover: Cover = RELUS,
) -> Program:
    """The network that is to become spiking, independent of the source; with softmax and norms as ``cover`` has them.

    Raises:
        ConversionError: differential coding of a network that does not trace, with the reason ``differs``.
    """
    if source is not None:
        own = source.copy()
        if cover.ladders:
            place_ladders(
                own, shapes_of(own, batches[0][:INPUTS]), lambda site: method.at(site).timesteps, method.timesteps
            )
        return GraphProgram(own, method.coding, method.max_pool)
    if method.coding == "differential":
        raise ConversionError(
            f"{differs}; differential coding runs the operators of a traced network: convert it with a rate method, "
            "such as methods.SignedIF"
        )
    snn = TreeProgram(model, batches[0], method.coding, method.max_pool)
    snn.check_steps(batches[0][:2])
    return snn
