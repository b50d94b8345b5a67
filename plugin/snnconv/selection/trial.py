"""One method on trial: its converted network, its costs, and its score on the inputs seen so far."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from snnconv.methods import Method
from snnconv.network import SpikingNetwork

__all__ = ["Score", "Trial", "front", "paired", "scores"]

Score = Callable[[Tensor, Tensor], Tensor]
"""``score(output, target)`` → one number a sample ``[B]``, larger is better."""
Z90 = 1.645


@dataclass(eq=False)
class Trial:
    """A method, what it costs and what it reaches.

    Attributes:
        method: the method.
        score: mean score over ``samples`` inputs: percent of right answers, unless another score was given.
        drop: the source network's mean score on the same inputs minus this one.
        drop_error: standard error of ``drop``; both networks saw the same inputs, so it is that of the mean difference.
        latency: steps as they are counted; before the conversion those that a layer runs.
        network_latency: steps from input to output where all layers step together, and in sum coding one waits for all
            bits of the one before; ``None`` if unknown.
        counted: steps as they are counted in this choice (`snnconv.metrics.latency`); None before it is converted.
        energy_ratio: energy over the source network's; ``None`` if it cannot be counted.
        samples: inputs it was scored on.
        stopped: why it was given up; empty for one that was scored on all inputs.
        network: the converted network; ``None`` once it was given up.
    """

    method: Method
    score: float = math.nan
    drop: float = math.nan
    drop_error: float = math.nan
    network_latency: int | None = None
    energy_ratio: float | None = None
    counted: int | None = None
    stopped: str = ""
    network: SpikingNetwork | None = None
    each: Tensor = field(default_factory=lambda: torch.zeros(0))

    @property
    def pipelined_latency(self) -> int | None:
        """An earlier name of ``network_latency``."""
        return self.network_latency

    @property
    def latency(self) -> int:
        """Steps that count: once converted as they are counted in this choice, else those that a layer runs."""
        return self.method.latency if self.counted is None else self.counted

    @property
    def samples(self) -> int:
        """Inputs that it was tried on."""
        return len(self.each)

    def give_up(self, reason: str) -> None:
        """Stop this trial and let its network go."""
        self.stopped, self.network = reason, None

    def see(self, more: Tensor, ann: Tensor) -> None:
        """Take in the scores of further inputs; ``ann`` are the source network's of all of them so far."""
        self.each = torch.cat([self.each, more])
        self.score = float(self.each.mean())
        self.drop, self.drop_error = paired(ann[: self.samples], self.each)

    def costs_at_most(self, other: Trial) -> bool:
        """Whether no cost that is known of both is larger than the other's."""
        if self.latency > other.latency:
            return False
        a, b = self.energy_ratio, other.energy_ratio
        return a <= b if a is not None and b is not None else a is not None or b is None

    def beats(self, other: Trial) -> bool:
        """Whether it costs no more and scores better on the inputs that both saw, beyond the error (95 %, one side)."""
        seen = min(self.samples, other.samples)
        gap, error = paired(self.each[:seen], other.each[:seen])
        return self.costs_at_most(other) and gap > Z90 * error


def paired(a: Tensor, b: Tensor) -> tuple[float, float]:
    """Mean of a − b and its standard error, from scores of the same inputs.

    One more difference of the largest size on either side is assumed, so that few equal answers are no certainty.

    >>> gap, error = paired(torch.tensor([100.0] * 50), torch.tensor([100.0] * 50))
    >>> gap, round(error, 1)
    (0.0, 2.8)
    """
    difference = (a - b).double()
    n = len(difference)
    size = max(float(torch.cat([a, b]).max() - torch.cat([a, b]).min()), float(a.abs().max())) if n else 1.0
    mean = float(difference.mean()) if n else 0.0
    squares = float(((difference - mean) ** 2).sum()) + 2 * size**2
    return mean, math.sqrt(squares) / max(n, 1)


def front(trials: Sequence[Trial]) -> list[Trial]:
    """The trials for which none other is as good and cheaper in steps or energy, fewest steps first."""

    def worse(own: Trial, other: Trial) -> bool:
        if not (other.costs_at_most(own) and other.score >= own.score):
            return False
        return other.score > own.score or not own.costs_at_most(other)

    kept = [t for t in trials if not any(worse(t, other) for other in trials if other is not t)]
    return sorted(kept, key=lambda t: (t.latency, t.energy_ratio or math.inf))


def scores(network: nn.Module, inputs: Sequence[Tensor], targets: Sequence[Tensor], score: Score) -> Tensor:
    """Score of each sample ``[N]``."""
    with torch.no_grad():
        found = [score(network(x), y) for x, y in zip(inputs, targets, strict=True)]
    return torch.cat(found).float().cpu()
