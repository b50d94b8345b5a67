"""Cost models of arithmetic alone."""

from __future__ import annotations

from math import ceil, log2

from snnconv.metrics.costs.model import CostModel, Prices, register
from snnconv.metrics.counts import Counts

__all__ = ["BIT_OPERATIONS", "COMPUTE_45NM", "COMPUTE_INT8"]

_WEIGHT_BITS = 8
_INPUT_BITS = 8

COMPUTE_45NM = register(
    CostModel(
        "45nm",
        "M. Horowitz, Computing's energy problem, ISSCC 2014: float32 at 45 nm, 0.9 pJ an addition, 3.7 pJ a product",
        includes="additions that spikes cause, multiply-accumulates that remain",
        excludes="memory, addressing, neuron updates, communication, leakage",
        prices=Prices(addition=0.9e-12, mac=4.6e-12),
    )
)
"""0.9 pJ an addition and 4.6 pJ a multiply-accumulate of float32."""

COMPUTE_INT8 = register(
    CostModel(
        "int8",
        "M. Horowitz, Computing's energy problem, ISSCC 2014: int8 at 45 nm, 0.03 pJ an addition, 0.2 pJ a product "
        "(SimpleEnergyCostConfig.int8 of SpikingJelly)",
        includes="additions that spikes cause, multiply-accumulates that remain",
        excludes="memory, addressing, neuron updates, wider accumulators, communication, leakage",
        prices=Prices(addition=0.03e-12, mac=0.23e-12),
    )
)
"""0.03 pJ an addition and 0.23 pJ a multiply-accumulate of int8."""


def _twin_bits(counts: Counts, levels: int) -> float:
    """Layers that read the input take its 8 bits, the others as many as the levels need."""
    bits = ceil(log2(levels + 1))
    first = sum(layer.ann_macs for layer in counts.layers if layer.reads == "input")
    whole = counts.ann_operations
    rest = whole.macs - min(first, whole.macs) + counts.function_macs * whole.functions
    return _WEIGHT_BITS * (_INPUT_BITS * min(first, whole.macs) + bits * rest)


BIT_OPERATIONS = register(
    CostModel(
        "bit-operations",
        "C. Baskin et al., UNIQ, arXiv:1804.10969: bits of the weight times bits of what it meets, a multiplication",
        includes="8-bit weights: 8 an addition that a spike causes, 64 a multiply-accumulate of 8-bit values",
        excludes="accumulators, memory, addressing, neuron updates",
        unit="bit operations",
        prices=Prices(addition=float(_WEIGHT_BITS), mac=float(_WEIGHT_BITS * _INPUT_BITS)),
        twin=_twin_bits,
    )
)
"""Bit operations with 8-bit weights, for quantised networks and spiking ones alike."""
