"""What each layer with weights reads: the input, spikes, sums of spikes, or currents; and what does not spike."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import fx, nn

from snnconv.graph.arguments import arguments
from snnconv.graph.encoders import Reader, readers, sources
from snnconv.graph.flow import Flow, layers, path_to, shape_values
from snnconv.graph.ops import is_synapse, op_name, operator_of, part_of_ladder, products, role
from snnconv.graph.source import SourceGraph, activation_site, depends_on, unique_name

__all__ = ["Analog", "analog", "named_products", "origins", "product_reads", "reads", "scaled"]


def origins(flow: Flow) -> dict[fx.Node, str]:
    """Origin of every node's value.

    One of ``constant``, ``shape``, ``input``, ``spikes``, ``sum of spikes``, ``currents``, ``analog``.
    """
    origin: dict[fx.Node, str] = {}
    for node in flow.nodes:
        kind = flow.kinds[node]
        inputs = [origin[n] for n in node.all_input_nodes if origin.get(n) not in (None, "constant", "shape")]
        what = role(node, kind)
        if node.target is activation_site:
            origin[node] = "spikes"
        elif node not in flow.varies:
            origin[node] = "constant"
        elif kind in ("shape", "size"):
            origin[node] = "shape"
        elif node not in flow.temporal:
            origin[node] = "input"
        elif is_synapse(node) or node.target in (F.batch_norm, torch.batch_norm):
            origin[node] = "currents"
        elif kind == "nonlinear" or "analog" in inputs:
            origin[node] = "analog"
        elif "currents" in inputs or (kind == "linear" and what == "other") or (kind == "affine" and what != "move"):
            origin[node] = "currents"
        elif what in ("sum", "scale") or "sum of spikes" in inputs or "input" in inputs:
            origin[node] = "sum of spikes"
        else:
            origin[node] = "spikes"
    return origin


def reads(flow: Flow) -> dict[str, str]:
    """Origin of the input of every layer with weights, by the layer's path, in execution order."""
    origin = origins(flow)
    return {name: origin[read] for name, _, read in layers(flow)}


def scaled(flow: Flow) -> dict[str, list[str]]:
    """By layer: each multiplication by a constant that the spikes it reads pass, such as an average's division."""
    origin, shapes = origins(flow), shape_values(flow)
    found: dict[str, list[str]] = {}
    for name, _, read in layers(flow):
        if origin[read] in ("spikes", "sum of spikes"):
            path = path_to(read, flow, shapes)
            factors = [factor(n) for n in reversed(path.operators) if role(n, flow.kinds[n]) == "scale"]
            if factors:
                found[name] = sorted(factors)
    return found


def factor(node: fx.Node) -> str:
    """A multiplication by a constant, in words: ``div by 2 at block1``."""
    given = arguments(node)
    constants = [v for v in given.values() if not isinstance(v, fx.Node) or v.op == "get_attr"]
    by = [v.target if isinstance(v, fx.Node) else v for v in constants if v is not None]
    words = f" by {', '.join(map(str, by))}" if by else ""
    return f"{op_name(node).strip('._')}{words} at {node.meta.get('path') or node.name}"


def product_reads(flow: Flow) -> dict[str, list[str]]:
    """What the operands of each product of two computed tensors are made of, by the product's name."""
    made_of = sources(flow)
    return {name: [made_of[r.operand] for r in operands] for name, operands in named_products(flow)}


def named_products(flow: Flow) -> Iterator[tuple[str, list[Reader]]]:
    """Every product of two computed tensors: its name, the module's path and the operator, and its operands."""
    taken: set[str] = set()
    for node, group in itertools.groupby((r for r in readers(flow) if r.product), key=lambda r: r.node):
        name = unique_name(f"{node.meta.get('path') or ''}.{op_name(node).strip('._')}".lstrip("."), taken)
        taken.add(name)
        yield name, list(group)


def is_product_of_spikes(node: fx.Node, flow: Flow, made_of: dict[fx.Node, str]) -> bool:
    """Whether both operands of a product are sums of spikes."""
    values = {n for n in flow.varies if flow.kinds[n] not in ("shape", "size")}
    return all(made_of[operand] == "spikes" for operand, _ in products(node, values).values())


class Analog(NamedTuple):
    """Something that does not spike.

    Attributes:
        name: where: the module's path, or the node's name.
        operator: which.
        reason: why, in words.
        activation: whether a reader would call it an activation or a normalisation.
        between: whether a layer with weights or a neuron reads what it makes of neurons' outputs.
    """

    name: str
    operator: str
    reason: str
    activation: bool
    between: bool


def analog(source: SourceGraph, flow: Flow) -> list[Analog]:
    """Everything that does not spike: inside the network, or an activation at its output."""
    found: list[Analog] = []
    made_of = sources(flow)
    spiking = {r.node for r in readers(flow) if r.product and is_product_of_spikes(r.node, flow, made_of)}
    for node in source.graph.nodes:
        if node not in flow.varies or flow.kinds[node] != "nonlinear" or node in spiking:
            continue
        if part_of_ladder(node):
            continue
        bare = op_name(node).strip("._").rstrip("_")
        where = node.meta.get("path") or node.name
        after = depends_on(source.graph, {node})
        inside = any(is_synapse(n) or n.target is activation_site for n in after - {node})
        if node.op == "call_module":
            bare = type(source.modules[str(node.target)]).__name__
        record = operator_of(node.target, node.op == "call_method")
        activation = record.activation or node.op == "call_module"
        if not inside:
            if activation:
                found.append(Analog(where, bare, "at the output: acts on the readout", False, False))
            continue
        between = node in flow.temporal
        module = source.modules.get(str(node.target)) if node.op == "call_module" else None
        found.append(Analog(where, bare, _reason(module, between), activation, between))
    return found


def _reason(module: nn.Module | None, between: bool) -> str:
    mode = getattr(module, "mode", getattr(module, "nonlinearity", ""))
    if isinstance(module, nn.RNNBase | nn.RNNCellBase) and mode in ("RNN_RELU", "relu"):
        return "its ReLUs act inside the recurrence, from one position to the next, and stay analog with it"
    if between:
        return "no spiking equivalent: acts on the running mean of its input"
    return "before the first neuron: computed once, on the analog input"
