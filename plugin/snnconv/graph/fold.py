"""Folding: what no input changes is computed once; a BatchNorm becomes part of the layer with weights before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from snnconv.graph.arguments import argument, arguments, operand, set_argument
from snnconv.graph.ops import SYNAPSES
from snnconv.graph.source import ConversionError, SourceGraph, depends_on

__all__ = ["NORMAL", "fold_batch_norm", "fold_constants", "lower_batch_norm", "shift_bias"]

NORMAL = "normal"
"""Key of a node's meta: mean and standard deviation of each channel on axis 1, as a BatchNorm has learned them."""
_RANDOM = frozenset({
    "dropout", "alpha_dropout", "bernoulli", "multinomial", "normal", "rand_like", "randn_like", "randint_like",
})  # fmt: skip
_EXPANDED = frozenset({"expand", "expand_as"})  # take no memory as they are


def fold_constants(source: SourceGraph) -> None:
    """Compute once what does not depend on the input, such as standardised weights or a bias of relative positions.

    An activation among it is no site: nothing would ever change at a neuron there.
    """
    varies = depends_on(source.graph, {n for n in source.graph.nodes if n.op == "placeholder"})
    values: dict[fx.Node, Any] = {}
    with torch.no_grad():
        for node in source.graph.nodes:
            if node in varies or node.op in ("placeholder", "output"):
                continue
            if node.op == "get_attr":
                values[node] = source.tensors[str(node.target)]
            elif all(n in values for n in node.all_input_nodes) and _name(node) not in _RANDOM:
                args, kwargs = fx.node.map_arg((node.args, dict(node.kwargs)), values.__getitem__)
                values[node] = _function(source, node)(*args, **kwargs)
    for node, value in values.items():
        if node.op == "get_attr" or not isinstance(value, Tensor) or _name(node) in _EXPANDED:
            continue
        if any(user not in values for user in node.users):
            name = f"{node.meta.get('path', '')}.{node.name}".lstrip(".")
            node.replace_all_uses_with(source.new_tensor(name, value.detach().clone(), node))
    source.prune()


def _name(node: fx.Node) -> str:
    return str(node.target if node.op == "call_method" else getattr(node.target, "__name__", "")).strip("_")


def _function(source: SourceGraph, node: fx.Node) -> Callable[..., Any]:
    if node.op == "call_method":
        return lambda value, *args, **kwargs: getattr(value, str(node.target))(*args, **kwargs)
    return source.modules[str(node.target)] if node.op == "call_module" else node.target  # type: ignore[return-value]


def lower_batch_norm(source: SourceGraph) -> None:
    """Rewrite BatchNorm modules as ``F.batch_norm`` calls on tensors of the graph.

    Raises:
        ConversionError: one without running statistics, by its name.
    """
    for node in list(source.graph.nodes):
        if node.op != "call_module" or not hasattr(source.modules[node.target], "running_mean"):
            continue
        module = source.modules[node.target]
        if not isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            continue
        mean, variance = module.running_mean, module.running_var
        if mean is None or variance is None:
            raise ConversionError(
                f"{node.target}: a BatchNorm without running statistics normalises by the batch at hand and "
                "cannot be folded; set track_running_stats=True and run it over training data first"
            )
        tensors = {"running_mean": mean, "running_var": variance}
        tensors |= {k: v for k, v in (("weight", module.weight), ("bias", module.bias)) if v is not None}
        nodes = {k: source.new_tensor(f"{node.target}.{k}", v.detach().clone(), node) for k, v in tensors.items()}
        with source.graph.inserting_before(node):
            call = source.graph.call_function(
                F.batch_norm, (node.args[0], nodes["running_mean"], nodes["running_var"], nodes.get("weight"),
                               nodes.get("bias"), False, 0.0, module.eps),
            )  # fmt: skip
        call.meta = dict(node.meta)
        node.replace_all_uses_with(call)
        source.graph.erase_node(node)
        if not any(n.op == "call_module" and n.target == node.target for n in source.graph.nodes):
            del source.modules[node.target]


def _scale_shift(source: SourceGraph, node: fx.Node) -> tuple[Tensor, Tensor] | None:
    """BatchNorm in evaluation mode as ``scale * x + shift`` per channel, in double precision."""
    given = {"training": False, "eps": 1e-5, **arguments(node)}

    def tensor(key: str) -> Tensor | None:
        value = given.get(key)
        return source.tensors[str(value.target)].double() if isinstance(value, fx.Node) else None

    if given["training"] is True:
        raise ConversionError(f"{node.meta.get('path') or node.name}: BatchNorm runs in training mode inside forward")
    mean, variance = tensor("running_mean"), tensor("running_var")
    if mean is None or variance is None:
        return None
    scale = (variance + float(given["eps"])).rsqrt()
    if (weight := tensor("weight")) is not None:
        scale = scale * weight
    bias = tensor("bias")
    return scale, (0 if bias is None else bias) - mean * scale


def synapse_arguments(node: fx.Node) -> tuple[fx.Node | None, fx.Node | None]:
    """Weight and bias nodes of a layer with weights (``None`` for a missing bias or a computed weight)."""
    weight, bias = argument(node, "weight"), argument(node, "bias")
    return (
        weight if isinstance(weight, fx.Node) and weight.op == "get_attr" else None,
        bias if isinstance(bias, fx.Node) and bias.op == "get_attr" else None,
    )


def _set_argument(source: SourceGraph, node: fx.Node, key: str, name: str, value: Tensor) -> None:
    """Give ``node`` a tensor of its own as ``weight`` or ``bias``; in place where no other node reads it."""
    old = argument(node, key)
    if isinstance(old, fx.Node):
        readers = [n for n in source.graph.nodes if n.op == "get_attr" and n.target == old.target]
        if len(readers) == 1 and len(old.users) == 1:
            source.tensors[str(old.target)] = value
            return
        name = str(old.target)
    new = source.new_tensor(name, value, node)
    set_argument(node, key, new)
    if isinstance(old, fx.Node) and not old.users:
        source.graph.erase_node(old)


def _groups(node: fx.Node) -> int:
    return int(argument(node, "groups", 1))


def fold_batch_norm(source: SourceGraph) -> None:
    """Fold every BatchNorm that is the only reader of a convolution or linear layer into that layer.

    W' = W·γ/√(σ²+ε), b' = (b − μ)·γ/√(σ²+ε) + β, computed in double precision. A BatchNorm elsewhere (before
    a convolution, after a concatenation) stays, as the per-channel affine operator that it is in evaluation
    mode.
    """
    for node in list(source.graph.nodes):
        if node.op != "call_function" or node.target not in (F.batch_norm, torch.batch_norm):
            continue
        layer = operand(node)
        folded = _scale_shift(source, node)
        if folded is None:
            continue
        node.meta[NORMAL] = said = _mean_and_deviation(source, node, *folded)
        if not isinstance(layer, fx.Node) or layer.target not in SYNAPSES or len(layer.users) != 1:
            continue
        weight_node, bias_node = synapse_arguments(layer)
        scale, shift = folded
        if weight_node is None:
            continue
        weight = source.tensors[str(weight_node.target)]
        kind = SYNAPSES[layer.target]
        if kind == "conv_transpose":
            groups = _groups(layer)
            view = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1).double()
            scaled = (view * scale.reshape(groups, 1, -1, 1)).reshape(weight.shape)
        else:
            if weight.shape[0] != scale.numel():
                continue
            scaled = weight.double() * scale.reshape(-1, *[1] * (weight.dim() - 1))
        bias = shift if bias_node is None else source.tensors[str(bias_node.target)].double() * scale + shift
        base = str(weight_node.target).rpartition(".")[0]
        _set_argument(source, layer, "weight", f"{base}.weight".lstrip("."), scaled.to(weight.dtype))
        _set_argument(source, layer, "bias", f"{base}.bias".lstrip("."), bias.to(weight.dtype))
        layer.meta[NORMAL] = said
        node.replace_all_uses_with(layer)
        source.graph.erase_node(node)
    source.prune()


def _mean_and_deviation(source: SourceGraph, node: fx.Node, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """β and |γ|·σ/√(σ²+ε) of each channel: what comes out of a BatchNorm on the data that it was trained on."""
    mean, variance = (
        source.tensors[str(argument(node, name).target)].double() for name in ("running_mean", "running_var")
    )
    return shift + mean * scale, scale.abs() * variance.sqrt()


def shift_bias(source: SourceGraph, site_node: fx.Node, current: Tensor) -> None:
    """Add a constant current to the input of a site.

    It goes into the bias of the layer that feeds the site (through a residual add or a max-pooling), or,
    where there is none, into an ``add`` in front of the site.

    Args:
        source: the network.
        site_node: the site.
        current: one value per channel, shaped so that it broadcasts against the site's input, ``[1, C, 1, 1]``; or one
            number.
    """
    node = site_node.args[0]
    while isinstance(node, fx.Node) and len(node.users) == 1:
        if node.target in SYNAPSES and synapse_arguments(node)[0] is not None:
            if not _into_layer(source, node, current):
                break
            return
        name = getattr(node.target, "__name__", "")
        candidates = [a for a in node.all_input_nodes if a.op != "get_attr"]
        if name in ("add", "iadd") and not node.kwargs:
            layers = [a for a in candidates if a.target in SYNAPSES and len(a.users) == 1 and node.args.count(a) == 1]
            if not layers:
                break
            node = layers[0]
        elif len(candidates) == 1 and node.meta.get("pre_neuron"):
            node = candidates[0]
        else:
            break
    constant = source.new_tensor(f"{site_node.kwargs['site']}.current", current, site_node)
    with source.graph.inserting_before(site_node):
        added = source.graph.call_function(torch.add, (site_node.args[0], constant))
    added.meta = dict(site_node.meta)
    site_node.args = (added,)


def _into_layer(source: SourceGraph, node: fx.Node, current: Tensor) -> bool:
    """Add a current to a layer's bias; False where the layer's channels are not those of the current."""
    weight_node, bias_node = synapse_arguments(node)
    assert weight_node is not None
    if bias_node is None and ((len(node.args) > 2 and node.args[2] is not None) or node.kwargs.get("bias")):
        return False  # a bias that is computed
    weight = source.tensors[str(weight_node.target)]
    kind = SYNAPSES[node.target]
    channels = weight.shape[1] * _groups(node) if kind == "conv_transpose" else weight.shape[0]
    if current.numel() > 1:  # channels are last behind a linear layer, second behind a convolution of a batch
        axis = -1 if kind == "linear" else 1 if current.dim() == weight.dim() else None
        if axis is None or current.shape[axis] != current.numel() or current.numel() != channels:
            return False
    delta = current.flatten().expand(channels)
    old = source.tensors[str(bias_node.target)] if bias_node is not None else torch.zeros_like(delta)
    base = str(weight_node.target).rpartition(".")[0]
    _set_argument(source, node, "bias", f"{base}.bias".lstrip("."), old + delta.to(old))
    return True
