"""The one verb: :func:`convert`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

from snnconv.conversion import thresholds as calibrate
from snnconv.conversion.bias import BiasCorrection
from snnconv.conversion.checks import check_result, mixes_batch
from snnconv.conversion.ranks import Ranks
from snnconv.conversion.reconstruct import reconstruct
from snnconv.files.fingerprint import digest
from snnconv.graph.flow import Flow
from snnconv.graph.origin import analog, reads, scaled
from snnconv.graph.source import ConversionError, Site, SourceGraph
from snnconv.graph.unwrap import refuse, unwrap
from snnconv.inputs import Reader, Take, input_batches
from snnconv.methods.base import Method
from snnconv.network import SpikingNetwork
from snnconv.neurons.frameworks import FRAMEWORKS, neuron_class
from snnconv.progress import ProgressFn, bars
from snnconv.report import AnalogSite, ConversionReport, SpikingSite
from snnconv.runtime.batch import entries, same_shapes
from snnconv.runtime.capture import INPUTS, captured, source_outputs
from snnconv.runtime.footprint import Footprint, footprint
from snnconv.runtime.program import GraphProgram, Program
from snnconv.runtime.readout import delay_steps, join_batches
from snnconv.runtime.signature import Signature
from snnconv.runtime.tree import TreeProgram

__all__ = ["convert"]


CALIBRATION_LIMIT = 1024
ERROR_SAMPLES = 32
CORRECTION_BYTES = 256 * 2**20
CORRECTION_SAMPLES = (64, 256)
CORRECTION_WORK = 4096  # samples times steps
CORRECTION_VALUES = 2**30  # samples times steps times neurons: a dense network's sample has many values a channel
FEWEST_SAMPLES = 16
BALANCING_VALUES = 2**24  # samples times neurons of one update of balanced thresholds


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
    _check_arguments(model, method, framework)
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
        with _timed(report, "capture"):
            source, ann, snn = _programs(model, method, seen, report, signature, tell)
            _check_sites(model, method, ann.sites)
            spec = _input_spec(ann, seen, signature, report)
            _list_analog(source, snn, report, strict, seen)
        with _timed(report, "thresholds"):
            thresholds, means = _thresholds(ann, method, batches, spec, tell, report, ranks)
        if method.correction == "reconstruct" and batches:
            with _timed(report, "reconstruction"):
                thresholds = reconstruct(ann, snn, thresholds, method.levels, batches, tell, ranks)
        if method.correction != "none" and batches:
            with _timed(report, "bias correction"):
                _correct(ann, snn, method, thresholds, batches, framework, spec, tell, ranks)
        report.delay = delay_steps(
            method.delay_, _delay_estimate(method, ann.sites, thresholds, means), method.timesteps
        )
        network = SpikingNetwork(snn, method, thresholds, framework, report, report.delay, spec)
        network.source_digest = digest(model)
        with _timed(report, "layer errors"):
            _describe(network, ann, batches)
        with _timed(report, "check"):
            if seen:
                x = seen[0][:INPUTS]
                report.agreement = check_result(network, source_outputs(model, x), x, stacklevel=3)
            else:
                report.notes.append("not checked against the model, for want of inputs: give convert(..., example=x)")
    return network


def _check_arguments(model: Any, method: Any, framework: str) -> None:
    if isinstance(model, SpikingNetwork):
        raise ConversionError("this network is already converted; convert the network it was made from")
    refuse(model)
    if isinstance(method, type) and issubclass(method, Method):
        raise TypeError(f"give an instance, methods.{method.__name__}(timesteps=...), not the class")
    if not isinstance(method, Method):
        raise TypeError(f"method must be one of snnconv.methods, got {type(method).__name__}")
    if framework not in FRAMEWORKS:
        raise ConversionError(f"framework must be one of {tuple(FRAMEWORKS)}, got {framework!r}")
    neuron_class(method.neuron, framework)  # says what to install before any work is done


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
    model: nn.Module,
    method: Method,
    batches: Sequence[Any],
    report: ConversionReport,
    signature: Signature,
    tell: ProgressFn,
) -> tuple[SourceGraph | None, Program, Program]:
    """The source network and the one to become spiking, as two independent programs."""
    found = captured(model, signature, batches, tell)
    if found.source is not None:
        report.capture = found.way
        ann = GraphProgram(found.source)
        return found.source, ann, GraphProgram(found.source.copy(), method.coding, method.max_pool)
    differs = ", and ".join(found.failures)
    if not batches:
        raise ConversionError(
            f"{found.failures[0]}, so that activations are found by running it: give calibration data, or convert(..., "
            "example=x)"
        )
    report.path = "module tree"
    report.notes.append(f"converted call by call because {differs}")
    example = batches[0][:2]
    snn = TreeProgram(model, example, method.coding, method.max_pool)
    snn.check_steps(example)
    return None, TreeProgram(model, example), snn


def _check_sites(model: nn.Module, method: Method, sites: dict[str, Site]) -> None:
    if not sites:
        kinds = sorted({type(m).__name__ for m in model.modules() if "activation" in type(m).__module__})
        raise ConversionError(
            "this network has no ReLU (nn.ReLU, F.relu, x.relu(), clamp(min=0), ReLU6 ...), so nothing can spike"
            + (f"; its activations are {', '.join(kinds)}: retrain it with ReLU" if kinds else "")
        )
    trained = method.thresholds == "trained"
    if trained and method.correction == "reconstruct":
        raise ConversionError(
            "correction='reconstruct' changes thresholds, and thresholds='trained' keeps them: "
            "use correction='bias' or 'none'"
        )
    for name, site in sites.items():
        if trained and site.threshold is None:
            raise ConversionError(
                f"{name}: thresholds='trained' needs an activations.RateNorm or QuantReLU layer here, found a ReLU; "
                "use thresholds='mse' with calibration data"
            )
        if method.converts is not None and site.kind not in method.converts:
            wanted = " and ".join(sorted(method.converts))
            raise ConversionError(f"{name}: methods.{type(method).__name__} converts {wanted}, found {site.kind}")
        if site.function.unit and (not trained or method.coding == "sum"):
            raise ConversionError(
                f"{name}: a rate norm layer's output is normalised by its own threshold; convert it with "
                "methods.RateNorm, or IF, SignedIF or SRP with thresholds='trained'"
            )


def _list_analog(
    source: SourceGraph | None, snn: Program, report: ConversionReport, strict: bool, seen: Sequence[Any]
) -> None:
    report.notes += [n for n in snn.notes if n not in report.notes]
    refused: list[str] = []
    if isinstance(snn, GraphProgram) and source is not None:
        flow = Flow(snn.source.graph)
        found = analog(snn.source, flow)
        report.analog = [AnalogSite(a.name, a.operator, a.reason, a.activation) for a in found]
        report.reads, report.scaled = reads(flow), scaled(flow)
        refused = [f"{a.name} ({a.operator})" for a in found if a.activation or a.between]
        if seen and any(origin in ("currents", "analog") for origin in report.reads.values()):
            from snnconv.metrics.synapses import multiplications

            with suppress(ConversionError):  # operators that cannot run on counts: the share stays unknown
                report.macs = multiplications(snn.source, seen[0][:1])
    elif isinstance(snn, TreeProgram):
        report.analog = list(snn.analog_sites)
        refused = [f"{a.name} ({a.operator})" for a in report.analog if a.activation]
    if strict and refused:
        names = ", ".join(refused[:8]) + (" ..." if len(refused) > 8 else "")
        raise ConversionError(f"strict=True, and these have no spiking equivalent: {names}")


def _input_spec(ann: Program, batches: Sequence[Any], signature: Signature, report: ConversionReport) -> dict[str, Any]:
    """Shape and dtype of the inputs, neurons in all and in the widest layer, bytes that are held, from one sample."""
    if not batches:
        return {}
    x = batches[0][:1]
    widest = neurons = 0

    def measure(site: str, z: Tensor) -> Tensor:
        nonlocal widest, neurons
        widest = max(widest, z[:1].numel())
        neurons += z[:1].numel()
        return ann.sites[site].activation(z)

    if isinstance(ann, GraphProgram):
        ann.executor.neuron = measure
        held = footprint(ann.executor, x)
    else:  # the input of a layer, its output, a shortcut
        ann.static(x, measure)
        held = Footprint(0, 3 * widest * next(iter(entries(x).values())).element_size())
    mixes = len(batches[0]) > 1 and mixes_batch(ann, batches[0][:2])
    if mixes:
        report.notes.append("the inputs of a batch have to do with one another, so that a batch is never cut")
    return {
        **signature.described(x),
        **({"whole_batch": True} if mixes else {}),
        "widest": widest,
        "neurons": neurons,
        "constant_bytes": held.constant,
        "step_bytes": held.step,
    }


def _affordable(spec: dict[str, Any], method: Method) -> int:
    """Samples that the correction of a large network can take in reasonable time."""
    return max(FEWEST_SAMPLES, CORRECTION_VALUES // max(1, method.latency * int(spec.get("neurons", 0))))


def _thresholds(
    ann: Program,
    method: Method,
    batches: Sequence[Any],
    spec: dict[str, Any],
    tell: ProgressFn,
    report: ConversionReport,
    ranks: Ranks,
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """θ of every site, and the data mean of its largest element (for the delay)."""
    if method.thresholds == "trained":
        thresholds: dict[str, Tensor] = {}
        for name, site in ann.sites.items():
            assert site.threshold is not None
            thresholds[name] = site.threshold.detach().clone()
            if site.levels is not None and site.levels != method.levels:
                report.notes.append(
                    f"{name} was trained with {site.levels} levels; T = {method.timesteps} carries {method.levels}"
                )
        if not batches:
            return thresholds, {}
    delayed = method.delay_ == "auto"
    histograms = calibrate.histograms(ann, batches, method.per_channel, tell, ranks, elements=delayed)
    means = {name: h.largest_mean(ranks) for name, h in histograms.items()} if delayed else {}
    silent = [name for name, h in histograms.items() if not bool((h.peak > 0).any())]
    if silent:
        report.notes.append(f"never active on the calibration data: {', '.join(silent)}")
    if method.thresholds == "trained":
        return thresholds, means
    if method.thresholds == "ltb":
        options = {k: getattr(method, k) for k in ("k", "max_batches", "tolerance") if hasattr(method, k)}
        # hundreds of updates are needed whatever the size of a batch, so large networks take small ones
        size = max(1, BALANCING_VALUES // max(1, int(spec.get("neurons", 0))) // ranks.size)
        parts = [part for batch in batches for part in batch.split(size)]
        thresholds, used = calibrate.balanced_thresholds(
            ann, parts, method.per_channel, progress=tell, ranks=ranks, **options
        )
        report.notes.append(f"threshold balancing used {used} batches")
    elif method.thresholds == "max":
        thresholds = {name: calibrate.max_threshold(h) for name, h in histograms.items()}
    elif method.percent is not None:
        thresholds = {name: calibrate.percentile_threshold(h, method.percent) for name, h in histograms.items()}
    else:
        caps = {name: site.cap for name, site in ann.sites.items()}
        thresholds = {}
        for done, (name, h) in enumerate(histograms.items(), start=1):
            thresholds[name] = calibrate.mse_threshold(h, method.levels, cap=caps[name])
            tell("thresholds: search", done, len(histograms))
    thresholds = {k: v if method.per_channel else v.reshape(()) for k, v in thresholds.items()}
    return thresholds | _unreached(ann, thresholds, report), means


def _unreached(ann: Program, thresholds: dict[str, Tensor], report: ConversionReport) -> dict[str, Tensor]:
    """Thresholds of sites that the calibration data did not come to: the mean of the others'."""
    absent = [name for name in ann.sites if name not in thresholds]
    if not absent:
        return {}
    mean = torch.stack([theta.mean() for theta in thresholds.values()]).mean() if thresholds else torch.tensor(1.0)
    report.notes.append(
        f"the calibration data did not come to {', '.join(absent)}: thresholds there are the mean of the others', "
        f"{float(mean):.3g}; calibrate with inputs that take this path"
    )
    return {name: mean.clone() for name in absent}


def _delay_estimate(
    method: Method, sites: dict[str, Site], thresholds: dict[str, Tensor], means: dict[str, float]
) -> float:
    """Σ_l mean_c(θ_c − v₀) / max_i(data mean of element i), with v₀ = θ/2 or 0 (arXiv 2409.03368, eq. 19)."""
    units = {name: 1.0 if sites[name].kind == "rate_norm" else float(v.mean()) for name, v in thresholds.items()}
    below = 1.0 if method.neuron_options.get("start") == "zero" else 0.5
    return sum(below * theta / means[name] for name, theta in units.items() if means.get(name, 0) > 0)


def _correct(
    ann: Program,
    snn: Program,
    method: Method,
    thresholds: dict[str, Tensor],
    batches: Sequence[Any],
    framework: str,
    spec: dict[str, Any],
    tell: ProgressFn,
    ranks: Ranks,
) -> None:
    """Shift biases by what is left of each channel's mean error on the converted network's own activations."""
    network = SpikingNetwork(snn, method, thresholds, framework, None, 0, spec)
    steps = 1 if method.coding == "sum" else method.latency
    least, most = CORRECTION_SAMPLES
    wanted = min(most, max(least, CORRECTION_WORK // method.latency))
    wanted = min(wanted, _affordable(spec, method))
    size = max(4, min(wanted, CORRECTION_BYTES // max(1, 4 * steps * int(spec["widest"]))))
    wanted, size = -(-wanted // ranks.size), max(1, size // ranks.size)  # this rank's share of each batch
    data = join_batches(list(batches))[:wanted] if same_shapes(batches) else batches[0]
    work = BiasCorrection(ann, network, ranks)
    work.run(list(data.split(size)), tell)
    for site, current in work.current.items():
        snn.shift(site, current)


def _describe(network: SpikingNetwork, ann: Program, batches: Sequence[Any]) -> None:
    """List the sites in the report, with their errors on a few calibration inputs."""
    from snnconv.metrics.comparing import compare_programs

    samples = min(ERROR_SAMPLES, _affordable(network.input_spec, network.method))
    parts = network._parts(batches[0][:samples]) if batches else []
    errors = {row.name: row.error for row in compare_programs(ann, network, parts).rows} if parts else {}
    assert network.report is not None
    for name in network.program.sites:
        theta = network.thresholds[name]
        network.report.spiking.append(
            SpikingSite(
                name,
                type(network.neurons[name]).__name__,
                theta.numel(),
                float(theta.min()),
                float(theta.mean()),
                float(theta.max()),
                errors.get(name),
            )
        )


@contextmanager
def _timed(report: ConversionReport, part: str) -> Any:
    start = time.perf_counter()
    yield
    report.seconds[part] = round(time.perf_counter() - start, 3)
