"""Activation sites: every activation that neurons can stand for, whatever its spelling, and the max-pooling behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from snnconv.graph.activation import Activation, ReLU, activated
from snnconv.graph.arguments import argument, arguments, operand, set_argument
from snnconv.graph.axes import Place, same
from snnconv.graph.flow import Flow
from snnconv.graph.ops import find, is_synapse, op_name, operator_of, products
from snnconv.graph.source import Site, SourceGraph, activation_site, unique_name
from snnconv.graph.trained import TrainedActivation

__all__ = [
    "Wanted",
    "activation_of",
    "channel_axes",
    "find_sites",
    "is_activation_module",
    "pool_before_neurons",
    "rectifying",
    "relu_of",
]

_MAX_POOLS = (F.max_pool1d, F.max_pool2d, F.max_pool3d, F.adaptive_max_pool1d, F.adaptive_max_pool2d,
              F.adaptive_max_pool3d)  # fmt: skip
_EITHER = (operator_of(torch.max), operator_of(torch.min))
_SEVERAL = ("chunk", "split", "tensor_split", "unbind", "topk", "sort")
"""Operators that give several values, each with channels where the operator has them."""
_DIVISIONS = ("div", "true_divide", "truediv", "rdiv", "floordiv", "divide")
_NOT_AT_ZERO = ("log", "log2", "log10", "rsqrt", "reciprocal", "rtruediv")
_LAST = (nn.MultiheadAttention, nn.RNNBase, nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
_ACTIVATION_MODULES = (
    nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.Threshold, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.CELU, nn.SELU, nn.SiLU,
    nn.GELU, nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid, nn.LogSigmoid, nn.Tanh, nn.Softsign, nn.Mish, nn.Softplus,
)  # fmt: skip
Wanted = Callable[[Activation], bool]
"""Whether neurons stand for an activation."""


def rectifying(kind: Activation) -> bool:
    """ReLUs and the trained activations in their place: what every neuron computes.

    >>> rectifying(ReLU())
    True
    """
    return kind.rectifies


def is_activation_module(kind: object) -> bool:
    """Whether a module type is an activation by itself, so that its path names the site.

    >>> is_activation_module(nn.ReLU6)
    True
    """
    return isinstance(kind, type) and issubclass(kind, _ACTIVATION_MODULES)


def activation_of(target: object, method: bool, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Activation | None:
    """The activation that a call is, by its operator's record; ``None`` where it is none.

    >>> activation_of(torch.clamp, False, (None, 0, 6), {}), activation_of(torch.sigmoid, False, (None,), {})
    (ReLU(cap=6.0), Sigmoid())
    >>> activation_of("clamp", True, (None,), {"min": 0.1}) is None
    True
    """
    record = find(target, method)
    if record is None or record.computes is None:
        return None
    return record.computes(record.bind(args, kwargs))


def relu_of(target: object, method: bool, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ReLU | None:
    """The ReLU that a call is.

    ``relu``, ``relu6``, ``clamp(min=0)``, ``clamp(0, c)``, ``hardtanh(0, c)``, ``threshold(0, 0)`` and their method
    forms are one.

    >>> relu_of("clamp", True, (None,), {"min": 0}), relu_of(torch.sigmoid, False, (None,), {})
    (ReLU(cap=None), None)
    """
    kind = activation_of(target, method, args, kwargs)
    return kind if isinstance(kind, ReLU) else None


def find_sites(source: SourceGraph, wanted: Wanted = rectifying) -> None:
    """Replace activations by ``activation_site`` nodes; list them in ``sites``.

    Every ReLU and trained activation is a site; of others those that are ``wanted`` and that a layer with weights, a
    product or a site reads, however far behind. What divides, or is taken the logarithm of, stays: its zero would do.
    """
    axes = channel_axes(source)
    found = {node: site for node in source.graph.nodes if (site := _site(source, node, wanted)) is not None}
    inside = _inside(source, found)
    for node, site in found.items():
        if node not in inside:
            continue
        site = site.with_(name=unique_name(site.name, source.sites))
        read = operand(node)
        if all(tensor.numel() == 1 for tensor in site.function.tensors().values()):  # others have an axis of their own
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
    source.prune()


def _inside(source: SourceGraph, found: dict[fx.Node, Site]) -> set[fx.Node]:
    """Of the activations found those that become sites."""
    rectifiers = {node for node, site in found.items() if site.function.rectifies}
    if len(rectifiers) == len(found):
        return rectifiers
    flow = Flow(source.graph)
    read: set[fx.Node] = set()  # by what neurons are there for, or by what leads there
    divides: set[fx.Node] = set()
    for node in reversed(flow.nodes):
        ends = is_synapse(node) or node in rectifiers or bool(products(node, flow.varies))
        for used in node.all_input_nodes:
            if ends or node in read:
                read.add(used)
        if flow.kinds[node] in ("linear", "affine") and node in divides and node not in found:
            divides |= set(node.all_input_nodes)
        divides |= _divisors(node)
    return rectifiers | {node for node in found if node in read and node not in divides}


def _divisors(node: fx.Node) -> set[fx.Node]:
    """What a call divides by, or takes the logarithm of."""
    name = op_name(node).strip("._") if node.op in ("call_function", "call_method") else ""
    if name in _DIVISIONS:
        return {value for value in (argument(node, "other"),) if isinstance(value, fx.Node)}
    return {value for value in (operand(node),) if isinstance(value, fx.Node)} if name in _NOT_AT_ZERO else set()


def _site(source: SourceGraph, node: fx.Node, wanted: Wanted) -> Site | None:
    """The site that a node may be, before its axis is known and its name unique."""
    if node.op == "call_module":
        module = source.modules.get(str(node.target))
        return module.site(str(node.target)) if isinstance(module, TrainedActivation) else None
    if node.op not in ("call_function", "call_method") or node.meta.get("inside"):
        return None
    kind: Activation | None
    if node.target is activated:
        kind = Activation.from_dict({k: v for k, v in node.kwargs.items() if k != "input"})
    else:

        def weight(value: Any) -> Any:
            known = isinstance(value, fx.Node) and value.op == "get_attr"
            return source.tensors[str(value.target)] if known else value

        values = fx.node.map_aggregate((node.args, dict(node.kwargs)), weight)
        kind = activation_of(node.target, node.op == "call_method", *values)
    if kind is None or not (kind.rectifies or (kind.extrema is not None and wanted(kind))):
        return None
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
            either = record in _EITHER and argument(node, "dim") is not None
            if op_name(node).strip(".") in _SEVERAL or either or argument(node, "return_indices") is True:
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
        if source.sites[str(site.kwargs["site"])].function.extrema != ():
            continue  # max(f(z)) = f(max(z)) holds for an f that rises everywhere
        while len(site.users) == 1 and _is_max_pool(pool := next(iter(site.users))) and operand(pool) is site:
            before = site.args[0]
            pool.replace_all_uses_with(site)
            set_argument(pool, "input", before)
            site.args = (pool,)
            pool.meta["pre_neuron"] = True
            pool.append(site)
