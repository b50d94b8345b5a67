"""Activation sites: every ReLU, whatever its spelling, and the max-pooling behind it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import fx, nn

from snnconv.activations.base import TrainedActivation
from snnconv.graph.axes import channel_axes
from snnconv.graph.ops import op_name
from snnconv.graph.source import Site, SourceGraph, activation_site, unique_name

__all__ = ["find_sites", "is_activation_module", "pool_before_neurons", "relu_bounds"]

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
    if (method and target in ("relu", "relu_")) or (not method and target in (torch.relu, F.relu, torch.relu_)):
        return True, None
    if not method and target is F.relu6:
        return True, 6.0
    if not method and target is F.hardtanh:
        low = kwargs.get("min_val", args[1] if len(args) > 1 else -1.0)
        high = kwargs.get("max_val", args[2] if len(args) > 2 else 1.0)
        return (True, float(high)) if low == 0 and high > 0 else (False, None)
    if (method and target in ("clamp", "clip", "clamp_", "clip_", "clamp_min")) or (
        not method and target in (torch.clamp, torch.clip, torch.clamp_min)
    ):
        low = kwargs.get("min", args[1] if len(args) > 1 else None)
        high = kwargs.get("max", args[2] if len(args) > 2 else None)
        numeric = all(b is None or isinstance(b, (int, float)) for b in (low, high))
        if numeric and low == 0 and (high is None or high > 0):
            return True, None if high is None else float(high)
        return False, None
    if not method and target is F.threshold:
        given = [kwargs.get(k, args[i] if len(args) > i else None) for i, k in ((1, "threshold"), (2, "value"))]
        return given == [0, 0], None
    return False, None


def find_sites(source: SourceGraph) -> None:
    """Replace every ReLU and trained activation by an ``activation_site`` node; list it in ``sites``."""
    axes = channel_axes(source.graph, source.modules)
    for node in list(source.graph.nodes):
        trained = source.modules.get(node.target) if node.op == "call_module" else None
        if isinstance(trained, TrainedActivation):
            site = trained.site(node.target)
        elif node.op in ("call_function", "call_method"):
            found, cap = relu_bounds(node.target, node.op == "call_method", node.args, dict(node.kwargs))
            if not found:
                continue
            path, kind = node.meta.get("path", ""), node.meta.get("module_type")
            site = Site(
                path if is_activation_module(kind) else f"{path}.{op_name(node).strip('._')}".lstrip("."),
                cap=cap,
            )
        else:
            continue
        operand = node.args[0] if node.args else node.kwargs["input"]
        site = site.with_(name=unique_name(site.name, source.sites))
        if site.threshold is None or site.threshold.numel() == 1:  # else its own: it was trained with it
            axis = axes[operand]
            site = site.with_(axis=1 if axis is None else axis)
        with source.graph.inserting_before(node):
            new = source.graph.call_function(activation_site, (operand,), {"site": site.name})
        new.meta = dict(node.meta)
        axes[new] = axes[node]
        node.replace_all_uses_with(new)
        source.graph.erase_node(node)
        source.sites[site.name] = site
    source.modules = {k: m for k, m in source.modules.items() if not isinstance(m, TrainedActivation)}


def _is_max_pool(node: fx.Node) -> bool:
    pools = (F.max_pool1d, F.max_pool2d, F.max_pool3d, F.adaptive_max_pool1d, F.adaptive_max_pool2d,
             F.adaptive_max_pool3d)  # fmt: skip
    return node.op == "call_function" and node.target in pools and not node.kwargs.get("return_indices")


def pool_before_neurons(source: SourceGraph) -> None:
    """Move a max-pooling that alone reads a site in front of it, so that it acts on currents.

    max(relu(z)) = relu(max(z)).

    A max-pooling that shares its site with other readers, or reads a concatenation, stays where it is.
    """
    for site in source.site_nodes():
        while len(site.users) == 1 and _is_max_pool(pool := next(iter(site.users))) and pool.args[:1] == (site,):
            operand = site.args[0]
            pool.replace_all_uses_with(site)
            pool.args = (operand, *pool.args[1:])
            site.args = (pool,)
            pool.meta["pre_neuron"] = True
            pool.append(site)
