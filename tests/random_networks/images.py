"""Operators on images ``[B, C, ...]`` of one to three dimensions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.random_networks.draw import Draw
from tests.random_networks.relus import relu

CONVOLUTION = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
BATCH_NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
INSTANCE_NORM = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
MAX_POOL = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
AVERAGE_POOL = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
POWER_POOL = {1: nn.LPPool1d, 2: nn.LPPool2d, 3: nn.LPPool3d}
ADAPTIVE_AVERAGE = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}
ADAPTIVE_MAX = {1: nn.AdaptiveMaxPool1d, 2: nn.AdaptiveMaxPool2d, 3: nn.AdaptiveMaxPool3d}


def dims(d: Draw, h: int) -> int:
    return d.values[h].dim() - 2


def convolution(d: Draw, h: int) -> int:
    """Kernels, strides, paddings of all modes, dilations, groups, with and without bias."""
    n, before = dims(d, h), d.channels(h)
    groups = d.divisor(before) if d.chance(0.4) else 1
    after = groups * d.one_of(1, 2, 3) if groups > 1 else d.one_of(3, 4, 6, 8)
    kernel = d.one_of(1, 2, 3, 3)
    padding = d.one_of("same", "valid") if d.chance(0.15) else d.one_of(0, 1, kernel // 2)
    stride = 1 if padding == "same" else d.one_of(1, 1, 2)
    mode = d.one_of("zeros", "zeros", "zeros", "reflect", "replicate", "circular") if padding != "valid" else "zeros"
    options = dict(stride=stride, padding=padding, dilation=d.one_of(1, 1, 2), groups=groups, bias=d.chance(0.7))
    made = CONVOLUTION[n](before, after, kernel, padding_mode=mode, **options)
    return d.add(f"conv{n}d to {after}, kernel {kernel}, {mode}, {options}", made, h)


def same_convolution(d: Draw, h: int) -> int:
    """A convolution that keeps the shape."""
    n, channels = dims(d, h), d.channels(h)
    return d.add(f"conv{n}d that keeps the shape", CONVOLUTION[n](channels, channels, 3, padding=1), h)


def transposed_convolution(d: Draw, h: int) -> int:
    n, before, stride = dims(d, h), d.channels(h), d.one_of(1, 2)
    groups = d.divisor(before) if d.chance(0.3) else 1
    options = dict(stride=stride, padding=d.one_of(0, 1), output_padding=d.one_of(0, stride - 1), groups=groups)
    options |= dict(dilation=d.one_of(1, 1, 2), bias=d.chance(0.7))
    made = TRANSPOSED[n](before, groups * d.one_of(1, 2, 3), d.one_of(2, 3), **options)
    return d.add(f"conv_transpose{n}d, {options}", made, h)


def filled(norm: Any, d: Draw) -> Any:
    """Statistics and affine parameters as training leaves them."""
    for name, low, high in (("running_mean", -0.4, 0.4), ("running_var", 0.4, 1.6), ("bias", -0.4, 0.4)):
        if getattr(norm, name, None) is not None:
            nn.init.uniform_(getattr(norm, name), low, high)
    if getattr(norm, "weight", None) is not None:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        if d.chance(0.2):
            norm.weight.data[0] *= -1
    return norm


def norm(d: Draw, h: int) -> int:
    n, channels, shape = dims(d, h), d.channels(h), d.shape(h)
    affine = d.chance(0.8)
    kind = d.one_of("batch", "batch", "batch", "group", "instance", "instance, tracked", "layer", "rms", "written")
    if kind == "batch":
        made = BATCH_NORM[n](channels, affine=affine)
    elif kind == "group":
        made = nn.GroupNorm(groups(d, h), channels, affine=affine)
    elif kind.startswith("instance"):
        made = INSTANCE_NORM[n](channels, affine=affine, track_running_stats=kind.endswith("tracked"))
    elif kind == "layer":
        made = nn.LayerNorm(shape[d.one_of(1, -1) :], elementwise_affine=affine)
    elif kind == "rms":
        made = nn.RMSNorm(shape[d.one_of(1, -1) :], elementwise_affine=affine)
    else:
        return d.add("norm over channels, written out", channel_norm, h, scale=nn.Parameter(torch.rand(channels)))
    return d.add(f"norm: {kind}, affine {affine}", filled(made, d), h)


def groups(d: Draw, h: int) -> int:
    """Of a group normalisation: of groups that hold one value each, torch refuses one sample."""
    channels, values = d.channels(h), math.prod(d.shape(h)[1:])
    drawn = d.divisor(channels)
    return 1 if drawn == values else drawn


def channel_norm(m: Any, h: Tensor) -> Tensor:
    """As ConvNeXt writes it."""
    mean = h.mean(1, keepdim=True)
    spread = (h - mean).pow(2).mean(1, keepdim=True)
    return (h - mean) / torch.sqrt(spread + 1e-2) * m.scale.reshape(-1, *[1] * (h.dim() - 2))


def pool(d: Draw, h: int) -> int:
    """All kinds with all options, as modules and as functions."""
    n = dims(d, h)
    kind = d.one_of("max", "max", "average", "average", "power", "adaptive average", "adaptive max")
    if kind.startswith("adaptive"):
        size = d.one_of(1, 2, 3)
        made = (ADAPTIVE_AVERAGE if kind == "adaptive average" else ADAPTIVE_MAX)[n](size)
        return d.add(f"{kind} pool to {size}", made, h)
    kernel = d.one_of(2, 3)
    options: dict[str, Any] = dict(stride=d.one_of(None, 1, 2), ceil_mode=d.chance(0.3))
    if kind == "power":
        return d.add(f"power pool {kernel}, {options}", POWER_POOL[n](2, kernel, **options), h)
    options["padding"] = d.one_of(0, 0, 1)
    if kind == "max":
        options["dilation"] = d.one_of(1, 1, 2)
        if d.chance(0.3):
            function = getattr(F, f"max_pool{n}d")
            return d.add(f"F.max_pool {kernel}, {options}", lambda m, h: function(h, kernel, **options), h)
        return d.add(f"max pool {kernel}, {options}", MAX_POOL[n](kernel, **options), h)
    options["count_include_pad"] = d.chance(0.5)
    if n > 1 and d.chance(0.2):
        options["divisor_override"] = 5
    return d.add(f"average pool {kernel}, {options}", AVERAGE_POOL[n](kernel, **options), h)


def pad(d: Draw, h: int) -> int:
    n = dims(d, h)
    sides = [d.one_of(-1, 0, 1, 1, 2) for _ in range(2 * n)]
    mode = d.one_of("constant", "constant", "reflect", "replicate", "circular")
    if mode == "constant":
        value = d.one_of(0.0, 0.0, 1.0, -0.5)
        return d.add(f"F.pad {sides} by {value}", lambda m, h: F.pad(h, sides, value=value), h)
    sides = [abs(side) % 2 for side in sides]
    return d.add(f"F.pad {sides}, {mode}", lambda m, h: F.pad(h, sides, mode=mode), h)


VIEWS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "crop": lambda m, h: h[..., 1:],
    "every second": lambda m, h: h[..., ::2],
    "narrow": lambda m, h: h.narrow(-1, 0, h.shape[-1] - 1),
    "first channels": lambda m, h: h[:, : (h.shape[1] + 1) // 2],
    "channels but the first": lambda m, h: h[:, 1:],
    "flip": lambda m, h: h.flip(-1),
    "roll": lambda m, h: torch.roll(h, 1, -1),
    "transposed": lambda m, h: h.transpose(-1, 1),
    "permuted and back": lambda m, h: h.movedim(1, -1).contiguous().movedim(-1, 1),
    "one row": lambda m, h: h[..., -1, :] if h.dim() > 3 else h[..., 1:],
    "flattened to one dimension": lambda m, h: h.flatten(2),
    "view by its shape": lambda m, h: h.reshape(h.shape[0], h.shape[1], -1),
    "view by its size": lambda m, h: h.contiguous().view(h.size(0), h.size(1), -1),
    "halves side by side": lambda m, h: torch.cat(h.chunk(2, 1)[::-1], 1),
    "selected channels": lambda m, h: h.index_select(1, torch.arange(h.shape[1] - 1, -1, -1, device=h.device)),
    "squeezed and back": lambda m, h: h.unsqueeze(1).squeeze(1),
}


def view(d: Draw, h: int) -> int:
    if d.chance(0.2) and d.channels(h) % 2 == 0:
        return d.add("channel shuffle", shuffled, h)
    label = d.one_of(*VIEWS)
    return d.add(label, VIEWS[label], h)


def shuffled(m: Any, h: Tensor) -> Tensor:
    b, c = h.shape[:2]
    return h.view(b, 2, c // 2, *h.shape[2:]).transpose(1, 2).reshape(b, c, *h.shape[2:])


def scaling(d: Draw, h: int) -> int:
    """By constants and by parameters, one or one a channel, on either side."""
    channels, constant = d.channels(h), d.one_of(0.5, 2.0, -1.0, 1 / 3)
    shape = (channels, *[1] * dims(d, h))
    table: dict[str, Callable[[Any, Tensor], Tensor]] = {
        "times a constant": lambda m, h: h * constant,
        "over a constant": lambda m, h: h / constant,
        "plus a constant": lambda m, h: h + constant,
        "a constant less it": lambda m, h: constant - h,
        "negative": lambda m, h: -h,
        "times a parameter": lambda m, h: m.scale * h,
        "plus a parameter": lambda m, h: h + m.scale,
        "scale and shift": lambda m, h: h * m.scale + m.shift,
        "normalised by buffers": lambda m, h: (h - m.mean) / m.spread,
        "addcmul": lambda m, h: torch.addcmul(m.shift, h, m.scale),
        "add with alpha": lambda m, h: torch.add(h, m.shift, alpha=2),
        "its size's share": lambda m, h: h * (h.shape[-1] ** -0.5),
    }
    own = dict(scale=nn.Parameter(0.3 + torch.rand(shape)), shift=nn.Parameter(torch.randn(shape) / 3))
    own |= dict(mean=torch.randn(shape) / 3, spread=0.5 + torch.rand(shape))
    label = d.one_of(*table)
    return d.add(label, table[label], h, **own)


def resize(d: Draw, h: int) -> int:
    n = dims(d, h)
    mode = d.one_of("nearest", {1: "linear", 2: "bilinear", 3: "trilinear"}[n])
    if d.chance(0.3):
        size = [s + 1 for s in d.shape(h)[2:]]
        return d.add(f"interpolate to {size}, {mode}", lambda m, h: F.interpolate(h, size, mode=mode), h)
    if n == 2 and d.channels(h) % 4 == 0 and d.chance(0.4):
        return d.add("pixel shuffle", nn.PixelShuffle(2), h)
    return d.add(f"upsampled, {mode}", nn.Upsample(scale_factor=2, mode=mode), h)


def gate(d: Draw, h: int) -> int:
    """Squeeze and excitation, or a product of two branches."""
    n, channels = dims(d, h), d.channels(h)
    if d.chance(0.5):
        own = dict(down=CONVOLUTION[n](channels, 2, 1), up=CONVOLUTION[n](2, channels, 1), relu=nn.ReLU())
        axes = tuple(range(2, 2 + n))

        def excited(m: Any, h: Tensor) -> Tensor:
            return h * torch.sigmoid(m.up(m.relu(m.down(h.mean(axes, keepdim=True)))))

        return d.add("squeeze and excitation", excited, h, **own)
    a, b = same_convolution(d, h), same_convolution(d, h)
    return d.add("product of branches", lambda m, a, b: a * b, relu(d, a), b)


def to_tokens(d: Draw, h: int) -> int:
    return d.add("tokens of an image", lambda m, h: h.flatten(2).transpose(1, 2), h, layout="tokens")


def to_vector(d: Draw, h: int) -> int:
    n = dims(d, h)
    axes = tuple(range(2, 2 + n))
    table: dict[str, Callable[[Any, Tensor], Tensor]] = {
        "flattened": lambda m, h: torch.flatten(h, 1),
        "view to a vector": lambda m, h: h.reshape(h.shape[0], -1),
        "mean over places": lambda m, h: h.mean(axes),
        "sum over places": lambda m, h: h.sum(axes) / 4,
        "largest over places": lambda m, h: h.amax(axes),
        "global pooling": lambda m, h: getattr(F, f"adaptive_avg_pool{n}d")(h, 1).flatten(1),
    }
    label = d.one_of(*table)
    return d.add(label, table[label], h, layout="vector")
