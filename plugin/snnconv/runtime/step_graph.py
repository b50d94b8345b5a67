"""A source graph written anew, as what happens in one step."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.graph import CodeGen
from torch.utils._pytree import tree_map

from snnconv.dynamics import neuron
from snnconv.graph.arguments import arguments, operand
from snnconv.graph.flow import Flow, layer_name
from snnconv.graph.fold import synapse_arguments
from snnconv.graph.ops import SYNAPSES, is_synapse
from snnconv.graph.source import ConversionError, SourceGraph, activation_site, unique_name
from snnconv.methods.base import Method
from snnconv.runtime import step_modules as modules

__all__ = ["Settings", "StepGraph", "module_of", "options_of"]

Settings = Mapping[str, Any]
_TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class StepGraph:
    """Writes a source graph anew, as what happens in one step.

    Every node of the source has one of two values in the new graph: what the step adds (``shares``), or, behind an
    operator that acts on what has come in so far, what it comes to (``values``).
    """

    def __init__(self, source: SourceGraph, method: Method, neurons: Mapping[str, Settings]) -> None:
        self.source, self.method, self.neurons = source, method, neurons
        self.flow = Flow(source.graph)
        self.once = method.coding != "rate"
        """Whether constants enter with the first step alone."""
        self.graph = fx.Graph()
        self.root = nn.Module()
        self.shares: dict[fx.Node, fx.Node] = {}
        self.values: dict[fx.Node, fx.Node] = {}
        self.states: dict[str, fx.Node] = {}
        self.after: dict[str, Any] = {}
        self.ready: dict[fx.Node, int] = {}
        self.finished = 0
        self.held: Any = None
        self.inputs = tuple(str(n.target) for n in source.graph.nodes if n.op == "placeholder")
        self._enters: dict[fx.Node, fx.Node] = {}
        self._adds: dict[fx.Node, fx.Node] = {}
        self._comes_to: dict[fx.Node, fx.Node] = {}
        self._layers: dict[tuple[Any, ...], str] = {}
        self._write()

    def module(self) -> fx.GraphModule:
        """The graph of one step as a module, checked."""
        self.graph.lint()
        return fx.GraphModule(self.root, self.graph, "Steps")

    # ------------------------------------------------------------------ parts of the new graph

    def _write(self) -> None:
        placeholders = [n for n in self.flow.nodes if n.op == "placeholder"]
        for node in placeholders:
            self.shares[node] = self.graph.placeholder(str(node.target))
            self.ready[node] = 0
        step = self.states["step"] = self.graph.placeholder("step")
        clock = self._call("clock", modules.Clock(self.method.pre_timesteps_), step)
        self.anchor = clock
        self.now = self._item(clock, 0)
        self.first = self._item(clock, 1)
        self.after["step"] = self.graph.call_function(torch.add, (step, 1))
        for node in self.flow.nodes:
            if node.op != "placeholder":
                self.ready[node] = max((self.ready[n] for n in node.all_input_nodes), default=0)
                self._node(node)

    def _call(self, name: str, module: nn.Module, *args: Any) -> fx.Node:
        """A call of a module that stands in the new network by itself."""
        name = unique_name(name.replace(".", "_").replace(":", "_"), self.root._modules, mark="_")
        self.root.add_module(name, module)
        return self.graph.call_module(name, args)

    def _item(self, results: fx.Node, index: int) -> fx.Node:
        return self.graph.call_function(operator.getitem, (results, index))

    def _state(self, name: str) -> fx.Node:
        with self.graph.inserting_before(self.anchor):
            node = self.graph.placeholder(f"state_{len(self.states)}")
        self.states[unique_name(name, self.states)] = node
        return node

    def _stateful(self, name: str, module: nn.Module, remembered: tuple[str, ...], *args: Any) -> fx.Node:
        """The first result of a module that gets and gives states behind its other arguments."""
        before = [self._state(f"{name}.{what}") for what in remembered]
        kept = list(self.states)[-len(before) :]
        result = self._call(name, module, *args, *before)
        for index, key in enumerate(kept, start=1):
            self.after[key] = self._item(result, index)
        return self._item(result, 0)

    # ------------------------------------------------------------------ values of the old graph's nodes

    def _temporal(self, node: fx.Node) -> bool:
        return node in self.flow.temporal and self.flow.kinds[node] not in ("shape", "size")

    def _added(self, node: fx.Node) -> fx.Node:
        """What the step adds to a node's value."""
        if node in self.shares:
            if not self.once or self._temporal(node) or node not in self.flow.varies or self._sized(node):
                return self.shares[node]
            if node not in self._enters:
                self._enters[node] = self._call(f"{node.name}_once", modules.Once(), self.shares[node], self.first)
            return self._enters[node]
        if node not in self._adds:
            share = modules.Share(self.method.coding)
            self._adds[node] = self._stateful(
                f"{node.name}_share", share, ("before",), self.values[node], self.now, self.first
            )
        return self._adds[node]

    def _value(self, node: fx.Node) -> fx.Node:
        """What a node's value comes to."""
        if node in self.values or not self._temporal(node):
            return self.values.get(node, self.shares.get(node, node))
        if node not in self._comes_to:
            running = modules.RunningValue(self.method.coding)
            self._comes_to[node] = self._stateful(
                f"{node.name}_value", running, ("total",), self.shares[node], self.now, self.first
            )
        return self._comes_to[node]

    def _sized(self, node: fx.Node) -> bool:
        return self.flow.kinds[node] in ("shape", "size")

    def _mapped(self, node: fx.Node, how: Callable[[fx.Node], Any]) -> tuple[Any, Any]:
        args, kwargs = fx.node.map_arg((node.args, dict(node.kwargs)), how)
        return args, kwargs

    def _copied(self, node: fx.Node, how: Callable[[fx.Node], Any]) -> fx.Node:
        args, kwargs = self._mapped(node, how)
        if node.op == "call_module":
            name = f"kept_{str(node.target).replace('.', '_')}"
            if name not in self.root._modules:
                self.root.add_module(name, self.source.modules[str(node.target)])
            return self.graph.call_module(name, args, kwargs)
        target = "reshape" if node.op == "call_method" and node.target == "view" and not _casts(node) else node.target
        return self.graph.create_node(node.op, target, args, kwargs)

    # ------------------------------------------------------------------ nodes

    def _node(self, node: fx.Node) -> None:
        kind = self.flow.kinds[node]
        if node.op == "output":
            self._output(node)
        elif node.op == "get_attr":
            self.shares[node] = self._tensor(str(node.target))
        elif node.target is activation_site:
            self.shares[node] = self._population(node)
        elif not self._temporal(node):
            self.shares[node] = self._layer(node, self.shares.__getitem__) if is_synapse(node) else self._copied(
                node, lambda n: self.shares[n] if n in self.shares else self.values[n]
            )  # fmt: skip
        elif _container(node):
            pass  # of the output, where it is opened
        elif self._grows(node):
            self._pool(node)
        elif kind == "nonlinear" or (not is_synapse(node) and any(n in self.values for n in node.all_input_nodes)):
            self.values[node] = self._copied(node, self._value)
        else:
            self._linear(node)

    def _tensor(self, name: str) -> fx.Node:
        buffer = f"tensor_{name.replace('.', '_').replace(':', '_')}"
        if buffer not in self.root._buffers:
            self.root.register_buffer(buffer, self.source.tensors[name].detach().clone())
        return self.graph.get_attr(buffer)

    def _grows(self, node: fx.Node) -> bool:
        """Whether a node is a maximum of what has been accumulated so far, of spikes or currents."""
        return (
            self.flow.kinds[node] == "homogeneous"
            and self.method.max_pool == "accumulated"
            and not any(n in self.values for n in node.all_input_nodes)
        )

    def _pool(self, node: fx.Node) -> None:
        """A maximum of sums; what the step adds to it."""
        pooled = self._copied(node, self._value)
        share = modules.Share(self.method.coding)
        self.shares[node] = self._stateful(f"{node.name}_share", share, ("before",), pooled, self.now, self.first)

    def _linear(self, node: fx.Node) -> None:
        if is_synapse(node):
            self.shares[node] = self._layer(node, self._added, once=self.once)
            return
        out = self._copied(node, self._added)
        constants = self.flow.kinds[node] == "affine" or any(
            not self._temporal(n) and (n not in self.flow.varies or self._sized(n)) and not self._is_shape(n)
            for n in node.all_input_nodes
        )
        if self.once and constants:

            def empty(n: fx.Node) -> fx.Node:
                added = self._added(n)
                moves = self._temporal(n) or (n in self.flow.varies and not self._sized(n))
                return self.graph.call_function(torch.zeros_like, (added,)) if moves else added

            constant = self._copied(node, empty)
            out = self._call(f"{node.name}_linear", modules.Linear(), out, constant, self.first)
        self.shares[node] = out

    def _is_shape(self, node: fx.Node) -> bool:
        return self.flow.kinds[node] == "shape"

    def _layer(self, node: fx.Node, read: Callable[[fx.Node], Any], once: bool = False) -> fx.Node:
        """A layer with weights as a module of ``torch.nn``; ``once``: its bias enters with the first step alone."""
        weight, bias = synapse_arguments(node)
        given = arguments(node)
        plain = weight is not None and (bias is not None or given.get("bias") is None)
        if not plain:
            if once and given.get("bias") is not None:
                raise ConversionError(f"{layer_name(node)}: a bias that depends on the input cannot run step by step")
            return self._copied(
                node, lambda n: read(n) if self._temporal(n) or n in self.flow.varies else self.shares[n]
            )
        assert weight is not None
        x = read(operand(node))
        options = options_of(given)
        key = (weight.target, None if bias is None or once else bias.target, str(sorted(options.items(), key=str)))
        if key not in self._layers:
            values = None if bias is None or once else self.source.tensors[str(bias.target)]
            layer = module_of(node, self.source.tensors[str(weight.target)], options, values)
            out = self._call(layer_name(node), layer, x)
            self._layers[key] = str(out.target)
        else:
            out = self.graph.call_module(self._layers[key], (x,))
        if bias is None or not once:
            return out
        added = self._tensor(str(bias.target))
        dims = len(self.source.tensors[str(weight.target)].shape) - 2
        shaped = self.graph.call_method("reshape", (added, -1, *[1] * dims)) if dims else added
        entering = self._call(f"{layer_name(node)}_bias", modules.Once(), shaped, self.first)
        return self.graph.call_function(torch.add, (out, entering))

    def _population(self, node: fx.Node) -> fx.Node:
        name, read = str(node.kwargs["site"]), operand(node)
        site = self.source.sites[name]
        if read not in self.flow.varies:
            return self._call(name, modules.Activation(site), self.shares[read])
        settings = dict(self.neurons[name])
        record, axis = neuron.get(settings["neuron"]), int(settings["channel_axis"])
        options = {option.name: settings[option.name] for option in record.options if option.name in settings}
        given = (record, torch.as_tensor(settings["v_threshold"]), axis, options, bool(settings["scaled"]))
        x, step = self._added(read), self.states["step"]
        population: modules.Neurons
        if record.coding == "sum":
            length = int(settings["timesteps"])
            population = modules.SumNeurons(*given, start=self.ready[node], timesteps=length)
            self.ready[node] += length
        elif record.pre_phase is not None:
            population = modules.PhasedNeurons(*given, pre_steps=self.method.pre_timesteps_)
        else:
            population = modules.RateNeurons(*given)
        counts = step if record.coding == "sum" or record.pre_phase is not None else self.now
        return self._stateful(name, population, population.states, x, counts, self.first)

    def _output(self, node: fx.Node) -> None:
        self.finished = max(self.ready[node], 1)

        names: dict[str, type] = {}

        def opened(n: fx.Node) -> Any:
            """What a node of the output holds, a dictionary in place of a dataclass."""
            if not _container(n):
                return n
            args, kwargs = fx.node.map_arg((n.args, dict(n.kwargs)), opened)
            if not (isinstance(n.target, type) and issubclass(n.target, tuple)):
                return kwargs
            made: Any = n.target
            names[made.__name__] = made
            return made(*args, **kwargs)

        tree = fx.node.map_arg(node.args[0], opened)
        result = fx.node.map_arg(tree, lambda n: self.values.get(n, self.shares.get(n)))
        self.held = tree_map(
            lambda n: not self._temporal(n) or n in self.values if isinstance(n, fx.Node) else True, tree,
            is_leaf=lambda n: isinstance(n, fx.Node),
        )  # fmt: skip
        self.graph.output((result, *(self.after[name] for name in self.states)))
        if names:
            self.graph.set_codegen(_WithNames(names))


class _WithNames(CodeGen):
    """Code that finds the classes of its output: torch 2.6 writes a named tuple there by its name alone."""

    def __init__(self, names: dict[str, type]) -> None:
        super().__init__()
        self.names = names

    def additional_globals(self) -> list[tuple[str, Any]]:
        return [*super().additional_globals(), *self.names.items()]


def module_of(node: fx.Node, weight: Tensor, options: dict[str, Any], bias: Tensor | None) -> nn.Module:
    """The layer of ``torch.nn`` that computes a call of an operator with weights."""
    kind, dims = SYNAPSES[node.target], weight.dim() - 2
    given = {"bias": bias is not None, "dtype": weight.dtype, "device": weight.device}
    groups = int(options.get("groups", 1))
    if kind == "linear":
        layer: nn.Module = nn.utils.skip_init(nn.Linear, weight.shape[1], weight.shape[0], **given)
    elif kind == "conv":
        layer = nn.utils.skip_init(_CONVOLUTIONS[dims], weight.shape[1] * groups, weight.shape[0],
                                   tuple(weight.shape[2:]), **options, **given)  # fmt: skip
    else:
        layer = nn.utils.skip_init(_TRANSPOSED[dims], weight.shape[0], weight.shape[1] * groups,
                                   tuple(weight.shape[2:]), **options, **given)  # fmt: skip
    with torch.no_grad():
        layer.get_parameter("weight").copy_(weight)
        if bias is not None:
            layer.get_parameter("bias").copy_(bias)
    return layer


def options_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of an operator with weights that its layer takes as settings."""
    return {k: v for k, v in given.items() if k not in ("input", "weight", "bias") and v is not None}


def _container(node: fx.Node) -> bool:
    """Whether a node makes a dataclass or a named tuple."""
    kind = node.target
    return node.op == "call_function" and isinstance(kind, type) and (is_dataclass(kind) or hasattr(kind, "_fields"))


def _casts(node: fx.Node) -> bool:
    return any(isinstance(a, torch.dtype) for a in node.args)
