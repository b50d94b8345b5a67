"""A snnTorch neuron from a neuron's record: its settings, its memories, thresholds, output scaling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..dynamics.neuron import Neuron
from ..dynamics.threshold import broadcast_channels, check_threshold, heaviside, threshold_like
from ._record import module_options, module_signature, settings_repr

try:
    import snntorch
except ModuleNotFoundError as error:
    if error.name != "snntorch":
        raise
    raise ImportError('snntorch is not installed: pip install "snnconv-plugin[snntorch]"', name="snntorch") from error

__all__ = ["SoftResetNeuron"]


class SoftResetNeuron(snntorch.Leaky):
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
        scaled: emit ``theta * s`` instead of the unit spike ``s``; by default where spikes differ in what they are
            worth, which unit spikes lose.
        detach_reset: keep the reset out of the gradient, as snnTorch does.
        listed: be one of ``snntorch.SpikingNeuron.instances``, which ``snntorch.utils.reset`` goes through and which
            are never freed; a converted network resets its neurons itself.
        options: the neuron's own settings.

    Attributes:
        neuron: the record of the neuron.

    Raises:
        TypeError: a missing or unknown setting.
        ValueError: a threshold that is not positive and finite, or a setting that makes no sense.
    """

    neuron: ClassVar[Neuron]

    threshold: Tensor
    mem: Tensor
    instances: list[nn.Module]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "neuron" in cls.__dict__:
            cls.__signature__ = module_signature(SoftResetNeuron.__init__, cls.neuron)

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
        scaled: bool | None = None,
        detach_reset: bool = True,
        listed: bool = True,
        **options: Any,
    ) -> None:
        check_threshold(threshold, f"{type(self).__name__}: threshold")
        settings = module_options(self.neuron, type(self).__name__, options)
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
        self.scaled = self.neuron.weight is not None if scaled is None else scaled
        for option, value in settings.items():
            setattr(self, option, value)
        self.detach_reset = detach_reset
        self.register_buffer("mem", torch.zeros(0), persistent=False)
        for name in self._others:
            self.register_buffer(name, None, persistent=False)
        self.reset_mem()

    # ------------------------------------------------------------------ state

    def reset_mem(self) -> Tensor:
        """Start a new sequence; returns the ``mem`` to pass with the first input."""
        self._buffers["mem"] = self.threshold.detach().new_zeros(0)
        for name in self._others:
            self._remember(name, 0 if name in self.neuron.counters else None)
        return self.mem

    @property
    def _others(self) -> tuple[str, ...]:
        """What is remembered besides ``mem``."""
        return self.neuron.memories[1:]

    def reset(self) -> None:
        """The same, without a result."""
        self.reset_mem()

    def get_states(self) -> dict[str, Any]:
        """What the neuron remembers, to be given back to `set_states`."""
        return {"mem": self.mem, **{name: getattr(self, name) for name in self._others}}

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

    def _state(self, x: Tensor, theta: Tensor) -> Any:
        """What the equation goes on from; what is not there yet starts as the equation says."""
        values = [self.mem, *(getattr(self, name) for name in self._others)]
        fresh = self.mem.shape != x.shape
        if fresh or any(value is None for value in values):
            start = self.neuron.remembered(self.neuron.initial(x, theta, **self.options))
            values = list(start) if fresh else [s if v is None else v for v, s in zip(values, start, strict=True)]
        return self.neuron.state_of(values)

    def _keep(self, state: Any) -> None:
        self.set_states(dict(zip(("mem", *self._others), self.neuron.remembered(state), strict=True)))

    # ------------------------------------------------------------------ running

    @property
    def options(self) -> dict[str, Any]:
        """The neuron's own settings."""
        return {option.name: getattr(self, option.name) for option in self.neuron.options}

    @property
    def latency(self) -> int:
        """Steps before the first output that counts."""
        return self.neuron.first(**self.options)

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
        theta = self.threshold_for(input_)
        before = self._state(input_, theta)
        spk, after = self.neuron.step(input_, before, theta, **self._gradient, **self.options)
        self._keep(after)
        if self.scaled:
            worth, weight = threshold_like(theta, spk), self.neuron.weight
            spk = spk * (worth if weight is None else worth * weight(before.step, **self.options))
        spk = spk * self.graded_spikes_factor.to(spk.dtype)
        return spk if self.init_hidden and not self.output else (spk, self.mem)

    def run(self, x_seq: Tensor) -> Tensor:
        """All steps of a sequence ``[T, B, ...]``, from the state that the neuron has; its spikes ``[T, B, ...]``.

        In sum coding a sequence of any length is one window: it is gathered whole, and then its ``timesteps`` spikes
        are fired, without the pipeline's lag.
        """
        if self.neuron.gather is None:
            return torch.stack([self._spikes(x) for x in x_seq]) if len(x_seq) else torch.empty_like(x_seq)
        silence = torch.zeros_like(x_seq[0])
        self._keep(self.neuron.gather(x_seq, self.threshold_for(silence), **self.options))
        out = torch.stack([self._spikes(silence) for _ in range(self.options["timesteps"])])
        self.reset_mem()
        return out

    def _spikes(self, x: Tensor) -> Tensor:
        out = self(x)
        return out if isinstance(out, Tensor) else out[0]

    @property
    def _gradient(self) -> dict[str, Any]:
        return {"surrogate": None if self.surrogate_disable else self._surrogate, "detach_reset": self.detach_reset}

    def _surrogate(self, u: Tensor) -> Tensor:
        """H with snnTorch's gradient; snnTorch's own forward value is strict, H(0) = 0."""
        if not (torch.is_grad_enabled() and u.requires_grad):
            return heaviside(u)
        soft = self.spike_grad(u)
        out: Tensor = heaviside(u) + (soft - soft.detach())
        return out

    def extra_repr(self) -> str:
        """List the parameters; a per-channel threshold by its size."""
        theta = self.threshold
        shown = f"{float(theta):g}" if theta.ndim == 0 else f"<{tuple(theta.shape)} on axis {self.channel_axis}>"
        settings = settings_repr(self.neuron, self.options, self.latency)
        return (
            f"threshold={shown}, init_hidden={self.init_hidden}, output={self.output}, scaled={self.scaled}{settings}"
        )
