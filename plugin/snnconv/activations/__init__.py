"""Trainable activations that replace ReLU so that a network converts directly."""

from snnconv.activations.quant import QCFS, QuantFunction, QuantReLU, QuantSigned
from snnconv.activations.rate_norm import RateNorm
from snnconv.graph.trained import TrainedActivation

__all__ = ["QCFS", "QuantFunction", "QuantReLU", "QuantSigned", "RateNorm", "TrainedActivation"]
