"""Spikes are spikes: a check of what each layer with weights really reads."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._pytree import tree_map_only

from snnconv.graph.encoders import uncovered
from snnconv.graph.flow import Flow, Path, layers, path_to, shape_values
from snnconv.graph.ops import gives_codes, op_name, role
from snnconv.graph.origin import analog, factor, origins, product_reads
from snnconv.graph.source import ConversionError, broadcast
from snnconv.metrics.ladders import not_codes, row_ladders, whole
from snnconv.metrics.spike_sizes import not_spikes
from snnconv.network import SpikingNetwork
from snnconv.report import table
from snnconv.runtime.executor import Executor
from snnconv.runtime.program import GraphProgram
from snnconv.runtime.values import Temporal

__all__ = ["Audit", "Finding", "audit"]


@dataclass
class Finding:
    """What was found at one place.

    Attributes:
        name: the site or the layer.
        what: ``neurons``, ``layer``, ``product``, or ``softmax``, whose codes a product reads.
        reads: what a layer reads, as in the conversion report.
        checked: how it was checked, in words.
        problem: what is wrong, or ``None``.
    """

    name: str
    what: str
    reads: str
    checked: str
    problem: str | None = None


@dataclass
class Audit:
    """Result of :func:`audit`: true where every check passed; prints as a table.

    Attributes:
        findings: one :class:`Finding` for each population of neurons and each layer with weights.
        analog: what stays analog inside the network, in words.
        problems: what is wrong beside the findings' own problems.
        notes: what could not be checked.
    """

    findings: list[Finding]
    analog: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def failures(self) -> list[str]:
        """Everything that is wrong, each named."""
        return [f"{f.what} {f.name}: {f.problem}" for f in self.findings if f.problem] + self.problems

    def __bool__(self) -> bool:
        return not self.failures

    def raise_if_failed(self) -> None:
        """Raise where a check failed.

        Raises:
            ConversionError: names the neurons or layers and what is wrong with them.
        """
        failures = self.failures
        if failures:
            more = f" (and {len(failures) - 5} more)" if len(failures) > 5 else ""
            raise ConversionError(f"the audit failed: {'; '.join(failures[:5])}{more}")

    def __str__(self) -> str:
        rows = [(f.name, f.what, f.reads, f.problem or f.checked) for f in self.findings]
        lines = [table(("name", "", "reads", "found"), rows)]
        lines += [f"analog: {text}" for text in self.analog]
        lines += [f"note: {text}" for text in self.notes]
        lines += [f"FAILED: {text}" for text in self.failures]
        if self and self.notes:
            lines.append("not checked in full: see the notes; what could be checked is right")
        elif self:
            lines.append("passed: nothing but spikes, or sums of them where named so, between the neurons")
        return "\n".join(lines)


def audit(snn: SpikingNetwork, x: Any) -> Audit:
    """Run ``snn`` on ``x`` step by step and check what arrives at every layer with weights after the first.

    - ``spikes``: each value of each step is 0 or ±θ_c of the neuron it comes from (unit spikes for rate norm
      layers; for shifted-threshold IF 0 or ±q·2^k, k the bit of that step).
    - ``sum of spikes``: the neurons' outputs are checked so, and the operators in between must be nothing but
      sums, averages and picks of them.
    - ``currents``, ``analog``: allowed where the conversion report lists them, and named.

    Every neuron's outputs are checked, and its class. θ is what the neurons hold (``snn.thresholds``); where that is
    no longer what the conversion reported, a note says so.

    Args:
        snn: the converted network.
        x: inputs ``[B, ...]``, of several a tuple or a dictionary by name; a few are enough, but silent neurons show
            no spikes to check.

    Raises:
        ConversionError: an input that the network does not take.

    >>> import snnconv
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> snn = snnconv.convert(model, snnconv.methods.SignedIF(timesteps=8), calibration=torch.randn(64, 4))
    >>> bool(audit(snn, torch.randn(8, 4)))
    True
    """
    x = snn.given(x)
    program = snn.program
    auditor = _GraphAuditor(snn, x) if isinstance(program, GraphProgram) else _Auditor(snn)
    slices = snn.slices(x)
    if snn.method.coding == "sum":  # the spikes run one by one, which takes T times the memory
        slices = [y for x in slices for y in x.split(max(1, len(x) // snn.timesteps))]
    return auditor.run(slices)


class _Auditor:
    """Checks the neurons; of a network that does not trace, that is all there is to check."""

    synapses = "auto"

    def __init__(self, snn: SpikingNetwork) -> None:
        self.snn = snn
        self.method = snn.method
        self.sizes = snn.method.record.sizes(**snn.method.neuron_options)
        self.neurons = {name: Finding(name, "neurons", "", "silent: no spike to check") for name in snn.program.sites}
        self.result = Audit(list(self.neurons.values()))
        self.steps = snn.timesteps
        self.watching: Callable[[fx.Node, Any], None] | None = None

    def run(self, slices: list[Any]) -> Audit:
        runs = not [name for name in self.neurons if not self._right_class(name)]
        self._before()
        self._compare_thresholds()
        try:
            for x in slices if runs else []:
                self.snn.run(x, self.synapses, self._neuron, operators=self.watching)
        except Exception as error:  # a network tampered with may fail anywhere: that is a finding
            self.result.problems.append(f"the network does not run: {type(error).__name__}: {error}")
        finally:
            self._after()
        return self.result

    def _before(self) -> None:
        names = getattr(self.snn.program, "synapses", [])
        self.result.notes.append(
            "this network does not trace, so what arrives at its layers with weights was not checked"
            + (f" ({', '.join(names)})" if names else "")
            + "; their neurons were"
        )
        for name, operator in getattr(self.snn.program, "analog", {}).items():
            self.result.analog.append(f"{name} ({operator})")

    def _after(self) -> None:
        pass

    def _compare_thresholds(self) -> None:
        """Note the sites whose thresholds are no longer those of the conversion report."""
        report = self.snn.report
        for site in report.spiking if report is not None else ():
            if site.name not in self.neurons or self.neurons[site.name].problem:
                continue
            theta = self.snn.thresholds[site.name].double()
            now = torch.stack([theta.min(), theta.mean(), theta.max()]).tolist()
            before = (site.threshold_min, site.threshold_mean, site.threshold_max)
            if any(not math.isclose(a, b, rel_tol=1e-5) for a, b in zip(now, before, strict=True)):
                self.result.notes.append(f"{site.name}: its thresholds were changed after the conversion")

    def _right_class(self, name: str) -> bool:
        site, node = self.snn.program.sites[name], self.snn.neurons[name]
        expected = type(self.method.at(name).node(torch.ones(()), site.axis, site.function, self.snn.framework))
        if not isinstance(node, expected):
            self.neurons[name].problem = f"a {type(node).__name__} stands where a {expected.__name__} should"
            return False
        return True

    def amplitude(self, name: str, step: Tensor) -> Tensor:
        """What a spike of the first step is worth at each neuron, in units of which it has its sizes."""
        site, node = self.snn.program.sites[name], self.snn.neurons[name]
        theta = torch.as_tensor(node.v_threshold).detach().to(step.device)
        if node.neuron.weight is not None:
            theta = theta * node.neuron.weight(0, **node.options)
        theta = theta.to(step.dtype)
        if site.function.unit:
            theta = torch.ones_like(theta)
        return broadcast(theta, step.dim(), site.axis).expand_as(step)

    def _neuron(self, name: str, out: Tensor) -> None:
        finding = self.neurons[name]
        self.steps = out.shape[0]
        if finding.problem:
            return
        if out.shape[0] not in (self.method.timesteps, self.method.pre_timesteps_):
            finding.problem = f"{out.shape[0]} steps came out where {self.method.timesteps} should"
            return
        finding.problem = not_spikes(out, self.amplitude(name, out[0]), self.method, self.sizes)
        if finding.problem is None and bool((out != 0).any()):
            finding.checked = "every output is 0 or a spike of its threshold's size"


class _GraphAuditor(_Auditor):
    """Checks the neurons, the operators between them and the layers, and the values that arrive there."""

    synapses = "steps"

    def __init__(self, snn: SpikingNetwork, x: Any) -> None:
        super().__init__(snn)
        assert isinstance(snn.program, GraphProgram)
        self.program = snn.program
        self.executor = snn.program.executor
        self.example = tree_map_only(Tensor, lambda v: v[:1], x)
        # by node name: a copied network runs a copy of its graph's nodes
        self.amplitudes: dict[str, Tensor] = {}
        self.several: dict[str, Tensor] = {}  # where a maximum is over spikes of several sizes
        self.numeric: dict[str, tuple[str, Finding, bool]] = {}
        self.codes: dict[str, Finding] = {}
        self.watched: set[str] = set()
        self.held: dict[str, Any] = {}

    def _before(self) -> None:
        source = self.program.source
        running = Executor(source, self.amplitude, self.program.coding, self.program.max_pool)
        if list(map(_described, running.nodes)) != list(map(_described, self.executor.nodes)):
            self.result.problems.append("the graph was changed after its executor was made")
            return
        flow = Flow(source.graph)
        origin, shapes = origins(flow), shape_values(flow)
        seen = []
        for name, node, operand in layers(flow):
            finding = Finding(name, "layer", origin[operand], "")
            self.result.findings.append(finding)
            seen.append(name)
            self._structure(finding, path_to(operand, flow, shapes), flow, node, operand)
        self._products(flow)
        report = self.snn.report
        listed = {(a.name, a.operator) for a in report.analog} if report is not None else set()
        for site in analog(source, flow):
            self.result.analog.append(f"{site.name} ({site.operator}): {site.reason}")
            if report is not None and (site.name, site.operator) not in listed:
                self.result.problems.append(
                    f"{site.name} ({site.operator}) is analog, which the conversion report does not list"
                )
        if report is not None and report.reads:
            gone = [name for name in report.reads if name not in seen]
            self.result.problems += [f"layer {name} of the conversion report is gone" for name in gone]
        self.watching = self._observe
        self._expected_amplitudes(running)

    def _products(self, flow: Flow) -> None:
        """What the operands of products are made of, and whether everything reads spikes where all should."""
        report = self.snn.report
        for name, found in product_reads(flow).items():
            reads = ", ".join(found)
            finding = Finding(name, "product", reads, "operands are sums of checked spikes" if
                              set(found) == {"spikes"} else "as the conversion report lists")  # fmt: skip
            if report is not None and report.products.get(name) != found:
                was = ", ".join(report.products.get(name, ())) or "nothing of it"
                finding.problem = f"reads {reads}, but the conversion report says {was}"
            self.result.findings.append(finding)
        self._ladders()
        if report is not None and report.cover == "synapses":
            self.result.problems += uncovered(self.program.source, flow, report.encode_input)

    def _ladders(self) -> None:
        """What softmax and normalisations by ladders there are, and which codes products read."""
        report, found = self.snn.report, row_ladders(self.program.source)
        if report is not None and report.normalisations != found:
            self.result.problems.append("softmax and normalisations by ladders are not those of the conversion report")
        for node in filter(gives_codes, self.program.source.graph.nodes):
            name = str(node.meta.get("path") or node.name)
            self.codes[node.name] = Finding(name, "softmax", "", "every value is a code")
            self.result.findings.append(self.codes[node.name])

    def _after(self) -> None:
        self.held.clear()

    def _structure(self, finding: Finding, path: Path, flow: Flow, node: fx.Node, operand: fx.Node) -> None:
        """What a layer reads according to the graph; decides which check its values get."""
        report = self.snn.report
        recorded = report.reads if report is not None else {}
        listed = report.scaled.get(finding.name, []) if report is not None else []
        if recorded and recorded.get(finding.name) != finding.reads:
            was = recorded.get(finding.name)
            finding.problem = (
                f"reads {finding.reads}, but the conversion report says {was}"
                if was
                else "is not in the conversion report"
            )
            return
        if finding.reads in ("currents", "analog"):
            finding.checked = f"reads {finding.reads}, as the conversion report lists" if recorded else "listed"
            return
        if finding.reads in ("input", "shape"):
            what = "the input" if finding.reads == "input" else "constants of its size"
            finding.checked = f"reads {what}, computed once"
            return
        roles = {n: role(n, flow.kinds[n]) for n in path.operators}
        left = list(listed)
        for operator_, what in roles.items():
            where = operator_.meta.get("path") or operator_.name
            if what == "scale":
                if factor(operator_) in left:
                    left.remove(factor(operator_))
                    continue
                finding.problem = f"the spikes it reads are scaled on their way, by {op_name(operator_)} at {where}"
                return
            if what == "other":
                where = f"{op_name(operator_)} at {where}"
                finding.problem = f"the spikes it reads pass {where}, which is no sum, average or view"
                return
        if left:
            finding.problem = f"the conversion report lists a scaling on its way that is gone: {left[0]}"
            return
        joined = " and the input" if path.reads_input else ""
        joined += f", scaled as the conversion report lists ({', '.join(listed)})" if listed else ""
        pooled = "choose" in roles.values()
        if pooled and self.method.coding == "differential":
            finding.checked = f"what is new of a maximum of checked neurons' values, numbers of several bits{joined}"
            return
        if "sum" in roles.values() or path.reads_input:
            names = sorted({op_name(n).strip("._") for n, what in roles.items() if what == "sum"})
            through = f" through {', '.join(names)}" if names else ""
            finding.checked = f"sum of checked spikes{joined}{through}"
            return
        finding.checked = "every value of every step is 0 or a spike"
        if pooled and self.method.coding == "sum":
            finding.checked = "every value of every step is a whole multiple of q: the growth of a maximum of spikes"
        self.numeric[node.name] = (operand.name, finding, pooled)
        self.watched.add(operand.name)

    def _expected_amplitudes(self, running: Executor) -> None:
        """The size of the spike at each position that a layer reads: amplitudes sent the spikes' way."""

        try:
            with torch.no_grad():
                self.amplitudes = self._sent(running, self.amplitude)
                if any(
                    pooled for _, _, pooled in self.numeric.values()
                ):  # the largest of what is negative is the least
                    least = self._sent(running, lambda name, step: -self.amplitude(name, step))
                    self.several = {name: -least[name] != most for name, most in self.amplitudes.items()}
        except Exception as error:  # as in run
            self.result.problems.append(f"the network does not run: {type(error).__name__}: {error}")
        for operand, finding, _ in self.numeric.values():
            if bool(self.several.get(operand, torch.zeros(())).any()):
                finding.checked += "; where a maximum is over neurons of different thresholds it grows by other numbers"

    def _sent(self, running: Executor, neuron: Callable[[str, Tensor], Tensor]) -> dict[str, Tensor]:
        """What arrives at the watched nodes where every site says what ``neuron`` does."""
        sent: dict[str, Tensor] = {}

        def keep(node: fx.Node, value: Any) -> None:
            if node.name in self.watched:
                sent[node.name] = value.data

        running.neuron, running.observers = neuron, [keep]
        running(self.example)
        return sent

    def _observe(self, node: fx.Node, value: Any) -> None:
        if node.name in self.codes and not self.codes[node.name].problem:
            e = whole(value, self.snn.timesteps)
            self.codes[node.name].problem = not_codes(e, int(node.kwargs["timesteps"]))  # type: ignore[arg-type]
        if node.name in self.watched:
            self.held[node.name] = value
        if node.name not in self.numeric:
            return
        operand, finding, pooled = self.numeric[node.name]
        if finding.problem or operand not in self.amplitudes:
            return
        arrived = self.held[operand]
        if not isinstance(arrived, Temporal):
            finding.problem = "no sequence of steps arrives here"
            return
        seq = arrived.data.reshape(self.steps, -1, *arrived.data.shape[1:])
        finding.problem = not_spikes(
            seq, self.amplitudes[operand], self.method, self.sizes, pooled, self.several.get(operand)
        )


def _described(node: fx.Node) -> tuple[Any, ...]:
    return node.name, node.op, node.target, str(node.args), str(node.kwargs)
