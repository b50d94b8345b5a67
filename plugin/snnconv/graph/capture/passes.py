"""What is done to a captured graph, step by step; each step keeps what the network computes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch.nn.functional as F
from torch import fx

from snnconv.graph import activation
from snnconv.graph.activation import activated
from snnconv.graph.arguments import argument, operand, set_argument
from snnconv.graph.capture.attention import expand_attention, expand_gates, layers_of_products
from snnconv.graph.capture.normalisations import see_normalisations
from snnconv.graph.capture.patterns import see_activations
from snnconv.graph.cover import RELUS, Cover
from snnconv.graph.flow import Flow
from snnconv.graph.fold import fold_batch_norm, fold_constants, lower_batch_norm
from snnconv.graph.functions import Sigmoid
from snnconv.graph.ops import in_place, operator_of
from snnconv.graph.sites import find_sites, pool_before_neurons
from snnconv.graph.source import SourceGraph

__all__ = ["Pass", "drop_no_ops", "make_out_of_place", "name_activations", "passes"]

_DROPOUTS = ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout")


@dataclass(frozen=True)
class Pass:
    """One step: its name, and the function that changes a graph in place."""

    name: str
    run: Callable[[SourceGraph], None]


def passes(cover: Cover = RELUS) -> tuple[Pass, ...]:
    """The steps in order, up to the activation sites; ``cover`` says where neurons stand."""
    apart = (
        Pass("attention becomes layers, products and a softmax", expand_attention),
        Pass("products with weights become layers", layers_of_products),
        Pass("normalisations written as arithmetic are seen", see_normalisations),
    )
    gates = (Pass("gated units become products", expand_gates),)
    return (
        Pass("what no input changes is computed once", fold_constants),
        *(apart if cover.synapses else ()),
        *(gates if cover.synapses or cover.wanted(Sigmoid()) else ()),
        Pass("BatchNorm becomes an operator", lower_batch_norm),
        Pass("BatchNorm is folded", fold_batch_norm),
        Pass("ReLUs written as arithmetic are seen", see_activations),
        Pass("activations become sites", partial(find_sites, wanted=cover.wanted)),
        Pass("max-pooling moves in front of its neurons", pool_before_neurons),
    )


def drop_no_ops(source: SourceGraph) -> None:
    """Remove dropout, stochastic depth (identities in evaluation mode), assertions, and default arguments."""
    graph = source.graph
    for node in reversed(list(graph.nodes)):
        name = getattr(node.target, "__name__", "") if node.op == "call_function" else ""
        if name in ("_assert", "_assert_is_none") and not node.users:
            graph.erase_node(node)
        elif name in _DROPOUTS:
            default = node.args[2] if len(node.args) > 2 else node.target is not F.dropout
            if not node.kwargs.get("training", default):
                _bypass(graph, node)
        elif name == "stochastic_depth" and not node.kwargs.get(
            "training", node.args[3] if len(node.args) > 3 else True
        ):
            _bypass(graph, node)
    placeholders = [n for n in graph.nodes if n.op == "placeholder"]
    used = [n for n in placeholders if n.users] or placeholders[:1]
    for node in placeholders:
        if node not in used:
            graph.erase_node(node)


def _bypass(graph: fx.Graph, node: fx.Node) -> None:
    node.replace_all_uses_with(node.all_input_nodes[0])
    graph.erase_node(node)


def make_out_of_place(source: SourceGraph) -> None:
    """``relu(x, inplace=True)`` or ``x += y`` changes x for everybody who reads it later: say so in the graph."""
    flow = Flow(source.graph)
    for node in flow.nodes:
        if node.op not in ("call_method", "call_function"):
            continue
        flagged = argument(node, "inplace") is True
        if not (flagged or in_place(node)) or not node.all_input_nodes:
            continue
        overwritten = operand(node)
        if flagged:
            set_argument(node, "inplace", False)
        elif node.op == "call_method":
            node.target = str(node.target).rstrip("_")
        else:
            node.target = dict(operator_of(node.target).twins)[node.target]
        if isinstance(overwritten, fx.Node) and flow.kinds[node] not in ("shape", "size"):  # numbers do not change
            later = set(flow.nodes[flow.nodes.index(node) + 1 :])
            replaced = overwritten.replace_all_uses_with(node, delete_user_cb=later.__contains__)
            node.meta["overwrites"] = bool(replaced)


def name_activations(source: SourceGraph) -> None:
    """Calls of registered functions and modules become calls of their activation kind, which a file can hold."""
    for node in list(source.graph.nodes):
        kind = None
        if node.op == "call_module":
            kind = activation.leaf_module(source.modules[str(node.target)])
        elif node.op == "call_function":
            kind = activation.called(node.target, node.args[1:], dict(node.kwargs))
        if kind is None:
            continue
        with source.graph.inserting_before(node):
            new = source.graph.call_function(activated, (operand(node),), kind.to_dict())
        new.meta = dict(node.meta)
        node.replace_all_uses_with(new)
        source.graph.erase_node(node)
