"""A converted network whose neurons go on from call to call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from snnconv.graph.source import ConversionError, activation_site
from snnconv.network import SpikingNetwork
from snnconv.runtime.batch import entries
from snnconv.runtime.finite import NonFinite
from snnconv.runtime.program import GraphProgram
from snnconv.runtime.readout import window_mean
from snnconv.runtime.run import RunState

__all__ = ["Continued"]


class Continued:
    """Calls of ``network`` that begin with the membranes the call before left, for inputs that follow one another.

    With max-pooling, too, calls of one step are one call of as many: what was accumulated so far goes on. So event
    frames, one a call, come to what the source network says of the mean frame.
    :class:`~snnconv.SpikingNetwork` itself begins every call from a fresh state.

    Args:
        network: rate coded, of one phase.

    Raises:
        ConversionError: shifted-threshold IF, whose spikes are bits of one number, and SRP, whose mask belongs to one
            input: neither has a state that means anything for the next input.

    >>> import snnconv
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1))
    >>> _ = [p.data.fill_(float(p.dim() == 2)) for p in model.parameters()]
    >>> method = snnconv.methods.IF(timesteps=1, thresholds="max", correction="none")
    >>> network = snnconv.convert(model, method, calibration=torch.ones(8, 1), progress=False)
    >>> continued, x = Continued(network), torch.full((1, 1), 0.25)
    >>> [round(float(continued(x)), 2) for _ in range(6)]  # one step a call: a spike every fourth
    [0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    >>> continued.reset()
    """

    def __init__(self, network: SpikingNetwork) -> None:
        if network.method.coding == "sum":
            raise ConversionError(
                "shifted-threshold neurons keep no membrane between inputs: their spikes are the bits of one number"
            )
        if network.method.coding == "differential":
            raise ConversionError(
                "neurons with differential coding send what is new about one input, which the next one would be "
                "taken for; use a rate method, such as methods.SignedIF"
            )
        if network.method.pre_timesteps_:
            raise ConversionError("SRP keeps no membrane between inputs: its mask belongs to one input")
        self.network = network
        self._states: dict[str, Any] = {}
        self._run = RunState()
        self._shapes: list[torch.Size] = []
        self._wrong: NonFinite | None = None

    @property
    def timesteps(self) -> int:
        """T of one call."""
        return self.network.timesteps

    @property
    def delay(self) -> int:
        """Steps of every call that are not read."""
        return self.network.delay

    def reset(self) -> None:
        """Forget every neuron's state: the next call begins afresh."""
        self._states, self._wrong = {}, None
        self._run = RunState()

    def _carried(self, run: RunState) -> RunState:
        """What operators that act on the sum so far remember; what depends on the input alone is computed anew.

        An operator without spiking equivalent at the output acts on the readout of each call. Then the clock starts
        anew, and max-pooling, which needs none, goes on alone.
        """
        program = self.network.program
        if not isinstance(program, GraphProgram):
            return RunState(run.steps, {}, run.accumulated)
        executor = program.executor
        inside: set[fx.Node] = set()
        for node in reversed(executor.nodes):
            if node.target is activation_site or any(user in inside for user in node.users):
                inside.add(node)
        at_output = [n for n in executor.temporal - inside if executor.kinds[n] == "nonlinear"]
        if not at_output:
            return RunState(run.steps, {}, run.accumulated)
        pools = {n.name for n in executor.nodes if executor.kinds[n] == "homogeneous"}
        return RunState(accumulated={name: v for name, v in run.accumulated.items() if name in pools})

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """Readout of the next T steps, for inputs ``[B, ...]`` of the same batch as before."""
        return self.readouts(self.network.given(*inputs, **named), [(self.delay + 1, self.timesteps)])[0]

    def readouts(self, x: Any, windows: Sequence[tuple[int, int]]) -> list[Any]:
        """Outputs averaged over each window (first and last step, from 1); as many steps run as the last one needs."""
        network = self.network
        x = network.given(x)
        shapes = [v.shape for v in entries(x).values()]
        if shapes != self._shapes:  # another batch: neurons start afresh
            self.reset()
            self._shapes = shapes
        steps = max(last for _, last in windows)
        out, self._states = network.simulation().resume(x, steps, self._states, self._run)
        self._run = self._carried(self._run)
        self._wrong = NonFinite(x).behind(self._wrong)
        out = self._wrong.mark(out, 1)
        return [window_mean(out, first, last) for first, last in windows]
