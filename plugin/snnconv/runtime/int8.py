"""Layers that read spikes, with 8-bit weights on 8-bit spikes (oneDNN, on a processor with AVX-512 VNNI or the like).

A spike's amplitude goes into the weights of the layer that reads it, W'_oc = W_oc θ_c, which are then rounded to
``s_o q_oc`` with q in -127 ... 127; s_o is chosen for each output channel to make the squared error of its weights
smallest. Sums of whole numbers are exact, so that the rounding of weights is all that changes.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from snnconv.dynamics.kernels import add_spikes_, processor
from snnconv.graph.arguments import arguments
from snnconv.graph.ops import is_synapse, op_name
from snnconv.graph.source import ConversionError, SourceGraph, activation_site
from snnconv.runtime.values import Spikes, Versions

__all__ = ["Int8", "supported"]

_ADDS = (operator.add, torch.add)
_FORMS = (torch.conv2d, F.linear)
_CLIPS = torch.linspace(0.6, 1.0, 21)


def supported() -> str:
    """Why this machine does not run 8-bit layers; empty where it does."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.onednn, "qconv2d_pointwise"):
        return "this PyTorch has no oneDNN"
    if not processor.has_vnni():
        return "this processor has no VNNI instructions, without which 8-bit sums overflow"
    return ""


@dataclass
class Layer:
    """One layer with 8-bit weights.

    Attributes:
        weight: what the 8-bit weights stand for, in the layer's own units.
        run: ``run(bytes)``, float32, with the bias.
        zero: which byte stands for 0.
    """

    weight: Tensor
    run: Callable[[Tensor], Tensor]
    zero: int


class Int8:
    """The 8-bit layers of a network.

    Args:
        source: the network.
        amplitudes: what a spike of each site is worth, scalar or per channel.
        lowest: of each site, the smallest whole number that comes: 0, -1, or in sum coding of both signs -(2^T - 1).
        made_of: the tensors that all this comes from, as they are.

    Attributes:
        layers: those layers, by their node.
        left: layers that stay float32, with the reason.
    """

    def __init__(
        self,
        source: SourceGraph,
        amplitudes: dict[str, Tensor],
        lowest: Mapping[str, int],
        made_of: Versions | None = None,
    ) -> None:
        self.source = source
        self.made_of = made_of or Versions([*amplitudes.values(), *source.tensors.values()])
        self.amplitudes = amplitudes
        self.lowest = lowest
        self.left: dict[str, str] = {}
        reads: dict[fx.Node, dict[str, Any]] = {}
        for node in source.graph.nodes:
            if is_synapse(node):
                reason = self._why_not(node)
                if reason:
                    self.left[str(node.meta.get("path") or node.name)] = reason
                else:
                    reads[node] = arguments(node)
        self.sites = {str(values["input"].kwargs["site"]) for values in reads.values()}
        self.layers = {node: self._make(node, values) for node, values in reads.items()}

    @property
    def names(self) -> list[str]:
        """Layers that run in 8 bits."""
        return [str(node.meta.get("path") or node.name) for node in self.layers]

    def _why_not(self, node: fx.Node) -> str:
        if node.target not in _FORMS:
            return f"{op_name(node)} has no 8-bit form here"
        if len(node.args) < 2:
            return "its weight is a named argument"
        values = arguments(node)
        site = values["input"]
        if not isinstance(site, fx.Node) or site.target is not activation_site:
            return "it does not read spikes"
        weight = self._tensor(values["weight"])
        if weight is None or weight.dtype != torch.float32 or weight.dim() != (4 if node.target is torch.conv2d else 2):
            return "its weight is not a float32 tensor"
        if values.get("bias") is not None and self._tensor(values["bias"]) is None:
            return "its bias is computed"
        if isinstance(values.get("padding", 0), str):
            return f"padding={values['padding']!r}"
        if self.source.sites[str(site.kwargs["site"])].axis not in (1, 1 - weight.dim()):
            return "its thresholds do not run along its input channels"
        return ""

    def _tensor(self, node: Any) -> Tensor | None:
        return self.source.tensors[str(node.target)] if isinstance(node, fx.Node) and node.op == "get_attr" else None

    def _make(self, node: fx.Node, values: dict[str, Any]) -> Layer:
        weight, bias = self._tensor(values["weight"]), self._tensor(values.get("bias"))
        assert weight is not None
        groups = int(values.get("groups", 1))
        amplitude = self.amplitudes[str(values["input"].kwargs["site"])]
        worth = _input_channels(weight, amplitude, groups)
        codes, scale = quantised(weight * worth)
        stands_for = codes * scale.reshape(-1, *[1] * (weight.dim() - 1)) / worth
        zero = -self.lowest[str(values["input"].kwargs["site"])]
        codes = codes.to(torch.int8)
        zeros = torch.zeros(len(scale), dtype=torch.int64)
        run: Callable[[Tensor], Tensor]
        if node.target is torch.conv2d:
            geometry = [_pair(values.get(name, default)) for name, default in _GEOMETRY]
            packed = torch.ops.onednn.qconv_prepack(codes, scale, 1.0, zero, *geometry, groups, None)
            call = torch.ops.onednn.qconv2d_pointwise

            def run(x: Tensor) -> Tensor:
                x = x.contiguous(memory_format=torch.channels_last)
                rest: tuple[Any, ...] = (*geometry, groups, 1.0, 0, torch.float32, "none", [], "")
                out: Tensor = call(x, 1.0, zero, packed, scale, zeros, bias, *rest)
                return out
        else:
            packed = torch.ops.onednn.qlinear_prepack(codes, None)
            call = torch.ops.onednn.qlinear_pointwise

            def run(x: Tensor) -> Tensor:
                rest: tuple[Any, ...] = (1.0, 0, torch.float32, "none", [], "")
                out: Tensor = call(x.contiguous(), 1.0, zero, packed, scale, zeros, bias, *rest)
                return out

        return Layer(stands_for, run, zero)

    def runs(self, node: fx.Node, spikes: Spikes) -> Tensor:
        """A layer's currents for the spikes it reads."""
        whole = spikes.int8_spikes
        zero = self.layers[node].zero
        if zero:  # the operator takes bytes: 0, 1, 2 stand for -1, 0, 1
            if not spikes.bytes:
                spikes.bytes.append(whole.view(torch.uint8) + zero)
            whole = spikes.bytes[0]
        return self.layers[node].run(whole.view(torch.uint8))

    @staticmethod
    def adds(node: fx.Node, values: Sequence[Any]) -> Tensor | None:
        """``currents + spikes``, written over the currents of a layer that nobody else reads, or None."""
        if node.target not in _ADDS or node.kwargs or len(values) != 2:
            return None
        index = 0 if isinstance(values[0], Spikes) else 1
        spikes, other, layer = values[index], values[1 - index], node.args[1 - index]
        if not isinstance(spikes, Spikes) or isinstance(other, Spikes) or not isinstance(layer, fx.Node):
            return None
        if not isinstance(other, spikes.world or ()) or not is_synapse(layer) or len(layer.users) != 1:
            return None
        if other.data.shape != spikes.int8_spikes.shape:
            return None
        return add_spikes_(other.data, spikes.int8_spikes, spikes.amplitude, channel_axis=spikes.axis)


_GEOMETRY = (("stride", 1), ("padding", 0), ("dilation", 1))


def quantised(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Whole numbers -127 ... 127 and a scale for each output channel, of the least squared error.

    >>> codes, scale = quantised(torch.tensor([[0.5, -1.0]]))
    >>> codes * scale[:, None]
    tensor([[ 0.5039, -1.0000]])
    """
    flat = weight.flatten(1)
    largest = flat.abs().amax(1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny * 2**10)
    best, scale = torch.full_like(largest, float("inf")), largest / 127
    for clip in _CLIPS.tolist():
        step = largest * (clip / 127)
        error = (flat - (flat / step).round().clamp(-127, 127) * step).square().sum(1, keepdim=True)
        better = error < best
        best, scale = torch.where(better, error, best), torch.where(better, step, scale)
    return (flat / scale).round().clamp(-127, 127).reshape(weight.shape), scale.flatten()


def _input_channels(weight: Tensor, amplitude: Tensor, groups: int) -> Tensor:
    """Amplitudes in the shape of a weight: of output channel o, those of the input channels in its group."""
    amplitude = amplitude.detach().float().flatten()
    if amplitude.numel() == 1:
        return amplitude
    if amplitude.numel() != weight.shape[1] * groups:
        raise ConversionError(f"{amplitude.numel()} thresholds for a layer of {weight.shape[1] * groups} inputs")
    by_group = amplitude.reshape(groups, -1).repeat_interleave(weight.shape[0] // groups, 0)
    return by_group.reshape(*by_group.shape, *[1] * (weight.dim() - 2))


def _pair(value: Any) -> list[int]:
    if isinstance(value, int):
        return [value, value]
    return list(value) * (2 // len(value))
