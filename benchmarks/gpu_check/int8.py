"""Part 4: whether products of bytes on tensor cores are worth having for layers that read spikes."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from .record import Case, Failed, Setting

__all__ = ["cases"]

SHAPES = {
    "64 channels, 56×56, batch 64": (64 * 56 * 56, 576, 64),
    "256 channels, 14×14, batch 64": (64 * 14 * 14, 2304, 256),
    "512 channels, 7×7, batch 64": (64 * 7 * 7, 4608, 512),
}
"""A ResNet-18's 3×3 convolutions as matrix products: rows, inner, columns."""
SMALL = {"small": (32, 64, 16)}
PAYS = 0.8
"""Part of bfloat16's time below which it is worth it: the spikes and the result have to be converted, too."""


def cases(setting: Setting) -> list[Case]:
    """One layer's product each."""
    shapes = SMALL if setting.small else SHAPES
    return [Case(name, partial(_product, setting, *shape)) for name, shape in shapes.items()]


def _product(setting: Setting, rows: int, inner: int, columns: int) -> dict[str, Any]:
    """Spikes times 8-bit weights, summed in 32 bits, against the same in bfloat16; sums must be exact."""
    generator = torch.Generator().manual_seed(0)
    spikes = torch.randint(-1, 2, (rows, inner), generator=generator, dtype=torch.int8).to(setting.device.kind)
    weights = torch.randint(-127, 128, (inner, columns), generator=generator, dtype=torch.int8).to(setting.device.kind)
    got = torch._int_mm(spikes, weights)
    expected = spikes[:64].cpu().int() @ weights.cpu().int()
    if not torch.equal(got[:64].cpu(), expected):
        raise Failed("sums of bytes are not exact")
    half_spikes, half_weights = spikes.bfloat16(), weights.bfloat16()
    repeats = 1 if setting.small else 20
    eight = setting.device.seconds(lambda: torch._int_mm(spikes, weights), repeats)
    half = setting.device.seconds(lambda: half_spikes @ half_weights, repeats)
    operations = 2.0 * rows * inner * columns
    return {
        "exact": True,
        "int8_TOP_a_second": operations / eight / 1e12,
        "bf16_TFLOP_a_second": operations / half / 1e12,
        "to_bf16": eight / half,
        "pays": eight / half < PAYS,
    }
