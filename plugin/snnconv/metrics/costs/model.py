"""A cost model: from what was counted to energy, or to another unit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from snnconv.metrics.counts import Counts, Operations
from snnconv.tables import add, named

__all__ = ["COSTS", "Classes", "CostModel", "Prices", "get", "register"]

Classes = Mapping[str, tuple[float, float]]
"""Class of operations or accesses → their number, and what they cost together."""


@dataclass(frozen=True)
class Prices:
    """Of a model that needs no more than totals: what one addition and one multiply-accumulate cost."""

    addition: float
    mac: float

    def of(self, operations: Operations, function_macs: float) -> float:
        """What operations cost; a function is priced in multiply-accumulates.

        >>> Prices(1.0, 5.0).of(Operations(10.0, 2.0, 1.0), function_macs=4.0)
        40.0
        """
        return self.addition * operations.additions + self.mac * (
            operations.macs + function_macs * operations.functions
        )


@dataclass(frozen=True)
class CostModel:
    """What a network costs, and what is counted for it.

    Give ``prices``, or the functions ``snn`` and ``ann`` of a model that needs more than totals.

    >>> from snnconv.metrics import costs
    >>> mine = costs.register(costs.CostModel(
    ...     "mine", "measured on the bench", includes="additions, multiplications", excludes="memory",
    ...     prices=Prices(addition=1e-13, mac=2e-12)))
    >>> costs.get("mine").unit
    'J'
    >>> del costs.COSTS["mine"]

    Attributes:
        name: the word for it, in files and on the command line.
        source: where its numbers are stated.
        includes: what is in its boundary.
        excludes: what is not.
        unit: of its figures, an inference.
        prices: of one addition and one multiply-accumulate; None: more than their totals is needed.
        snn: the spiking network's cost by class; it gives None for a network that it has no equations for.
        ann: the source network's; None: the model has no place for it, or no equations for this network.
        twin: the cost of the quantised network with so many levels a neuron and 8-bit weights; None: that of the
            source network, whose operations it has.
    """

    name: str
    source: str
    includes: str
    excludes: str
    unit: str = "J"
    prices: Prices | None = None
    snn: Callable[[Counts], Classes | None] | None = field(default=None, hash=False)
    ann: Callable[[Counts], float | None] | None = field(default=None, hash=False)
    twin: Callable[[Counts, int], float | None] | None = field(default=None, hash=False)

    def __post_init__(self) -> None:
        if (self.prices is None) == (self.snn is None):
            raise ValueError(f"the cost model {self.name!r} needs either prices or the function snn")

    def classes(self, counts: Counts) -> Classes | None:
        """The spiking network's cost by class; None where it was not counted, or the model has no equations for it."""
        if self.snn is not None:
            return self.snn(counts)
        operations, prices = counts.operations, self.prices
        if operations is None or prices is None:
            return None
        return {name: (sum(found), prices.of(found, counts.function_macs)) for name, found in operations.items()}

    def of_snn(self, counts: Counts) -> float | None:
        """The spiking network's cost."""
        classes = self.classes(counts)
        return None if classes is None else sum(cost for _, cost in classes.values())

    def of_ann(self, counts: Counts) -> float | None:
        """The source network's cost."""
        if self.prices is not None:
            return self.prices.of(counts.ann_operations, counts.function_macs)
        return None if self.ann is None else self.ann(counts)

    def of_twin(self, counts: Counts, levels: int) -> float | None:
        """The cost of the quantised network with ``levels`` levels above zero."""
        return self.of_ann(counts) if self.twin is None else self.twin(counts, levels)


COSTS: dict[str, CostModel] = {}
"""Name → cost model; the first is the one that is taken where none is named."""


def register(model: CostModel, *, replace: bool = False) -> CostModel:
    """Add a cost model to the table.

    Args:
        replace: take the place of another one of this name.

    Raises:
        ValueError: there is another one of this name.
    """
    return add(COSTS, model.name, model, "cost model", replace=replace)


def get(name: str) -> CostModel:
    """The cost model of this name.

    Raises:
        ValueError: there is none; the message lists those that are.
    """
    return named(COSTS, name, "cost model")
