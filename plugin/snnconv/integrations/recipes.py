"""Recipes for SpikingJelly's ``ann2snn.Converter``, which convert as :func:`snnconv.convert` does."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from spikingjelly.activation_based.ann2snn.recipes import FXConversionRecipe
from torch import fx, nn

from snnconv import methods

if TYPE_CHECKING:
    from spikingjelly.activation_based.ann2snn import FXConverter

    from snnconv.network import SpikingNetwork

__all__ = [
    "IFRecipe",
    "LTBRecipe",
    "MethodRecipe",
    "RateNormRecipe",
    "SRPRecipe",
    "ShiftedThresholdRecipe",
    "SignedIFRecipe",
]


class MethodRecipe(FXConversionRecipe):
    """Base of the recipes: ``Converter(recipe).convert(model)`` gives what ``snnconv.convert`` gives.

    The network is converted before ``Converter`` traces, which then sees only a stand-in: networks that its
    tracer or its operator table refuses convert as well.

    Args:
        dataloader: calibration inputs: a tensor, a list of tensors, or a loader giving tensors, (input,
            target) or dicts. ``None`` where the thresholds were trained.
        timesteps: T.
        strict: refuse a network in which an activation would stay analog.
        progress: as for :func:`snnconv.convert`.
        choices: every other field of the recipe's method.

    Raises:
        TypeError, ValueError: a choice the method refuses.

    >>> from spikingjelly.activation_based import ann2snn
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> recipe = SignedIFRecipe([torch.randn(64, 4)], timesteps=8)
    >>> ann2snn.Converter(recipe).convert(model)(torch.randn(3, 4)).shape
    torch.Size([3, 2])
    """

    method_class: ClassVar[type[methods.Method]]

    def __init__(
        self,
        dataloader: Any = None,
        timesteps: int = 8,
        *,
        strict: bool = False,
        progress: Any = None,
        **choices: Any,
    ) -> None:
        super().__init__()
        self.dataloader = dataloader
        self.method = self.method_class(timesteps=timesteps, **choices)
        self.strict = strict
        self.progress = progress
        self._converted: dict[int, SpikingNetwork] = {}

    def before_trace(self, converter: FXConverter, ann: nn.Module) -> nn.Module:
        """Convert ``ann`` on the converter's device; hand the tracer a stand-in."""
        from snnconv.conversion.convert import convert
        from snnconv.graph.capture.fx import tracing_alone

        device = torch.device(converter.device)
        if any(t.device != device for t in (*ann.parameters(), *ann.buffers())):
            ann = copy.deepcopy(ann).to(device)
        with tracing_alone():  # calibration, too: SpikingJelly's tracer would stop it
            network = convert(ann, self.method, self.dataloader, strict=self.strict, progress=self.progress)
        self._converted[id(converter)] = network
        return nn.Identity()

    def finalize(self, converter: FXConverter, fx_model: fx.GraphModule) -> nn.Module:
        """The converted network, in place of the stand-in."""
        return self._converted.pop(id(converter))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.method})"


class IFRecipe(MethodRecipe):
    """Plain integrate-and-fire: :class:`snnconv.methods.IF`."""

    method_class = methods.IF


class SignedIFRecipe(MethodRecipe):
    """Fast-SNN's signed integrate-and-fire: :class:`snnconv.methods.SignedIF`."""

    method_class = methods.SignedIF


class SRPRecipe(MethodRecipe):
    """Residual membrane potential; needs ``pre_timesteps``: :class:`snnconv.methods.SRP`."""

    method_class = methods.SRP


class ShiftedThresholdRecipe(MethodRecipe):
    """Shifted-threshold integrate-and-fire: :class:`snnconv.methods.ShiftedThreshold`."""

    method_class = methods.ShiftedThreshold


class LTBRecipe(MethodRecipe):
    """Local threshold balancing until it settles: :class:`snnconv.methods.LocalThresholdBalancing`."""

    method_class = methods.LocalThresholdBalancing


class RateNormRecipe(MethodRecipe):
    """Networks trained with rate norm layers: :class:`snnconv.methods.RateNorm`."""

    method_class = methods.RateNorm
