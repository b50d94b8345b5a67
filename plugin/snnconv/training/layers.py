"""A network cut at its sites: what lies between each site and those before it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import fx

from snnconv.graph.fold import synapse_arguments
from snnconv.graph.ops import is_synapse
from snnconv.graph.source import SourceGraph, activation_site
from snnconv.runtime.program import GraphProgram

__all__ = ["Layer", "layers"]


@dataclass(frozen=True)
class Layer:
    """What lies between a site and the sites before it.

    Attributes:
        name: the site.
        inputs: the sites whose outputs it reads.
        tensors: weights and biases that no earlier layer has.
        program: this part alone.
    """

    name: str
    inputs: tuple[str, ...]
    tensors: tuple[str, ...]
    program: GraphProgram


def layers(source: SourceGraph) -> list[Layer]:
    """Every site with weights of its own, in order.

    >>> from torch import nn
    >>> from snnconv.graph.capture.fx import source_graph
    >>> source = source_graph(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 1)))
    >>> [(layer.name, layer.inputs) for layer in layers(source)]
    [('1', ()), ('3', ('1',))]
    """
    claimed: set[str] = set()
    found = []
    for site in source.site_nodes():
        inside, inputs = _between(site)
        tensors = []
        for node in inside:
            if is_synapse(node):
                tensors += [str(n.target) for n in synapse_arguments(node) if n is not None]
        own = tuple(dict.fromkeys(name for name in tensors if name not in claimed))
        claimed |= set(own)
        if own:
            names = tuple(str(n.kwargs["site"]) for n in inputs)
            found.append(Layer(str(site.kwargs["site"]), names, own, _part(source, site, inside, inputs)))
    return found


def _between(site: fx.Node) -> tuple[list[fx.Node], list[fx.Node]]:
    """The operators that a site's input comes from, up to other sites; and these. Both in the graph's order."""
    inside: set[fx.Node] = set()
    inputs: set[fx.Node] = set()
    waiting = list(site.all_input_nodes)
    while waiting:
        node = waiting.pop()
        if node.target is activation_site:
            inputs.add(node)
        elif node not in inside:
            inside.add(node)
            waiting += node.all_input_nodes
    nodes = site.graph.nodes
    return [node for node in nodes if node in inside], [node for node in nodes if node in inputs]


def _part(source: SourceGraph, site: fx.Node, inside: list[fx.Node], inputs: list[fx.Node]) -> GraphProgram:
    """The operators ``inside`` as a program that ends at ``site``; its tensors are those of ``source`` itself."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    image: fx.Node | None = None
    for node in source.graph.nodes:
        if node in inputs:  # its neuron function gives what it is told, so that it may read anything
            copies[node] = graph.call_function(activation_site, (image,), dict(node.kwargs))
        elif node in inside or node is site or node.op == "placeholder":
            copies[node] = graph.node_copy(node, copies.__getitem__)
        if node.op == "placeholder" and image is None:
            image = copies[node]
        if node in copies:
            copies[node].meta = dict(node.meta)
    graph.output(copies[site])
    return GraphProgram(SourceGraph(graph, source.tensors, source.sites, source.modules))
