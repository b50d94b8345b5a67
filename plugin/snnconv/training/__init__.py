"""Training towards a spiking network: losses and distillation; the loops are functions of ``snnconv`` itself."""

from snnconv.training.distill import Distillation
from snnconv.training.losses import BitSparsity, Coefficient, InferenceRate, RateInferenceLoss, one_bits, rate_ks

__all__ = [
    "BitSparsity", "Coefficient", "Distillation", "InferenceRate", "RateInferenceLoss", "one_bits", "rate_ks",
]  # fmt: skip
