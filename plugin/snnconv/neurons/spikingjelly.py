"""SpikingJelly nodes over the neuron equations in `snnconv.dynamics`, one for each neuron's record."""

from __future__ import annotations

from ..dynamics.function_if import FUNCTION_IF
from ..dynamics.integrate_fire import IF
from ..dynamics.ladder import LADDER
from ..dynamics.multi_threshold import HIERARCHICAL, MULTI_THRESHOLD
from ..dynamics.shifted import SHIFTED_THRESHOLD
from ..dynamics.signed import SIGNED_IF
from ..dynamics.srp import SRP
from ._node import SoftResetNode
from ._record import ModuleClasses

__all__ = [
    "ChannelIFNode", "FunctionIFNode", "HierarchicalMultiThresholdNode", "LadderNode", "MultiThresholdNode",
    "SRPIFNode", "ShiftedThresholdIFNode", "SignedIFNode", "node_class",
]  # fmt: skip


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
        start: the membrane starts at ``"half"`` the threshold, or at ``"zero"``.

    Raises:
        ValueError: a threshold that is not positive and finite, a ``v_reset``, or (at the first step) a
            number of channels other than the number of thresholds.

    Example:
        >>> import torch
        >>> node = ChannelIFNode(torch.tensor([1.0, 2.0]), step_mode="m")
        >>> node(torch.ones(4, 1, 2)).sum(0)
        tensor([[4., 2.]])
    """

    neuron = IF


class SignedIFNode(SoftResetNode):
    """Signed integrate-and-fire node: emits -1 to take back a spike that came too early.

    The equation is `snnconv.dynamics.signed_if_step`. Memories: ``v``, and ``n``, positive minus negative
    spikes so far. Both signs use the surrogate gradient.

    Args:
        eps: dead zone below zero as a fraction of the threshold.
        eps_absolute: the dead zone in units of the membrane, in place of ``eps``.
        signed: whether values of both signs come in: a spike of -1 then needs none of +1 before it.
        v_threshold, v_reset, surrogate_function, detach_reset, step_mode, store_v_seq, channel_axis, scaled:
            as in `ChannelIFNode`.

    Raises:
        ValueError: as `ChannelIFNode`, or a negative ``eps``.

    Example:
        >>> import torch
        >>> node = SignedIFNode(step_mode="m")
        >>> node(torch.tensor([[0.75], [-0.75], [0.0]])).flatten()
        tensor([ 1., -1.,  0.])
    """

    neuron = SIGNED_IF


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
        >>> import torch
        >>> node = SRPIFNode(pre_timesteps=2, step_mode="m")
        >>> node(torch.tensor([[1.0], [-1.25], [1.0], [1.0]])).flatten(), node.latency
        (tensor([1., 0., 0., 0.]), 2)
    """

    neuron = SRP


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
        signed: whether values of both signs come in: bits are then -1, 0 or 1.
        function: an activation (`snnconv.graph.activation`) of the summed input, whose bits are sent; evaluated in
            float64. None: the input itself.
        v_threshold, v_reset, surrogate_function, detach_reset, step_mode, store_v_seq, channel_axis, scaled:
            as in `ChannelIFNode`.

    Raises:
        ValueError: as `ChannelIFNode`, or ``timesteps`` below 1.

    Example:
        >>> import torch
        >>> node = ShiftedThresholdIFNode(v_threshold=0.5, timesteps=3, step_mode="m")
        >>> node(torch.tensor([[1.0], [0.25], [1.25]])).flatten()
        tensor([2.0000, 0.0000, 0.5000])
    """

    neuron = SHIFTED_THRESHOLD


class MultiThresholdNode(SoftResetNode):
    """Multi-threshold node with differential coding: a spike is one power of two, of either sign.

    The equation is `snnconv.dynamics.multi_threshold_step`; ``v_threshold`` is the smallest threshold. Its input is
    what the spikes of each step bring, with the bias in the first step alone, and the value it stands for is the sum
    of its spikes, each divided by the number of its step. Memories: ``v``, ``expected_input``, ``expected_output``
    and ``step``.

    Args:
        thresholds: how many it has, each twice the one before.
        signed: its output takes both signs; else it stays at or above zero.
        ceiling: its largest output in units of ``v_threshold``; ``None``: there is none.
        ceiling_absolute: the same in units of the membrane, in place of ``ceiling``.
        v_threshold, v_reset, surrogate_function, detach_reset, step_mode, store_v_seq, channel_axis, scaled:
            as in `ChannelIFNode`.

    Raises:
        ValueError: as `ChannelIFNode`, or a setting that makes no sense.

    Example:
        >>> import torch
        >>> node = MultiThresholdNode(step_mode="m")
        >>> node(torch.tensor([[5.0], [0.0], [0.0]])).flatten()  # 4 + 2/2
        tensor([4., 2., 0.])
    """

    neuron = MULTI_THRESHOLD


class HierarchicalMultiThresholdNode(SoftResetNode):
    """Hierarchical multi-threshold node: a spike is a whole number of ``thresholds`` bits and a sign.

    The equation is `snnconv.dynamics.hierarchical_multi_threshold_step`. Everything else is as in `MultiThresholdNode`.

    Example:
        >>> import torch
        >>> node = HierarchicalMultiThresholdNode(step_mode="m")
        >>> node(torch.tensor([[5.2], [0.0]])).flatten()
        tensor([5., 0.])
    """

    neuron = HIERARCHICAL


class LadderNode(SoftResetNode):
    """Ladder node: the T bits of an activation of the summed input, by comparisons of that input with thresholds.

    The equation is `snnconv.dynamics.ladder_step`; the spikes are those of `ShiftedThresholdIFNode` with ``function``,
    which evaluates it. ``v_threshold`` is the least significant bit q in units of the activation, ``scaled`` is on by
    default, and steps are windows or pipelined as there.

    Memories: ``v`` (the whole input of the window that fires), ``v_in``, ``code`` (the bits sent so far) and ``step``.

    Args:
        timesteps: ``T``, inputs per window in single-step mode and bits per output.
        function: the activation (`snnconv.graph.activation`), with its extrema.
        signed: whether it takes values below 0, so that bits may be -1.
        v_threshold, v_reset, surrogate_function, detach_reset, step_mode, store_v_seq, channel_axis, scaled:
            as in `ChannelIFNode`; parameters of the activation run along the channel axis too.

    Raises:
        ValueError: as `ChannelIFNode`; at the first input, an activation that is not monotone between its extrema.

    Example:
        >>> import torch
        >>> from snnconv.graph.functions import SiLU
        >>> node = LadderNode(v_threshold=0.25, timesteps=3, function=SiLU(), signed=True, step_mode="m")
        >>> node(torch.tensor([[-1.0], [1.5], [0.5]])).sum(0)  # SiLU(1) = 0.73
        tensor([0.7500])
    """

    neuron = LADDER


class FunctionIFNode(SoftResetNode):
    """Integrate-and-fire node on the sum: its spikes follow an activation of the mean input.

    The equation is `snnconv.dynamics.function_if_step`. Memories: ``v``, the input so far, ``n``, positive minus
    negative spikes, and ``step``. The activation is evaluated once a step, in float64.

    Args:
        function: the activation (`snnconv.graph.activation`).
        eps, eps_absolute: the dead zone below, as in `SignedIFNode`.
        start: ``"half"``: spikes are rounded; ``"zero"``: rounded down.
        signed: whether the activation takes values below 0.
        takes_back: whether there are spikes of -1.
        v_threshold, v_reset, surrogate_function, detach_reset, step_mode, store_v_seq, channel_axis, scaled:
            as in `ChannelIFNode`; parameters of the activation run along the channel axis too.

    Example:
        >>> import torch
        >>> from snnconv.graph.functions import Sigmoid
        >>> node = FunctionIFNode(function=Sigmoid(), step_mode="m")
        >>> node(torch.zeros(4, 1)).flatten()  # sigmoid(0) = 1/2
        tensor([1., 0., 1., 0.])
    """

    neuron = FUNCTION_IF


_CLASSES = ModuleClasses(
    SoftResetNode, __name__, "Node", ChannelIFNode, SignedIFNode, SRPIFNode, ShiftedThresholdIFNode, MultiThresholdNode,
    HierarchicalMultiThresholdNode, LadderNode, FunctionIFNode,
)  # fmt: skip


def node_class(name: str) -> type[SoftResetNode]:
    """The node of a neuron, made from its record where none is written out.

    Raises:
        ValueError: an unknown neuron.

    Example:
        >>> node_class("signed_if").__name__
        'SignedIFNode'
    """
    return _CLASSES.of(name)


def __getattr__(name: str) -> type[SoftResetNode]:
    return _CLASSES.named(name)
