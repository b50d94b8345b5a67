"""Encoders: neurons in front of every layer with weights, and of every product, that would read an analog value.

One encoder belongs to one tensor and serves every layer and every product that reads it; additions and shortcuts go on
reading the tensor itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx

from snnconv.graph.activation import Activation
from snnconv.graph.arguments import arguments, operand
from snnconv.graph.axes import Place
from snnconv.graph.cover import Cover
from snnconv.graph.error import ConversionError
from snnconv.graph.flow import Flow
from snnconv.graph.functions import Identity
from snnconv.graph.operator_record import Contracted
from snnconv.graph.ops import gives_codes, is_synapse, op_name, operator_of, products, role
from snnconv.graph.sites import channel_axes
from snnconv.graph.source import Site, SourceGraph, activation_site, unique_name

__all__ = ["TURNS", "Reader", "axis_before", "place_encoders", "readers", "sources", "uncovered", "unread"]

_CUTS = ("split", "chunk", "tensor_split", "unbind", "getitem", "select", "narrow", "index_select")
"""Moves that give part of a tensor, which is a tensor of its own."""
_RESHAPES = ("flatten", "reshape", "view", "unflatten", "squeeze", "unsqueeze")
TURNS = ("transpose", "swapaxes", "permute", "movedim", "t", "getattr", "contiguous", "float", "clone")
"""Moves that keep every axis whole."""
ANALOG = ("analog", "input")


@dataclass(frozen=True)
class Reader:
    """One thing that must read spikes: a layer with weights, or an operand of a product.

    Attributes:
        node: the layer or the product.
        operand: what it reads.
        product: whether it is a product of two computed tensors.
        contracted: axes of the operand that it adds along; ``None``: not known; empty for a layer, whose weights take
            in what is constant along a channel.
    """

    node: fx.Node
    operand: fx.Node
    product: bool
    contracted: Contracted = ()


def readers(flow: Flow) -> Iterator[Reader]:
    """Every layer with weights and every operand of every product, in execution order."""
    values = {n for n in flow.varies if flow.kinds[n] not in ("shape", "size")}
    for node in flow.nodes:
        found = products(node, values)
        if found:
            for value, axes in found.values():
                yield Reader(node, value, True, axes)
        elif is_synapse(node):
            read = operand(node)
            if isinstance(read, fx.Node) and read in values:
                yield Reader(node, read, False)
        elif (read := _weighted(node, values, flow)) is not None:
            yield Reader(node, read, False)


def _weighted(node: fx.Node, values: set[fx.Node], flow: Flow) -> fx.Node | None:
    """The computed operand of a product with weights that is no multiplication one by one."""
    if node.op not in ("call_function", "call_method") or role(node, flow.kinds[node]) == "scale":
        return None
    record = operator_of(node.target, node.op == "call_method")
    if record.product is None:
        return None
    read = [n for n in node.all_input_nodes if n in values]
    return read[0] if len(read) == 1 else None


def sources(flow: Flow) -> dict[fx.Node, str]:
    """What every value is made of: ``constant``, ``shape``, ``spikes``, ``input`` or ``analog``.

    ``spikes``: sums of neurons' outputs times constants; ``input``: the same with the network's input, or a look-up in
    an embedding, among them; ``analog``: everything else, be it in front of the first neuron or behind.
    """
    layer = {reader.node for reader in readers(flow)}
    found: dict[fx.Node, str] = {}
    for node in flow.nodes:
        kind = flow.kinds[node]
        inputs = {found[n] for n in node.all_input_nodes} - {"constant", "shape"}
        if node.target is activation_site:
            found[node] = "spikes" if node in flow.varies else "constant"
        elif node not in flow.varies:
            found[node] = "constant"
        elif kind in ("shape", "size"):
            found[node] = "shape"
        elif node.op == "placeholder" or (node.target is F.embedding and not inputs - {"input"}):
            found[node] = "input"
        elif gives_codes(node):
            found[node] = "spikes"
        elif node in layer or kind == "nonlinear" or "analog" in inputs:
            found[node] = "analog"
        elif kind == "homogeneous":
            found[node] = "analog" if "input" in inputs else "spikes"
        elif (kind == "linear" and role(node, kind) == "other") or _shifts(node, kind):
            found[node] = "input" if inputs == {"input"} and kind == "affine" else "analog"
        else:
            found[node] = "input" if "input" in inputs else "spikes"
    return found


def _shifts(node: fx.Node, kind: str) -> bool:
    return kind == "affine" and node.target is not F.pad


def unread(flow: Flow, encode_input: bool = False) -> list[tuple[Reader, str]]:
    """The readers that read no spikes, each with what it reads instead."""
    made_of = sources(flow)
    wrong = []
    for reader in readers(flow):
        what = made_of[reader.operand]
        if what == "analog" or (what == "input" and (reader.product or encode_input)):
            wrong.append((reader, what))
    return wrong


def uncovered(source: SourceGraph, flow: Flow, encode_input: bool = False) -> list[str]:
    """Sentences for what reads no spikes: a layer, an operand of a product, a module kept whole with its weights."""
    found = []
    for reader, what in unread(flow, encode_input):
        of = op_name(reader.operand) if reader.operand.op != "placeholder" else "the input"
        by = f"{where(reader.node)} ({op_name(reader.node)})"
        found.append(f"{by} reads {what} values, of {of} at {where(reader.operand)}")
    for node in flow.nodes:
        if node.op == "call_module" and any(True for _ in source.modules[str(node.target)].parameters()):
            kind = type(source.modules[str(node.target)]).__name__
            found.append(f"{node.target} ({kind}) is kept whole, and its weights read what they are given")
    return found


# --- placing ---------------------------------------------------------------------------------------------------


@dataclass
class _Tensor:
    """A tensor that gets an encoder.

    Attributes:
        node: the tensor.
        read: readers of it, each with the operators on its way from here.
    """

    node: fx.Node
    read: list[tuple[Reader, list[fx.Node]]] = field(default_factory=list)


def place_encoders(
    source: SourceGraph, cover: Cover, shapes: Mapping[fx.Node, tuple[int, ...]] | None = None
) -> list[str]:
    """Put an ``activation_site`` of kind identity at every tensor that a layer or a product reads and that is analog.

    Args:
        source: the network, with its activation sites.
        cover: its choices; ``wanted`` says whether neurons take values of both signs.
        shapes: of the values, where they are known: thresholds then go along axes that no product adds along.

    Returns:
        Sentences for the report.

    Raises:
        ConversionError: values of both signs, and neurons that know no negative spike.
    """
    flow = Flow(source.graph)
    made_of, axes = sources(flow), channel_axes(source)
    bad = {node for node, what in made_of.items() if what == "analog"}
    raw = {node for node, what in made_of.items() if what == "input"}
    tensors: dict[fx.Node, _Tensor] = {}
    reading = list(readers(flow))
    for reader in reading:
        wrong = bad | raw if reader.product or cover.encode_input else bad
        if reader.operand in wrong:
            for base, way in _bases(reader, wrong, flow):
                tensors.setdefault(base, _Tensor(base)).read.append((reader, way))
    tensors = dict(map(_at_the_layer, tensors.values()))
    positive = _nonnegative(source, flow)
    signs = cover.wanted(Identity())
    refused = [n for n in tensors if n not in positive and not signs] if cover.signed == "refuse" else []
    if refused:
        raise ConversionError(_refusal(refused, tensors))
    order = {node: number for number, node in enumerate(flow.nodes)}
    coded: dict[fx.Node, fx.Node] = {}
    for node in sorted(tensors, key=order.__getitem__):
        first, way = tensors[node].read[0]
        channels = axes.get(node) if first.product or way else _layer_axis(first.node)
        axis = _axis(tensors[node], channels, shapes)
        coded[node] = _insert(source, node, axis, node in positive, signs)
    for reader in reading:
        wrong = bad | raw if reader.product or cover.encode_input else bad
        if reader.operand in wrong:
            reader.node.replace_input_with(reader.operand, _moved(reader, reader.operand, coded, wrong))
    source.graph.lint()
    source.prune()
    source.sites = {name: source.sites[name] for name in (str(n.kwargs["site"]) for n in source.site_nodes())}
    return _share_thresholds(source, shapes)


def _refusal(nodes: list[fx.Node], tensors: Mapping[fx.Node, _Tensor]) -> str:
    reader = tensors[nodes[0]].read[0][0]
    more = f" (and {len(nodes) - 1} more)" if len(nodes) > 1 else ""
    return (
        f"{where(reader.node)} reads values of both signs, of {op_name(nodes[0])} at {where(nodes[0])}{more}, and the "
        "neurons of this method know no negative spike: use methods.SignedIF or methods.ShiftedThreshold, or "
        "signed='pair' for two populations, of which one says what is below zero"
    )


def where(node: fx.Node) -> str:
    """A node's module, or its own name where it is in none."""
    return str(node.meta.get("path") or node.name)


def _bases(reader: Reader, wrong: set[fx.Node], flow: Flow) -> Iterator[tuple[fx.Node, list[fx.Node]]]:
    """The tensors that a reader's operand is made of by moves alone, each with the operators on the way."""
    waiting: list[tuple[fx.Node, list[fx.Node]]] = [(reader.operand, [])]
    while waiting:
        node, way = waiting.pop()
        before = [n for n in node.all_input_nodes if n in wrong]
        if _passes(node, reader, flow) and before:
            waiting += [(n, [node, *way]) for n in before]
        else:
            yield node, way


def _at_the_layer(tensor: _Tensor) -> tuple[fx.Node, _Tensor]:
    """Of a tensor that reaches one layer alone, reshaped, the form in which it gets there: its channels are known."""
    operands = {reader.operand for reader, _ in tensor.read}
    reader, way = tensor.read[0]
    reshaped = all(op_name(n).strip("._") in (*TURNS, *_RESHAPES) for n in way)
    if len(operands) == 1 and reshaped and not any(r.product for r, _ in tensor.read):
        tensor = _Tensor(reader.operand, [(r, []) for r, _ in tensor.read])
    return tensor.node, tensor


def _layer_axis(node: fx.Node) -> int:
    """The channel axis of what a layer with weights reads."""
    return 1 if operator_of(node.target).synapse.startswith("conv") else -1


def _passes(node: fx.Node, reader: Reader, flow: Flow) -> bool:
    """Whether an operator leaves what it moves as it is, so that spikes may pass it."""
    if node.op not in ("call_function", "call_method") or flow.kinds[node] != "linear":
        return False
    name = op_name(node).strip("._")
    if role(node, "linear") != "move" or name in _CUTS:
        return False
    return name in TURNS if reader.product else True


def _moved(reader: Reader, node: fx.Node, coded: dict[fx.Node, fx.Node], wrong: set[fx.Node]) -> fx.Node:
    """The value of a node, made of encoders' outputs."""
    if node in coded:
        return coded[node]
    graph = node.graph
    with graph.inserting_after(node):
        copy = graph.node_copy(node, lambda n: _moved(reader, n, coded, wrong) if n in wrong else n)
    copy.meta = dict(node.meta)
    coded[node] = copy
    return copy


def _insert(source: SourceGraph, node: fx.Node, axis: int, positive: bool, signs: bool) -> fx.Node:
    """An encoder behind a node; two, for either sign, where neurons know no negative spike."""
    name = f"{node.meta.get('path') or ''}.{op_name(node).strip('._') if node.op != 'placeholder' else node.name}"
    name = f"{name}_encoder".lstrip(".")
    graph = source.graph
    last = [n for n in graph.nodes if n.op == "placeholder"][-1] if node.op == "placeholder" else node

    def add(target: Any, *args: Any, **kwargs: Any) -> fx.Node:
        nonlocal last
        with graph.inserting_after(last):
            last = graph.call_function(target, args, kwargs)
        last.meta = {"path": node.meta.get("path", ""), "module_type": None}
        return last

    def site(read: fx.Node, name: str, kind: Activation) -> fx.Node:
        name = unique_name(name, source.sites)
        source.sites[name] = Site(name, kind, axis)
        return add(activation_site, read, site=name)

    if positive or signs:
        return site(node, name, Identity(nonnegative=positive))
    above = site(node, f"{name}.above", Identity(nonnegative=True))
    below = site(add(torch.neg, node), f"{name}.below", Identity(nonnegative=True))
    return add(torch.sub, above, below)


_TURNING_SIGNS = ("neg", "sub", "isub", "rsub")


def _adds_more(node: fx.Node) -> bool:
    """Whether something is added to a product: a bias."""
    return is_synapse(node) or op_name(node).strip("._") in ("addmm", "baddbmm")


def _nonnegative(source: SourceGraph, flow: Flow) -> set[fx.Node]:
    """Values that are never below zero, whatever the input."""
    found: set[fx.Node] = set()
    for node in flow.nodes:
        if node.op not in ("call_function", "call_method"):
            continue
        name, kind = op_name(node).strip("._"), flow.kinds[node]
        inputs = [n for n in node.all_input_nodes if n in flow.varies and flow.kinds[n] not in ("shape", "size")]
        if node.target is activation_site:
            positive = not source.sites[str(node.kwargs["site"])].function.signed
        elif name in ("softmax", "sigmoid", "hardsigmoid", "exp", "abs", "square", "norm", "relu"):
            positive = True
        elif kind == "linear" and role(node, kind) in ("move", "sum") and name not in _TURNING_SIGNS:
            positive = bool(inputs) and all(n in found for n in inputs) and "alpha" not in node.kwargs
        elif kind == "homogeneous" or products(node, set(inputs)):
            positive = bool(inputs) and all(n in found for n in inputs) and not _adds_more(node)
        else:
            positive = False
        if positive:
            found.add(node)
    return found


# --- thresholds along axes that no product adds along ------------------------------------------------------------


def _axis(tensor: _Tensor, channels: int | None, shapes: Mapping[fx.Node, tuple[int, ...]] | None) -> int:
    """The axis along which thresholds differ: the channels', or the heads' of an attention; 0 for one threshold."""
    shape = (shapes or {}).get(tensor.node)
    if shape is None:
        return channels or 0
    dims = len(shape)
    contracted: set[int] = set()
    for reader, way in tensor.read:
        if reader.product:
            if reader.contracted is None:
                return 0
            contracted |= {axis_before(axis, way, dims) for axis in reader.contracted}
    # the channels; the heads of an attention, which stand second where its products are
    candidates = ([] if channels is None else [channels]) + [
        axis_before(1, way, dims) for reader, way in tensor.read if reader.product and dims == 4
    ]
    allowed = (a for a in candidates if -dims <= a < dims and a % dims > 0 and a % dims not in contracted)
    return next(allowed, 0)


def axis_before(axis: int, way: list[fx.Node], dims: int) -> int:
    """Where an axis of an operand stands before the operators on the way to it, which turn axes and do nothing else."""
    place: list[Place] = [(a, dims) for a in range(dims)]
    for node in way:
        rule = operator_of(node.target, node.op == "call_method").channels
        if rule is not None:
            place = [rule([one], arguments(node)) for one in place]
    wanted = axis % dims if axis != -2 or dims > 1 else 0  # a vector has one axis to add along
    return next((before for before, (now, _) in enumerate(place) if now is not None and now % dims == wanted), wanted)


def _share_thresholds(source: SourceGraph, shapes: Mapping[fx.Node, tuple[int, ...]] | None) -> list[str]:
    """Give activation sites that a product reads one threshold where it adds along their channels."""
    if shapes is None:
        return []
    flow = Flow(source.graph)
    notes = []
    for reader in readers(flow):
        node = reader.operand
        way: list[fx.Node] = []
        while _passes(node, reader, flow) and len(node.all_input_nodes) == 1:
            way, node = [node, *way], node.all_input_nodes[0]
        if not reader.product or node.target is not activation_site or node not in shapes:
            continue
        name = str(node.kwargs["site"])
        site = source.sites[name]
        axis = _axis(_Tensor(node, [(reader, way)]), site.axis, shapes)
        if axis in (site.axis, site.axis % len(shapes[node])) or not site.axis:
            continue
        if site.threshold is not None and site.threshold.numel() > 1:
            notes.append(
                f"{name}: its trained thresholds differ along an axis that the product at {where(reader.node)} adds "
                "along, so that spikes of different sizes meet there"
            )
        elif not site.function.tensors():
            source.sites[name] = site.with_(axis=axis)
    return notes
