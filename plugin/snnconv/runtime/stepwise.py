"""A converted network as ordinary modules that run one step a call: what exporters, hooks and other tools take.

Layers with weights are modules of ``torch.nn``, populations are modules of :mod:`snnconv.runtime.step_modules`, and all
that a step leaves to the next is an input and an output: nothing is remembered inside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from snnconv.graph.source import SourceGraph
from snnconv.methods.base import Method
from snnconv.runtime.readout import Held, Readout
from snnconv.runtime.step_graph import Settings, StepGraph

__all__ = ["Stepwise"]


class Stepwise(nn.Module):
    """A converted network that runs one step a call, with its states as inputs and outputs.

    ``forward(*inputs, *states)`` gives ``(output, *states)``: the output of the step, and the states for the next call.
    The states are tensors, in the order of `names`; those before the first step are `initial`. The mean of the outputs
    (rate coding) or their sum (sum coding) is the network's answer; `run` does all of it.

    In sum coding a population takes in what comes until all of its inputs have come, and then sends its T spikes: layer
    after layer, so that a picture takes `timesteps` = Σ T over the longest path.

    Attributes:
        program: the steps as a ``torch.fx.GraphModule``, with the layers and the populations as its children.
        names: of the states: the site and what is remembered there, ``"layer1.relu.v"``.
        timesteps: calls that one answer takes, a first phase included.
        latency: first calls whose outputs do not count.

    Example:
        >>> import snnconv
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> x = torch.randn(16, 4)
        >>> snn = snnconv.convert(model, snnconv.methods.SignedIF(timesteps=4), x)
        >>> step = snnconv.stepwise(snn)
        >>> step.names
        ('step', '1.v', '1.n')
        >>> states = step.initial(x)
        >>> output, *states = step(x, *states)
        >>> torch.allclose(step.run(x), snn(x), atol=1e-6)
        True
    """

    def __init__(self, source: SourceGraph, method: Method, neurons: Mapping[str, Settings], readout: Readout) -> None:
        super().__init__()
        built = StepGraph(source, method, neurons)
        self.program = built.module()
        self.names = tuple(built.states)
        self.inputs = built.inputs
        self.latency = method.pre_timesteps_
        self.timesteps = built.finished if method.coding == "sum" else method.latency
        self.readout = readout
        self._held = built.held
        self.requires_grad_(False)
        self.eval()

    def forward(self, *given: Any) -> tuple[Any, ...]:
        """One step: inputs and states → the output, and the states after it."""
        result: tuple[Any, ...] = self.program(*given)
        return result

    def initial(self, *x: Any) -> tuple[Tensor, ...]:
        """States before the first step on inputs like ``x``."""
        self._check(x)
        with torch.no_grad():
            step = torch.zeros((), dtype=torch.int64, device=_device(x))
            _, _, *states = self.program(*x, step, *[None] * (len(self.names) - 1))
        return step, *(torch.zeros_like(state) for state in states)

    def run(self, *x: Any, timesteps: int | None = None, observe: Callable[[int, Any], None] | None = None) -> Any:
        """The answer after ``timesteps`` calls on a constant input; `timesteps` of the network by default.

        Args:
            x: the inputs ``[B, ...]``.
            timesteps: how many calls.
            observe: called with the number of each call, from 0, and the states after it by name.
        """
        steps = self.timesteps if timesteps is None else timesteps
        states = self.initial(*x)
        outputs = []
        with torch.no_grad():
            for t in range(steps):
                out, *after = self(*x, *states)
                states = tuple(after)
                if observe is not None:
                    observe(t, dict(zip(self.names, states, strict=True)))
                if t >= self.latency:
                    outputs.append(out)
        return self.readout.final(self._over_time(outputs))

    def _over_time(self, outputs: list[Any]) -> Any:
        flat, spec = zip(*(tree_flatten(out) for out in outputs), strict=True)

        def stacked(leaves: tuple[Any, ...], held: bool) -> Any:
            if not isinstance(leaves[0], Tensor):
                return leaves[0]
            seq = torch.stack(leaves)
            if not held or not seq.is_floating_point():
                return Held(seq) if held else seq
            time = torch.arange(1, len(seq) + 1, device=seq.device).reshape(-1, *[1] * (seq.dim() - 1))
            total = seq * time if self.readout.coding == "rate" else seq
            return Held(seq, torch.diff(total, dim=0, prepend=torch.zeros_like(total[:1])))

        held = tree_flatten(self._held)[0]
        return tree_unflatten([stacked(leaves, h) for leaves, h in zip(zip(*flat, strict=True), held, strict=True)],
                              spec[0])  # fmt: skip

    def _check(self, x: tuple[Any, ...]) -> None:
        if len(x) != len(self.inputs):
            raise ValueError(f"this network takes {len(self.inputs)} inputs ({', '.join(self.inputs)}), got {len(x)}")


def _device(x: tuple[Any, ...]) -> torch.device | None:
    return next((value.device for value in x if isinstance(value, Tensor)), None)
