"""A run cut along time, where a single input over all of its steps takes far more than the memory budget."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor

from snnconv.graph.source import broadcast
from snnconv.runtime.readout import behind
from snnconv.runtime.run import RunState

if TYPE_CHECKING:
    from snnconv.network import SpikingNetwork

__all__ = ["piece_lengths", "run_in_pieces"]

LARGEST = 16
"""Memory budgets that a single input may take. Cutting a batch costs nothing, cutting time does: pieces of half the
steps took 1.2 times as long, of single steps three times (ResNet-18 at 224, T = 16)."""


def piece_lengths(snn: SpikingNetwork, x: Any, steps: int) -> list[int]:
    """How many steps each piece of a run has: one piece where all fit, or nothing can be cut."""
    step = int(snn.input_spec.get("step_bytes", 0))
    if not step:
        return [steps]
    step = int(step * snn.signature.growth(x))
    room = LARGEST * snn.memory_budget - int(snn.input_spec.get("constant_bytes", 0))
    count = min(steps, -(-steps * step // max(room, step)))  # of equal length, one step longer or shorter
    if count == 1 or not snn._remembers_outside(phases=True):
        return [steps]
    return [steps // count + (i < steps % count) for i in range(count)]


def run_in_pieces(snn: SpikingNetwork, x: Tensor, pieces: list[int]) -> Any:
    """Outputs ``[T, B, ...]`` of the read-out steps, as a run in one piece gives them.

    What neurons remember takes two values each, between the pieces, for all layers at once.
    """
    state = RunState(backend=snn.backend, may_overwrite=True)
    masks: dict[str, Tensor] = {}
    latency = snn.method.pre_timesteps_
    if latency:
        memory: dict[str, Any] = {}
        for piece in piece_lengths(snn, x, latency):
            snn.program.steps(x, piece, _firing(snn, memory, None), state)
        masks = {site: _allowed(snn, site, memory.pop(site)) for site in list(memory)}
        state.restart()
    fire = _firing(snn, {}, masks if latency else None)
    return behind(*[snn.program.steps(x, piece, fire, state) for piece in pieces])


def _firing(snn: SpikingNetwork, memory: dict[str, Any], masks: dict[str, Tensor] | None) -> Callable[..., Any]:
    """Neurons that go on from ``memory``; those that ``masks`` silences put out nothing."""

    def fire(site: str, x_seq: Tensor) -> Any:
        out = snn._fire_from(memory, site, x_seq, in_place=True)
        if masks is not None:
            (out if isinstance(out, Tensor) else out.int8_spikes).mul_(masks[site])
        return out

    return fire


def _allowed(snn: SpikingNetwork, site: str, state: Any) -> Tensor:
    """Who may fire in the second phase, from the state after the first."""
    record, node = snn.method.record, snn.neurons[site]
    assert record.pre_phase is not None
    theta = broadcast(node.v_threshold, getattr(state, record.pre_phase.neuron.membrane).dim(), node.channel_axis)
    return record.pre_phase.allowed(state, theta, **snn.method.neuron_options)
