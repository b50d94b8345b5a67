"""A network with a quantiser at every place where ``cover="synapses"`` puts neurons, to be fine-tuned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from snnconv.activations import QuantReLU, TrainedActivation
from snnconv.conversion.given import source_program
from snnconv.graph.cover import Cover
from snnconv.graph.source import ConversionError, SourceGraph
from snnconv.graph.store import Store
from snnconv.runtime.program import Program
from snnconv.runtime.signature import Signature

__all__ = ["covered"]


def covered(
    model: nn.Module, activation: TrainedActivation, batches: Sequence[Any], signature: Signature, where: Cover
) -> fx.GraphModule:
    """The captured network with quantisers; its weights are parameters of their names, the rest are buffers.

    Args:
        model: the network, in evaluation.
        activation: settings of the quantisers.
        batches: inputs.
        signature: the arguments that calls give.
        where: where neurons will stand.

    Raises:
        TypeError: an activation that is not one of levels.
        ConversionError: no inputs, a network without a graph, or one that has trained activations already.
    """
    if not isinstance(activation, QuantReLU):
        raise TypeError(
            f"cover='synapses' quantises values of every kind: give activations.QuantReLU(levels), not "
            f"{type(activation).__name__}"
        )
    if not batches:
        raise ConversionError("cover='synapses' runs the network once: give prepare(..., calibration=...) some inputs")
    with torch.no_grad():
        found, program = source_program(model, batches, signature, where)
    source = found.source
    assert source is not None
    trained = [name for name, site in source.sites.items() if site.threshold is not None]
    if trained:
        raise ConversionError(
            f"{trained[0]}: it is a trained activation already: prepare the network as it was before, or fine-tune this"
        )
    channels = _channels(program, batches[0][:2]) if activation.per_channel else {}
    root = _weights(model, source)
    weight = next(v for v in source.tensors.values() if v.is_floating_point())
    exact = torch.float64 if weight.dtype == torch.float64 else None
    for node in source.site_nodes():
        site = source.sites[str(node.kwargs["site"])]
        path = _free(root, site.name)
        quantiser = activation.at(site.function).placed(site, channels.get(site.name), None)
        root[path] = quantiser.to(weight.device, exact).train()
        with source.graph.inserting_before(node):
            new = source.graph.call_module(path, node.args)
        node.replace_all_uses_with(new)
        source.graph.erase_node(node)
    source.graph.lint()
    twin = fx.GraphModule(root, source.graph, type(model).__name__)
    return twin.train(model.training)


def _channels(program: Program, x: Any) -> dict[str, int]:
    """Channels at each site that has an axis of them."""
    found: dict[str, int] = {}

    def look(name: str, z: Tensor) -> Tensor:
        site = program.sites[name]
        if site.axis:
            found[name] = z.shape[site.axis]
        return site.activation(z)

    with torch.no_grad():
        program.static(x, look)
    return found


def _weights(model: nn.Module, source: SourceGraph) -> Store:
    """The graph's tensors and modules under their names: parameters where the network's own are."""
    learned = {name for name, _ in model.named_parameters()}
    root = Store()
    for name, value in source.tensors.items():
        root[name] = nn.Parameter(value.detach().clone()) if name in learned else value.detach().clone()
    for name, module in source.modules.items():
        root[name] = module
    return root


def _free(root: Store, site: str) -> str:
    """Where the module of a site goes: its own path, unless something is there."""
    path = site.replace(":", "_")
    while _taken(root, path):
        path += "_"
    return path


def _taken(root: nn.Module, path: str) -> bool:
    owner: Any = root
    for part in path.split("."):
        owner = getattr(owner, part, None)
        if owner is None:
            return False
    return True
