"""The source graph: a network as a list of operators, its weights, and the sites where a neuron will stand."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, fx, nn

from snnconv.graph.activation import Activation, ReLU, activated, activation_site, broadcast
from snnconv.graph.error import ConversionError
from snnconv.graph.ops import operator_of, part_of_ladder
from snnconv.graph.records import graph_of, records
from snnconv.graph.sizes import Sizes

__all__ = ["ConversionError", "Site", "SourceGraph", "activation_site", "broadcast", "depends_on", "unique_name"]


_RELU = ReLU()


@dataclass(frozen=True)
class Site:
    """One activation of the source network, i.e. one future population of neurons.

    Attributes:
        name: unique name, the module path with the call number from the second call on (``layer1.0.relu:2``).
        function: the activation, a kind of :mod:`snnconv.graph.activation` with its parameters.
        axis: channel axis of one step's tensor ``[B, C, ...]``; 0: none, all neurons have one threshold.

    >>> import torch
    >>> Site("a", ReLU(cap=6.0)).activation(torch.tensor([-1.0, 7.0]))
    tensor([0., 6.])
    """

    name: str
    function: Activation = _RELU
    axis: int = 1

    def activation(self, z: Tensor) -> Tensor:
        """The source network's activation at this site."""
        return self.function(z, self.axis)

    @property
    def kind(self) -> str:
        """Name of the activation's kind: ``relu``, ``quant``, ``rate_norm``, ``clip``."""
        return self.function.name

    @property
    def cap(self) -> float | None:
        """Upper clip of the activation in units of its output, or ``None``."""
        return getattr(self.function, "cap", None)

    @property
    def threshold(self) -> Tensor | None:
        """Trained threshold (``quant``: clip, ``rate_norm`` and ``clip``: p·r), scalar or per channel, or ``None``."""
        return getattr(self.function, "threshold", None)

    @property
    def levels(self) -> int | None:
        """Quantisation levels above zero, or ``None``."""
        return getattr(self.function, "levels", None)

    def with_(self, **changes: Any) -> Site:
        """Copy with some fields changed.

        >>> Site("a").with_(axis=-1).axis
        -1
        """
        return replace(self, **changes)


def unique_name(name: str, taken: Any, mark: str = ":") -> str:
    """``name``, or ``name:2``, ``name:3`` ... where it is taken.

    >>> unique_name("relu", {"relu"}), unique_name("relu", {"relu", "relu_2"}, mark="_")
    ('relu:2', 'relu_3')
    """
    number, candidate = 2, name
    while candidate in taken:
        candidate, number = f"{name}{mark}{number}", number + 1
    return candidate


@dataclass
class SourceGraph:
    """A traced network: ``graph`` (operators), ``tensors`` (weights by name), ``sites`` (activations by name).

    Nodes of the graph are functional operators, ``get_attr`` of a tensor, and ``activation_site`` calls. ``modules``
    holds what could only be kept whole (an attention layer, say), by path. ``sizes`` says for inputs of which sizes the
    graph holds; None is all that the operators take.

    It pickles with its operators by name (:mod:`snnconv.graph.records`).
    """

    graph: fx.Graph
    tensors: dict[str, Tensor]
    sites: dict[str, Site] = field(default_factory=dict)
    modules: dict[str, nn.Module] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    sizes: Sizes | None = None

    def copy(self) -> SourceGraph:
        """Independent copy (weights cloned)."""
        graph = fx.Graph()
        val_map: dict[fx.Node, fx.Node] = {}
        graph.output(graph.graph_copy(self.graph, val_map), None)
        for old, new in val_map.items():
            new.meta = dict(old.meta)
        return SourceGraph(
            graph,
            {k: v.clone() for k, v in self.tensors.items()},
            dict(self.sites),
            {k: copy.deepcopy(m) for k, m in self.modules.items()},
            list(self.notes),
            self.sizes,
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "graph": records(self.graph)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, graph=graph_of(state["graph"]))

    def site_nodes(self) -> list[fx.Node]:
        """The ``activation_site`` nodes in execution order."""
        return [n for n in self.graph.nodes if n.op == "call_function" and n.target is activation_site]

    def longest_path(self, steps: Callable[[str], int]) -> int:
        """Largest sum of steps on a way from an input to an output: ``steps`` of a site, those of ladders' codes.

        >>> from snnconv.graph.capture.fx import source_graph
        >>> net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2), nn.ReLU())
        >>> source_graph(net).longest_path({"1": 3, "3": 4}.get)
        7
        """
        sums: dict[fx.Node, int] = {}
        for node in self.graph.nodes:
            own = steps(str(node.kwargs["site"])) if node.target is activation_site else 0
            if part_of_ladder(node):
                own = operator_of(node.target).phases * int(node.kwargs.get("timesteps", 0))
            sums[node] = max((sums[n] for n in node.all_input_nodes), default=0) + own
        return max(sums.values(), default=0)

    def leave_analog(self, site: str) -> None:
        """Make a site an operator like any other, which stays as it is in the network.

        Raises:
            ConversionError: an activation with trained parameters, which no operator's arguments hold.
        """
        function = self.sites[site].function
        if function.tensors():
            raise ConversionError(
                f"{site}: a {function.name} activation with trained parameters cannot stay analog: exclude others"
            )
        node = next(n for n in self.site_nodes() if n.kwargs["site"] == site)
        with self.graph.inserting_before(node):
            new = self.graph.call_function(activated, (node.args[0],), function.to_dict())
        new.meta = {**node.meta, "path": site}
        node.replace_all_uses_with(new)
        self.graph.erase_node(node)
        del self.sites[site]

    def placeholders(self) -> tuple[str, ...]:
        """Names of the inputs in order.

        >>> SourceGraph(fx.symbolic_trace(nn.Bilinear(1, 1, 1)).graph, {}).placeholders()
        ('input1', 'input2')
        """
        return tuple(str(n.target) for n in self.graph.nodes if n.op == "placeholder")

    def prune(self) -> None:
        """Remove operators nobody reads, and weights and modules no operator reads."""
        for node in reversed(list(self.graph.nodes)):
            if not node.users and node.op not in ("placeholder", "output"):
                self.graph.erase_node(node)
        live = {n.target for n in self.graph.nodes if n.op in ("get_attr", "call_module")}
        self.tensors = {k: v for k, v in self.tensors.items() if k in live}
        self.modules = {k: m for k, m in self.modules.items() if k in live}

    def new_tensor(self, name: str, value: Tensor, before: fx.Node) -> fx.Node:
        """Add a weight and a node that reads it."""
        name = unique_name(name, self.tensors)
        self.tensors[name] = value
        with self.graph.inserting_before(before):
            node = self.graph.create_node("get_attr", name)
        node.meta["path"] = before.meta.get("path", "")
        return node


def depends_on(graph: fx.Graph, roots: set[fx.Node]) -> set[fx.Node]:
    """All nodes that depend on any of ``roots`` (which are included)."""
    reached = set(roots)
    for node in graph.nodes:
        if any(i in reached for i in node.all_input_nodes):
            reached.add(node)
    return reached
