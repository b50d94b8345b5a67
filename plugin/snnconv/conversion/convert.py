"""The one verb: :func:`convert`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from snnconv.conversion.bias import correct_biases
from snnconv.conversion.calibration import delay_estimate, thresholds_of
from snnconv.conversion.checks import INPUTS, check_result, differs_from, source_outputs
from snnconv.conversion.description import describe, input_spec, list_analog
from snnconv.conversion.ranks import Ranks
from snnconv.conversion.reconstruct import reconstruct
from snnconv.conversion.refusals import check_arguments, check_sites
from snnconv.files.fingerprint import digest
from snnconv.graph.capture.fx import TraceFailure, source_graph
from snnconv.graph.source import ConversionError, SourceGraph
from snnconv.graph.unwrap import unwrap
from snnconv.inputs import Reader, Take, input_batches
from snnconv.methods.base import Method
from snnconv.network import SpikingNetwork
from snnconv.progress import ProgressFn, bars
from snnconv.report import ConversionReport
from snnconv.runtime.program import GraphProgram, Program
from snnconv.runtime.readout import delay_steps
from snnconv.runtime.signature import Signature
from snnconv.runtime.tree import TreeProgram

__all__ = ["convert"]


CALIBRATION_LIMIT = 1024


def convert(
    model: nn.Module,
    method: Method,
    calibration: Any = None,
    *,
    calibration_inputs: Take = None,
    example: Any = None,
    framework: str = "spikingjelly",
    strict: bool = False,
    progress: bool | ProgressFn | None = None,
    distributed: bool = False,
) -> SpikingNetwork:
    """Convert a trained network into a spiking one.

    Every ReLU, however it is written, becomes a population of ``method``'s neurons; BatchNorm is folded; thresholds
    come from ``calibration`` (inputs only, no labels) or from the network's own trained activations. The model is
    not changed. What is around it (``DataParallel``, ``torch.compile``, hooks that only look, weight norm, pruning) is
    taken off a copy (:func:`snnconv.graph.unwrap.unwrap`), and the report says so.

    Args:
        model: the trained network.
        method: one of :mod:`snnconv.methods`.
        calibration: a tensor ``[N, ...]``, a list of batches, or a loader giving tensors, (input, target) pairs or
            dictionaries; the first 1,024 samples are used (``calibration_samples`` of a method that has it). Not needed
            for ``thresholds="trained"``. For a network of several inputs a tuple of tensors or a dictionary by the
            names of forward's arguments, or batches of these, with targets behind them or without.
        calibration_inputs: which of a batch's entries are inputs, where forward's arguments do not tell: how many of
            the first (``2``), the arguments they go to (``("x", "mask")``), or a function from a batch to its inputs.
        example: inputs as one of ``calibration``'s batches, to check the result on where there is no ``calibration``.
        framework: whose neuron classes the network is built from: ``"spikingjelly"`` or ``"snntorch"``.
        strict: refuse a network in which an activation, or anything nonlinear between a neuron and the layer that
            reads it (a comparison, a floor), would stay analog, instead of reporting it.
        progress: ``False`` for no progress bars, or a function ``(what, done, total)``.
        distributed: every rank of the process group calls this with its own share of the calibration data (shares
            of one size, as a ``DistributedSampler`` gives them); statistics are reduced, so that all get one network.

    Returns:
        The spiking network, with its :class:`~snnconv.report.ConversionReport` as ``.report``.

    Raises:
        ImportError: a framework that is not installed.
        ConversionError: a network without ReLU, or with spiking neurons; one that is exported or quantised; NaN
            weights, unusable calibration data, a combination that makes no sense; an output of another shape, or one
            that is not finite; the message names the culprit.

    Warns:
        ConversionWarning: in rate coding, outputs on two calibration inputs further from the source network's than T
            accounts for.

    >>> import torch, snnconv
    >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10))
    >>> images = torch.rand(16, 3, 8, 8)
    >>> snn = snnconv.convert(model, snnconv.methods.ShiftedThreshold(timesteps=4), calibration=images)
    >>> snn(images).shape
    torch.Size([16, 10])
    """
    check_arguments(model, method, framework)
    unwrapped = unwrap(model)
    model = unwrapped.model
    ranks = Ranks(distributed)
    signature = Signature.of(model)
    reader = Reader(signature, calibration_inputs)
    report = ConversionReport(method=method.to_dict(), notes=unwrapped.notes)
    parameter = next((p for p in [*model.parameters(), *model.buffers()] if p.is_floating_point()), None)
    device = parameter.device if parameter is not None else None
    dtype = parameter.dtype if parameter is not None else None
    with bars(progress) as tell, torch.no_grad():
        with _timed(report, "calibration data"):
            batches = _batches(calibration, method, device, dtype, reader)
            seen = batches or _example(example, device, dtype, reader)
        if seen:
            signature = Signature.from_spec(signature.described(seen[0]))
        report.calibration_samples = sum(len(b) for b in batches)
        with _timed(report, "tracing"):
            source, ann, snn = _programs(model, method, seen, report, signature)
            check_sites(model, method, ann.sites)
            spec = input_spec(ann, seen, signature, report)
            list_analog(source, snn, report, strict, seen)
        with _timed(report, "thresholds"):
            thresholds, means = thresholds_of(ann, method, batches, spec, tell, report, ranks)
        if method.correction == "reconstruct" and batches:
            with _timed(report, "reconstruction"):
                thresholds = reconstruct(ann, snn, thresholds, method.levels, batches, tell, ranks)
        if method.correction != "none" and batches:
            with _timed(report, "bias correction"):
                correct_biases(ann, snn, method, thresholds, batches, framework, spec, tell, ranks)
        report.delay = delay_steps(
            method.delay_, delay_estimate(method, ann.sites, thresholds, means), method.timesteps
        )
        network = SpikingNetwork(snn, method, thresholds, framework, report, report.delay, spec)
        network.source_digest = digest(model)
        with _timed(report, "layer errors"):
            describe(network, ann, batches)
        with _timed(report, "check"):
            if seen:
                x = seen[0][:INPUTS]
                report.agreement = check_result(network, source_outputs(model, x), x, stacklevel=3)
            else:
                report.notes.append("not checked against the model, for want of inputs: give convert(..., example=x)")
    return network


def _batches(calibration: Any, method: Method, device: Any, dtype: torch.dtype | None, reader: Reader) -> list[Any]:
    if calibration is None:
        if method.thresholds == "trained":
            return []
        raise ConversionError(
            f"thresholds={method.thresholds!r} come from data: give convert(..., calibration=...) some inputs "
            "(a tensor, a list of tensors or a loader; no labels)"
        )
    limit = method.calibration_samples_ or CALIBRATION_LIMIT
    return input_batches(calibration, limit, device, _dtype_of(calibration, dtype, reader), reader=reader)


def _example(example: Any, device: Any, dtype: torch.dtype | None, reader: Reader) -> list[Any]:
    if example is None:
        return []
    return input_batches(example, INPUTS, device, _dtype_of(example, dtype, reader), reader=reader)


def _dtype_of(inputs: Any, dtype: torch.dtype | None, reader: Reader) -> torch.dtype:
    """Of the network's inputs: its weights' dtype, or that of token indices."""
    first = input_batches(inputs, 1, reader=reader)[0] if not hasattr(inputs, "__next__") else None
    if isinstance(first, Tensor) and first.dtype in (torch.int32, torch.int64):
        return first.dtype
    return dtype if dtype is not None else torch.float32


def _programs(
    model: nn.Module, method: Method, batches: Sequence[Any], report: ConversionReport, signature: Signature
) -> tuple[SourceGraph | None, Program, Program]:
    """The source network and the one to become spiking, as two independent programs."""
    try:
        source = source_graph(model, *signature.traced)
        differs = differs_from(model, source, batches)
    except TraceFailure as failure:
        source, differs = None, f"its forward does not trace ({failure})"
    if source is not None and differs is None:
        ann = GraphProgram(source)
        return source, ann, GraphProgram(source.copy(), method.coding, method.max_pool)
    if not batches:
        raise ConversionError(
            f"{differs}, so that activations are found by running it: give calibration data, or convert(..., example=x)"
        )
    if method.coding == "differential":
        raise ConversionError(
            f"{differs}; differential coding runs the operators of a traced network: convert it with a rate method, "
            "such as methods.SignedIF"
        )
    report.path = "module tree"
    report.notes.append(f"converted call by call because {differs}")
    example = batches[0][:2]
    snn = TreeProgram(model, example, method.coding, method.max_pool)
    snn.check_steps(example)
    return None, TreeProgram(model, example), snn


@contextmanager
def _timed(report: ConversionReport, part: str) -> Any:
    start = time.perf_counter()
    yield
    report.seconds[part] = round(time.perf_counter() - start, 3)
