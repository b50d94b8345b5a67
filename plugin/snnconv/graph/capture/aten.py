"""ATen's operators, as ``torch.export`` gives them, in the spelling of the operator table.

An exported program calls ``aten.conv2d.default(x, w)``; the project knows ``torch.conv2d``. For most operators a new
name and new names of arguments are all there is to it (`SPELLED`); the others have a function each
(:mod:`snnconv.graph.capture.aten_rewritten`).
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F

from snnconv.graph.capture.aten_call import Call, Target, Uncovered
from snnconv.graph.capture.aten_rewritten import REWRITTEN

__all__ = ["ALIASES", "CHECKS", "FIRST", "SPELLED", "Call", "Uncovered", "translated"]


@dataclass(frozen=True)
class Spelled:
    """An operator under its name here: a function, or a tensor method by its name.

    Attributes:
        target: that.
        names: ATen's names of arguments that are called otherwise here.
        more: arguments that ATen's operator does not have.
    """

    target: Target
    names: Mapping[str, str] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)


def translated(call: Call) -> Any:
    """The node, or the value, that stands for a call; several results are a node that is indexed.

    Raises:
        Uncovered: an operator, or a way to call one, that the table does not have.
    """
    call.given = {name: value for name, value in call.given.items() if name not in _HINTS}
    rewrite = REWRITTEN.get(call.name)
    if rewrite is not None:
        try:
            inspect.signature(rewrite).bind(call, **call.given)
        except TypeError as error:
            raise Uncovered(f"{call.name} with {error}") from error
        return rewrite(call, **call.given)
    spelled = SPELLED.get(call.name)
    if spelled is None:
        raise Uncovered(call.name)
    given = {spelled.names.get(name, name): value for name, value in call.given.items()}
    return call.make(spelled.target, **given, **spelled.more)


_HINTS = frozenset({"pin_memory", "layout", "non_blocking", "memory_format", "cudnn_enabled", "half_to_float",
                    "generator", "copy", "cudnn_enable", "device"})  # fmt: skip
"""Arguments that change no value; a network goes where its inputs are, whatever device it was captured on."""
CHECKS = frozenset({
    "_assert_scalar", "_assert_tensor_metadata", "_assert_async", "sym_constrain_range", "sym_constrain_range_for_size",
    "_check", "_check_is_size", "_functional_assert_async",
})  # fmt: skip
"""Operators that check, and compute nothing."""
ALIASES = frozenset({"alias", "detach", "lift", "lift_fresh", "lift_fresh_copy", "_conj", "resolve_conj"})
"""Operators that hand on what they are given."""
FIRST = frozenset({"_native_batch_norm_legit_no_training", "native_layer_norm", "native_group_norm", "native_dropout",
                   "log_sigmoid_forward", "_fused_rms_norm"})  # fmt: skip
"""Operators of several results of which only the first is a value of the network."""


# --- how operators are spelled ----------------------------------------------------------------------------


_TORCH = (
    "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d matmul bmm stack chunk unbind select "
    "narrow index_select roll transpose unsqueeze clone neg relu sigmoid tanh clamp clamp_min clamp_max exp sin "
    "cos erf abs square log log1p expm1 sqrt rsqrt reciprocal floor ceil trunc sign round maximum minimum gather "
    "topk sort cumsum argmax argmin amax amin prelu baddbmm mul eq ne lt le gt ge logical_not logical_and "
    "logical_or bitwise_not bitwise_and bitwise_or isnan isinf zeros_like ones_like full_like tril triu flip "
    "floor_divide remainder select_scatter index_put scatter mean sum prod any all "
    "split cat flatten unflatten swapaxes movedim softmax norm copysign"
)
"""Functions of ``torch`` under ATen's names."""
_FUNCTIONAL = (
    "linear hardswish hardsigmoid silu mish gelu leaky_relu softplus hardtanh celu selu relu6 glu "
    "avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d max_pool1d "
    "max_pool2d max_pool3d pixel_shuffle pixel_unshuffle channel_shuffle layer_norm group_norm threshold "
    "scaled_dot_product_attention one_hot softshrink hardshrink "
    "log_softmax batch_norm rms_norm instance_norm"
)
"""Functions of ``torch.nn.functional`` under ATen's names."""
_METHODS = (
    "contiguous repeat expand permute unfold type_as reshape squeeze expand_as view_as reshape_as repeat_interleave "
    "masked_fill var std new_zeros new_ones new_full t"
)
"""Tensor methods under ATen's names."""

SPELLED: dict[str, Spelled] = {
    **{name: Spelled(getattr(torch, name)) for name in _TORCH.split()},
    **{name: Spelled(getattr(F, name)) for name in _FUNCTIONAL.split()},
    **{name: Spelled(name) for name in _METHODS.split()},
    "split_with_sizes": Spelled(torch.split, {"split_sizes": "split_size"}),
    "tensor_split": Spelled(torch.tensor_split, {"indices": "sections", "tensor_indices_or_sections": "sections"}),
    "concat": Spelled(torch.cat),
    "mm": Spelled(torch.matmul),
    "mv": Spelled(torch.matmul, {"vec": "other"}),
    "view": Spelled("reshape"),
    "_unsafe_view": Spelled("reshape"),
    "numpy_T": Spelled("t"),
    "_softmax": Spelled(torch.softmax),
    "_safe_softmax": Spelled(torch.softmax),
    "_log_softmax": Spelled(F.log_softmax),
    "_prelu_kernel": Spelled(torch.prelu),
    "log_sigmoid": Spelled(F.logsigmoid),
    "log_sigmoid_forward": Spelled(F.logsigmoid),
    "_native_batch_norm_legit_no_training": Spelled(F.batch_norm, more={"training": False}),
    "native_layer_norm": Spelled(F.layer_norm),
    "_fused_rms_norm": Spelled(F.rms_norm),
    "linalg_vector_norm": Spelled(torch.norm, {"ord": "p"}),
    "im2col": Spelled(F.unfold),
    **{name: Spelled(torch.bitwise_and) for name in ("__and__", "__iand")},
    **{name: Spelled(torch.bitwise_or) for name in ("__or__", "__ior")},
}
"""ATen's name of an operator → how it is spelled here."""
