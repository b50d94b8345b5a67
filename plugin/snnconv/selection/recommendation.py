"""What a trial of the methods found: the recommended one, the Pareto front, and the verdict in words."""

from __future__ import annotations

import math
from dataclasses import dataclass

from snnconv.methods import Method
from snnconv.network import SpikingNetwork
from snnconv.report import table
from snnconv.selection.budget import Budget
from snnconv.selection.trial import Trial

__all__ = ["Recommendation", "describe"]

STEPS = {
    "layer": "of a layer",
    "network": "of the network, all layers stepping together",
    "pipelined": "from input to output, each layer a step behind the one before",
}
"""What each of `snnconv.metrics.latency.LATENCIES` counts, in words."""


@dataclass(eq=False)
class Recommendation:
    """What :func:`recommend` found; prints as a table.

    Attributes:
        budget: the budget.
        best: the recommended trial, ``None`` where no method meets the budget.
        trials: every method that was tried, fewest steps first.
        front: those that were scored on all inputs and for which none other is as good and cheaper.
        ann: the source network's score on the inputs for choosing.
        score: what was scored.
        test_ann: the source network's score on the test inputs.
        test: the recommended method's score there.
        test_drop: mean difference of the two, and its standard error.
        test_samples: number of test inputs.
        latency: which steps were counted: those of a ``"layer"``, of the ``"network"``, or ``"pipelined"`` ones.
    """

    budget: Budget
    best: Trial | None
    trials: list[Trial]
    front: list[Trial]
    ann: float
    score: str
    test_ann: float = math.nan
    test: float = math.nan
    test_drop: tuple[float, float] = (math.nan, math.nan)
    test_samples: int = 0
    latency: str = "layer"

    @property
    def method(self) -> Method | None:
        """The recommended method."""
        return self.best.method if self.best else None

    @property
    def network(self) -> SpikingNetwork | None:
        """The network converted by it."""
        return self.best.network if self.best else None

    @property
    def holds(self) -> bool:
        """Whether a method is recommended and its drop on the test inputs is within the budget, too."""
        return self.best is not None and (self.budget.drop is None or self.test_drop[0] <= self.budget.drop)

    def __str__(self) -> str:
        kept = set(map(id, self.front))
        rows = [
            (
                ">" if trial is self.best else "*" if id(trial) in kept else "",
                describe(trial.method),
                trial.latency,
                f"{trial.method.bits_per_step:g}",
                "" if trial.network_latency is None else trial.network_latency,
                "" if trial.energy_ratio is None else f"{trial.energy_ratio:.3f}",
                "" if math.isnan(trial.score) else f"{trial.score:.2f}",
                "" if math.isnan(trial.drop) else f"{trial.drop:+.2f} ± {trial.drop_error:.2f}",
                trial.samples or "",
                trial.stopped,
            )
            for trial in self.trials
        ]
        header = ("", "method", "steps", "bits", "network", "energy", self.score, "below ANN", "inputs", "given up")
        legend = f"ANN: {self.ann:.2f}; * Pareto front; > recommended; steps: {STEPS[self.latency]}; bits: of a step; "
        legend += "network: steps from input to output"
        lines = [table(header, rows), "", legend]
        return "\n".join([*lines, "", self.verdict])

    @property
    def verdict(self) -> str:
        """The recommendation, or that there is none, in a sentence or two."""
        if self.best is None:
            return f"No method meets {self.budget}.{self._nearest()}"
        drop, error = self.test_drop
        found = f"{describe(self.best.method)} meets {self.budget}"
        there = f"on {self.test_samples} other inputs: {self.test:.2f}, ANN {self.test_ann:.2f}, "
        there += f"{drop:+.2f} ± {error:.2f} below it"
        if self.holds:
            return f"{found}; {there}."
        return f"{found} where it was chosen, but not {there}. Give more data, or a wider budget."

    def _nearest(self) -> str:
        scored = [t for t in self.trials if not math.isnan(t.drop)]
        if not scored:
            counted = [t for t in self.trials if t.energy_ratio is not None]
            least = min(counted, key=lambda t: t.energy_ratio or 0.0, default=None)
            return "" if least is None else f" {describe(least.method)} takes least energy: {least.energy_ratio:.3f}."
        near = min(scored, key=lambda t: t.drop)
        energy = "" if near.energy_ratio is None else f", {near.energy_ratio:.3f} of the ANN's energy"
        return (
            f" The smallest drop is that of {describe(near.method)}: {near.drop:.2f} ± {near.drop_error:.2f} on "
            f"{near.samples} inputs, {near.latency} steps{energy}."
        )


def describe(method: Method) -> str:
    """The method as the call that makes it, without the settings that are the default.

    >>> from snnconv import methods
    >>> describe(methods.SRP(4, 2)), describe(methods.IF(8, correction="none"))
    ('SRP(timesteps=4, pre_timesteps=2)', "IF(timesteps=8, correction='none')")
    """
    values = {f.name: (getattr(method, f.name), f.default) for f in method.choices()}
    shown = [f"{name}={value!r}" for name, (value, default) in values.items() if value != default]
    return f"{type(method).__name__}({', '.join(shown)})"
