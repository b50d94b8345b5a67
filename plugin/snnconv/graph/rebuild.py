"""A trainable copy of a network with other activations at its sites: modules replaced, or the forward rebuilt.

Unlike a source graph, which is for inference, the copy keeps its modules (BatchNorm, dropout) and its parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import fx, nn

from snnconv.graph.activation import ReLU
from snnconv.graph.capture.fx import ThreadTracer, attribute, run_tracer
from snnconv.graph.capture.passes import drop_no_ops, make_out_of_place
from snnconv.graph.capture.patterns import see_activations
from snnconv.graph.sites import find_sites, is_activation_module
from snnconv.graph.source import ConversionError, Site, SourceGraph
from snnconv.graph.trained import TrainedActivation
from snnconv.graph.unwrap import copied

__all__ = ["rebuilt", "replaceable", "with_modules"]

MODE = "mode_of_training"
Make = Callable[[Site], TrainedActivation]


def replaceable(source: SourceGraph) -> bool:
    """Whether every ReLU of a traced network is a module of its own, whole, called once, that overwrites nothing."""
    names = list(source.sites)
    for node in source.site_nodes():
        name = str(node.kwargs["site"])
        if not isinstance(source.sites[name].function, ReLU):
            continue
        within = {name, *(path for stack in node.meta.get("parts", ()) for path, _ in list(stack.values())[-1:])}
        alone = node.meta.get("path") == name and f"{name}:2" not in names and within == {name}
        if not (alone and is_activation_module(node.meta.get("module_type")) and not node.meta.get("overwrites")):
            return False
    return True


def with_modules(model: nn.Module, sites: list[Site], make: Make) -> nn.Module:
    """A copy of ``model`` with the module at each site replaced, under every name it has; all else is as it was."""
    twin = copied(model)[0]
    names: dict[nn.Module, list[str]] = {}
    for path, module in twin.named_modules(remove_duplicate=False):
        names.setdefault(module, []).append(path)
    for site in sites:
        paths = names.pop(twin.get_submodule(site.name), [])
        if paths:  # else replaced under another of its names
            made = make(site)
            for path in paths:
                twin.set_submodule(path, made)
    return twin


def rebuilt(
    model: nn.Module, source: SourceGraph, make: Make, constants: Mapping[str, Any] | None = None
) -> fx.GraphModule:
    """``model`` as an ``fx.GraphModule`` with a module at each ReLU; parameters keep their names.

    Modules without a ReLU inside stay whole. A flag that is True in training and False in evaluation (``F.dropout(x,
    training=self.training)``) is read when the copy runs.

    Raises:
        TraceFailure: the forward cannot be traced.
        ConversionError: the forward takes other ways in training than in evaluation.
    """
    twin = copied(model)[0]
    stacks = [s for n in source.site_nodes() for s in (n.meta.get("nn_module_stack"), *n.meta.get("parts", ())) if s]
    opened = {path for stack in stacks for path, _ in stack.values()}  # where a ReLU, or a part of one, happens
    given = source.placeholders(), constants
    training = run_tracer(_Tracer(opened), copied(twin)[0].train(), *given)
    graph = run_tracer(_Tracer(opened), twin.eval(), *given)
    _follow_mode(graph, training, twin)
    numbers = {n.target: attribute(twin, n.target) for n in graph.nodes if n.op == "get_attr"}
    traced = SourceGraph(graph, numbers)
    drop_no_ops(traced)
    make_out_of_place(traced)
    see_activations(traced, quantisers=False)
    find_sites(traced)
    for node in traced.site_nodes():
        site = source.sites[str(node.kwargs["site"])]
        path = _free_path(twin, site.name)
        twin.set_submodule(path, make(site))
        with graph.inserting_before(node):
            node.replace_all_uses_with(graph.call_module(path, node.args))
        graph.erase_node(node)
    graph.lint()
    graph._tracer_cls = fx.Tracer  # unpickling makes one without arguments
    twin.train(model.training)
    return fx.GraphModule(twin, graph, type(model).__name__)


class _Tracer(ThreadTracer):
    """Looks into the modules that a ReLU happens in, and into no other."""

    def __init__(self, opened: set[str]) -> None:
        super().__init__()
        self.opened = opened

    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        return isinstance(module, TrainedActivation) or qualified_name not in self.opened


class _Mode(nn.Module):
    """Whether the network trains."""

    def forward(self) -> bool:
        return self.training


def _follow_mode(graph: fx.Graph, other: fx.Graph, owner: nn.Module) -> None:
    """Make ``graph`` (of evaluation) take its flags from the mode, where ``other`` (of training) differs in them."""
    mode: list[fx.Node] = []

    def flag() -> fx.Node:
        if not mode:
            setattr(owner, MODE, _Mode())
            first = next(n for n in graph.nodes if n.op != "placeholder")
            with graph.inserting_before(first):
                mode.append(graph.call_module(MODE))
        return mode[0]

    def merged(a: Any, b: Any, node: fx.Node) -> Any:
        if isinstance(a, fx.Node) and isinstance(b, fx.Node) and a.name == b.name:
            return a
        if a is False and b is True:
            return flag()
        if type(a) is type(b) and isinstance(a, (tuple, list)) and len(a) == len(b):
            return type(a)(merged(x, y, node) for x, y in zip(a, b, strict=True))
        if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
            return {k: merged(a[k], b[k], node) for k in a}
        if isinstance(a, fx.Node) or isinstance(b, fx.Node) or a != b:
            raise ConversionError(_other_way(node))
        return a

    pairs = list(zip(list(graph.nodes), list(other.nodes), strict=False))
    for a, b in pairs:
        if (a.op, a.name, a.target) != (b.op, b.name, b.target):
            raise ConversionError(_other_way(a))
        a.args, a.kwargs = merged(a.args, b.args, a), merged(dict(a.kwargs), dict(b.kwargs), a)
    if len(other.nodes) + len(mode) != len(graph.nodes):
        raise ConversionError(_other_way(pairs[-1][0]))


def _other_way(node: fx.Node) -> str:
    where = node.meta.get("path") or "the network's forward"
    return (
        f"{where}: the forward takes another way in training than in evaluation, and its ReLUs are no modules of their "
        "own; give each ReLU an nn.ReLU module that is called once"
    )


def _free_path(model: nn.Module, site: str) -> str:
    """Where the module of a site goes: ``layer1.0.relu:2`` to ``layer1.0.relu_2``."""
    path = site.replace(":", "_")
    parent, _, leaf = path.rpartition(".")
    owner = model.get_submodule(parent)
    if (
        ":" not in site
        and isinstance(getattr(owner, leaf, None), nn.Module)
        and is_activation_module(type(getattr(owner, leaf)))
    ):
        return path  # takes the place of the module that was the site
    while hasattr(owner, leaf):
        leaf += "_"
    return f"{parent}.{leaf}".lstrip(".")
