"""Which method is best within a budget of steps or of energy, on one network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from snnbench.leaderboard.boards import Network
from snnbench.leaderboard.entries import Entry, Row
from snnbench.leaderboard.statistics import differ

__all__ = ["ENERGY", "STEPS", "Answer", "answers"]

STEPS = (2, 4, 8, 16, 32)
"""Steps of a layer."""
ENERGY = (0.1, 0.25, 0.5)
"""Shares of the ANN's energy."""


@dataclass(frozen=True)
class Answer:
    """The best row within a budget.

    Attributes:
        budget: the most that it may take.
        entry, row: the best one; of equal values the one with fewer steps.
        others: entries whose best value within the budget cannot be told apart from it at the 95 % level.
    """

    budget: float
    entry: Entry
    row: Row
    others: tuple[Entry, ...]


def answers(network: Network, higher_is_better: bool, cost: str | None = None) -> list[Answer]:
    """The best within each budget that some row meets: of steps, or of energy under a cost model.

    Args:
        network: entries that may be compared with each other.
        higher_is_better: of the metric.
        cost: name of the cost model; None: steps.
    """
    sign = 1 if higher_is_better else -1
    take: Callable[[Row], float | None] = (lambda row: row.latency) if cost is None else (lambda row: row.ratio(cost))
    found = []
    for budget in STEPS if cost is None else ENERGY:
        best: list[tuple[Entry, Row]] = []
        for entry in network.entries:
            within = [row for row in entry.rows if (spent := take(row)) is not None and spent <= budget]
            if within:
                best.append((entry, max(within, key=lambda row: (sign * row.estimate.value, -row.latency))))
        if best:
            entry, row = max(best, key=lambda pair: (sign * pair[1].estimate.value, -pair[1].latency))
            others = [e for e, r in best if e is not entry and differ(row.estimate, r.estimate) is False]
            found.append(Answer(budget, entry, row, tuple(others)))
    return found
