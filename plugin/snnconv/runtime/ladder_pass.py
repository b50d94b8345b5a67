"""Softmax and normalisations of a captured network by ladders, in place of the functions that they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx

from snnconv.graph.arguments import arguments
from snnconv.graph.encoders import TURNS, axis_before
from snnconv.graph.flow import Flow
from snnconv.graph.ops import op_name, operator_of, part_of_ladder, products
from snnconv.graph.source import SourceGraph, activation_site
from snnconv.runtime.ladders import BY_LADDERS, row_scaled, softmax_codes, softmax_scale

__all__ = ["Shapes", "drop_encoders", "place_ladders", "set_bits"]

Shapes = Mapping[fx.Node, tuple[int, ...]]
_PRODUCTS = ("matmul", "bmm", "einsum")
_SOFTMAX = operator_of(F.softmax)
_NORMS = {operator_of(getattr(F, name)): function for name, function in BY_LADDERS.items()}


@dataclass(frozen=True)
class _Read:
    """A product that adds along the axis of a softmax.

    Attributes:
        product: the product.
        operand: what of the softmax it reads.
        way: the operators from the softmax, or from its encoder, to there, which turn axes and do nothing else.
    """

    product: fx.Node
    operand: fx.Node
    way: tuple[fx.Node, ...]


def _softmaxes(source: SourceGraph, flow: Flow) -> Iterator[tuple[fx.Node, dict[str, Any]]]:
    """Every softmax along a given axis of a value, with its arguments."""
    for node in flow.nodes:
        if node.op in ("call_function", "call_method") and node in flow.varies:
            given = arguments(node)
            known = set(given) <= {"input", "dim", "dtype", "_stacklevel"}
            if (
                operator_of(node.target, node.op == "call_method") is _SOFTMAX
                and known
                and type(given.get("dim")) is int
            ):
                yield node, given


def _reads(start: fx.Node, dim: int, dims: int, flow: Flow) -> tuple[list[_Read], bool]:
    """The matrix products that read a tensor and add along ``dim``; and whether nothing else reads it."""
    found: list[_Read] = []
    waiting: list[tuple[fx.Node, tuple[fx.Node, ...]]] = [(start, ())]
    alone = True
    values = {n for n in flow.varies if flow.kinds[n] not in ("shape", "size")}
    while waiting:
        node, way = waiting.pop()
        for user in node.users:
            name = op_name(user).strip("._")
            if name in _PRODUCTS:
                axes = [axis for operand, axis in products(user, values).values() if operand is node]
                added = axes[0] if len(axes) == 1 and dims > 1 else None
                if added and len(added) == 1 and axis_before(added[0], list(way), dims) == dim % dims:
                    found.append(_Read(user, node, way))
                    continue
            elif name in TURNS and flow.kinds[user] == "linear" and user.all_input_nodes == [node]:
                waiting.append((user, (*way, user)))
                continue
            alone = False
    return found, alone


def drop_encoders(source: SourceGraph, shapes: Shapes) -> None:
    """Take the encoders away that stand between a softmax and its products, which will read its codes.

    Args:
        source: the network, with its encoders.
        shapes: of its values.
    """
    flow = Flow(source.graph)
    for node, given in list(_softmaxes(source, flow)):
        for site in [user for user in node.users if user.target is activation_site]:
            name = str(site.kwargs["site"])
            reads, alone = _reads(site, given["dim"], len(shapes[node]), flow)
            if reads and alone and source.sites[name].function.encodes:
                site.replace_all_uses_with(node)
                source.graph.erase_node(site)
                del source.sites[name]


def place_ladders(source: SourceGraph, shapes: Shapes, steps: Callable[[str], int], timesteps: int) -> None:
    """Softmax and normalisations become their realisations by ladders.

    A product reads the codes of a softmax and is scaled behind, ``O = (Σ_j e_j·V_j)·r·2^−k``; whatever else reads it
    gets ``e·r·2^−k``.

    Args:
        source: the network that is to spike, without encoders between softmax and products (`drop_encoders`).
        shapes: of its values.
        steps: T of a site.
        timesteps: T where no neuron reads what comes of it.
    """
    flow = Flow(source.graph)
    found = [(node, _reads(node, given["dim"], len(shapes[node]), flow)[0]) for node, given in _softmaxes(source, flow)]
    for node, reads in found:
        _by_codes(source, node, reads, timesteps)
    for node in flow.nodes:
        norm = _NORMS.get(operator_of(node.target)) if node.op == "call_function" and node in flow.varies else None
        if norm is not None and set(given := arguments(node)) <= set(operator_of(norm).parameters):
            node.target, node.args, node.kwargs = norm, (given.pop("input"),), {**given, "timesteps": timesteps}
    source.graph.lint()
    source.prune()
    set_bits(source, steps, timesteps)


def _by_codes(source: SourceGraph, node: fx.Node, reads: Iterable[_Read], timesteps: int) -> None:
    """A softmax as codes and a scale."""
    graph, given, last = source.graph, arguments(node), node
    dim, logits = given["dim"], given["input"]

    def add(target: Any, *args: Any, **kwargs: Any) -> fx.Node:
        nonlocal last
        with graph.inserting_after(last):
            make = graph.call_method if isinstance(target, str) else graph.call_function
            last = make(target, args, kwargs)
        last.meta = {"path": node.meta.get("path", ""), "module_type": None}
        return last

    dtype = given.get("dtype", next((a for a in node.args[2:] if isinstance(a, torch.dtype)), None))
    if dtype is not None:
        logits = add("to", logits, dtype)
    e = add(softmax_codes, logits, dim, timesteps=timesteps)
    scale = add(softmax_scale, e, dim, timesteps=timesteps)
    weights = add(row_scaled, e, scale)
    for read in reads:
        codes, factor = (_turned(graph, read, node, start) for start in (e, scale))
        if op_name(read.product) == "einsum":
            factor = _as_result(graph, read, factor)
        read.product.replace_input_with(read.operand, codes)
        with graph.inserting_after(read.product):
            out = graph.call_function(row_scaled, (read.product, factor))
        out.meta = dict(read.product.meta)
        for user in set(read.product.users) - {out}:
            user.replace_input_with(read.product, out)
    node.replace_all_uses_with(weights)


def _turned(graph: fx.Graph, read: _Read, start: fx.Node, now: fx.Node) -> fx.Node:
    """A value in place of the softmax, turned as the product reads that."""
    made = {start: now}
    for node in read.way:
        with graph.inserting_before(read.product):
            made[node] = graph.node_copy(node, made.__getitem__)
        made[node].meta = dict(node.meta)
    return made[read.operand]


def _as_result(graph: fx.Graph, read: _Read, factor: fx.Node) -> fx.Node:
    """One number a row, with the axes that the result of an ``einsum`` has."""
    given = arguments(read.product)
    left, result = str(given["equation"]).replace(" ", "").split("->")
    letters = left.split(",")[list(given["operands"]).index(read.operand)]
    axis = next(place for place, letter in enumerate(letters) if letter not in result)
    kept = letters[:axis] + letters[axis + 1 :]

    def add(method: str, *args: int) -> None:
        nonlocal factor
        with graph.inserting_before(read.product):
            meta, factor = factor.meta, graph.call_method(method, (factor, *args))
        factor.meta = dict(meta)

    add("squeeze", axis)
    add("permute", *sorted(range(len(kept)), key=lambda place: result.index(kept[place])))
    for place, letter in enumerate(result):
        if letter not in kept:
            add("unsqueeze", place)
    return factor


def set_bits(source: SourceGraph, steps: Callable[[str], int], timesteps: int) -> None:
    """Give every ladder the T of the neurons that read what comes of it, the largest of several.

    Args:
        source: a network with ladders (`place_ladders`).
        steps: T of a site.
        timesteps: T where no neuron reads it.
    """
    ahead: dict[fx.Node, int] = {}
    for node in reversed(source.graph.nodes):
        if node.target is activation_site:
            continue
        own = [
            steps(str(user.kwargs["site"])) if user.target is activation_site else ahead[user] for user in node.users
        ]
        ahead[node] = max(own, default=0)
    for node in source.graph.nodes:
        if "timesteps" in node.kwargs and part_of_ladder(node):
            scale = node.target is softmax_scale
            bits = node.args[0].kwargs["timesteps"] if scale else ahead[node] or timesteps
            node.kwargs = {**node.kwargs, "timesteps": bits}
