"""A first look: handwritten digits, a small network trained on them, and every method's accuracy against time steps."""

from snnconv.demo.digits import Digits, load_digits, train
from snnconv.demo.network import small_cnn
from snnconv.demo.table import Row, curves, measure

__all__ = ["Digits", "Row", "curves", "load_digits", "measure", "small_cnn", "train"]
