"""Early exit: an input leaves the batch as soon as its class is settled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from snnconv.graph.source import ConversionError
from snnconv.runtime.executor import RunState
from snnconv.runtime.values import Static, channels_last

if TYPE_CHECKING:
    from snnconv.network import SpikingNetwork

__all__ = ["EarlyExit", "run_until_settled"]


@dataclass(frozen=True)
class EarlyExit:
    """Readouts, each as it was when its input was settled.

    Attributes:
        output: ``[B, classes]``.
        steps: steps of the readout phase that each input took ``[B]``.
        latency: steps before the readout phase.
    """

    output: Tensor
    steps: Tensor
    latency: int = 0

    @property
    def average_steps(self) -> float:
        """Mean number of steps an input took, the steps before the readout phase included.

        >>> EarlyExit(torch.zeros(2, 3), torch.tensor([4, 8])).average_steps
        6.0
        """
        return float(self.steps.double().mean()) + self.latency


def run_until_settled(
    snn: SpikingNetwork, x: Tensor, *, margin: float | None, confidence: float | None, every: int, at_least: int
) -> EarlyExit:
    """:meth:`snnconv.SpikingNetwork.early_exit`."""
    _check(snn, margin, confidence, every, at_least)
    parts = [_part(snn, part, margin, confidence, every, at_least) for part in snn._parts(x)]
    pre = snn.method.pre_timesteps_
    return EarlyExit(torch.cat([y for y, _ in parts]), torch.cat([t for _, t in parts]), pre)


def _check(snn: SpikingNetwork, margin: float | None, confidence: float | None, every: int, at_least: int) -> None:
    if snn.method.coding == "sum":
        raise ConversionError(
            f"{snn.method.name}: every bit but the first needs those before it, in each layer, so that nothing is "
            "known before the last step; early exit is for rate coding"
        )
    if (margin is None) == (confidence is None):
        raise ValueError("give margin or confidence, one of the two")
    if margin is not None and not margin >= 0:
        raise ValueError(f"margin is {margin}: it is a difference of two outputs, 0 or more")
    if confidence is not None and not 0 < confidence <= 1:
        raise ValueError(f"confidence is {confidence}: it is a probability, above 0 and up to 1")
    if every < 1 or at_least < 1:
        raise ValueError(f"every={every} and at_least={at_least} are numbers of steps, 1 or more")


@torch.no_grad()
def _part(
    snn: SpikingNetwork, x: Tensor, margin: float | None, confidence: float | None, every: int, at_least: int
) -> tuple[Tensor, Tensor]:
    method, state = snn.method, RunState()
    snn.reset()
    x = channels_last(x)
    try:
        if method.pre_timesteps_:
            snn.program.steps(x, method.pre_timesteps_, snn.fire, state)
            state.restart()
        here = torch.arange(len(x), device=x.device)  # the inputs that are still in the batch
        total: Tensor | None = None
        output = steps = torch.empty(0)
        done = 0
        while done < method.timesteps:
            size = min(every, method.timesteps - done)
            with snn._unobserved():
                seq = _one_tensor(snn.program.steps(x, size, snn.fire, state))
            done += size
            read = seq[max(0, size - (done - snn.delay)) :]  # the mean begins behind the delay
            total = read.sum(0) if total is None else total + read.sum(0)
            if not steps.numel():
                output, steps = total.new_zeros(len(x), *total.shape[1:]), here.new_full((len(x),), method.timesteps)
            if done <= snn.delay:
                continue
            y = total / (done - snn.delay)
            output[here] = y
            if done < at_least or done == method.timesteps:
                continue
            settled = _settled(y, margin, confidence)
            if settled.any():
                steps[here[settled]] = done
                stays = (~settled).nonzero().flatten()
                if not len(stays):
                    break
                batch, here, x, total = len(x), here[stays], x[stays], total[stays]
                _keep(snn, state, stays, batch)
    finally:
        snn.reset()
    return output, steps


def _settled(y: Tensor, margin: float | None, confidence: float | None) -> Tensor:
    if margin is not None:
        best = y.topk(2, 1).values
        return best[:, 0] - best[:, 1] >= margin
    return y.float().softmax(1).amax(1) >= confidence  # type: ignore[operator]


def _one_tensor(out: Any) -> Tensor:
    tensors = [v for v in tree_leaves(out) if isinstance(v, Tensor)]
    if len(tensors) != 1 or tensors[0].dim() != 3 or tensors[0].shape[2] < 2:
        shapes = ", ".join(str(tuple(v.shape[1:])) for v in tensors) or "nothing"
        raise ConversionError(f"early exit needs one output [B, classes]; this network gives {shapes}")
    return tensors[0]


def _keep(snn: SpikingNetwork, state: RunState, stays: Tensor, batch: int) -> None:
    """Take the other inputs out of everything that a run remembers."""

    def chosen(value: Any) -> Any:
        if isinstance(value, Static):
            return Static(chosen(value.data))
        return value[stays] if isinstance(value, Tensor) and value.dim() and len(value) == batch else value

    def static(value: Any) -> Any:  # a plain tensor among them is a constant, whatever its size
        return chosen(value) if isinstance(value, Static) else value

    for name, value in state.static.items():
        state.static[name] = tree_map(static, value, is_leaf=lambda v: isinstance(v, Static))
    state.accumulated = {
        name: ({key: chosen(v) for key, v in totals.items()}, [chosen(v) for v in last])
        for name, (totals, last) in state.accumulated.items()
    }
    for name in snn.neurons:
        neuron = snn.neurons[name]
        neuron.set_states({key: chosen(value) for key, value in neuron.get_states().items()})
