"""SpikingJelly nodes over the neuron equations in `snnconv.dynamics`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..dynamics import (
    IFState,
    ShiftedThresholdState,
    SignedIFState,
    SRPState,
    if_multistep,
    if_step,
    membrane_dtype,
    shifted_threshold_amplitudes,
    shifted_threshold_bit,
    shifted_threshold_integrate,
    shifted_threshold_multistep,
    shifted_threshold_step,
    signed_if_multistep,
    signed_if_step,
    srp_multistep,
    srp_step,
)
from ..dynamics.threshold import check_eps, threshold_like
from ._node import Outputs, SoftResetNode, States

__all__ = ["CLASSES", "ChannelIFNode", "SRPIFNode", "ShiftedThresholdIFNode", "SignedIFNode"]


class ChannelIFNode(SoftResetNode):
    """Integrate-and-fire node with one threshold per channel.

    The equation is `snnconv.dynamics.if_step`: soft reset, start at ``theta/2``. The membrane is float32
    for half-precision inputs. Arguments are SpikingJelly's, and two more.

    Args:
        v_threshold: ``theta``; a float, or one value per channel ``[C]``, which becomes a buffer.
        v_reset: only ``None``, soft reset.
        surrogate_function: gradient of the spike; SpikingJelly's sigmoid by default.
        detach_reset: keep the reset out of the gradient.
        step_mode: ``"s"`` for one step ``[B, C, ...]``, ``"m"`` for a sequence ``[T, B, C, ...]``.
        store_v_seq: keep the membrane potentials of the last sequence in ``v_seq``.
        channel_axis: channel axis of one step.
        scaled: emit ``theta * s`` instead of the unit spike ``s``.

    Raises:
        ValueError: a threshold that is not positive and finite, a ``v_reset``, or (at the first step) a
            number of channels other than the number of thresholds.

    Example:
        >>> node = ChannelIFNode(torch.tensor([1.0, 2.0]), step_mode="m")
        >>> node(torch.ones(4, 1, 2)).sum(0)
        tensor([[4., 2.]])
    """

    def _dynamics(self, x: Tensor, states: States, theta: float | Tensor, *, multistep: bool) -> tuple[Tensor, States]:
        run = if_multistep if multistep else if_step
        return run(x, v_threshold=theta, state=IFState(*states), **self._gradient)


class SignedIFNode(SoftResetNode):
    """Signed integrate-and-fire node: emits -1 to take back a spike that came too early.

    The equation is `snnconv.dynamics.signed_if_step`. Memories: ``v``, and ``n``, positive minus negative
    spikes so far. Both signs use the surrogate gradient.

    Args:
        eps: dead zone below zero as a fraction of the threshold.
        v_threshold, v_reset, surrogate_function, detach_reset, step_mode, store_v_seq, channel_axis, scaled:
            as in `ChannelIFNode`.

    Raises:
        ValueError: as `ChannelIFNode`, or a negative ``eps``.

    Example:
        >>> node = SignedIFNode(step_mode="m")
        >>> node(torch.tensor([[0.75], [-0.75], [0.0]])).flatten()
        tensor([ 1., -1.,  0.])
    """

    _MEMORIES = (("n", 0.0),)

    def __init__(
        self,
        v_threshold: float | Tensor = 1.0,
        v_reset: None = None,
        surrogate_function: Callable[[Tensor], Tensor] | None = None,
        detach_reset: bool = False,
        step_mode: str = "s",
        store_v_seq: bool = False,
        *,
        eps: float = 1e-3,
        channel_axis: int = 1,
        scaled: bool = False,
    ) -> None:
        super().__init__(
            v_threshold,
            v_reset,
            surrogate_function,
            detach_reset,
            step_mode,
            store_v_seq,
            channel_axis=channel_axis,
            scaled=scaled,
        )
        check_eps(eps)
        self.eps = eps

    def _dynamics(self, x: Tensor, states: States, theta: float | Tensor, *, multistep: bool) -> tuple[Tensor, States]:
        run = signed_if_multistep if multistep else signed_if_step
        return run(x, v_threshold=theta, state=SignedIFState(*states), eps=self.eps, **self._gradient)

    def extra_repr(self) -> str:
        """List the parameters."""
        return f"{super().extra_repr()}, eps={self.eps:g}"


class SRPIFNode(SoftResetNode):
    """SRP-IF node: a first phase of ``pre_timesteps`` decides which neurons may fire in the second.

    The equation is `snnconv.dynamics.srp_step`. Memories: ``v``, ``mask`` and ``step``; a reset starts
    phase 1 again. Phase 1 emits its unmasked spikes, which drive phase 1 of the next layer: read the
    network's result after `latency` steps only.

    Args:
        pre_timesteps: ``tau``, length of phase 1.
        eps: residual potentials up to ``eps * theta`` count as zero.
        v_threshold, v_reset, surrogate_function, detach_reset, step_mode, store_v_seq, channel_axis, scaled:
            as in `ChannelIFNode`.

    Raises:
        ValueError: as `ChannelIFNode`, a negative ``pre_timesteps``, or a negative ``eps``.

    Example:
        >>> node = SRPIFNode(pre_timesteps=2, step_mode="m")
        >>> node(torch.tensor([[1.0], [-1.25], [1.0], [1.0]])).flatten(), node.latency
        (tensor([1., 0., 0., 0.]), 2)
    """

    _MEMORIES = (("mask", None), ("step", 0))

    def __init__(
        self,
        v_threshold: float | Tensor = 1.0,
        v_reset: None = None,
        surrogate_function: Callable[[Tensor], Tensor] | None = None,
        detach_reset: bool = False,
        step_mode: str = "s",
        store_v_seq: bool = False,
        *,
        pre_timesteps: int,
        eps: float = 1e-3,
        channel_axis: int = 1,
        scaled: bool = False,
    ) -> None:
        super().__init__(
            v_threshold,
            v_reset,
            surrogate_function,
            detach_reset,
            step_mode,
            store_v_seq,
            channel_axis=channel_axis,
            scaled=scaled,
        )
        if pre_timesteps < 0:
            raise ValueError(f"SRPIFNode: pre_timesteps is {pre_timesteps}: phase 1 takes zero steps or more")
        check_eps(eps)
        self.pre_timesteps = pre_timesteps
        self.eps = eps

    @property
    def latency(self) -> int:
        """Steps of phase 1, before the first output that counts."""
        return self.pre_timesteps

    def _dynamics(self, x: Tensor, states: States, theta: float | Tensor, *, multistep: bool) -> tuple[Tensor, States]:
        run = srp_multistep if multistep else srp_step
        return run(
            x,
            v_threshold=theta,
            pre_timesteps=self.pre_timesteps,
            state=SRPState(*states),
            eps=self.eps,
            **self._gradient,
        )

    def extra_repr(self) -> str:
        """List the parameters."""
        return f"{super().extra_repr()}, pre_timesteps={self.pre_timesteps}, eps={self.eps:g}, latency={self.latency}"


class ShiftedThresholdIFNode(SoftResetNode):
    """Shifted-threshold integrate-and-fire node: T weighted spikes, most significant bit first.

    The equation is `snnconv.dynamics.shifted_threshold_fire`. ``v_threshold`` is the smallest of the shifted
    thresholds, the least significant bit ``q = lambda / (2^T - 1)``. The input is summed, not averaged, over
    its steps.

    ``scaled`` is on by default: the spike of bit k is worth ``q * 2^k``, and unit spikes (``scaled=False``)
    lose that weight; `snnconv.dynamics.shifted_threshold_amplitudes` gives it back.

    Multi-step mode integrates the whole sequence, of any length, and returns ``timesteps`` steps; every call
    is one window. Single-step mode is pipelined: it fires the window of ``timesteps`` inputs before the
    current one, so its outputs lag by `latency` steps.

    Memories: ``v`` (the membrane that fires), ``v_in`` (the window being integrated) and ``step``.

    Args:
        timesteps: ``T``, inputs per window in single-step mode and bits per output.
        v_threshold, v_reset, surrogate_function, detach_reset, step_mode, store_v_seq, channel_axis, scaled:
            as in `ChannelIFNode`.

    Raises:
        ValueError: as `ChannelIFNode`, or ``timesteps`` below 1.

    Example:
        >>> node = ShiftedThresholdIFNode(v_threshold=0.5, timesteps=3, step_mode="m")
        >>> node(torch.tensor([[1.0], [0.25], [1.25]])).flatten()
        tensor([2.0000, 0.0000, 0.5000])
    """

    _MEMORIES = (("v_in", 0.0), ("step", 0))

    def __init__(
        self,
        v_threshold: float | Tensor = 1.0,
        v_reset: None = None,
        surrogate_function: Callable[[Tensor], Tensor] | None = None,
        detach_reset: bool = False,
        step_mode: str = "s",
        store_v_seq: bool = False,
        *,
        timesteps: int,
        channel_axis: int = 1,
        scaled: bool = True,
    ) -> None:
        super().__init__(
            v_threshold,
            v_reset,
            surrogate_function,
            detach_reset,
            step_mode,
            store_v_seq,
            channel_axis=channel_axis,
            scaled=scaled,
        )
        if timesteps < 1:
            raise ValueError(f"ShiftedThresholdIFNode: timesteps is {timesteps}: it needs at least one step (one bit)")
        self.timesteps = timesteps

    @property
    def latency(self) -> int:
        """Steps before the first output that counts: a window in single-step mode, else none."""
        return self.timesteps if self.step_mode == "s" else 0

    def run(self, x_seq: Tensor) -> Tensor:
        """Integrate a whole sequence of any length and fire it: ``timesteps`` steps, without the pipeline's lag."""
        if self.step_mode == "m":
            return super().run(x_seq)
        v = shifted_threshold_integrate(x_seq)
        like = v.to(x_seq.dtype)
        self.reset()
        self.set_states({"v": v + threshold_like(self.threshold_for(like), v) * 0.5, "v_in": torch.zeros_like(v)})
        out = torch.stack([self(torch.zeros_like(like)) for _ in range(self.timesteps)])
        self.reset()
        return out

    def single_step_functional_forward(self, inputs: tuple[Tensor, ...], states: States, **kwargs: object) -> Outputs:
        """Run one pipelined step on explicit states ``(v, v_in, step)``."""
        q = self.threshold_for(inputs[0])
        v, v_in, step = states
        before = ShiftedThresholdState(v_in, v, step)
        spikes, after = shifted_threshold_step(inputs[0], before, q, self.timesteps, **self._gradient)
        if self.scaled:
            bit = self.timesteps - 1 - step % self.timesteps
            spikes = spikes * (threshold_like(q, spikes) * 2.0**bit)
        return (spikes,), (after.v_fire, after.v_in, after.step)

    def multi_step_functional_forward(self, inputs: tuple[Tensor, ...], states: States, **kwargs: object) -> Outputs:
        """Integrate a whole sequence and fire it; every call is one window, whatever the states hold."""
        q = self.threshold_for(inputs[0][0])
        spikes, v = shifted_threshold_multistep(inputs[0], q, self.timesteps, **self._gradient)
        if self.scaled:
            theta = shifted_threshold_amplitudes(threshold_like(q, spikes), self.timesteps).to(spikes)
            spikes = spikes * theta.reshape(self.timesteps, *(theta.shape[1:] or (1,) * (spikes.ndim - 1)))
        return (spikes,), (v, torch.zeros_like(v), 0)

    def multi_step_forward(self, x_seq: Tensor, *args: Tensor, **kwargs: object) -> Tensor:
        """Run a sequence on the node's own state; with ``store_v_seq`` keep the potential after every bit."""
        states = tuple(self._memories.values())
        (spikes,), states = self.multi_step_functional_forward((x_seq,), states, **kwargs)
        for name, value in zip(self._memories, states, strict=True):
            self._memories[name] = value
        if self.store_v_seq:
            self.v_seq = self._potentials(x_seq)
        return spikes

    def _potentials(self, x_seq: Tensor) -> Tensor:
        v = shifted_threshold_integrate(x_seq)
        q = threshold_like(self.threshold_for(v), v)
        v = v + q * 0.5
        potentials = []
        for k in range(self.timesteps - 1, -1, -1):
            _, v = shifted_threshold_bit(v, q, k, **self._gradient)
            potentials.append(v)
        return torch.stack(potentials)

    def _initial_v(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x, dtype=membrane_dtype(x))

    def extra_repr(self) -> str:
        """List the parameters."""
        return f"{super().extra_repr()}, timesteps={self.timesteps}, latency={self.latency}"


CLASSES: dict[str, type[SoftResetNode]] = {
    "if": ChannelIFNode,
    "signed_if": SignedIFNode,
    "srp": SRPIFNode,
    "shifted_threshold": ShiftedThresholdIFNode,
}
"""The class of every neuron that a method names."""
