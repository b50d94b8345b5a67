"""The report of a conversion: what spikes, what stays analog, and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["Agreement", "AnalogSite", "ConversionReport", "RowLadder", "SpikingSite", "table"]


_NO_SPIKES = {
    "currents": "the currents of layers before, with no activation between",
    "analog": "values that do not spike",
}

FRONTIER_ROWS = 12


@dataclass
class SpikingSite:
    """One converted activation: its name, neuron, thresholds (smallest, mean, largest), and relative error.

    ``error`` is ‖rate − activation‖ / ‖activation‖ against the source network on calibration images; ``timesteps`` is
    the site's own T where layers differ.
    """

    name: str
    neuron: str
    channels: int
    threshold_min: float
    threshold_mean: float
    threshold_max: float
    error: float | None = None
    timesteps: int | None = None


@dataclass
class AnalogSite:
    """Something that does not spike: where, which operator, why, and whether it is an ``activation``."""

    name: str
    operator: str
    reason: str
    activation: bool = True


@dataclass
class RowLadder:
    """A function over a vector that is had by codes and ladders: where, which (``softmax`` ...), bits of a code."""

    name: str
    kind: str
    timesteps: int


@dataclass(frozen=True)
class Agreement:
    """How far outputs are from the source network's on a few inputs: ‖y − y_source‖ / ‖y_source‖.

    Attributes:
        error: of the converted network.
        quantised: of the source network with each activation quantised to the levels of the time steps.
        one_spike: what it amounts to in rate coding that each neuron is up to a spike off.
    """

    error: float
    quantised: float
    one_spike: float


@dataclass
class ConversionReport:
    """What :func:`snnconv.convert` did; ``print(report)`` shows it as tables.

    Attributes:
        method: the method's choices.
        path: ``"graph"`` (captured) or ``"module tree"``.
        capture: what captured the graph: ``"torch.fx"`` or ``"torch.export"``.
        cover, encode_input, signed: where neurons stand, as :func:`snnconv.convert` was asked.
        normalisation: how softmax and normalisations are had, as it was asked.
        normalisations: those that are had by ladders.
        spiking: the converted activations, in execution order.
        analog: what stays analog.
        reads: what each layer with weights reads: ``input``, ``spikes``, ``sum of spikes`` or ``currents``.
        scaled: by layer: the multiplications by a constant that the spikes it reads pass (an average's division).
        products: what the operands of each product of two computed tensors are made of: ``spikes``, ``input`` or
            ``analog``.
        notes: sentences about choices that were made.
        calibration_samples: number of calibration inputs used.
        seconds: time of each step of the conversion.
        delay: steps left out of the readout.
        macs: multiplications of every layer with weights for one input, where a layer reads currents or something
            analog.
        path_steps: where layers have different T, the steps of an input from layer to layer: the sum of T over the
            longest path.
        period: the steps from one input to the next where layers work side by side: the largest T.
        frontier: with ``timesteps="auto"``, what was passed on the way to the budget: mean T, SOPs of an input, error
            of the outputs.
        agreement: of the outputs with the source network's, where there were inputs to try.
    """

    method: dict[str, Any] = field(default_factory=dict)
    path: str = "graph"
    capture: str = ""
    cover: str = "activations"
    encode_input: bool = False
    signed: str = "refuse"
    normalisation: str = "function"
    normalisations: list[RowLadder] = field(default_factory=list)
    spiking: list[SpikingSite] = field(default_factory=list)
    analog: list[AnalogSite] = field(default_factory=list)
    reads: dict[str, str] = field(default_factory=dict)
    scaled: dict[str, list[str]] = field(default_factory=dict)
    products: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    calibration_samples: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    delay: int = 0
    macs: dict[str, float] = field(default_factory=dict)
    agreement: Agreement | None = None
    path_steps: int | None = None
    period: int | None = None
    frontier: list[tuple[float, float, float]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain values."""
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> ConversionReport:
        """Report from the dictionary that :meth:`to_dict` gives.

        >>> ConversionReport.from_dict(ConversionReport(delay=3).to_dict()).delay
        3
        """
        values = dict(values)
        values["spiking"] = [SpikingSite(**s) for s in values.get("spiking", [])]
        values["normalisations"] = [RowLadder(**s) for s in values.get("normalisations", [])]
        values["analog"] = [AnalogSite(**s) for s in values.get("analog", [])]
        if values.get("agreement") is not None:
            values["agreement"] = Agreement(**values["agreement"])
        values["frontier"] = [tuple(point) for point in values.get("frontier", [])]
        return ConversionReport(**values)

    @property
    def worst(self) -> SpikingSite | None:
        """The site with the largest error, if errors were measured."""
        measured = [s for s in self.spiking if s.error is not None]
        return max(measured, key=lambda s: s.error or 0.0, default=None)

    def share_of(self, origin: str) -> float | None:
        """Share of the multiplications that is in layers which read ``origin``; None where they were not counted.

        >>> report = ConversionReport(reads={"a": "input", "b": "currents"}, macs={"a": 3.0, "b": 1.0})
        >>> report.share_of("currents")
        0.25
        """
        total = sum(self.macs.values())
        if not total:
            return None
        return sum(self.macs.get(name, 0.0) for name, reads in self.reads.items() if reads == origin) / total

    @property
    def without_spikes(self) -> list[str]:
        """A line for the layers with weights that read no spikes."""
        lines = []
        for origin, what in _NO_SPIKES.items():
            layers = [name for name, reads in self.reads.items() if reads == origin]
            share = self.share_of(origin)
            if layers:
                some = ", ".join(layers[:3]) + (f" and {len(layers) - 3} more" if len(layers) > 3 else "")
                part = "" if share is None else f", {100 * share:.3g} % of the operations,"
                verb = "reads" if len(layers) == 1 else "read"
                number = f"{len(layers)} layer{'s' * (len(layers) > 1)} with weights"
                lines.append(f"{number}{part} {verb} {what}: {some}")
        return lines

    def _way(self) -> str:
        return f"converted through the {self.path}" + (f" ({self.capture})" if self.capture else "")

    @property
    def covered(self) -> list[str]:
        """Where every layer is to read spikes: how many do, and what is a function of values in between."""
        if self.cover != "synapses":
            return []
        reading = sum(reads in ("spikes", "sum of spikes") for reads in self.reads.values())
        first = sum(reads == "input" for reads in self.reads.values())
        pairs = sum(set(reads) == {"spikes"} for reads in self.products.values())
        lines = [
            f"{reading} layers with weights read spikes, {first} the input; {pairs} of {len(self.products)} products "
            "are of two spike trains"
        ]
        ladders = Counter(one.kind for one in self.normalisations)
        if ladders:
            lines.append(f"by codes and ladders of a row: {_numbered(ladders)}")
        kinds = Counter(a.operator for a in self.analog if not a.reason.startswith("at the output"))
        if kinds:
            lines.append(f"stays analog, evaluated as a function: {_numbered(kinds)}")
        return lines

    def __str__(self) -> str:
        choices = ", ".join(f"{k}={v!r}" for k, v in self.method.items() if k not in ("name", "layers"))
        lines = [f"{self.method.get('name', '?')}({choices})", self._way()]
        lines += self.covered + self.without_spikes
        mixed = any(s.timesteps is not None for s in self.spiking)
        rows = [
            (s.name, s.neuron, s.channels, f"{s.threshold_min:.3g} … {s.threshold_mean:.3g} … {s.threshold_max:.3g}",
             "" if s.error is None else f"{s.error:.3f}", *([s.timesteps] if mixed else []))
            for s in self.spiking
        ]  # fmt: skip
        lines += [
            "",
            table(("spiking site", "neuron", "thresholds", "min … mean … max", "error", *["T"] * mixed), rows),
        ]
        if self.path_steps is not None:
            lines += [f"T differs: {self.path_steps} steps from input to output, a new input every {self.period}"]
        if self.frontier:
            shown = self.frontier[:: max(1, (len(self.frontier) - 1) // FRONTIER_ROWS)]
            points = [(f"{t:.2f}", f"{n:,.0f}", f"{e:.3g}") for t, n, e in dict.fromkeys([*shown, self.frontier[-1]])]
            lines += ["", table(("mean T", "SOPs", "output error"), points)]
        if self.analog:
            analog = [(a.name, a.operator, a.reason) for a in self.analog]
            lines += ["", table(("stays analog", "operator", "why"), analog)]
        else:
            lines += ["", "nothing stays analog" if not self.without_spikes else "no operator stays analog"]
        lines += [f"{layer} reads spikes scaled on their way: {', '.join(by)}" for layer, by in self.scaled.items()]
        lines += [f"note: {n}" for n in self.notes]
        if self.agreement is not None:
            off, quantised = self.agreement.error, self.agreement.quantised
            lines += [f"outputs on calibration inputs: {100 * off:.3g} % off (quantised: {100 * quantised:.3g} %)"]
        total = sum(self.seconds.values())
        lines += [f"{self.calibration_samples} calibration inputs, {total:.1f} s"]
        return "\n".join(lines)


def _numbered(kinds: Counter[str]) -> str:
    return ", ".join(f"{number} {kind}" for kind, number in kinds.items())


def table(header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    """Plain-text table.

    >>> print(table(("a", "b"), [(1, "x")]))
    a  b
    -  -
    1  x
    """
    cells = [header, *[tuple(map(str, row)) for row in rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    rule = tuple("-" * w for w in widths)
    return "\n".join(
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in [header, rule, *cells[1:]]
    )
