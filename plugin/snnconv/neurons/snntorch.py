"""snnTorch neurons over the equations in `snnconv.dynamics`: ``pip install "snnconv-plugin[snntorch]"``."""

from __future__ import annotations

from ..dynamics import function_if, integrate_fire, ladder, shifted, signed, srp
from ._record import ModuleClasses
from ._snntorch import SoftResetNeuron

__all__ = [
    "IF", "SRPIF", "FunctionIF", "Ladder", "ShiftedThresholdIF", "SignedIF", "SoftResetNeuron", "node_class",
]  # fmt: skip


class IF(SoftResetNeuron):
    """Integrate-and-fire neuron with soft reset, started at ``theta/2``: `snnconv.dynamics.if_step`.

    Arguments as in `SoftResetNeuron`.

    Example:
        >>> import torch
        >>> neuron = IF(threshold=1.0)
        >>> mem = neuron.reset_mem()
        >>> spk, mem = neuron(torch.tensor([[0.25, 0.75]]), mem)
        >>> spk, mem
        (tensor([[0., 1.]]), tensor([[0.7500, 0.2500]]))
    """

    neuron = integrate_fire.IF


class SignedIF(SoftResetNeuron):
    """Signed integrate-and-fire neuron: emits -1 to take back a spike that came too early.

    The equation is `snnconv.dynamics.signed_if_step`. Remembers ``n``, positive minus negative spikes.

    Args:
        eps: dead zone below zero as a fraction of the threshold.
        eps_absolute: the dead zone in units of the membrane, in place of ``eps``.
        signed: whether values of both signs come in: a spike of -1 then needs none of +1 before it.
        threshold, spike_grad, ...: as in `SoftResetNeuron`.

    Example:
        >>> import torch
        >>> neuron = SignedIF(init_hidden=True)
        >>> [neuron(torch.tensor([[x]])).item() for x in (0.75, -0.75, 0.0)]
        [1.0, -1.0, 0.0]
    """

    neuron = signed.SIGNED_IF


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
        >>> import torch
        >>> neuron = SRPIF(pre_timesteps=2, init_hidden=True)
        >>> [neuron(torch.tensor([[x]])).item() for x in (1.0, -1.25, 1.0, 1.0)]
        [1.0, 0.0, 0.0, 0.0]
    """

    neuron = srp.SRP


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
        signed: whether values of both signs come in: bits are then -1, 0 or 1.
        function: an activation (`snnconv.graph.activation`) of the summed input, whose bits are sent.
        threshold, spike_grad, ...: as in `SoftResetNeuron`.

    Raises:
        ValueError: as `SoftResetNeuron`, or ``timesteps`` below 1.

    Example:
        >>> import torch
        >>> neuron = ShiftedThresholdIF(threshold=1.0, timesteps=2, init_hidden=True)
        >>> [neuron(torch.tensor([[x]])).item() for x in (1.0, 1.0, 0.0, 0.0)]
        [0.0, 0.0, 2.0, 0.0]
    """

    neuron = shifted.SHIFTED_THRESHOLD


class Ladder(SoftResetNeuron):
    """Ladder neuron: the T bits of an activation of the summed input, by comparisons of that input with thresholds.

    The equation is `snnconv.dynamics.ladder_step`; pipelined and ``scaled`` as `ShiftedThresholdIF`, whose spikes with
    ``function`` it has. ``mem`` is the whole input of the window that fires, ``code`` the bits sent so far.

    Args:
        timesteps: ``T``, inputs per window and bits per output.
        function: the activation (`snnconv.graph.activation`), with its extrema.
        signed: whether it takes values below 0, so that bits may be -1.
        threshold, spike_grad, ...: as in `SoftResetNeuron`.

    Example:
        >>> from snnconv.graph.functions import Tanh
        >>> import torch
        >>> neuron = Ladder(threshold=0.25, timesteps=2, function=Tanh(), signed=True, init_hidden=True)
        >>> [neuron(torch.tensor([[x]])).item() for x in (-0.2, -0.3, 0.0, 0.0)]  # tanh(-0.5) = -0.46
        [0.0, 0.0, -0.5, 0.0]
    """

    neuron = ladder.LADDER


class FunctionIF(SoftResetNeuron):
    """Integrate-and-fire neuron on the sum: its spikes follow an activation of the mean input.

    The equation is `snnconv.dynamics.function_if_step`. ``mem`` is the input so far; remembers ``n``, positive minus
    negative spikes, and ``step``.

    Args:
        function: the activation (`snnconv.graph.activation`).
        eps, eps_absolute: the dead zone below, as in `SignedIF`.
        start: ``"half"``: spikes are rounded; ``"zero"``: rounded down.
        signed: whether the activation takes values below 0.
        takes_back: whether there are spikes of -1.
        threshold, spike_grad, ...: as in `SoftResetNeuron`.

    Example:
        >>> from snnconv.graph.functions import Sigmoid
        >>> import torch
        >>> neuron = FunctionIF(function=Sigmoid(), init_hidden=True)
        >>> [neuron(torch.zeros(1, 1)).item() for _ in range(4)]  # sigmoid(0) = 1/2
        [1.0, 0.0, 1.0, 0.0]
    """

    neuron = function_if.FUNCTION_IF


_CLASSES = ModuleClasses(SoftResetNeuron, __name__, "", IF, SignedIF, SRPIF, ShiftedThresholdIF, Ladder, FunctionIF)


def node_class(name: str) -> type[SoftResetNeuron]:
    """The module of a neuron, made from its record where none is written out.

    Raises:
        ValueError: an unknown neuron.

    Example:
        >>> node_class("signed_if").__name__
        'SignedIF'
    """
    return _CLASSES.of(name)


def __getattr__(name: str) -> type[SoftResetNeuron]:
    return _CLASSES.named(name)
