"""The one verb: :func:`convert`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from snnconv.conversion.allocation import Budget, allocated, wanted_budget
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
from snnconv.conversion.refusals import check_arguments, check_input, check_normalisation, check_sites
from snnconv.conversion.statistics import Calibration
from snnconv.files.fingerprint import digest
from snnconv.graph.cover import Cover
from snnconv.graph.source import ConversionError
from snnconv.graph.unwrap import unwrap
from snnconv.inputs import Reader, Take
from snnconv.methods import corrections
from snnconv.methods.base import Method
from snnconv.metrics.ladders import row_ladders
from snnconv.network import SpikingNetwork
from snnconv.progress import ProgressFn, bars
from snnconv.report import ConversionReport
from snnconv.runtime.capture import INPUTS, source_outputs
from snnconv.runtime.ladder_pass import set_bits
from snnconv.runtime.program import GraphProgram, Program
from snnconv.runtime.readout import delay_steps
from snnconv.runtime.signature import Signature

__all__ = ["Conversion", "convert"]


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
    normalisation: str = "function",
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
        normalisation: what becomes of softmax, LayerNorm, RMSNorm and GroupNorm: ``"function"``, they are evaluated;
            ``"ladder"``, in sum coding with ``cover="synapses"``: codes of a row and one scalar, by comparisons, of as
            many bits as the neurons behind have steps. A product reads the codes of a softmax and is scaled behind.
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
    where = Cover(cover, encode_input, signed, normalisation, wanted=method.takes)
    check_normalisation(normalisation, method)
    unwrapped = unwrap(model)
    report = ConversionReport(
        method=method.to_dict(), notes=unwrapped.notes, cover=cover, encode_input=encode_input, signed=signed,
        normalisation=normalisation,
    )  # fmt: skip
    with bars(progress) as tell, torch.no_grad():
        work = Conversion(
            unwrapped.model, method, report, framework, where, sequence, Ranks(distributed), seed, wanted, tell
        )
        with work.timed("calibration data"):
            work.read(calibration, calibration_inputs, example)
        with work.timed("capture"):
            work.capture(overrides or {}, exclude, strict)
        with work.timed("thresholds"):
            work.find_thresholds()
        work.correct()
        network = work.built()
        with work.timed("layer errors"):
            describe(network, work.ann, work.batches)
        with work.timed("check"):
            work.check(network)
    if sequence:
        network.input_spec["input"] = input
    return network


@dataclass
class Conversion:
    """One conversion: what is asked for, what has been found so far, and its steps in the order in which they run.

    Attributes:
        batches: the inputs that calibrate.
        seen: inputs that the network is tried on: the same, or the example.
        ann: the source network.
        snn: the network that is to spike.
        spec: what inputs are.
        thresholds: θ by site.
        means: what the delay of the readout is estimated from.
    """

    model: nn.Module
    method: Method
    report: ConversionReport
    framework: str
    cover: Cover
    sequence: bool
    ranks: Ranks
    seed: int
    wanted: Budget | None
    tell: ProgressFn
    known: Calibration | None = field(init=False)
    batches: list[Any] = field(init=False)
    seen: list[Any] = field(init=False)
    ann: Program = field(init=False)
    snn: Program = field(init=False)
    spec: dict[str, Any] = field(init=False)
    thresholds: dict[str, Tensor] = field(init=False)
    means: dict[str, float] = field(init=False)

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Write the seconds of a step into the report."""
        start = time.perf_counter()
        yield
        self.report.seconds[step] = round(time.perf_counter() - start, 3)

    def read(self, calibration: Any, inputs: Take, example: Any) -> None:
        """Take the inputs of ``calibration``, or what is known of them, and the example's."""
        reader = Reader(Signature.of(self.model), inputs)
        self.known = calibration if isinstance(calibration, Calibration) else None
        if self.known is None:
            self.batches = self._calibration_batches(calibration, reader)
        else:
            self.known.check_made_from(digest(self.model))
            self.batches = self.known.inputs(self.method, home_of(self.model)[0])
        self.seen = self.batches or example_batches(example, self.model, reader, self.sequence)
        own = sum(len(b) for b in self.batches)
        known = self.known
        self.report.calibration_samples = int(self.ranks.total(torch.tensor(own))) if known is None else known.count

    def _calibration_batches(self, calibration: Any, reader: Reader) -> list[Any]:
        if calibration is None:
            if self.method.thresholds == "trained":
                return []
            raise ConversionError(
                f"thresholds={self.method.thresholds!r} come from data: give convert(..., calibration=...) some inputs "
                "(a tensor, a list of tensors or a loader; no labels)"
            )
        limit = self.method.calibration_samples_ or CALIBRATION_LIMIT
        return calibration_batches(calibration, limit, self.model, reader, self.sequence)

    def capture(self, overrides: Mapping[str, Mapping[str, Any]], exclude: str | Iterable[str], strict: bool) -> None:
        """Both networks as programs, the source's and the one that is to spike, and what stays analog."""
        signature = Signature.of(self.model)
        if self.seen:
            signature = Signature.from_spec(signature.described(self.seen[0]))
        captured, self.ann = source_program(self.model, self.seen, signature, self.cover, self.tell)
        source, self.report.capture = captured.source, captured.way
        left = excluded(exclude, self.ann.sites)
        if left:
            source, self.ann = leave_analog(source, left)
        self._set(overridden(self.method, overrides, list(self.ann.sites), left))
        self.snn = spiking_program(self.model, source, self.method, self.seen, captured.why, self.cover)
        if source is None:
            self.report.path = "module tree"
            self.report.notes.append(f"converted call by call because {captured.why}")
        check_sites(self.model, self.method, self.ann.sites, bool(self.batches) or self.known is not None)
        self.spec = input_spec(self.ann, self.seen, signature, self.report)
        list_analog(source, self.snn, self.report, strict, self.seen, left)

    def _set(self, method: Method) -> None:
        """Go on with a method that differs at single layers."""
        self.method = method
        self.report.method = method.to_dict()

    def find_thresholds(self) -> None:
        """What calibration says of the activations, the steps of each layer where these are chosen, and θ."""
        ann, batches, tell, report, ranks = self.ann, self.batches, self.tell, self.report, self.ranks
        if self.known is not None and self.seen:
            self.known.check_fits(ann, self.seen[0][:INPUTS])
        found = activations_of(ann, self.method, batches, tell, report, ranks, self.known)
        if self.wanted is not None:
            chosen = allocated(ann, self.method, found.histograms, batches, self.wanted, tell, self.seed)
            method, report.frontier = ranks.agreed(chosen)  # each measured on its own share
            self._set(method)
            if isinstance(self.snn, GraphProgram):
                set_bits(self.snn.source, lambda site: method.at(site).timesteps, method.timesteps)
                report.normalisations = row_ladders(self.snn.source)
        histograms, self.means = found.histograms, found.means
        self.thresholds = thresholds_of(ann, self.method, histograms, batches, self.spec, tell, report, ranks)

    def correct(self) -> None:
        """Adjust the network on the calibration inputs, as the method asks."""
        run = corrections.get(self.method.correction).run
        if run is not None and self.batches:
            run(self)

    def reconstruct(self) -> None:
        """Fit weights and thresholds to the source network's outputs."""
        with self.timed("reconstruction"):
            self.thresholds = reconstruct(
                self.ann, self.snn, self.thresholds, self.method, self.batches, self.tell, self.ranks, self.seed,
                self.framework, self.spec,
            )  # fmt: skip

    def correct_biases(self) -> None:
        """Take away what is left of each channel's mean error."""
        with self.timed("bias correction"):
            correct_biases(
                self.ann, self.snn, self.method, self.thresholds, self.batches, self.framework, self.spec, self.tell,
                self.ranks,
            )  # fmt: skip

    def built(self) -> SpikingNetwork:
        """The spiking network."""
        method, report, thresholds = self.method, self.report, self.thresholds
        estimate = delay_estimate(method, self.ann.sites, thresholds, self.means)
        report.delay = delay_steps(method.delay_, estimate, method.timesteps)
        network = SpikingNetwork(self.snn, method, thresholds, self.framework, report, report.delay, self.spec)
        network.source_digest = digest(self.model)
        return network

    def check(self, network: SpikingNetwork) -> None:
        """Compare the result with the source network on a few inputs."""
        if self.seen:
            x = self.seen[0][:INPUTS]
            self.report.agreement = check_result(network, source_outputs(self.model, x), x, stacklevel=4)
        else:
            self.report.notes.append("not checked against the model, for want of inputs: give convert(..., example=x)")
