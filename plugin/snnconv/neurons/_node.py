"""A SpikingJelly node from a neuron's record: its settings, its memories, thresholds, output scaling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from spikingjelly.activation_based import surrogate
from spikingjelly.activation_based.neuron import BaseNode
from torch import Tensor

from ..dynamics.neuron import Neuron, follow
from ..dynamics.threshold import broadcast_channels, check_threshold, membrane_dtype, threshold_like
from ._record import module_options, module_signature, settings_repr

__all__ = ["SoftResetNode"]

States = tuple[Any, ...]
Outputs = tuple[tuple[Tensor, ...], States]

_SIGMOID = surrogate.Sigmoid()
"""The default, one for all nodes, as SpikingJelly's own nodes share theirs."""


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
        scaled: emit ``theta * s`` instead of the unit spike ``s``; by default where spikes differ in what they are
            worth, which unit spikes lose.
        options: the neuron's own settings.

    Attributes:
        neuron: the record of the neuron.

    Raises:
        TypeError: a missing or unknown setting.
        ValueError: a threshold that is not positive and finite, a ``v_reset``, or a setting that makes no sense.
    """

    neuron: ClassVar[Neuron]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "neuron" in cls.__dict__:
            cls.__signature__ = module_signature(SoftResetNode.__init__, cls.neuron)

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
        scaled: bool | None = None,
        **options: Any,
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
            surrogate_function=surrogate_function or _SIGMOID,
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
        self.channel_axis: int
        self.scaled: bool
        # straight in: plain values, at each of which nn.Module would look for what it registers
        self.__dict__.update(
            channel_axis=channel_axis,
            scaled=self.neuron.weight is not None if scaled is None else scaled,
            **module_options(self.neuron, name, options),
        )
        # None means "start as the equation says": at half of whatever the threshold is at the first step.
        self.v = None
        self.set_reset_value("v", None)
        for memory, value in self._reset_values():
            self.register_memory(memory, value)

    def _reset_values(self) -> list[tuple[str, int | None]]:
        """Memories after ``v``; tensors, like it, start as the equation says."""
        counters = self.neuron.counters
        return [(name, 0 if name in counters else None) for name in self.neuron.memories[1:]]

    @property
    def options(self) -> dict[str, Any]:
        """The neuron's own settings."""
        return {option.name: getattr(self, option.name) for option in self.neuron.options}

    @property
    def latency(self) -> int:
        """Steps before the first output that counts; a window of sum coding is gathered whole in multi-step mode."""
        whole = self.neuron.coding == "sum" and self.step_mode == "m"
        return 0 if whole else self.neuron.first(**self.options)

    @property
    def watched(self) -> bool:
        """Whether somebody looks at single steps, so that a fused kernel must not stand in for them."""
        return bool(self._forward_hooks or self._forward_pre_hooks or self.store_v_seq)

    def reset(self) -> None:
        """Start a new sequence; what remembers nothing is left as it is."""
        if any(value is not self._memories_rv[name] for name, value in self._memories.items()):
            super().reset()

    def run(self, x_seq: Tensor) -> Tensor:
        """All steps of a sequence ``[T, B, ...]``, from the state that the node has; its spikes ``[T, B, ...]``.

        In single-step mode (``functional.set_step_mode(network, "s")``) a monitor sees every step by itself. A window
        of sum coding is then gathered whole, and fired without the pipeline's lag.
        """
        if self.step_mode == "m":
            out: Tensor = self(x_seq)
            return out
        if self.neuron.gather is None:
            return torch.stack([self(x) for x in x_seq]) if len(x_seq) else torch.empty_like(x_seq)
        silence = torch.zeros_like(x_seq[0])
        gathered = self.neuron.gather(x_seq, self.threshold_for(silence), **self.options)
        self.set_states(dict(zip(self._memories, self.neuron.remembered(gathered), strict=True)))
        out = torch.stack([self(silence) for _ in range(self.options["timesteps"])])
        self.reset()
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
        x, before = inputs[0], self.neuron.state_of(states)
        theta = self.threshold_for(x)
        spikes, after = self.neuron.step(x, before, theta, **self._gradient, **self.options)
        if self.scaled:
            spikes = spikes * self._worth(theta, spikes, getattr(before, "step", 0))
        return (spikes,), self.neuron.remembered(after)

    def multi_step_functional_forward(self, inputs: tuple[Tensor, ...], states: States, **kwargs: object) -> Outputs:
        """Run a sequence ``[T, B, ...]`` on explicit states, in the order of the node's memories.

        In sum coding it is of any length: every call is one window, whatever the states hold.
        """
        x_seq, before = inputs[0], self.neuron.state_of(states)
        theta = self.threshold_for(x_seq[0])
        spikes, after = self.neuron.sequence(x_seq, theta, before, **self._gradient, **self.options)
        if self.scaled and self.neuron.weight is None:
            spikes = spikes * threshold_like(theta, spikes)
        elif self.scaled:
            first = 0 if self.neuron.coding == "sum" else before.step
            spikes = torch.stack([s * self._worth(theta, s, first + t) for t, s in enumerate(spikes)])
        return (spikes,), self.neuron.remembered(after)

    def _worth(self, theta: float | Tensor, spikes: Tensor, step: int) -> float | Tensor:
        """What the spikes of a step are worth."""
        worth, weight = threshold_like(theta, spikes), self.neuron.weight
        return worth if weight is None else worth * weight(step, **self.options)

    def multi_step_forward(self, x_seq: Tensor, *args: Tensor, **kwargs: object) -> Any:
        """Run a sequence on the node's own state; with ``store_v_seq`` keep the potential after every step."""
        if not self.store_v_seq or self.neuron.coding != "sum":
            return super().multi_step_forward(x_seq, *args, **kwargs)
        states = self.materialize_states((x_seq,), tuple(self._memories.values()), "m")
        (spikes,), states = self.multi_step_functional_forward((x_seq,), states, **kwargs)
        for name, value in zip(self._memories, states, strict=True):
            self._memories[name] = value
        theta = self.threshold_for(x_seq[0])
        self.v_seq = follow(self.neuron, x_seq, theta, **self._gradient, **self.options)[1]
        return spikes

    @property
    def _gradient(self) -> dict[str, Any]:
        return {"surrogate": self.surrogate_function, "detach_reset": self.detach_reset}

    def materialize_states(self, inputs: tuple[Tensor, ...], states: States, step_mode: str) -> States:
        """Turn reset values into tensors like the input; a new input shape starts afresh."""
        x = inputs[0][0] if step_mode == "m" else inputs[0]
        v, *rest = states
        start = None
        if not isinstance(v, Tensor) or v.shape != x.shape:
            if isinstance(v, Tensor):
                rest = [value for _, value in self._reset_values()]
            start = self._start(x)
            v = torch.full_like(start[0], v) if isinstance(v, (int, float)) else start[0]
        if any(value is None for value in rest):
            start = start or self._start(x)
            rest = [begins if value is None else value for value, begins in zip(rest, start[1:], strict=True)]
        like = v.to(device=x.device, dtype=membrane_dtype(x))
        return (like, *(self._materialize(value, like) for value in rest))

    def _start(self, x: Tensor) -> States:
        return self.neuron.remembered(self.neuron.initial(x, self.threshold_for(x), **self.options))

    @staticmethod
    def _materialize(value: object, v: Tensor) -> object:
        if isinstance(value, float):
            return torch.full_like(v, value)
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
            + settings_repr(self.neuron, self.options, self.latency)
        )
