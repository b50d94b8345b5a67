"""Part 2: a converted network on the device is the one on the CPU, wherever it is calibrated, saved and run."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import snnconv
from snnconv import methods

from .record import Case, Failed, Setting
from .sources import names, network

__all__ = ["cases"]

STEPS = 8
INPUTS, FEW = 64, 2
"""Inputs of a ResNet-20, and of what a processor that runs it beside the GPU takes longer for."""
METHODS = {
    "signed IF": methods.SignedIF(STEPS, correction="none"),
    "IF": methods.IF(STEPS, correction="none"),
    "SRP": methods.SRP(STEPS, pre_timesteps=4, correction="none"),
    "shifted threshold": methods.ShiftedThreshold(4, correction="none"),
}
SAME_SPIKES = 0.999
BUDGETS = (64, 256, 1024, 4096)
"""MiB."""


def cases(setting: Setting) -> list[Case]:
    """Every network with signed IF, the first with every method; then what is asked once."""
    small, *others = names(setting)
    found = [Case(f"{small}, {m}: CPU and device", partial(_compare, setting, small, m)) for m in METHODS]
    found += [Case(f"{n}, signed IF: CPU and device", partial(_compare, setting, n, "signed IF")) for n in others]
    once = {
        "calibrated on the device": _calibrated,
        "saved there, loaded here and back": _saved,
        "several streams": _streams,
        "one CUDA graph": _recorded,
    }
    found += [Case(f"{small}: {label}", partial(check, setting, small)) for label, check in once.items()]
    widest = small if setting.small else "resnet18"
    found += [Case(f"{widest}: budget {mib} MiB", partial(_budget, setting, widest, mib)) for mib in BUDGETS]
    return found


@contextmanager
def exact_products() -> Iterator[None]:
    """Without TensorFloat-32, which rounds the inputs of float32 products to ten bits."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def _given(setting: Setting, name: str) -> tuple[nn.Module, Tensor, Tensor, dict[str, Any]]:
    return network(name, INPUTS if name == "resnet20" and not setting.small else FEW)


def _converted(model: nn.Module, method: methods.Method, calibration: Tensor) -> snnconv.SpikingNetwork:
    snn = snnconv.convert(model, method, calibration, progress=False)
    snn.memory_budget = 2**32  # one part: spikes are looked at site by site
    return snn


def _compare(setting: Setting, name: str, label: str) -> dict[str, Any]:
    """The same network on the same inputs, spike by spike; then as a user has it, with TensorFloat-32."""
    model, calibration, x, about = _given(setting, name)
    snn = _converted(model, METHODS[label], calibration)
    spikes: dict[str, list[Tensor]] = {}
    # a copy, since sums may be written over what neurons put out
    snn.run(x, "steps", observe=lambda site, out: spikes.setdefault(site, []).append(out.clone()))
    expected = snn(x)
    there = snn.to(setting.device.kind)
    same = values = 0
    worst = ("", 1.0)

    def look(site: str, out: Tensor) -> None:
        nonlocal same, values, worst
        here = spikes[site].pop(0)
        theta = float(snn.thresholds[site].abs().mean())
        equal = int(((here - out.cpu()).abs() < 1e-3 * theta).sum())
        same, values = same + equal, values + here.numel()
        worst = min(worst, (site, equal / here.numel()), key=lambda found: found[1])

    with exact_products():
        there.run(x.to(setting.device.kind), "steps", observe=look)
        classes = there(x.to(setting.device.kind)).argmax(1).cpu()
    as_it_is = there(x.to(setting.device.kind)).argmax(1).cpu()
    figures: dict[str, Any] = {
        "spikes_equal": same / values,
        "worst_site": worst[0],
        "worst_equal": worst[1],
        "classes_equal": float((classes == expected.argmax(1)).float().mean()),
        "classes_equal_tf32": float((as_it_is == expected.argmax(1)).float().mean()),
        **about,
    }
    if figures["spikes_equal"] < SAME_SPIKES or figures["classes_equal"] < 1:
        raise Failed("spikes equal on less than 99.9 %, or another class", **figures)
    return figures


def _calibrated(setting: Setting, name: str) -> dict[str, Any]:
    """Thresholds found on the device, beside those found on the CPU."""
    model, calibration, _, about = _given(setting, name)
    method = methods.SignedIF(STEPS)
    here = snnconv.convert(model, method, calibration, progress=False)
    kind = setting.device.kind
    with exact_products():
        there = snnconv.convert(model.to(kind), method, calibration.to(kind), progress=False)
        again = snnconv.convert(model, method, calibration.to(kind), progress=False)
    model.cpu()
    off, differs = 0.0, False
    for site in here.thresholds:
        a, b, c = (n.thresholds[site].cpu() for n in (here, there, again))
        off = max(off, float(((a - b).abs() / a.abs().clamp(min=1e-12)).max()))
        differs |= not torch.equal(b, c)
    where = {tensor.device.type for tensor in there.buffers()}
    figures = {"thresholds_differ_at_most": off, "twice_the_same": not differs, **about}
    if where != {kind} or off > 0.05:
        raise Failed(f"thresholds are off by {off:.3g}, on {', '.join(sorted(where))}", **figures)
    return figures


def _saved(setting: Setting, name: str) -> dict[str, Any]:
    model, calibration, x, about = _given(setting, name)
    kind = setting.device.kind
    there = _converted(model, METHODS["signed IF"], calibration).to(kind)
    with tempfile.TemporaryDirectory() as folder, exact_products():
        path = Path(folder, "net.snn.safetensors")
        snnconv.save(there, path)
        here = snnconv.load(path)
        expected, got = there(x.to(kind)), here.to(kind)(x.to(kind))
        back = float((here.cpu()(x).argmax(1) == expected.argmax(1).cpu()).float().mean())
    figures = {"same_bits": bool(torch.equal(expected, got)), "classes_equal_on_the_cpu": back, **about}
    if not figures["same_bits"] or back < 1:
        raise Failed("the loaded network computes something else", **figures)
    return figures


def _streams(setting: Setting, name: str) -> dict[str, Any]:
    model, calibration, x, about = _given(setting, name)
    kind = setting.device.kind
    snn = _converted(model, METHODS["signed IF"], calibration).to(kind)
    inputs = [x.to(kind).roll(shift, 0) for shift in range(3)]
    expected = [snn(value) for value in inputs]
    together = setting.device.side_by_side(snn, inputs)
    same = all(torch.equal(a, b) for a, b in zip(expected, together, strict=True))
    if not same:
        raise Failed("runs in three streams at once give other outputs than one by one", **about)
    return {"streams": len(inputs), "same_bits": same, **about}


def _recorded(setting: Setting, name: str) -> dict[str, Any]:
    """The run as one CUDA graph: the same outputs, and the time that launching kernels one by one costs."""
    model, calibration, x, about = _given(setting, name)
    snn = _converted(model, METHODS["signed IF"], calibration).to(setting.device.kind)
    x = x.to(setting.device.kind)
    expected = snn(x)
    replay = setting.device.recorded(snn, x)
    same = bool(torch.equal(replay(), expected))
    repeats = 1 if setting.small else 20
    plain = setting.device.seconds(lambda: snn(x), repeats)
    figures = {"same_bits": same, "seconds": plain, "graph_to_plain": setting.device.seconds(replay, repeats) / plain}
    if not same:
        raise Failed("a replayed graph gives other outputs", **figures)
    return {**figures, **about}


def _budget(setting: Setting, name: str, mib: int) -> dict[str, Any]:
    """Peak memory and time of a batch under one memory budget."""
    model, calibration, _, about = _given(setting, name)
    count = 8 if setting.small else 64
    x = torch.randn(count, *calibration.shape[1:], device=setting.device.kind)
    snn = snnconv.convert(model, METHODS["signed IF"], calibration, progress=False).to(setting.device.kind)
    snn.memory_budget = mib * 2**20
    seconds = setting.device.seconds(lambda: snn(x), 1 if setting.small else 3)
    taken = setting.device.peak(snn, x)
    return {"batch": count, "peak_MiB": None if taken is None else taken / 2**20, "seconds": seconds, **about}
