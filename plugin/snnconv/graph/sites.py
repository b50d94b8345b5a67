"""Activation sites: every ReLU, whatever its spelling, and the max-pooling behind it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import fx, nn

from snnconv.graph.activation import Activation, ReLU, activated
from snnconv.graph.arguments import argument, arguments, operand, set_argument
from snnconv.graph.axes import Place, same
from snnconv.graph.ops import find, op_name, operator_of
from snnconv.graph.source import Site, SourceGraph, activation_site, unique_name
from snnconv.graph.trained import TrainedActivation

__all__ = ["channel_axes", "find_sites", "is_activation_module", "pool_before_neurons", "relu_bounds"]

_RELUS = {
    "relu": operator_of(F.relu), "relu6": operator_of(F.relu6), "hardtanh": operator_of(F.hardtanh),
    "clamp": operator_of(torch.clamp), "clip": operator_of(torch.clip), "clamp_min": operator_of(torch.clamp_min),
    "threshold": operator_of(F.threshold),
}  # fmt: skip
_BOUNDS = {"hardtanh": (("min_val", -1.0), ("max_val", 1.0))}
_MAX_POOLS = (F.max_pool1d, F.max_pool2d, F.max_pool3d, F.adaptive_max_pool1d, F.adaptive_max_pool2d,
              F.adaptive_max_pool3d)  # fmt: skip
_EITHER = (operator_of(torch.max), operator_of(torch.min))
_SEVERAL = ("chunk", "split", "tensor_split", "unbind", "topk", "sort")
"""Operators that give several values, each with channels where the operator has them."""
_LAST = (nn.MultiheadAttention, nn.RNNBase, nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
_ACTIVATION_MODULES = (nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.Threshold)


def is_activation_module(kind: object) -> bool:
    """Whether a module type is a ReLU by itself, so that its path names the site.

    >>> is_activation_module(nn.ReLU6)
    True
    """
    return isinstance(kind, type) and issubclass(kind, _ACTIVATION_MODULES)


def relu_bounds(target: object, method: bool, args: tuple, kwargs: dict) -> tuple[bool, float | None]:
    """Whether a call is a ReLU, and its upper clip.

    ``relu``, ``relu6``, ``clamp(min=0)``, ``clamp(0, c)``, ``hardtanh(0, c)``, ``threshold(0, 0)`` and their
    method forms are one.

    >>> relu_bounds(torch.clamp, False, (None, 0, 6), {})
    (True, 6.0)
    >>> relu_bounds("clamp", True, (None,), {"min": 0.1})
    (False, None)
    """
    record = find(target, method)
    name = next((n for n, r in _RELUS.items() if r is record), "") if record is not None else ""
    if name in ("relu", "relu6"):
        return True, 6.0 if name == "relu6" else None
    if not name or record is None:
        return False, None
    given = record.bind(args, kwargs)
    if name == "threshold":
        return (given.get("threshold"), given.get("value")) == (0, 0), None
    low, high = (given.get(key, default) for key, default in _BOUNDS.get(name, (("min", None), ("max", None))))
    numeric = all(b is None or isinstance(b, (int, float)) for b in (low, high))
    if numeric and low == 0 and (high is None or high > 0):
        return True, None if high is None else float(high)
    return False, None


def find_sites(source: SourceGraph) -> None:
    """Replace every ReLU and trained activation by an ``activation_site`` node; list it in ``sites``."""
    axes = channel_axes(source)
    for node in list(source.graph.nodes):
        site = _site(source, node)
        if site is None:
            continue
        site = site.with_(name=unique_name(site.name, source.sites))
        read = operand(node)
        if site.threshold is None or site.threshold.numel() == 1:  # others run along an axis of their own
            axis = axes.get(read)
            site = site.with_(axis=site.axis if axis is None else axis)
        with source.graph.inserting_before(node):
            new = source.graph.call_function(activation_site, (read,), {"site": site.name})
        new.meta = dict(node.meta)
        axes[new] = axes[node]
        node.replace_all_uses_with(new)
        source.graph.erase_node(node)
        source.sites[site.name] = site
    source.modules = {k: m for k, m in source.modules.items() if not isinstance(m, TrainedActivation)}


def _site(source: SourceGraph, node: fx.Node) -> Site | None:
    """The site that a node is, before its axis is known and its name unique."""
    if node.op == "call_module":
        module = source.modules.get(str(node.target))
        return module.site(str(node.target)) if isinstance(module, TrainedActivation) else None
    if node.op not in ("call_function", "call_method") or node.meta.get("inside"):
        return None
    kind: Activation
    if node.target is activated:
        parameters = {k: v for k, v in node.kwargs.items() if k != "input"}
        kind = Activation.from_dict(parameters)
        if not kind.spikes:
            return None
    else:
        found, cap = relu_bounds(node.target, node.op == "call_method", node.args, dict(node.kwargs))
        if not found:
            return None
        kind = ReLU(cap)
    path = node.meta.get("path", "")
    alone = is_activation_module(node.meta.get("module_type"))
    return Site(path if alone else f"{path}.{op_name(node).strip('._')}".lstrip("."), kind)


def channel_axes(source: SourceGraph) -> dict[fx.Node, int | None]:
    """Channel axis of each node's value; ``None`` where it does not follow from the layers before.

    Layers with weights set it (a linear layer: the last one), other operators as their records say.
    """
    places: dict[fx.Node, Place] = {}
    several: set[fx.Node] = set()
    for node in source.graph.nodes:
        before = [places[n] for n in node.all_input_nodes if n.op != "get_attr"]
        if node.op == "call_module":
            last = isinstance(source.modules.get(str(node.target)), _LAST)
            places[node] = (-1, same(before, {})[1]) if last else same(before, {})
            several |= {node} if last else set()
        elif node.op not in ("call_function", "call_method"):
            places[node] = (None, None)
        elif node.target is activation_site or (node.args and node.args[0] in several):
            places[node] = same(before, {})
        else:
            record = operator_of(node.target, node.op == "call_method")
            if record.synapse:
                size = op_name(node)[-2:-1]
                places[node] = (-1, None) if record.synapse == "linear" else (1, int(size) + 2)
            elif record.channels is not None:
                places[node] = record.channels(before, arguments(node))
            else:
                places[node] = (None, None)
            if op_name(node).strip(".") in _SEVERAL or (record in _EITHER and argument(node, "dim") is not None):
                several.add(node)
    return {node: _from_the_end(*place) for node, place in places.items()}


def _from_the_end(axis: int | None, dims: int | None) -> int | None:
    """The last axis as -1, behind a linear layer and wherever a permutation leads."""
    return -1 if axis is not None and dims is not None and 1 < axis % dims == dims - 1 else axis


def _is_max_pool(node: fx.Node) -> bool:
    return node.op == "call_function" and node.target in _MAX_POOLS and not argument(node, "return_indices")


def pool_before_neurons(source: SourceGraph) -> None:
    """Move a max-pooling that alone reads a site in front of it, so that it acts on currents.

    max(relu(z)) = relu(max(z)).

    A max-pooling that shares its site with other readers, or reads a concatenation, stays where it is.
    """
    for site in source.site_nodes():
        if source.sites[str(site.kwargs["site"])].function.extrema:
            continue  # max(f(z)) = f(max(z)) holds for an f that rises everywhere
        while len(site.users) == 1 and _is_max_pool(pool := next(iter(site.users))) and operand(pool) is site:
            before = site.args[0]
            pool.replace_all_uses_with(site)
            set_argument(pool, "input", before)
            site.args = (pool,)
            pool.meta["pre_neuron"] = True
            pool.append(site)
