"""A network that is a list of steps, so that one can be taken out."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Pair = namedtuple("Pair", "first second")


@dataclass
class Result:
    """An output with names, as many libraries have one."""

    first: Tensor
    second: Tensor


class Written(nn.Module):
    """A function of values, with modules and tensors of its own: ``function(m, *values)``."""

    def __init__(self, function: Callable[..., Tensor], **own: Any) -> None:
        super().__init__()
        self.function = function
        for name, value in own.items():
            if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
                self.register_buffer(name, value)
            else:
                setattr(self, name, value)

    def forward(self, *values: Tensor) -> Tensor:
        return self.function(self, *values)


@dataclass(frozen=True)
class Step:
    """One module, the numbers of the values that it reads (inputs first, then steps), and what it is in words."""

    label: str
    module: nn.Module
    reads: tuple[int, ...]


class Network(nn.Module):
    """Steps, each of values before it; the last values, put together by ``form``, are its output."""

    arity = 1

    def __init__(self, steps: Sequence[Step], outputs: Sequence[int], form: str = "tensor") -> None:
        super().__init__()
        self.modules_of_steps = nn.ModuleList(step.module for step in steps)
        self.steps = tuple((step.label, step.reads) for step in steps)
        self.outputs, self.form = tuple(outputs), form

    def run(self, *inputs: Tensor) -> Any:
        values = list(inputs)
        for module, (_, reads) in zip(self.modules_of_steps, self.steps, strict=True):
            values.append(module(*[values[i] for i in reads]))
        found = [values[i] for i in self.outputs]
        return FORMS[self.form](found)

    def described(self) -> list[str]:
        """A line a step."""
        lines = [
            f"v{self.arity + i} = {label}({', '.join(f'v{r}' for r in reads)})"
            for i, (label, reads) in enumerate(self.steps)
        ]
        return [*lines, f"return {self.form} of {', '.join(f'v{i}' for i in self.outputs)}"]

    def without(self, number: int) -> Network:
        """The network whose step ``number`` hands on the first value it reads."""
        gone, stands_for = self.arity + number, self.steps[number][1][0]

        def moved(i: int) -> int:
            i = stands_for if i == gone else i
            return i - (i > gone)

        return self._made((n for n in range(len(self.steps)) if n != number), moved, self.outputs, self.form)

    def ending_in(self, number: int) -> Network:
        """The network that ends in the value of step ``number``."""
        return self._made(range(number + 1), lambda i: i, [self.arity + number], "tensor")

    def used(self) -> Network:
        """The network without the steps that no output depends on."""
        needed, stack = set(), list(self.outputs)
        while stack:
            value = stack.pop()
            if value not in needed:
                needed.add(value)
                stack += self.steps[value - self.arity][1] if value >= self.arity else ()
        kept = [n for n in range(len(self.steps)) if self.arity + n in needed]
        places = {self.arity + n: self.arity + k for k, n in enumerate(kept)}
        return self._made(kept, lambda i: places.get(i, i), self.outputs, self.form)

    def _made(self, kept: Iterable[int], moved: Callable[[int], int], outputs: Sequence[int], form: str) -> Network:
        steps = [
            Step(self.steps[n][0], self.modules_of_steps[n], tuple(moved(i) for i in self.steps[n][1])) for n in kept
        ]
        return type(self)(steps, [moved(i) for i in outputs], form).eval()


class OfOne(Network):
    """A network of one input."""

    def forward(self, x: Tensor) -> Any:
        return self.run(x)


class OfTwo(Network):
    """A network of two inputs."""

    arity = 2

    def forward(self, x: Tensor, y: Tensor) -> Any:
        return self.run(x, y)


FORMS: dict[str, Callable[[list[Tensor]], Any]] = {
    "tensor": lambda values: values[0],
    "tuple": tuple,
    "list": list,
    "dict": lambda values: {f"out{i}": value for i, value in enumerate(values)},
    "nested": lambda values: {"all": list(values), "first": values[0]},
    "named tuple": lambda values: Pair(values[0], values[-1]),
    "dataclass": lambda values: Result(values[0], values[-1]),
    "with a constant": lambda values: (values[0], 3, None),
    "with its class": lambda values: (values[0], values[0].argmax(-1)),
    "with a comparison": lambda values: {"score": values[0], "sure": values[0] > 0.5},
}


def values_of(output: Any) -> list[Any]:
    """What an output holds, in order; of a dataclass its fields."""
    if isinstance(output, Result):
        return [output.first, output.second]
    return list(torch.utils._pytree.tree_leaves(output))
