"""How a call is cut to fit into memory: along the batch, and where a single input is too large along time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from snnconv.dynamics.captured import captured
from snnconv.methods.base import Method
from snnconv.runtime.batch import Batch
from snnconv.runtime.signature import Signature

__all__ = ["Plan"]

LARGEST = 16
"""Memory budgets that a single input may take. Cutting a batch costs nothing, cutting time does: slices of half the
steps took 1.2 times as long, of single steps three times (ResNet-18 at 224, T = 16)."""


@dataclass(frozen=True)
class Plan:
    """What a run holds, from what conversion measured on one input.

    Attributes:
        method: says how many steps run at once.
        spec: ``SpikingNetwork.input_spec``: bytes that are held, neurons, whether a batch may be cut.
        signature: the inputs, with the sizes that this was measured at.
        budget: bytes that the values of a run may take.
    """

    method: Method
    spec: Mapping[str, Any]
    signature: Signature
    budget: int

    @property
    def whole_batch(self) -> bool:
        """Whether the inputs of a batch have to do with one another."""
        return bool(self.spec.get("whole_batch"))

    def batch_size(self, x: Any, steps: int | None = None) -> int:
        """Inputs that one pass of ``steps`` (else: as many as a plain call takes) can take; 0: as many as there are."""
        if steps is None:
            steps = 1 if self.method.coding == "sum" else max(self.method.timesteps, self.method.pre_timesteps_)
        widest = int(self.spec.get("widest", 0))
        step = int(self.spec.get("step_bytes", 3 * 4 * widest))  # files of before say the widest layer only
        held = int(self.spec.get("constant_bytes", 0)) + steps * step
        if self.method.pre_timesteps_:  # a mask at every neuron from one phase to the next, and the one in the making
            held += int(self.spec.get("neurons", 0)) + widest
        held = int(held * self.signature.growth(x))
        return max(1, self.budget // held) if held else 0

    def slices(self, x: Any, threads: int = 1, size: int | None = None) -> list[Any]:
        """Slices of a batch: of ``size`` inputs (else: as many as fit), and no fewer than there are threads."""
        size = self.batch_size(x) if size is None else size
        # a cut would fix the batch of an exported network for good, and part inputs that have to do with one another
        if captured() or not isinstance(x, (Tensor, Batch)) or self.whole_batch:
            return [x]
        if threads > 1 and size and len(x) > 1:
            size = min(size, -(-len(x) // threads))
        return [x] if size == 0 or len(x) <= size else list(x.split(size))

    def time_slices(self, x: Any, steps: int) -> list[int]:
        """How many steps each slice of a run in time has: one slice where all fit, else of equal length or one longer.

        >>> from snnconv import methods
        >>> spec = {"step_bytes": 100, "constant_bytes": 0}
        >>> plan = Plan(methods.IF(8), spec, Signature(("x",), ("x",)), budget=20)
        >>> plan.time_slices(None, 8)
        [3, 3, 2]
        """
        step = int(self.spec.get("step_bytes", 0))
        if not step:
            return [steps]
        step = int(step * self.signature.growth(x))
        room = LARGEST * self.budget - int(self.spec.get("constant_bytes", 0))
        count = min(steps, -(-steps * step // max(room, step)))
        return [steps // count + (i < steps % count) for i in range(count)]
