"""Training towards a spiking network: losses, distillation, quantised weights; the loops are ``snnconv``'s own."""

from snnconv.training.distill import Distillation
from snnconv.training.losses import BitSparsity, Coefficient, InferenceRate, RateInferenceLoss, one_bits, rate_ks
from snnconv.training.weight_quant import APoT, UniformWeight, quantise_weights

__all__ = [
    "APoT", "BitSparsity", "Coefficient", "Distillation", "InferenceRate", "RateInferenceLoss", "UniformWeight",
    "one_bits", "quantise_weights", "rate_ks",
]  # fmt: skip
