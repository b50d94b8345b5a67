"""The report of a conversion: what spikes, what stays analog, and why."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["AnalogSite", "ConversionReport", "SpikingSite", "table"]


@dataclass
class SpikingSite:
    """One converted activation: its name, neuron, thresholds (smallest, mean, largest), and relative error.

    ``error`` is ‖rate − activation‖ / ‖activation‖ against the source network on calibration images.
    """

    name: str
    neuron: str
    channels: int
    threshold_min: float
    threshold_mean: float
    threshold_max: float
    error: float | None = None


@dataclass
class AnalogSite:
    """Something that does not spike: where, which operator, why, and whether it is an ``activation``."""

    name: str
    operator: str
    reason: str
    activation: bool = True


@dataclass
class ConversionReport:
    """What :func:`snnconv.convert` did; ``print(report)`` shows it as tables.

    Attributes:
        method: the method's choices.
        path: ``"graph"`` (traced) or ``"module tree"``.
        spiking: the converted activations, in execution order.
        analog: what stays analog.
        reads: what each layer with weights reads: ``input``, ``spikes``, ``sum of spikes`` or ``currents``.
        scaled: by layer: the multiplications by a constant that the spikes it reads pass (an average's division).
        notes: sentences about choices that were made.
        calibration_samples: number of calibration inputs used.
        seconds: time of each part of the conversion.
        delay: steps left out of the readout.
    """

    method: dict[str, Any] = field(default_factory=dict)
    path: str = "graph"
    spiking: list[SpikingSite] = field(default_factory=list)
    analog: list[AnalogSite] = field(default_factory=list)
    reads: dict[str, str] = field(default_factory=dict)
    scaled: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    calibration_samples: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    delay: int = 0

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
        values["analog"] = [AnalogSite(**s) for s in values.get("analog", [])]
        return ConversionReport(**values)

    @property
    def worst(self) -> SpikingSite | None:
        """The site with the largest error, if errors were measured."""
        measured = [s for s in self.spiking if s.error is not None]
        return max(measured, key=lambda s: s.error or 0.0, default=None)

    def __str__(self) -> str:
        choices = ", ".join(f"{k}={v!r}" for k, v in self.method.items() if k != "name")
        lines = [f"{self.method.get('name', '?')}({choices})", f"converted through the {self.path}"]
        rows = [
            (s.name, s.neuron, s.channels, f"{s.threshold_min:.3g} … {s.threshold_mean:.3g} … {s.threshold_max:.3g}",
             "" if s.error is None else f"{s.error:.3f}")
            for s in self.spiking
        ]  # fmt: skip
        lines += ["", table(("spiking site", "neuron", "thresholds", "min … mean … max", "error"), rows)]
        if self.analog:
            analog = [(a.name, a.operator, a.reason) for a in self.analog]
            lines += ["", table(("stays analog", "operator", "why"), analog)]
        else:
            lines += ["", "nothing stays analog"]
        lines += [f"{layer} reads spikes scaled on their way: {', '.join(by)}" for layer, by in self.scaled.items()]
        lines += [f"note: {n}" for n in self.notes]
        total = sum(self.seconds.values())
        lines += [f"{self.calibration_samples} calibration inputs, {total:.1f} s"]
        return "\n".join(lines)


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
