"""Make this package's classes appear inside SpikingJelly and snnTorch."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["ENTRIES", "SNNTORCH", "Entry", "add", "register"]


class Entry(NamedTuple):
    """One class to add.

    Attributes:
        module: SpikingJelly module that gets it, as a dotted path.
        name: its name there.
        target: where it lives, ``"package.module:object"``; imported only when registered.
    """

    module: str
    name: str
    target: str


_NEURON = "spikingjelly.activation_based.neuron"
_NODES = "snnconv.neurons.spikingjelly"
_ANN2SNN = "spikingjelly.activation_based.ann2snn"
_RECIPES = "snnconv.integrations.recipes"

ENTRIES: list[Entry] = [
    Entry(_NEURON, "ChannelIFNode", f"{_NODES}:ChannelIFNode"),
    Entry(_NEURON, "SignedIFNode", f"{_NODES}:SignedIFNode"),
    Entry(_NEURON, "SRPIFNode", f"{_NODES}:SRPIFNode"),
    Entry(_NEURON, "ShiftedThresholdIFNode", f"{_NODES}:ShiftedThresholdIFNode"),
    Entry(_NEURON, "MultiThresholdNode", f"{_NODES}:MultiThresholdNode"),
    Entry(_NEURON, "HierarchicalMultiThresholdNode", f"{_NODES}:HierarchicalMultiThresholdNode"),
    Entry(_NEURON, "LadderNode", f"{_NODES}:LadderNode"),
    Entry(_NEURON, "FunctionIFNode", f"{_NODES}:FunctionIFNode"),
    Entry(_ANN2SNN, "IFRecipe", f"{_RECIPES}:IFRecipe"),
    Entry(_ANN2SNN, "SignedIFRecipe", f"{_RECIPES}:SignedIFRecipe"),
    Entry(_ANN2SNN, "SRPRecipe", f"{_RECIPES}:SRPRecipe"),
    Entry(_ANN2SNN, "ShiftedThresholdRecipe", f"{_RECIPES}:ShiftedThresholdRecipe"),
    Entry(_ANN2SNN, "LTBRecipe", f"{_RECIPES}:LTBRecipe"),
    Entry(_ANN2SNN, "RateNormRecipe", f"{_RECIPES}:RateNormRecipe"),
]
"""What `register` adds."""

_SNNTORCH = "snnconv.neurons.snntorch"

SNNTORCH: list[Entry] = [
    Entry("snntorch", "IF", f"{_SNNTORCH}:IF"),
    Entry("snntorch", "SignedIF", f"{_SNNTORCH}:SignedIF"),
    Entry("snntorch", "SRPIF", f"{_SNNTORCH}:SRPIF"),
    Entry("snntorch", "ShiftedThresholdIF", f"{_SNNTORCH}:ShiftedThresholdIF"),
    Entry("snntorch", "MultiThreshold", f"{_SNNTORCH}:MultiThreshold"),
    Entry("snntorch", "HierarchicalMultiThreshold", f"{_SNNTORCH}:HierarchicalMultiThreshold"),
    Entry("snntorch", "Ladder", f"{_SNNTORCH}:Ladder"),
    Entry("snntorch", "FunctionIF", f"{_SNNTORCH}:FunctionIF"),
    Entry("snntorch", "convert", "snnconv.snntorch:convert"),
]
"""What `snnconv.snntorch.register` adds."""


def register() -> None:
    """Add the classes of `ENTRIES` to SpikingJelly's own modules; calling it again changes nothing.

    A name that SpikingJelly already uses for something else keeps its meaning, and a warning names it.
    Objects saved with these classes load without this call. For snnTorch there is `snnconv.snntorch.register`.

    Example:
        >>> register()
        >>> from spikingjelly.activation_based import neuron
        >>> neuron.SignedIFNode()
        SignedIFNode(...)
    """
    add(ENTRIES)


def add(entries: Iterable[Entry]) -> None:
    """Add classes to the modules that the entries name; a warning names those that are taken."""
    for entry in entries:
        module = importlib.import_module(entry.module)
        source, _, attribute = entry.target.partition(":")
        ours = getattr(importlib.import_module(source), attribute)
        theirs = getattr(module, entry.name, None)
        if theirs is None:
            setattr(module, entry.name, ours)
        elif theirs is not ours:
            warnings.warn(
                f"{entry.module} already has its own {entry.name}, which stays: "
                f"import {attribute} from {source} instead",
                stacklevel=3,
            )
            continue
        names = getattr(module, "__all__", None)
        if isinstance(names, list) and entry.name not in names:
            names.append(entry.name)
