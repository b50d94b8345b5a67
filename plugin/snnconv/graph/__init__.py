"""A network as data: operators, weights, sites. Imports nothing of the project; runs nothing."""

from snnconv.graph import torch_ops as torch_ops  # fills the operator table
