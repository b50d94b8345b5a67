"""Lemaire et al.'s analytical model: arithmetic, addressing and memory accesses, neuron updates among them."""

from __future__ import annotations

from itertools import pairwise

from snnconv.metrics.costs.model import Classes, CostModel, register
from snnconv.metrics.counts import Counts, LayerCost, LayerSize

__all__ = ["ADDITION", "FIFO_MESSAGES", "LEMAIRE", "MULTIPLICATION", "WORD_BYTES", "access"]

ADDITION = 0.1e-12
"""Joules of a 32-bit integer addition at 45 nm."""
MULTIPLICATION = 3.1e-12
"""Joules of a 32-bit integer multiplication at 45 nm."""
WORD_BYTES = 4
FIFO_MESSAGES = 1000
"""Messages that the queue before and behind a spiking layer holds, as in the paper's experiments."""
_MEMORY = ((0.0, 0.0), (8 * 1024.0, 10e-12), (32 * 1024.0, 20e-12), (1024 * 1024.0, 100e-12))
_MAC = MULTIPLICATION + ADDITION


def access(words: float) -> float:
    """Joules of one 32-bit access to a memory of so many words: on lines through 10, 20, 100 pJ at 8, 32, 1024 KiB.

    >>> round(access(2048) * 1e12), round(access(5120) * 1e12), round(access(10**9) * 1e12)
    (10, 15, 100)
    """
    size = min(words * WORD_BYTES, _MEMORY[-1][0])
    for (small, low), (large, high) in pairwise(_MEMORY):
        if size <= large:
            return low + (high - low) * (size - small) / (large - small)
    return _MEMORY[-1][1]


class _Sum:
    """Numbers and joules by class."""

    def __init__(self) -> None:
        self.found = {name: [0.0, 0.0] for name in ("operations", "addressing", "memory")}

    def add(self, name: str, number: float, each: float) -> None:
        self.found[name][0] += number
        self.found[name][1] += number * each

    def classes(self) -> Classes:
        return {name: (number, joules) for name, (number, joules) in self.found.items()}


def _dense(total: _Sum, size: LayerSize, macs: float, passes: float) -> None:
    """A layer that multiplies: its input from a memory of the input's size (for a convolution at each product)."""
    total.add("operations", macs, _MAC)
    total.add("operations", passes * size.outputs if size.biases else 0.0, ADDITION)
    kernel = 0 if size.kind == "linear" else size.window
    total.add("addressing", passes * (size.inputs + size.outputs + kernel), ADDITION)
    total.add("memory", passes * size.inputs if size.kind == "linear" else macs, access(size.inputs))
    parameters = macs + (passes * size.outputs if size.biases else 0.0)
    total.add("memory", parameters, access(size.weights + size.biases))


def _events(total: _Sum, layer: LayerCost, size: LayerSize, steps: int) -> None:
    """A layer that spikes reach: each adds its weights to membranes, which are read and written."""
    biases = float(steps * size.outputs) if size.biases else 0.0
    total.add("operations", layer.sops + biases, ADDITION)
    if size.kind == "linear":
        total.add("addressing", layer.sops, ADDITION)
    else:
        total.add("addressing", layer.spikes * size.window, ADDITION)
        total.add("addressing", 2 * layer.spikes, _MAC)
    total.add("memory", layer.spikes, access(FIFO_MESSAGES))
    total.add("memory", layer.sops + biases, access(size.weights + size.biases))
    total.add("memory", 2 * layer.sops, access(size.outputs))


def _covered(counts: Counts) -> bool:
    """The paper has equations for layers with weights and neurons alone."""
    beside = counts.products or counts.evaluated or counts.comparisons or counts.functions or counts.ann_functions
    return bool(counts.layers) and not beside and all(layer.size is not None for layer in counts.layers)


def _snn(counts: Counts) -> Classes | None:
    if counts.sops is None or not _covered(counts):
        return None
    total = _Sum()
    for layer in counts.layers:
        assert layer.size is not None
        if layer.snn_macs:
            _dense(total, layer.size, layer.snn_macs, max(layer.snn_macs / max(layer.ann_macs, 1.0), 1.0))
        if layer.reads in ("spikes", "sum of spikes") or layer.sops:
            _events(total, layer, layer.size, counts.latency)
    for site in counts.sites:
        total.add("memory", 2.0 * site.neurons * site.steps, access(site.neurons))
        total.add("operations", site.spikes, ADDITION)
        total.add("memory", site.spikes, access(FIFO_MESSAGES))
    return total.classes()


def _ann(counts: Counts) -> float | None:
    if not _covered(counts):
        return None
    total = _Sum()
    for layer in counts.layers:
        assert layer.size is not None
        _dense(total, layer.size, layer.ann_macs, 1.0)
        total.add("memory", layer.size.outputs, access(layer.size.outputs))
    return sum(joules for _, joules in total.classes().values())


LEMAIRE = register(
    CostModel(
        "lemaire",
        "E. Lemaire et al., An analytical estimation of spiking neural networks energy efficiency, ICONIP 2022, "
        "arXiv:2210.13107, equations 1 to 17; int32 at 45 nm, 0.1 pJ an addition, 3.1 pJ a multiplication",
        includes="operations, addressing, local SRAM for weights, inputs, outputs and membranes, neuron updates",
        excludes="caches, off-chip memory, communication between layers, leakage; functions, products of two spike "
        "trains and residual additions, for which the paper has no equations",
        snn=_snn,
        ann=_ann,
    )
)
"""Arithmetic, addressing and memory, of spiking and ordinary networks."""
