"""The modules of a network that runs one step a call: each gets what it remembers, and hands it on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from snnconv.dynamics.captured import captured
from snnconv.dynamics.neuron import Neuron
from snnconv.graph.source import Site, broadcast

__all__ = [
    "Activation", "Clock", "Linear", "Neurons", "Once", "PhasedNeurons", "RateNeurons", "RunningValue", "Share",
    "SumNeurons",
]  # fmt: skip


class Clock(nn.Module):
    """Which step of a run, or of its second phase, this is.

    Args:
        pre_steps: steps of the first phase, which the second does not count.

    >>> Clock(2)(torch.tensor(2))
    (tensor(1), tensor(True))
    """

    def __init__(self, pre_steps: int = 0) -> None:
        super().__init__()
        self.pre_steps = pre_steps

    def forward(self, step: Tensor) -> tuple[Tensor, Tensor]:
        """``step``, whole, from 0, over all phases → the step of its phase from 1, and whether it is the first."""
        now = torch.where(step >= self.pre_steps, step - self.pre_steps, step) + 1 if self.pre_steps else step + 1
        return now, now == 1


class Once(nn.Module):
    """Lets a constant enter with the first step alone."""

    def forward(self, value: Tensor, first: Tensor) -> Tensor:
        """``value`` at the first step, else zeros."""
        return torch.where(first, value, torch.zeros_like(value))


class RunningValue(nn.Module):
    """The value that steps ``x[1], …, x[t]`` stand for: their mean, sum, or weighted sum.

    Args:
        coding: ``"rate"``: Σ x / t; ``"sum"``: Σ x; ``"differential"``: Σ x[τ]/τ.

    >>> RunningValue("rate")(torch.tensor([1.0]), torch.tensor(2), torch.tensor(False), torch.tensor([3.0]))
    (tensor([2.]), tensor([4.]))
    """

    def __init__(self, coding: str) -> None:
        super().__init__()
        self.coding = coding

    def forward(self, x: Tensor, now: Tensor, first: Tensor, total: Tensor | None) -> tuple[Tensor, Tensor]:
        """``x`` of step ``now``, and the total before it → the value, and the total."""
        added = x / now.to(x.dtype) if self.coding == "differential" else x
        total = added if total is None else torch.where(first, added, total + added)
        return (total / now.to(x.dtype) if self.coding == "rate" else total), total


class Share(nn.Module):
    """What a step adds to a value: the inverse of `RunningValue`.

    Args:
        coding: as there.
    """

    def __init__(self, coding: str) -> None:
        super().__init__()
        self.coding = coding

    def forward(self, value: Tensor, now: Tensor, first: Tensor, before: Tensor | None) -> tuple[Tensor, Tensor]:
        """The value at step ``now``, and what was kept → what the step adds, and what to keep."""
        time = now.to(value.dtype)
        kept = value * time if self.coding == "rate" else value
        share = kept if before is None else torch.where(first, kept, kept - before)
        return (share * time if self.coding == "differential" else share), kept


class Neurons(nn.Module):
    """One population; its outputs are spikes times what they are worth.

    Args:
        neuron: the record of the neuron.
        threshold: θ, ``[1]``, scalar, or one value a channel.
        axis: channel axis of one step ``[B, C, ...]``.
        options: the neuron's settings.
        scaled: whether a spike is worth θ; else 1.

    Attributes:
        states: names of what it remembers, in order.
    """

    states: tuple[str, ...] = ()
    v_threshold: Tensor

    def __init__(
        self, neuron: Neuron, threshold: Tensor, axis: int, options: Mapping[str, Any], scaled: bool = True
    ) -> None:
        super().__init__()
        self.neuron, self.axis, self.options, self.scaled = neuron, axis, dict(options), scaled
        self.register_buffer("v_threshold", threshold.detach().clone())
        self.states = neuron.memories
        self._found: dict[tuple[str, torch.dtype, int, torch.device], Mapping[str, Any]] = {}

    def theta(self, x: Tensor) -> Tensor:
        """θ, as it broadcasts against one step."""
        return broadcast(self.v_threshold, x.dim(), self.axis)

    def looked_up(self, neuron: Neuron, options: Mapping[str, Any], x: Tensor, theta: Tensor) -> Mapping[str, Any]:
        """What an equation looks up by the values of θ; where a call is exported, what the last call has found.

        Raises:
            RuntimeError: an export before the first call on such an input.
        """
        if neuron.lookup is None:
            return {}
        kind = (neuron.name, x.dtype, x.dim(), x.device)
        if not captured():
            self._found[kind] = neuron.lookup(x, theta, **options)
        if kind not in self._found:
            raise RuntimeError(
                f"{neuron.name!r} neurons look up what belongs to their thresholds in {x.dtype} on {x.device}, which an"
                " export cannot do: call step.initial(x) on such an input before it"
            )
        return self._found[kind]

    def worth(self, spikes: Tensor) -> Tensor:
        """Spikes times what one is worth."""
        return spikes * self.theta(spikes).to(spikes.dtype) if self.scaled else spikes

    def extra_repr(self) -> str:
        values = self.v_threshold
        settings = "".join(f", {key}={value}" for key, value in self.options.items() if value is not None)
        return f"{self.neuron.name}, {values.numel()} thresholds{settings}"


class RateNeurons(Neurons):
    """A population in rate coding: the step of its record."""

    def forward(self, x: Tensor, now: Tensor, first: Tensor, *memory: Tensor | None) -> tuple[Tensor, ...]:
        """Currents of one step ``[B, ...]`` and the state before it → outputs, and the state after it."""
        spikes, after = self.step(self.neuron, self.options, x, first, memory)
        return self.worth(spikes), *after

    def step(
        self, neuron: Neuron, options: Mapping[str, Any], x: Tensor, first: Tensor, memory: tuple[Tensor | None, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Unit spikes and the state after the step; at the ``first`` the state is the initial one."""
        theta = self.theta(x)
        state = start = neuron.initial(x, theta, **options)
        if memory and memory[0] is not None:
            pairs = zip(neuron.remembered(start), memory, strict=True)
            state = neuron.state_of(
                [torch.where(first, torch.as_tensor(a, device=x.device), b) for a, b in pairs if b is not None]
            )
        found = self.looked_up(neuron, options, x, theta)
        spikes, after = neuron.step(x, state, theta, surrogate=None, detach_reset=False, **options, **found)
        return spikes, tuple(torch.as_tensor(v) for v in neuron.remembered(after))


class PhasedNeurons(RateNeurons):
    """A population whose first phase decides who may fire in the second.

    Args:
        pre_steps: steps of the first phase.
    """

    def __init__(self, *given: Any, pre_steps: int, **named: Any) -> None:
        super().__init__(*given, **named)
        pre = self.neuron.pre_phase
        assert pre is not None
        self.pre, self.pre_steps, self.inner = pre, pre_steps, pre.options(self.options)
        self.states = (*pre.neuron.memories, "mask")

    def forward(self, x: Tensor, step: Tensor, first: Tensor, *memory: Tensor | None) -> tuple[Tensor, ...]:
        """As of `RateNeurons`; ``step`` counts from 0 over both phases."""
        *state, mask = memory
        spikes, after = self.step(self.pre.neuron, self.inner, x, first, tuple(state))
        if mask is None:
            return self.worth(spikes), *after, torch.ones_like(x)
        allowed = self.pre.allowed(self.pre.neuron.state_of(state), self.theta(x), **self.options).to(x.dtype)
        mask = torch.where(step == self.pre_steps, allowed, torch.where(step == 0, torch.ones_like(mask), mask))
        return self.worth(spikes * mask), *after, mask


class SumNeurons(Neurons):
    """A population in sum coding: it takes in what comes until its window opens, then sends its T weighted spikes.

    Args:
        start: the step, from 0, of its first spike: all its inputs have come by then.
        timesteps: T, its steps.
    """

    def __init__(self, *given: Any, start: int, timesteps: int, **named: Any) -> None:
        super().__init__(*given, **named)
        assert self.neuron.multistep is not None
        self.start, self.timesteps, self.states = start, timesteps, ("v",)
        weight = self.neuron.weight
        weights = [1.0 if weight is None else weight(k, **self.options) for k in range(timesteps)]
        self.register_buffer("weights", torch.tensor(weights, dtype=self.v_threshold.dtype))

    def forward(self, x: Tensor, step: Tensor, first: Tensor, v: Tensor | None) -> tuple[Tensor, Tensor]:
        """Inputs of one step ``[B, ...]`` and their sum before it → weighted spikes, and the sum."""
        v = x if v is None else torch.where(step == 0, x, v + x)
        assert self.neuron.multistep is not None
        theta = self.theta(x)
        found = self.looked_up(self.neuron, self.options, x, theta)
        spikes, _ = self.neuron.multistep(
            v.unsqueeze(0), theta, state=None, surrogate=None, detach_reset=False, **self.options, **found
        )
        k = (step - self.start).clamp(0, self.timesteps - 1).reshape(1)
        weights = self.get_buffer("weights")
        sent = (spikes.index_select(0, k) * weights.index_select(0, k).reshape(1, *[1] * x.dim())).squeeze(0)
        due = (step >= self.start) & (step < self.start + self.timesteps)
        return self.worth(torch.where(due, sent, torch.zeros_like(sent))), v


class Linear(nn.Module):
    """What an operator makes of its input at a step, without the constant that entered with the first one."""

    def forward(self, out: Tensor, constant: Tensor, first: Tensor) -> Tensor:
        """f(x) and f(0) → f(x) at the first step, else f(x) − f(0); what is infinite (a mask) is always there."""
        late = torch.where(constant.isinf(), out, out - constant)
        return torch.where(first, out, late)


class Activation(nn.Module):
    """The source network's own activation: of a constant, to which no neuron has anything to add."""

    def __init__(self, site: Site) -> None:
        super().__init__()
        self.site = site

    def forward(self, x: Tensor) -> Tensor:
        return self.site.activation(x)
