"""Converted networks as NIR files (Neuromorphic Intermediate Representation, https://neuroir.org).

NIR is what neuromorphic chips and the other frameworks read. Its integrate-and-fire node has unit spikes, and says
nothing of the soft reset and of the membrane's start, on which converted networks stand; so

- amplitudes θ go into the weights behind the spikes, and a layer that feeds neurons directly is divided by their θ:
  thresholds are 1 wherever the graph allows it;
- the start at θ/2 becomes a constant current θ/2T at every step (``start="current"``), or stays in the file's metadata
  (``start="state"``), for readers that can set it;
- the soft reset is stated in the metadata, ``{"reset": "subtract", ...}``. Importers differ in what they make of the
  node: `benchmarks.nir_agreement` shows it.

Needs ``pip install "snnconv-plugin[nir]"``.
"""

from importlib.util import find_spec

if find_spec("nir") is None:
    raise ImportError('NIR files need nir: pip install "snnconv-plugin[nir]"', name="nir")

from snnconv.export.nir.reader import NIRNetwork, from_nir
from snnconv.export.nir.writer import to_nir

__all__ = ["NIRNetwork", "from_nir", "to_nir"]
