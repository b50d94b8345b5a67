"""The one verb: :func:`convert`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import nn

from snnconv.conversion.allocation import allocated, wanted_budget
from snnconv.conversion.bias import correct_biases
from snnconv.conversion.calibration import activations_of, delay_estimate, thresholds_of
from snnconv.conversion.checks import check_result
from snnconv.conversion.description import describe, input_spec, list_analog
from snnconv.conversion.given import (
    CALIBRATION_LIMIT,
    calibration_batches,
    example_batches,
    home_of,
    leave_analog,
    source_program,
    spiking_program,
)
from snnconv.conversion.overrides import excluded, overridden
from snnconv.conversion.ranks import Ranks
from snnconv.conversion.reconstruct import reconstruct
from snnconv.conversion.refusals import check_arguments, check_input, check_sites
from snnconv.conversion.statistics import Calibration
from snnconv.files.fingerprint import digest
from snnconv.graph.cover import Cover
from snnconv.graph.source import ConversionError
from snnconv.graph.unwrap import unwrap
from snnconv.inputs import Reader, Take
from snnconv.methods.base import Method
from snnconv.network import SpikingNetwork
from snnconv.progress import ProgressFn, bars
from snnconv.report import ConversionReport
from snnconv.runtime.capture import INPUTS, source_outputs
from snnconv.runtime.readout import delay_steps
from snnconv.runtime.signature import Signature

__all__ = ["convert"]


def convert(
    model: nn.Module,
    method: Method,
    calibration: Any = None,
    *,
    calibration_inputs: Take = None,
    example: Any = None,
    framework: str = "spikingjelly",
    cover: str = "activations",
    encode_input: bool = False,
    signed: str = "refuse",
    strict: bool = False,
    progress: bool | ProgressFn | None = None,
    distributed: bool = False,
    seed: int = 0,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    exclude: str | Iterable[str] = (),
    timesteps: Literal["auto"] | None = None,
    budget: float | Mapping[str, float] | None = None,
    input: str = "constant",
) -> SpikingNetwork:
    """Convert a trained network into a spiking one.

    Every activation, however it is written, becomes a population of ``method``'s neurons where these can compute it
    (ReLU always; SiLU, GELU, sigmoid and others by neurons that have functions); BatchNorm is folded; thresholds come
    from ``calibration`` (inputs only, no labels) or from the network's own trained activations. The model is not
    changed. What is around it (``DataParallel``, ``torch.compile``, hooks that only look, weight norm, pruning) is
    taken off a copy (:func:`snnconv.graph.unwrap.unwrap`), and the report says so.

    Args:
        model: the trained network.
        method: one of :mod:`snnconv.methods`.
        calibration: a tensor ``[N, ...]``, a list of batches, or a loader giving tensors, (input, target) pairs or
            dictionaries; the first 1,024 samples are used (``calibration_samples`` of a method that has it). Not needed
            for ``thresholds="trained"``. For a network of several inputs a tuple of tensors or a dictionary by the
            names of forward's arguments, or batches of these, with targets behind them or without. Or what
            :func:`snnconv.calibrate` gave for this network.
        calibration_inputs: which of a batch's entries are inputs, where forward's arguments do not tell: how many of
            the first (``2``), the arguments they go to (``("x", "mask")``), or a function from a batch to its inputs.
        example: inputs as one of ``calibration``'s batches, to check the result on where there is no ``calibration``.
        framework: whose neuron classes the network is built from: ``"spikingjelly"`` or ``"snntorch"``.
        cover: where neurons stand: ``"activations"``, or ``"synapses"``: every layer with weights after the first and
            both operands of every product read spikes, of an activation or of an encoder in front of them.
        encode_input: with ``"synapses"``: the first layers, too.
        signed: an encoder of values of both signs, where the method's neurons know no negative spike: ``"refuse"``, or
            ``"pair"``, two populations, of which one says what is below zero.
        strict: refuse a network in which an activation, or anything nonlinear between a neuron and the layer that
            reads it (a comparison, a floor), would stay analog, instead of reporting it; with ``cover="synapses"``: one
            in which a layer with weights after the first, or a product, would not read spikes.
        progress: ``False`` for no progress bars, or a function ``(what, done, total)``.
        distributed: every rank of the process group calls this with its own share of the calibration data (of one
            input at least; shares may differ in size); statistics are reduced, so that all get one network.
        seed: of what draws at random: the order and the augmentation of ``correction="reconstruct"``, the choice of
            steps a layer.
        overrides: what is different at single layers: fields of the method by patterns of their names, such as
            ``{"layer3.*": dict(timesteps=8)}``; the last pattern that names a layer counts.
        exclude: patterns of the names of activations that stay analog.
        timesteps: ``"auto"``: each layer of a sum-coded network gets its own T, chosen on the calibration data.
        budget: for ``timesteps="auto"``, the mean T (each layer weighted by its neurons), or ``dict(sops=...)``,
            synaptic operations of an input.
        input: what calls take: ``"constant"``, or ``"sequence"``: ``[T, B, ...]``, a frame a step (event frames,
            spectrograms). ``calibration`` then holds sequences, whose single frames calibrate.

    Returns:
        The spiking network, with its :class:`~snnconv.report.ConversionReport` as ``.report``.

    Raises:
        ImportError: a framework that is not installed.
        ConversionError: a network without activations that can spike, or with spiking neurons; one that is exported or
            quantised; NaN weights, unusable calibration data, a combination that makes no sense; an output of another
            shape, or one that is not finite; the message names the culprit.

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
    sequence = check_input(input, method)
    wanted = wanted_budget(timesteps, budget)
    where = Cover(cover, encode_input, signed, wanted=method.takes)
    unwrapped = unwrap(model)
    model = unwrapped.model
    ranks = Ranks(distributed)
    signature = Signature.of(model)
    reader = Reader(signature, calibration_inputs)
    report = ConversionReport(
        method=method.to_dict(), notes=unwrapped.notes, cover=cover, encode_input=encode_input, signed=signed
    )
    known = calibration if isinstance(calibration, Calibration) else None
    with bars(progress) as tell, torch.no_grad():
        with _timed(report, "calibration data"):
            if known is None:
                batches = _batches(calibration, method, model, reader, sequence)
            else:
                known.check_made_from(digest(model))
                batches = known.inputs(method, home_of(model)[0])
            seen = batches or example_batches(example, model, reader, sequence)
        if seen:
            signature = Signature.from_spec(signature.described(seen[0]))
        own = sum(len(b) for b in batches)
        report.calibration_samples = int(ranks.total(torch.tensor(own))) if known is None else known.count
        with _timed(report, "capture"):
            captured, ann = source_program(model, seen, signature, where, tell)
            source, report.capture = captured.source, captured.way
            left = excluded(exclude, ann.sites)
            if left:
                source, ann = leave_analog(source, left)
            method = overridden(method, overrides or {}, list(ann.sites))
            report.method = method.to_dict()
            snn = spiking_program(model, source, method, seen, captured.why)
            if source is None:
                report.path = "module tree"
                report.notes.append(f"converted call by call because {captured.why}")
            check_sites(model, method, ann.sites, bool(batches) or known is not None)
            spec = input_spec(ann, seen, signature, report)
            list_analog(source, snn, report, strict, seen, left)
        with _timed(report, "thresholds"):
            found = activations_of(ann, method, batches, tell, report, ranks, known)
            if wanted is not None:
                chosen = allocated(ann, method, found.histograms, batches, wanted, tell, seed)
                method, report.frontier = ranks.agreed(chosen)  # each measured on its own share
                report.method = method.to_dict()
            thresholds = thresholds_of(ann, method, found.histograms, batches, spec, tell, report, ranks)
        if method.correction == "reconstruct" and batches:
            with _timed(report, "reconstruction"):
                thresholds = reconstruct(ann, snn, thresholds, method, batches, tell, ranks, seed, framework, spec)
        if method.correction != "none" and batches:
            with _timed(report, "bias correction"):
                correct_biases(ann, snn, method, thresholds, batches, framework, spec, tell, ranks)
        report.delay = delay_steps(
            method.delay_, delay_estimate(method, ann.sites, thresholds, found.means), method.timesteps
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
        if sequence:
            network.input_spec["input"] = input
    return network


def _batches(calibration: Any, method: Method, model: nn.Module, reader: Reader, sequence: bool) -> list[Any]:
    if calibration is None:
        if method.thresholds == "trained":
            return []
        raise ConversionError(
            f"thresholds={method.thresholds!r} come from data: give convert(..., calibration=...) some inputs "
            "(a tensor, a list of tensors or a loader; no labels)"
        )
    return calibration_batches(calibration, method.calibration_samples_ or CALIBRATION_LIMIT, model, reader, sequence)


@contextmanager
def _timed(report: ConversionReport, step: str) -> Any:
    start = time.perf_counter()
    yield
    report.seconds[step] = round(time.perf_counter() - start, 3)
