"""Trainable activations that replace ReLU so that a network converts directly."""

from snnconv.activations.quant import QCFS, QuantReLU, QuantSigned
from snnconv.activations.rate_norm import RateNorm
from snnconv.graph.trained import TrainedActivation

__all__ = ["QCFS", "QuantReLU", "QuantSigned", "RateNorm", "TrainedActivation"]
