"""What operations cost: each cost model is a record in one file, in a table that anyone may extend."""

from snnconv.metrics.costs import compute, lemaire, loihi, operations  # noqa: F401 - they register themselves
from snnconv.metrics.costs.model import COSTS, CostModel, get, register

__all__ = ["COSTS", "CostModel", "get", "register"]
