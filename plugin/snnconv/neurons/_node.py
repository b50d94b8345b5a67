"""What the SpikingJelly nodes share: thresholds, start of the state, output scaling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from spikingjelly.activation_based import surrogate
from spikingjelly.activation_based.neuron import BaseNode
from torch import Tensor

from ..dynamics.threshold import (
    broadcast_channels,
    check_threshold,
    half_threshold,
    membrane_dtype,
    threshold_like,
)

States = tuple[Any, ...]
Outputs = tuple[tuple[Tensor, ...], States]


class SoftResetNode(BaseNode):
    """Base of the soft-reset nodes: per-channel thresholds, membrane starting at half a threshold.

    Args:
        v_threshold: ``theta``; a float, or one value per channel ``[C]``. A tensor becomes a buffer (a
            parameter stays one) and moves with the module.
        v_reset: only ``None``, soft reset.
        surrogate_function: SpikingJelly surrogate; the forward value is H, the derivative its own.
        detach_reset: keep the reset out of the gradient.
        step_mode: ``"s"`` for one step ``[B, ...]``, ``"m"`` for a sequence ``[T, B, ...]``.
        store_v_seq: keep the membrane potentials of the last sequence in ``v_seq``.
        channel_axis: channel axis of one step ``[B, C, ...]``.
        scaled: emit ``theta * s`` instead of the unit spike ``s``.

    Raises:
        ValueError: a threshold that is not positive and finite, or a ``v_reset``.
    """

    _MEMORIES: tuple[tuple[str, object], ...] = ()
    """Memories after ``v``, with their reset values."""

    def __init__(
        self,
        v_threshold: float | Tensor = 1.0,
        v_reset: None = None,
        surrogate_function: Callable[[Tensor], Tensor] | None = None,
        detach_reset: bool = False,
        step_mode: str = "s",
        store_v_seq: bool = False,
        *,
        channel_axis: int = 1,
        scaled: bool = False,
    ) -> None:
        name = type(self).__name__
        if v_reset is not None:
            raise ValueError(
                f"{name}: v_reset is {v_reset}, but converted networks need the soft reset: pass v_reset=None"
            )
        check_threshold(v_threshold, f"{name}: v_threshold")
        if isinstance(v_threshold, Tensor) and v_threshold.ndim > 1:
            raise ValueError(
                f"{name}: v_threshold has shape {tuple(v_threshold.shape)}: pass a float or one value per channel [C]"
            )
        super().__init__(
            v_threshold=1.0 if isinstance(v_threshold, Tensor) else float(v_threshold),
            v_reset=None,
            surrogate_function=surrogate_function or surrogate.Sigmoid(),
            detach_reset=detach_reset,
            step_mode=step_mode,
            store_v_seq=store_v_seq,
        )
        self.v_threshold: float | Tensor
        if isinstance(v_threshold, torch.nn.Parameter):
            del self.v_threshold
            self.v_threshold = v_threshold
        elif isinstance(v_threshold, Tensor):
            del self.v_threshold
            self.register_buffer("v_threshold", v_threshold.detach().clone())
        self.channel_axis = channel_axis
        self.scaled = scaled
        # None means "start as the equation says": at half of whatever the threshold is at the first step.
        self.v = None
        self.set_reset_value("v", None)
        for memory, value in self._MEMORIES:
            self.register_memory(memory, value)

    @property
    def latency(self) -> int:
        """Steps before the first meaningful output."""
        return 0

    @property
    def watched(self) -> bool:
        """Whether somebody looks at single steps, so that a fused kernel must not stand in for them."""
        return bool(self._forward_hooks or self._forward_pre_hooks or self.store_v_seq)

    def run(self, x_seq: Tensor) -> Tensor:
        """All steps of a sequence ``[T, B, ...]``, from the state that the node has; its spikes ``[T, B, ...]``.

        In single-step mode (``functional.set_step_mode(network, "s")``) a monitor sees every step by itself.
        """
        if self.step_mode == "s":
            return torch.stack([self(x) for x in x_seq]) if len(x_seq) else torch.empty_like(x_seq)
        out: Tensor = self(x_seq)
        return out

    def get_states(self) -> dict[str, Any]:
        """What the node remembers, to be given back to `set_states`."""
        return dict(self._memories)

    def set_states(self, states: dict[str, Any]) -> None:
        """Go on from states that `get_states` gave."""
        self._memories.update(states)

    def threshold_for(self, x: Tensor) -> float | Tensor:
        """Return the threshold shaped to broadcast against one step ``x`` ``[B, ...]``.

        Raises:
            ValueError: the number of channels differs from the number of thresholds.
        """
        theta = self.v_threshold
        if not isinstance(theta, Tensor) or theta.ndim == 0:
            return theta
        axis = self.channel_axis
        try:
            size = x.shape[axis] if -x.ndim <= axis < x.ndim else None
            return broadcast_channels(theta, x.ndim, axis, size)
        except ValueError as error:
            raise ValueError(f"{type(self).__name__} on an input {tuple(x.shape)}: {error}") from None

    def single_step_functional_forward(self, inputs: tuple[Tensor, ...], states: States, **kwargs: object) -> Outputs:
        """Run one step ``[B, ...]`` on explicit states, in the order of the node's memories."""
        theta = self.threshold_for(inputs[0])
        spikes, states = self._dynamics(inputs[0], states, theta, multistep=False)
        return (spikes * threshold_like(theta, spikes) if self.scaled else spikes,), states

    def multi_step_functional_forward(self, inputs: tuple[Tensor, ...], states: States, **kwargs: object) -> Outputs:
        """Run a sequence ``[T, B, ...]`` on explicit states, in the order of the node's memories."""
        theta = self.threshold_for(inputs[0][0])
        spikes, states = self._dynamics(inputs[0], states, theta, multistep=True)
        return (spikes * threshold_like(theta, spikes) if self.scaled else spikes,), states

    def _dynamics(self, x: Tensor, states: States, theta: float | Tensor, *, multistep: bool) -> tuple[Tensor, States]:
        raise NotImplementedError

    @property
    def _gradient(self) -> dict[str, Any]:
        return {"surrogate": self.surrogate_function, "detach_reset": self.detach_reset}

    def materialize_states(self, inputs: tuple[Tensor, ...], states: States, step_mode: str) -> States:
        """Turn reset values into tensors like the input; a new input shape starts afresh."""
        x = inputs[0][0] if step_mode == "m" else inputs[0]
        v, *rest = states
        if not isinstance(v, Tensor) or v.shape != x.shape:
            if isinstance(v, Tensor):
                rest = [value for _, value in self._MEMORIES]
            start = self._initial_v(x)
            v = torch.full_like(start, v) if isinstance(v, (int, float)) else start
        like = v.to(device=x.device, dtype=membrane_dtype(x))
        return (like, *(self._materialize(value, like) for value in rest))

    def _initial_v(self, x: Tensor) -> Tensor:
        return half_threshold(x, self.threshold_for(x))

    @staticmethod
    def _materialize(value: object, v: Tensor) -> object:
        if isinstance(value, float):
            return torch.full_like(v, value)
        if value is None:
            return torch.ones_like(v, dtype=torch.bool)
        if isinstance(value, Tensor):
            return value.to(device=v.device, dtype=torch.bool if value.dtype == torch.bool else v.dtype)
        return value

    def extra_repr(self) -> str:
        """List the parameters; a per-channel threshold by its size."""
        theta = self.v_threshold
        if isinstance(theta, Tensor) and theta.ndim > 0:
            shown = f"<{theta.numel()} channels on axis {self.channel_axis}>"
        else:
            shown = f"{float(theta):g}"
        return (
            f"v_threshold={shown}, detach_reset={self.detach_reset}, step_mode={self.step_mode}, scaled={self.scaled}"
        )
