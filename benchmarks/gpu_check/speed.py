"""Part 3: time of a run against T passes of the source network in bfloat16 and in float32, and memory traffic."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from benchmarks.speed.engines import ENGINES, Unavailable
from benchmarks.speed.networks import NETWORKS
from snnconv import dynamics
from snnconv.network import SpikingNetwork

from .record import Case, Setting
from .sources import SMALL

__all__ = ["cases"]

ROWS = (
    "snnconv IF, bfloat16",
    "snnconv signed IF, bfloat16",
    "snnconv shifted threshold, bfloat16",
    "snnconv SRP, bfloat16",
    "snnconv IF",
    "snnconv signed IF",
    "snnconv shifted threshold",
    "SpikingJelly, multi-step",
    "SpikingJelly, step by step",
)
UNITS = ("ANN", "ANN, bfloat16")
BATCHES = (64, 256, 8, 1)
STEPS = (4, 16)
BUDGET = 8 * 2**30
"""Bytes: whole batches at once."""
COPIED = ((8, 64, 64, 56, 56), (4, 2, 4, 8, 8))
"""Currents of the kernels whose traffic is measured; in small."""


def cases(setting: Setting) -> list[Case]:
    """The kernels' traffic, then each engine at every batch; what the goal is about comes first."""
    found = [
        Case(f"{neuron}, {str(dtype).removeprefix('torch.')}: traffic", partial(_traffic, setting, neuron, dtype))
        for dtype in (torch.float32, torch.bfloat16)
        for neuron in ("if", "signed_if", "shifted_threshold")
    ]
    networks = ("digits",) if setting.small else ("resnet18", "resnet20")
    for steps in STEPS[:1] if setting.small else STEPS:
        for network in networks:
            for row in ROWS:
                if steps == STEPS[0] or not ENGINES[row].sums:
                    found.append(Case(f"{network}, T = {steps}, {row}", partial(_engine, setting, network, steps, row)))
    return found


def _traffic(setting: Setting, neuron: str, dtype: torch.dtype) -> dict[str, Any]:
    """Bytes that a kernel reads and writes a second, over those of a copy of the same values."""
    x_seq = torch.randn(COPIED[setting.small], device=setting.device.kind).to(dtype)
    theta = torch.rand(x_seq.shape[2], device=setting.device.kind) + 0.1
    repeats = 2 if setting.small else 20
    options = {"timesteps": len(x_seq)} if neuron == "shifted_threshold" else {}
    copy = setting.device.seconds(lambda: x_seq.clone(), repeats)
    scan = setting.device.seconds(lambda: dynamics.scan(neuron, x_seq, theta, **options), repeats)
    moved = 2 * x_seq.numel() * x_seq.element_size()
    return {"GB_a_second": moved / scan / 1e9, "copy_GB_a_second": moved / copy / 1e9, "to_copy": copy / scan}


def _engine(setting: Setting, network: str, steps: int, row: str) -> dict[str, Any]:
    """Seconds of a run beside the source network's passes on the same batch, each batch in turn."""
    engine, device = ENGINES[row], setting.device
    made = SMALL[network] if setting.small else NETWORKS[network]
    model, calibration = (value.to(device.kind) for value in made.build())
    units: dict[str, Callable[..., Any] | None] = {}
    for name in UNITS:
        try:
            units[name] = ENGINES[name].prepare(model, calibration, 1)
        except Unavailable:
            units[name] = None
    try:
        run = engine.prepare(model, calibration, steps)
    except Unavailable as error:
        return {"not_here": str(error)}
    if isinstance(run, SpikingNetwork):
        run.memory_budget = BUDGET
    figures: dict[str, Any] = {}
    repeats = 1 if setting.small else 3
    passes = 1 if engine.sums else engine.steps(steps)
    for batch in (2,) if setting.small else BATCHES:
        x = torch.randn(batch, *made.shape, device=device.kind)
        given = x.to(engine.dtype)
        try:
            taken = device.seconds(partial(run, given), repeats)
            figures[f"ms_at_{batch}"] = 1e3 * taken
            for name, unit in units.items():
                if unit is not None:
                    one = device.seconds(partial(unit, x.to(ENGINES[name].dtype)), repeats)
                    figures[f"{'bf16' if 'bf' in name else 'fp32'}_passes_at_{batch}"] = taken / one / passes
            peak = device.peak(run, given)
        except torch.OutOfMemoryError:  # the other batches' figures stay
            figures[f"at_{batch}"] = "out of memory"
            continue
        figures[f"peak_MiB_at_{batch}"] = None if peak is None else peak / 2**20
    return figures
