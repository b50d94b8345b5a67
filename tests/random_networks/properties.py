"""What must hold of every conversion; each property is a function whose docstring says it."""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

import snnconv
from snnconv import ConversionError, activations, methods
from snnconv.dynamics.kernels.backends import available
from snnconv.graph.capture import exported as exported_graphs
from snnconv.graph.capture.fx import TraceFailure
from snnconv.runtime import capture
from tests.random_networks.generator import Drawn
from tests.random_networks.network import Result, values_of
from tests.random_networks.relu_calls import ReLUCalls

EXACT = 1e-6
"""Relative difference that the order of sums may make in double precision."""


BORDER = 2.0**-12
"""The same for the 14 bits of `Case.fine`: a constant of half a level puts sums on the border between two levels."""


@contextmanager
def exported() -> Iterator[None]:
    """Networks are captured by torch.export, also those that torch.fx traces."""
    ways = capture.WAYS
    capture.WAYS = tuple(way for way in ways if way.name == "torch.export")
    try:
        yield
    finally:
        capture.WAYS = ways


@contextmanager
def remembered(graphs: dict[Any, Any]) -> Iterator[None]:
    """What is captured in this block is one network: what torch.export gave for a dtype is copied, which takes a while.

    That it gave none is remembered as well.
    """
    anew = exported_graphs.export_source

    def export_source(model: nn.Module, inputs: Any, *others: Any) -> Any:
        dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), None)
        if dtype not in graphs:
            try:
                graphs[dtype] = anew(model, inputs, *others)
            except TraceFailure as failure:
                graphs[dtype] = failure
        found = graphs[dtype]
        if isinstance(found, TraceFailure):
            raise found
        return found.copy()

    exported_graphs.export_source = export_source
    try:
        yield
    finally:
        exported_graphs.export_source = anew


class Refused(Exception):
    """The network is refused before work, as it may be."""


@dataclass
class Case:
    """A drawn network and its conversions, each made once."""

    drawn: Drawn

    def __post_init__(self) -> None:
        self._made: dict[Any, Any] = {}
        self.graphs: dict[Any, Any] = {}

    @cached_property
    def exact(self) -> nn.Module:
        """The network in double precision, in which what is equal differs by rounding alone and no spike turns."""
        return copy.deepcopy(self.drawn.network).double()

    @cached_property
    def inputs(self) -> tuple[Tensor, ...]:
        return tuple(x.double() for x in self.drawn.inputs)

    def some(self, count: int = 5, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
        return tuple(x[:count].to(dtype).clone() for x in self.drawn.inputs)

    def converted(self, method: methods.Method, dtype: torch.dtype = torch.float64, **options: Any) -> Any:
        """The network by a method.

        Raises:
            Refused: a sentence of ours before calibration began.
            AssertionError: an error of any other kind, or later.
        """
        key = (method, dtype, *options.items())
        if key not in self._made:
            model = self.exact if dtype == torch.float64 else self.drawn.network
            self._made[key] = self._convert(model, method, dtype, options)
        return self._made[key]

    def _convert(self, model: nn.Module, method: methods.Method, dtype: torch.dtype, options: dict[str, Any]) -> Any:
        worked: list[str] = []
        data = tuple(x.to(dtype).clone() for x in self.drawn.inputs)

        def progress(what: str, done: int, total: int) -> None:
            if what != "capturing the network":  # which comes before anything is known
                worked.append(what)

        options = {"progress": progress, **options}
        try:
            with remembered(self.graphs):
                return snnconv.convert(model, method, data if len(data) > 1 else data[0], **options)
        except ConversionError as error:
            if worked:
                raise AssertionError(f"refused late, after {worked[-1]!r}: {error}") from error
            raise Refused(str(error)) from error
        except Exception as error:
            raise AssertionError(f"{method}: {type(error).__name__}: {error}") from error

    @cached_property
    def fine(self) -> Any:
        """So many levels that what is lost is rounding."""
        return self.converted(methods.ShiftedThreshold(14, thresholds="max", correction="none"))

    @cached_property
    def rate(self) -> Any:
        return self.converted(methods.SignedIF(6))

    @cached_property
    def other(self) -> Any:
        """One of the other methods, by the seed."""
        return self.converted(OTHERS[self.drawn.seed % len(OTHERS)])


OTHERS: list[methods.Method] = [
    methods.SRP(4, 3),
    methods.LocalThresholdBalancing(8, max_batches=20),
    methods.IF(5, thresholds="99%"),
    methods.SignedIF(5, max_pool="instantaneous", thresholds="max"),
    methods.ShiftedThreshold(3),
    methods.IF(6, delay=2, per_channel=False),
    methods.ShiftedThreshold(5, per_channel=False),
]


def output_is_the_models(case: Case) -> None:
    """Structure, shapes and dtypes of the output are the model's, for every batch size, and its values finite."""
    for dtype in (torch.float32, torch.float64):
        model = case.drawn.network if dtype == torch.float32 else case.exact
        for count in (1, 5):
            for snn in (
                [case.converted(methods.SignedIF(6), dtype)] if dtype == torch.float32 else [case.fine, case.other]
            ):
                expected, got = called(model, case.some(count, dtype)), called(snn, case.some(count, dtype))
                assert structure(got) == structure(expected)


def finer_steps_approach_the_model(case: Case) -> None:
    """Shifted threshold with the largest activations as thresholds equals the model but for 2^−14."""
    near(called(case.fine, case.inputs), called(case.exact, case.inputs), 0.01)


def more_steps_approach_the_model(case: Case) -> None:
    """Signed IF approaches the model as T grows."""
    expected = called(case.exact, case.inputs)
    snn = case.converted(methods.SignedIF(256, thresholds="max", correction="none"))
    near(called(snn, case.inputs), expected, 0.25)


def defaults_are_no_worse(case: Case) -> None:
    """Bias correction and thresholds of least squared error still approach the model."""
    near(called(case.converted(methods.ShiftedThreshold(10)), case.inputs), called(case.exact, case.inputs), 0.1)


def quantised_is_lossless(case: Case) -> None:
    """Shifted threshold gives what the network with quantised activations gives."""
    try:
        data = case.inputs if len(case.inputs) > 1 else case.inputs[0]
        quantised = snnconv.prepare(case.exact, activations.QuantReLU(levels=7), data, progress=False).eval()
    except ConversionError as error:
        raise Refused(str(error)) from error
    method = methods.ShiftedThreshold(3, thresholds="trained")
    data = case.inputs if len(case.inputs) > 1 else case.inputs[0]
    try:
        snn = snnconv.convert(quantised, method, data, progress=False)
    except ConversionError as error:
        raise AssertionError(f"what was prepared is refused: {error}") from error
    near(called(snn, case.some()), called(quantised, case.some()), EXACT)


def stream_ends_where_the_call_ends(case: Case) -> None:
    """The last readout of a stream is the call's, and there are T."""
    for snn in (case.rate, case.other, case.fine):
        x = case.some()
        try:
            readouts = [y for _, y in snn.stream(*x)]
        except ConversionError:
            assert snn.report.path == "module tree", "only what does not trace may refuse to stream"
            continue
        assert len(readouts) == snn.timesteps
        near(readouts[-1], called(snn, x), BORDER if snn is case.fine else EXACT)


def single_steps_are_the_call(case: Case) -> None:
    """All single steps of `snnconv.stepwise` together are the call's answer."""
    for snn in (case.rate, case.other, case.fine):
        if snn.report.path != "module tree":
            x = case.some()
            near(snnconv.stepwise(snn).run(*x), called(snn, x), BORDER if snn is case.fine else EXACT)


def budget_changes_nothing(case: Case) -> None:
    """A memory budget that one sample exceeds gives what a large one gives."""
    for made in (case.rate, case.other, case.fine):
        x = case.some()
        made.memory_budget = 2**30
        whole = called(made, x)
        made.memory_budget = 1
        parts = called(made, x)
        made.memory_budget = 2**24
        near(parts, whole, EXACT)


def backends_are_equal(case: Case) -> None:
    """The same bits from the eager kernels and the compiled ones."""
    if not available("numba"):
        return
    for method in (methods.SignedIF(6), OTHERS[case.drawn.seed % len(OTHERS)]):
        snn, outputs = case.converted(method, torch.float32), []
        for backend in ("eager", "numba"):
            snn.backend = backend
            outputs.append(called(snn, case.some(dtype=torch.float32)))
        snn.backend = "auto"
        same(*outputs)


def frameworks_are_equal(case: Case) -> None:
    """The same bits from SpikingJelly's neurons and snnTorch's."""
    if not available("snntorch"):
        return
    for method in (methods.SignedIF(6), OTHERS[case.drawn.seed % len(OTHERS)]):
        snn = case.converted(method)
        same(called(snn, case.some()), called(case.converted(method, framework="snntorch"), case.some()))


def saved_is_loaded(case: Case) -> None:
    """A file gives the same bits and the same report."""
    for snn in (case.rate, case.other):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "net"
            try:
                snnconv.save(snn, path)
            except ConversionError as error:
                raise Refused(str(error)) from error
            needed = {} if snn.report.path == "graph" else {"model": copy.deepcopy(case.exact)}
            again = snnconv.load(path, **needed)
        same(called(again, case.some()), called(snn, case.some()))
        assert again.report == snn.report


def audit_is_right(case: Case) -> None:
    """The audit of what was just converted finds nothing wrong."""
    for snn in (case.rate, case.other, case.fine):
        x = case.some(3)
        found = snnconv.audit(snn, x if len(x) > 1 else x[0])
        assert found, "; ".join(found.failures)


def every_relu_is_a_site(case: Case) -> None:
    """Every ReLU that runs spikes, or is listed as analog with a reason; two may be one, as max(min(z, 1), z, 0) is."""
    with ReLUCalls() as calls:
        called(case.exact, case.inputs)
    report, program = case.fine.report, case.fine.program
    if report.path != "module tree":
        kinds = program.executor.flow.kinds
        if not any(kind == "nonlinear" and not isinstance(node.target, type) for node, kind in kinds.items()):
            return  # no operator is left that could be one
    listed = [a for a in report.analog if a.reason and (a.activation or a.operator in calls.found)]
    assert len(report.spiking) + len(listed) >= len(calls.found), (
        f"{len(report.spiking)} sites and {[a.operator for a in listed]} for {calls.found}"
    )


QUICK: tuple[Callable[[Case], None], ...] = (
    output_is_the_models, finer_steps_approach_the_model, every_relu_is_a_site, stream_ends_where_the_call_ends,
    budget_changes_nothing, audit_is_right,
)  # fmt: skip
LONG: tuple[Callable[[Case], None], ...] = (
    more_steps_approach_the_model, defaults_are_no_worse, quantised_is_lossless, backends_are_equal,
    frameworks_are_equal, saved_is_loaded, single_steps_are_the_call,
)  # fmt: skip
ALL = QUICK + LONG


def failures(
    drawn: Drawn, properties: tuple[Callable[[Case], None], ...] = ALL
) -> tuple[dict[str, str], dict[str, str]]:
    """Properties that do not hold, each with how; and those that the network is refused for, each with the sentence."""
    case, failed, refused = Case(drawn), {}, {}
    with quiet():
        for holds in properties:
            try:
                holds(case)
            except Refused as error:
                refused[holds.__name__] = str(error)
            except Exception as error:
                failed[holds.__name__] = f"{type(error).__name__}: {error}"
    return failed, refused


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings of torch and of conversions, which are not what is tried here."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        yield


def called(network: Any, x: tuple[Tensor, ...]) -> Any:
    return network(*[v.clone() for v in x])


def structure(output: Any) -> Any:
    """Containers, shapes and dtypes."""
    if isinstance(output, Result):
        return "Result", structure(output.first), structure(output.second)

    def described(v: Tensor) -> Any:
        if v.is_floating_point():
            assert bool(torch.isfinite(v).all()), "the output is not finite"
        return tuple(v.shape), v.dtype

    return repr(tree_map_only(Tensor, described, output))


def near(got: Any, expected: Any, bound: float) -> None:
    """Floating values differ by at most ``bound`` of their norm."""
    for a, b in zip(values_of(got), values_of(expected), strict=True):
        if isinstance(b, Tensor) and b.is_floating_point():
            assert a.shape == b.shape, f"{tuple(a.shape)} for {tuple(b.shape)}"
            error = float((a - b).norm() / b.norm().clamp(min=1e-6))
            assert error <= bound, f"a relative error of {error:.3g}, more than {bound:.3g}"


def same(a: Any, b: Any) -> None:
    """Equal to the last bit."""
    for v, w in zip(values_of(a), values_of(b), strict=True):
        equal = torch.equal(v, w) if isinstance(v, Tensor) else v == w
        assert equal, "the bits differ"
