"""What each layer with weights reads: the input, spikes, sums of spikes, or currents."""

from __future__ import annotations

import operator

import torch
import torch.nn.functional as F
from torch import fx

from snnconv.graph.ops import ACTIVATIONS, is_synapse, op_name
from snnconv.graph.source import SourceGraph, activation_site, depends_on
from snnconv.report import AnalogSite
from snnconv.runtime.executor import Executor

__all__ = ["analog_sites", "provenance", "reads"]

_SUMS = {
    operator.add, operator.sub, operator.iadd, operator.isub, torch.add, torch.sub, torch.mean, torch.sum,
    F.avg_pool1d, F.avg_pool2d, F.avg_pool3d, F.adaptive_avg_pool1d, F.adaptive_avg_pool2d,
    F.adaptive_avg_pool3d, operator.mul, operator.truediv, torch.mul, torch.div,
}  # fmt: skip
_SUM_METHODS = {"add", "sub", "mean", "sum", "mul", "div"}


def provenance(source: SourceGraph, executor: Executor) -> dict[fx.Node, str]:
    """Origin of every node's value.

    One of ``constant``, ``shape``, ``input``, ``spikes``, ``sum of spikes``, ``currents``, ``analog``.
    """
    origin: dict[fx.Node, str] = {}
    for node in source.graph.nodes:
        kind = executor.kinds[node]
        inputs = [origin[n] for n in node.all_input_nodes if origin.get(n) not in (None, "constant", "shape")]
        if node.target is activation_site:
            origin[node] = "spikes"
        elif node not in executor.varies:
            origin[node] = "constant"
        elif kind in ("shape", "size"):
            origin[node] = "shape"
        elif node not in executor.temporal:
            origin[node] = "input"
        elif is_synapse(node) or node.target in (F.batch_norm, torch.batch_norm):
            origin[node] = "currents"
        elif kind == "nonlinear" or "analog" in inputs:
            origin[node] = "analog"
        elif "currents" in inputs or (kind == "affine" and node.target is not F.pad):
            origin[node] = "currents"
        elif _sums(node) or "sum of spikes" in inputs or "input" in inputs:
            origin[node] = "sum of spikes"
        else:
            origin[node] = "spikes"
    return origin


def _sums(node: fx.Node) -> bool:
    if node.op == "call_method":
        return node.target in _SUM_METHODS
    if node.target is F.interpolate or node.target is F.upsample:
        mode = node.kwargs.get("mode", node.args[3] if len(node.args) > 3 else "nearest")
        return "nearest" not in str(mode)
    return node.target in _SUMS


def layer_name(node: fx.Node) -> str:
    """Path of a layer with weights, with the node's name where the path is empty."""
    return node.meta.get("path") or node.name


def reads(source: SourceGraph, executor: Executor) -> dict[str, str]:
    """Origin of the input of every layer with weights, by the layer's path, in execution order."""
    origin = provenance(source, executor)
    found: dict[str, str] = {}
    for node in source.graph.nodes:
        if is_synapse(node) and node in executor.varies:
            operand = node.args[0] if node.args else node.kwargs["input"]
            name = layer_name(node)
            number = 2
            while name in found:
                name, number = f"{layer_name(node)}:{number}", number + 1
            found[name] = origin[operand]
    return found


def analog_sites(source: SourceGraph, executor: Executor) -> list[AnalogSite]:
    """Everything that does not spike: inside the network, or an activation at its output."""
    found: list[AnalogSite] = []
    for node in source.graph.nodes:
        if node not in executor.varies or executor.kinds[node] != "nonlinear":
            continue
        name = op_name(node).strip("._")
        where = node.meta.get("path") or node.name
        after = depends_on(source.graph, {node})
        inside = any(is_synapse(n) or n.target is activation_site for n in after - {node})
        bare = name.rstrip("_")
        if node.op == "call_module":
            bare = type(source.modules[str(node.target)]).__name__
        activation = bare in ACTIVATIONS or node.op == "call_module"
        if not inside:
            if activation:
                found.append(AnalogSite(where, bare, "at the output: acts on the readout", activation=False))
            continue
        if node in executor.temporal:
            reason = "no spiking equivalent: acts on the running mean of its input"
        else:
            reason = "before the first neuron: computed once, on the analog input"
        found.append(AnalogSite(where, bare, reason, activation=activation))
    return found
