"""Deformable convolution (Dai et al., ICCV 2017; modulated: Zhu et al., CVPR 2019) as ``mmcv._ext`` has it.

Offsets hold (y, x) for each tap of the kernel, group by group; padding, stride and dilation are those of the grid
without offsets. mmcv passes buffers for columns and ones, which are not needed here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torchvision
from torch import Tensor

__all__ = [
    "deform_conv_backward_input",
    "deform_conv_backward_parameters",
    "deform_conv_forward",
    "modulated_deform_conv_backward",
    "modulated_deform_conv_forward",
]


def deform_conv_forward(
    input: Tensor, weight: Tensor, offset: Tensor, output: Tensor, columns: Tensor, ones: Tensor, **options: Any
) -> None:
    """Write the convolution of ``input`` at displaced places into ``output``.

    Args:
        input: ``[B, C, H, W]``.
        weight: ``[O, C / group, kH, kW]``.
        offset: ``[B, deformable_group * 2 * kH * kW, H', W']`` in pixels.
        output: ``[B, O, H', W']``, overwritten.
        columns: unused.
        ones: unused.
        options: ``dH, dW`` stride, ``padH, padW``, ``dilationH, dilationW``; the others follow from the shapes.

    Raises:
        ValueError: an offset is NaN (on a processor; the same holds for the other functions here).
    """
    output.copy_(_convolve(input, offset, weight, **_steps(options)))


def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    weight: Tensor,
    columns: Tensor,
    **options: Any,
) -> None:
    """Add the derivatives of :func:`deform_conv_forward` to ``grad_input`` and ``grad_offset``."""
    by_input, by_offset = _derivatives(grad_output, (input, offset, weight), (0, 1), _steps(options))
    grad_input += by_input
    grad_offset += by_offset


def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_weight: Tensor,
    columns: Tensor,
    ones: Tensor,
    scale: float = 1.0,
    **options: Any,
) -> None:
    """Add ``scale`` times the derivative of :func:`deform_conv_forward` to ``grad_weight``."""
    # linear in the weight: the point at which it is differentiated does not matter
    (by_weight,) = _derivatives(grad_output, (input, offset, torch.zeros_like(grad_weight)), (2,), _steps(options))
    grad_weight += scale * by_weight


def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    *,
    with_bias: bool,
    **options: Any,
) -> None:
    """As :func:`deform_conv_forward`, with each sample times its ``mask`` ``[B, deformable_group * kH * kW, H', W']``.

    Args:
        input: ``[B, C, H, W]``.
        weight: ``[O, C / group, kH, kW]``.
        bias: ``[O]``, used if ``with_bias``.
        ones: unused.
        offset: as in :func:`deform_conv_forward`.
        mask: factor of each sample.
        output: ``[B, O, H', W']``, overwritten.
        columns: unused.
        with_bias: whether there is a bias.
        options: ``stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w``; the others follow from the shapes.
    """
    output.copy_(_convolve(input, offset, weight, mask, bias if with_bias else None, **_modulated_steps(options)))


def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    *,
    with_bias: bool,
    **options: Any,
) -> None:
    """Add the derivatives of :func:`modulated_deform_conv_forward` to the ``grad_*`` of what it was given."""
    given = [input, offset, weight, mask] + [bias] * with_bias
    into = [grad_input, grad_offset, grad_weight, grad_mask] + [grad_bias] * with_bias
    found = _derivatives(grad_output, given, range(len(given)), _modulated_steps(options))
    for gradient, value in zip(into, found, strict=True):
        gradient += value


# --- on torchvision ----------------------------------------------------------------------------------------


def _steps(options: dict[str, Any]) -> dict[str, Any]:
    return {
        "stride": (options["dH"], options["dW"]),
        "padding": (options["padH"], options["padW"]),
        "dilation": (options["dilationH"], options["dilationW"]),
    }


def _modulated_steps(options: dict[str, Any]) -> dict[str, Any]:
    return {
        "stride": (options["stride_h"], options["stride_w"]),
        "padding": (options["pad_h"], options["pad_w"]),
        "dilation": (options["dilation_h"], options["dilation_w"]),
    }


def _convolve(
    input: Tensor, offset: Tensor, weight: Tensor, mask: Tensor | None = None, bias: Tensor | None = None, **steps: Any
) -> Tensor:
    # on a processor torchvision reads memory that is not its own there, and the process ends without a word
    if type(offset) is Tensor and offset.device.type == "cpu" and offset.isnan().any():
        raise ValueError("offsets of a deformable convolution are NaN: so is a weight before it, or the input")
    dtype = torch.promote_types(input.dtype, torch.float32)
    x, places, kernel = input.to(dtype), offset.to(dtype), weight.to(dtype)
    factor = None if mask is None else mask.to(dtype)
    constant = None if bias is None else bias.to(dtype)
    return torchvision.ops.deform_conv2d(x, places, kernel, constant, mask=factor, **steps)


def _derivatives(
    grad_output: Tensor, given: Sequence[Tensor], wanted: Sequence[int], steps: dict[str, Any]
) -> tuple[Tensor, ...]:
    """Derivatives by the ``wanted`` ones of (input, offset, weight, mask, bias), in the type of each."""
    with torch.enable_grad():
        leaves = [t.detach().requires_grad_(i in wanted) for i, t in enumerate(given)]
        y = _convolve(*leaves, **steps)
    return torch.autograd.grad(y, [leaves[i] for i in wanted], grad_output.to(y.dtype))
