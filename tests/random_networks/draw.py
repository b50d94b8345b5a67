"""Drawing a network step by step: what the operators' tables add to."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from tests.random_networks.network import Step, Written

LARGEST = 1600
"""Values of one sample that a step may give."""
SPREAD = (0.03, 30.0)
"""Standard deviation that a step's values may have: outside, rounding says more than the conversion."""

Choice = TypeVar("Choice")


class Unfit(Exception):
    """An operator that the values so far do not take."""


class Draw:
    """A network in the making, with its values on a few samples.

    Attributes:
        random: where choices come from.
        values: inputs, then what the steps give.
        layouts: of each value: ``"image"`` (channels on axis 1), ``"tokens"`` (on the last) or ``"vector"``.
    """

    def __init__(self, source: random.Random, inputs: Sequence[Tensor], layouts: Sequence[str]) -> None:
        self.random = source
        self.arity = len(inputs)
        self.values = list(inputs)
        self.layouts = list(layouts)
        self.steps: list[Step] = []

    def add(
        self, label: str, what: nn.Module | Callable[..., Tensor], *reads: int, layout: str = "", **own: Any
    ) -> int:
        """One step more; its value's number.

        Raises:
            Unfit: it fails on these values, or gives none, too many, or none to compute with.
        """
        module = what if isinstance(what, nn.Module) else Written(what, **own)
        module.eval()
        try:
            with torch.no_grad():
                value = module(*[self.values[i].clone() for i in reads])
        except (RuntimeError, ValueError, IndexError, AssertionError) as error:
            raise Unfit(f"{label}: {error}") from error
        spread = float(value.std()) if value.numel() > 1 else 0.0
        odd = value.dim() < 2 or value[0].numel() > LARGEST or len(value) != len(self.values[0])
        if odd or not SPREAD[0] < spread < SPREAD[1]:
            raise Unfit(f"{label} gives {tuple(value.shape)} of spread {spread}")
        self.steps.append(Step(label, module, reads))
        self.values.append(value)
        self.layouts.append(layout or self.layouts[reads[0]])
        return len(self.values) - 1

    def chosen(self, operators: Sequence[tuple[float, Callable[[Draw, int], int]]], h: int, tries: int = 30) -> int:
        """One of the operators, by weight, on value ``h``; one that does not fit is drawn again.

        Raises:
            Unfit: none of them fits.
        """
        for _ in range(tries):
            operator = self.random.choices([o for _, o in operators], [w for w, _ in operators])[0]
            kept = len(self.steps)
            try:
                return operator(self, h)
            except Unfit:
                del self.steps[kept:], self.values[self.arity + kept :], self.layouts[self.arity + kept :]
        raise Unfit(f"no operator fits {tuple(self.values[h].shape)}")

    def one_of(self, *choices: Choice) -> Choice:
        return self.random.choice(choices)

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def shape(self, h: int) -> tuple[int, ...]:
        return tuple(self.values[h].shape)

    def axis(self, h: int) -> int:
        """The axis of the channels."""
        return self.values[h].dim() - 1 if self.layouts[h] == "tokens" else 1

    def channels(self, h: int) -> int:
        return self.values[h].shape[self.axis(h)]

    def divisor(self, number: int) -> int:
        return self.one_of(*[d for d in range(1, number + 1) if number % d == 0])
