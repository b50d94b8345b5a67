"""Neurons that NIR has no node for, as one documented extension node.

The node's type in the file is ``snnconv.Neuron``, so that a reader that does not know it refuses the file. Its fields:

- ``neuron``: the word for it: ``signed_if`` (signed integrate-and-fire), ``shifted_threshold``;
- ``v_threshold``: θ an element of one step; of ``shifted_threshold`` the value of the least significant bit;
- ``options``: the neuron's settings by name (``eps``, ``eps_absolute``, ``signed``, ``timesteps``); one that is not
  there has its default.

Spikes are in units of the threshold; ``eps`` is a part of it. The membrane starts where the neuron says, θ/2. In sum
coding (``shifted_threshold``; the graph's metadata say ``coding = "sum"``) the input comes once, a node sends T spikes
that are worth 2^(T−1) … 1, and the node behind reads their weighted sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import h5py
import nir
import numpy as np

from snnconv import dynamics
from snnconv.dynamics.neuron import REQUIRED
from snnconv.files.refusal import brief
from snnconv.graph.error import ConversionError

__all__ = ["TYPE", "NeuronNode", "can_say", "read_graph"]

TYPE = "snnconv.Neuron"


@dataclass(eq=False)
class NeuronNode(nir.NIRNode):  # type: ignore[misc]
    """The extension node.

    Attributes:
        neuron: name of the neuron.
        v_threshold: θ, of the shape of one step.
        options: its settings.
    """

    neuron: str
    v_threshold: np.ndarray[Any, Any]
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = np.array(np.shape(self.v_threshold))
        self.input_type, self.output_type = {"input": shape}, {"output": shape}

    def to_dict(self) -> dict[str, Any]:
        """What is written."""
        return {
            "type": TYPE,
            "neuron": self.neuron,
            "v_threshold": self.v_threshold,
            "options": {k: v for k, v in self.options.items() if v is not None},
            "metadata": {},
        }


def can_say(neuron: dynamics.Neuron, options: Mapping[str, Any]) -> bool:
    """Whether the node holds all of a neuron: one phase, no differential coding, plain settings."""
    plain = all(value is None or isinstance(value, (bool, int, float, str)) for value in options.values())
    return neuron.pre_phase is None and not neuron.differential and plain


def read_graph(path: str) -> Any:
    """The graph in a file, extension nodes included."""
    with h5py.File(path, "r") as file:
        data = nir.serialization.hdf2dict(file["node"])
    nodes = data.get("nodes")
    if data.get("type") != "NIRGraph" or not isinstance(nodes, Mapping):
        return nir.read(path)
    if not any(isinstance(node, Mapping) and _own(node) for node in nodes.values()):
        return nir.read(path)
    made = {name: _node(str(name), node) for name, node in nodes.items()}

    def word(end: Any) -> str:
        return end.decode("utf8") if isinstance(end, bytes) else str(end)

    edges = [tuple(map(word, edge)) for edge in data["edges"]]
    return nir.NIRGraph(made, edges, dict(data.get("metadata", {})), type_check=False)


def _own(node: Mapping[str, Any]) -> bool:
    """Whether nir's own reader refuses a node: an extension, or a grouped convolution, whose input it takes for one
    group's."""
    groups = np.asarray(node.get("groups", 1))
    return node.get("type") == TYPE or (groups.size == 1 and groups.dtype.kind in "iu" and int(groups.item()) > 1)


def _node(name: str, node: Any) -> Any:
    if node.get("type") != TYPE:
        return nir.dict2NIRNode(dict(node))
    neuron, options = str(node.get("neuron")), node.get("options", {})
    if neuron not in dynamics.NEURONS or not isinstance(options, Mapping):
        raise ConversionError(
            f"node {name!r:.200} ({TYPE}): unknown neuron {neuron!r:.200}; known: {', '.join(sorted(dynamics.NEURONS))}"
        )
    known = {option.name: option for option in dynamics.NEURONS[neuron].options}
    found = {}
    for key, value in options.items():
        if key not in known:
            raise ConversionError(f"node {name!r:.200} ({TYPE}): {neuron} has no setting {key!r:.200}")
        found[key] = np.asarray(value).item()
    if not can_say(dynamics.NEURONS[neuron], found):
        raise ConversionError(f"node {name!r:.200} ({TYPE}): {neuron} neurons have no place in a file")
    for key, option in known.items():
        if found.setdefault(key, option.default) is REQUIRED:
            raise ConversionError(f"node {name!r:.200} ({TYPE}): {neuron} needs {key}, {option.meaning}")
        try:
            option.check(found[key])
        except (ValueError, TypeError) as error:
            what = f"{key} is {found[key]!r:.60}: " if isinstance(error, TypeError) else ""
            raise ConversionError(f"node {name!r:.200} ({TYPE}): {what}{brief(error)}") from error
    return NeuronNode(neuron, node.get("v_threshold"), found)
