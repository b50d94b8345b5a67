"""snnTorch neurons over the equations in `snnconv.dynamics`: ``pip install "snnconv-plugin[snntorch]"``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..dynamics import (
    IFState,
    ShiftedThresholdState,
    SignedIFState,
    SRPState,
    if_step,
    membrane_dtype,
    shifted_threshold_integrate,
    shifted_threshold_step,
    signed_if_step,
    srp_step,
)
from ..dynamics.threshold import (
    broadcast_channels,
    check_eps,
    check_threshold,
    half_threshold,
    heaviside,
    threshold_like,
)

try:
    import snntorch
except ModuleNotFoundError as error:
    if error.name != "snntorch":
        raise
    raise ImportError('snntorch is not installed: pip install "snnconv-plugin[snntorch]"', name="snntorch") from error

__all__ = ["CLASSES", "IF", "SRPIF", "ShiftedThresholdIF", "SignedIF", "SoftResetNeuron"]


class SoftResetNeuron(snntorch.Leaky, ABC):
    """Base of the soft-reset neurons: per-channel thresholds, membrane starting at half a threshold.

    A ``snntorch.Leaky`` to snnTorch (``snntorch.utils.reset``, its training loops), but without leak: ``mem`` starts
    at ``theta/2`` instead of zero, and the subtraction follows the spike in the same step.

    Every neuron object runs one sequence at a time: what it remembers besides ``mem`` is its own. `reset_mem` (or
    ``snntorch.utils.reset``, or assigning zeros to ``mem``) starts the next sequence.

    Args:
        threshold: ``theta``; a float, one value per channel ``[C]``, or a tensor that broadcasts against the input.
        spike_grad: surrogate gradient of snnTorch; its arctangent by default. The forward value is H with H(0) = 1.
        surrogate_disable: no gradient through the spike.
        init_hidden: keep ``mem`` inside and return the spikes alone.
        learn_threshold: make the threshold a parameter.
        output: return ``(spk, mem)`` also with ``init_hidden``.
        graded_spikes_factor, learn_graded_spikes_factor: as in snnTorch.
        channel_axis: channel axis of one step ``[B, C, ...]`` for thresholds ``[C]``.
        scaled: emit ``theta * s`` instead of the unit spike ``s``.
        detach_reset: keep the reset out of the gradient, as snnTorch does.
        listed: be one of ``snntorch.SpikingNeuron.instances``, which ``snntorch.utils.reset`` goes through and which
            are never freed; a converted network resets its neurons itself.

    Raises:
        ValueError: a threshold that is not positive and finite.
    """

    _MEMORIES: tuple[tuple[str, object], ...] = ()
    """What is remembered besides ``mem``, with the values at the start of a sequence."""

    threshold: Tensor
    mem: Tensor
    instances: list[nn.Module]

    def __init__(
        self,
        threshold: float | Tensor = 1.0,
        spike_grad: Callable[[Tensor], Tensor] | None = None,
        surrogate_disable: bool = False,
        init_hidden: bool = False,
        learn_threshold: bool = False,
        output: bool = False,
        graded_spikes_factor: float | Tensor = 1.0,
        learn_graded_spikes_factor: bool = False,
        *,
        channel_axis: int = 1,
        scaled: bool = False,
        detach_reset: bool = True,
        listed: bool = True,
    ) -> None:
        check_threshold(threshold, f"{type(self).__name__}: threshold")
        theta = threshold.detach().clone() if isinstance(threshold, Tensor) else torch.tensor(float(threshold))
        snntorch.SpikingNeuron.__init__(  # not Leaky's: there is no beta
            self,
            threshold=theta,
            spike_grad=spike_grad,
            surrogate_disable=surrogate_disable,
            init_hidden=init_hidden,
            learn_threshold=learn_threshold,
            output=output,
            graded_spikes_factor=graded_spikes_factor,
            learn_graded_spikes_factor=learn_graded_spikes_factor,
        )
        self.own_gradient = spike_grad is None and not surrogate_disable
        self.listed = listed
        if not listed:
            snntorch.SpikingNeuron.instances.pop()
        self.channel_axis = channel_axis
        self.scaled = scaled
        self.detach_reset = detach_reset
        self.register_buffer("mem", torch.zeros(0), persistent=False)
        for name, _ in self._MEMORIES:
            self.register_buffer(name, None, persistent=False)
        self.reset_mem()

    # ------------------------------------------------------------------ state

    def reset_mem(self) -> Tensor:
        """Start a new sequence; returns the ``mem`` to pass with the first input."""
        self._buffers["mem"] = self.threshold.detach().new_zeros(0)
        for name, value in self._MEMORIES:
            self._remember(name, value)
        return self.mem

    def reset(self) -> None:
        """The same, without a result."""
        self.reset_mem()

    def get_states(self) -> dict[str, Any]:
        """What the neuron remembers, to be given back to `set_states`."""
        return {"mem": self.mem, **{name: getattr(self, name) for name, _ in self._MEMORIES}}

    def set_states(self, states: dict[str, Any]) -> None:
        """Go on from states that `get_states` gave."""
        for name, value in states.items():
            self._remember(name, value)

    def _remember(self, name: str, value: Any) -> None:
        if isinstance(value, Tensor) or value is None:
            self.__dict__.pop(name, None)
            self._buffers[name] = value
        else:
            self._buffers.pop(name, None)
            self.__dict__[name] = value

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "mem" and isinstance(value, Tensor) and not bool(value.any()):
            self.reset_mem()  # snnTorch resets its neurons by assigning zeros
        else:
            super().__setattr__(name, value)

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        if self.own_gradient:  # a function inside a function, which does not pickle
            del state["spike_grad"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if self.own_gradient:
            self.spike_grad = snntorch.surrogate.atan()
        if self.listed:
            snntorch.SpikingNeuron.instances.append(self)  # copies are reset with the others

    def _start(self, x: Tensor) -> None:
        self.reset_mem()
        mem = self._initial(x)
        self._buffers["mem"] = mem
        for name, value in self._MEMORIES:
            if isinstance(value, float):
                self._remember(name, torch.full_like(mem, value))
            elif value is None:
                self._remember(name, torch.ones_like(mem, dtype=torch.bool))

    def _initial(self, x: Tensor) -> Tensor:
        return half_threshold(x, self.threshold_for(x))

    # ------------------------------------------------------------------ running

    @property
    def latency(self) -> int:
        """Steps before the first meaningful output."""
        return 0

    @property
    def v_threshold(self) -> Tensor:
        """``theta``, under SpikingJelly's name."""
        return self.threshold

    @v_threshold.setter
    def v_threshold(self, theta: Tensor) -> None:
        self.threshold = theta

    @property
    def watched(self) -> bool:
        """Whether somebody listens to single steps, so that a fused kernel must not stand in for them."""
        return bool(self._forward_hooks or self._forward_pre_hooks)

    def threshold_for(self, x: Tensor) -> Tensor:
        """Return the threshold shaped to broadcast against one step ``x`` ``[B, ...]``.

        Raises:
            ValueError: the number of channels differs from the number of thresholds.
        """
        theta = self.threshold
        if theta.ndim != 1:
            return theta
        axis = self.channel_axis
        size = x.shape[axis] if -x.ndim <= axis < x.ndim else None
        try:
            return broadcast_channels(theta, x.ndim, axis, size)  # type: ignore[return-value]
        except ValueError as error:
            raise ValueError(f"{type(self).__name__} on an input {tuple(x.shape)}: {error}") from None

    def forward(self, input_: Tensor, mem: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """Run one step.

        Args:
            input_: current ``[B, ...]``, in units of ``theta``.
            mem: membrane potential ``[B, ...]``, from the step before or from `reset_mem`.

        Returns:
            ``(spk, mem)``; with ``init_hidden`` and without ``output`` the spikes alone.
        """
        if mem is not None:
            if self.init_hidden:
                raise TypeError("`mem` should not be passed as an argument while `init_hidden=True`")
            self._buffers["mem"] = mem
        if self.mem.shape != input_.shape:
            self._start(input_)
        theta = self.threshold_for(input_)
        spk = self._step(input_, theta)
        if self.scaled:
            spk = spk * self._amplitude(theta, spk)
        spk = spk * self.graded_spikes_factor.to(spk.dtype)
        return spk if self.init_hidden and not self.output else (spk, self.mem)

    def run(self, x_seq: Tensor) -> Tensor:
        """All steps of a sequence ``[T, B, ...]``, from the state that the neuron has; its spikes ``[T, B, ...]``."""
        return torch.stack([self._spikes(x) for x in x_seq]) if len(x_seq) else torch.empty_like(x_seq)

    def _spikes(self, x: Tensor) -> Tensor:
        out = self(x)
        return out if isinstance(out, Tensor) else out[0]

    @abstractmethod
    def _step(self, x: Tensor, theta: Tensor) -> Tensor:
        """Unit spikes of one step; goes on from the state, and stores the new one."""

    def _amplitude(self, theta: Tensor, spk: Tensor) -> float | Tensor:
        return threshold_like(theta, spk)

    @property
    def _gradient(self) -> dict[str, Any]:
        return {"surrogate": None if self.surrogate_disable else self._surrogate, "detach_reset": self.detach_reset}

    def _surrogate(self, u: Tensor) -> Tensor:
        """H with snnTorch's gradient; snnTorch's own forward value is strict, H(0) = 0."""
        if not (torch.is_grad_enabled() and u.requires_grad):
            return heaviside(u)
        soft = self.spike_grad(u)
        return heaviside(u) + (soft - soft.detach())

    def extra_repr(self) -> str:
        """List the parameters; a per-channel threshold by its size."""
        theta = self.threshold
        shown = f"{float(theta):g}" if theta.ndim == 0 else f"<{tuple(theta.shape)} on axis {self.channel_axis}>"
        return f"threshold={shown}, init_hidden={self.init_hidden}, output={self.output}, scaled={self.scaled}"


class IF(SoftResetNeuron):
    """Integrate-and-fire neuron with soft reset, started at ``theta/2``: `snnconv.dynamics.if_step`.

    Arguments as in `SoftResetNeuron`.

    Example:
        >>> neuron = IF(threshold=1.0)
        >>> mem = neuron.reset_mem()
        >>> spk, mem = neuron(torch.tensor([[0.25, 0.75]]), mem)
        >>> spk, mem
        (tensor([[0., 1.]]), tensor([[0.7500, 0.2500]]))
    """

    def _step(self, x: Tensor, theta: Tensor) -> Tensor:
        spk, state = if_step(x, IFState(self.mem), theta, **self._gradient)
        self._buffers["mem"] = state.v
        return spk


class SignedIF(SoftResetNeuron):
    """Signed integrate-and-fire neuron: emits -1 to take back a spike that came too early.

    The equation is `snnconv.dynamics.signed_if_step`. Remembers ``n``, positive minus negative spikes.

    Args:
        eps: dead zone below zero as a fraction of the threshold.
        threshold, spike_grad, ...: as in `SoftResetNeuron`.

    Example:
        >>> neuron = SignedIF(init_hidden=True)
        >>> [neuron(torch.tensor([[x]])).item() for x in (0.75, -0.75, 0.0)]
        [1.0, -1.0, 0.0]
    """

    _MEMORIES = (("n", 0.0),)

    def __init__(self, threshold: float | Tensor = 1.0, *args: Any, eps: float = 1e-3, **kwargs: Any) -> None:
        check_eps(eps)
        super().__init__(threshold, *args, **kwargs)
        self.eps = eps

    def _step(self, x: Tensor, theta: Tensor) -> Tensor:
        spk, state = signed_if_step(x, SignedIFState(self.mem, self.n), theta, self.eps, **self._gradient)
        self._buffers["mem"], self._buffers["n"] = state.v, state.n
        return spk

    def extra_repr(self) -> str:
        """List the parameters."""
        return f"{super().extra_repr()}, eps={self.eps:g}"


class SRPIF(SoftResetNeuron):
    """SRP-IF neuron: a first phase of ``pre_timesteps`` decides which neurons may fire in the second.

    The equation is `snnconv.dynamics.srp_step`. Remembers ``mask`` and ``step``. Phase 1 emits its unmasked spikes,
    which drive phase 1 of the next layer: read the network's result after `latency` steps only.

    Args:
        pre_timesteps: ``tau``, length of phase 1.
        eps: residual potentials up to ``eps * theta`` count as zero.
        threshold, spike_grad, ...: as in `SoftResetNeuron`.

    Raises:
        ValueError: as `SoftResetNeuron`, a negative ``pre_timesteps``, or a negative ``eps``.

    Example:
        >>> neuron = SRPIF(pre_timesteps=2, init_hidden=True)
        >>> [neuron(torch.tensor([[x]])).item() for x in (1.0, -1.25, 1.0, 1.0)]
        [1.0, 0.0, 0.0, 0.0]
    """

    _MEMORIES = (("mask", None), ("step", 0))

    def __init__(
        self, threshold: float | Tensor = 1.0, *args: Any, pre_timesteps: int, eps: float = 1e-3, **kwargs: Any
    ) -> None:
        if pre_timesteps < 0:
            raise ValueError(f"SRPIF: pre_timesteps is {pre_timesteps}: phase 1 takes zero steps or more")
        check_eps(eps)
        super().__init__(threshold, *args, **kwargs)
        self.pre_timesteps = pre_timesteps
        self.eps = eps

    @property
    def latency(self) -> int:
        """Steps of phase 1, before the first output that counts."""
        return self.pre_timesteps

    def _step(self, x: Tensor, theta: Tensor) -> Tensor:
        spk, state = srp_step(
            x, SRPState(self.mem, self.mask, self.step), theta, self.pre_timesteps, self.eps, **self._gradient
        )
        self.set_states({"mem": state.v, "mask": state.mask, "step": state.step})
        return spk

    def extra_repr(self) -> str:
        """List the parameters."""
        return f"{super().extra_repr()}, pre_timesteps={self.pre_timesteps}, eps={self.eps:g}, latency={self.latency}"


class ShiftedThresholdIF(SoftResetNeuron):
    """Shifted-threshold integrate-and-fire neuron: T weighted spikes, most significant bit first.

    The equation is `snnconv.dynamics.shifted_threshold_step`. ``threshold`` is the smallest of the shifted
    thresholds, the least significant bit ``q = lambda / (2^T - 1)``. The input is summed, not averaged, over its steps.

    One step at a time the neuron is pipelined: it fires the window of ``timesteps`` inputs before the current one, so
    its outputs lag by `latency` steps. ``mem`` is the membrane that fires, ``v_in`` the window being integrated.

    ``scaled`` is on by default: the spike of bit k is worth ``q * 2^k``, and unit spikes (``scaled=False``) lose that
    weight.

    Args:
        timesteps: ``T``, inputs per window and bits per output.
        threshold, spike_grad, ...: as in `SoftResetNeuron`.

    Raises:
        ValueError: as `SoftResetNeuron`, or ``timesteps`` below 1.

    Example:
        >>> neuron = ShiftedThresholdIF(threshold=1.0, timesteps=2, init_hidden=True)
        >>> [neuron(torch.tensor([[x]])).item() for x in (1.0, 1.0, 0.0, 0.0)]
        [0.0, 0.0, 2.0, 0.0]
    """

    _MEMORIES = (("v_in", 0.0), ("step", 0))

    def __init__(
        self, threshold: float | Tensor = 1.0, *args: Any, timesteps: int, scaled: bool = True, **kwargs: Any
    ) -> None:
        if timesteps < 1:
            raise ValueError(f"ShiftedThresholdIF: timesteps is {timesteps}: it needs at least one step (one bit)")
        super().__init__(threshold, *args, scaled=scaled, **kwargs)
        self.timesteps = timesteps

    @property
    def latency(self) -> int:
        """Steps before the first output that counts: a window."""
        return self.timesteps

    def run(self, x_seq: Tensor) -> Tensor:
        """Integrate a whole sequence of any length and fire it: ``timesteps`` steps, without the pipeline's lag."""
        v = shifted_threshold_integrate(x_seq)
        like = v.to(x_seq.dtype)
        self._start(like)
        q = threshold_like(self.threshold_for(like), v)
        self._buffers["mem"] = v + q * 0.5
        out = torch.stack([self._spikes(torch.zeros_like(like)) for _ in range(self.timesteps)])
        self.reset_mem()
        return out

    def _initial(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x, dtype=membrane_dtype(x))

    def _step(self, x: Tensor, theta: Tensor) -> Tensor:
        state = ShiftedThresholdState(self.v_in, self.mem, self.step)
        spk, state = shifted_threshold_step(x, state, theta, self.timesteps, **self._gradient)
        self.set_states({"mem": state.v_fire, "v_in": state.v_in, "step": state.step})
        return spk

    def _amplitude(self, theta: Tensor, spk: Tensor) -> float | Tensor:
        bit = self.timesteps - 1 - (self.step - 1) % self.timesteps  # the step has been counted
        return threshold_like(theta, spk) * 2.0**bit

    def extra_repr(self) -> str:
        """List the parameters."""
        return f"{super().extra_repr()}, timesteps={self.timesteps}, latency={self.latency}"


CLASSES: dict[str, type[SoftResetNeuron]] = {
    "if": IF,
    "signed_if": SignedIF,
    "srp": SRPIF,
    "shifted_threshold": ShiftedThresholdIF,
}
"""The class of every neuron that a method names."""
