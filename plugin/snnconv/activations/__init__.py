"""Trainable activations that replace ReLU so that a network converts directly, and the losses that go with them."""

from snnconv.activations.distill import Distillation
from snnconv.activations.losses import BitSparsity, Coefficient, InferenceRate, RateInferenceLoss, one_bits, rate_ks
from snnconv.activations.quant import QCFS, QuantReLU
from snnconv.activations.rate_norm import RateNorm
from snnconv.graph.activation import TrainedActivation

__all__ = [
    "QCFS", "BitSparsity", "Coefficient", "Distillation", "InferenceRate", "QuantReLU", "RateInferenceLoss", "RateNorm",
    "TrainedActivation", "one_bits", "rate_ks",
]  # fmt: skip
