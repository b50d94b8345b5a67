"""Energy an operation as a paper on conversion counts it: 77 fJ or 12.5 pJ."""

from __future__ import annotations

from snnconv.metrics.costs.model import CostModel, Prices, register

__all__ = ["FLOP_JOULES", "OPERATIONS_77FJ", "SOP_JOULES"]

SOP_JOULES = 77e-15
"""Energy of one synaptic operation in Bu et al. (arXiv 2409.03368): 77 fJ."""
FLOP_JOULES = 12.5e-12
"""Energy of one operation of the source network there: 12.5 pJ."""

OPERATIONS_77FJ = register(
    CostModel(
        "77fj",
        "T. Bu et al., arXiv:2409.03368, section 5.5: 77 fJ a synaptic operation, 12.5 pJ an operation of the source "
        "network; two kinds of hardware",
        includes="additions that spikes cause, multiply-accumulates that remain",
        excludes="memory, addressing, neuron updates, communication, leakage, as far as the figures do not hold them",
        prices=Prices(addition=SOP_JOULES, mac=FLOP_JOULES),
    )
)
"""77 fJ an addition and 12.5 pJ a multiply-accumulate; 1 over it is the paper's FPS per watt."""
