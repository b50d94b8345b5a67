"""Tracing: from an ``nn.Module`` to a :class:`~snnconv.graph.source.SourceGraph` of plain operators."""

from __future__ import annotations

import copy
import inspect
import math
import operator
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from snnconv.activations.base import TrainedActivation
from snnconv.graph.fold import fold_batch_norm, lower_batch_norm
from snnconv.graph.ops import SYNAPSES
from snnconv.graph.sites import find_sites, pool_before_neurons
from snnconv.graph.source import ConversionError, SourceGraph

__all__ = [
    "ThreadTracer", "TraceFailure", "drop_no_ops", "make_out_of_place", "run_tracer", "source_graph", "trace_graph",
    "tracing_alone",
]  # fmt: skip

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
# modules of torch.nn whose forward branches on values or shapes, so that they can only be kept whole
_WHOLE = (
    nn.MultiheadAttention, nn.RNNBase, nn.RNNCellBase, nn.Transformer, nn.TransformerEncoderLayer,
    nn.TransformerDecoderLayer, nn.LocalResponseNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d,
    nn.SyncBatchNorm, nn.LazyLinear,
)  # fmt: skip


_FACTORIES = ("zeros", "ones", "full", "arange", "linspace")
_TRACING = threading.RLock()  # tracing changes torch's functions for a moment


class TraceFailure(Exception):
    """The network's forward cannot be traced (its Python code depends on values)."""


class ThreadTracer(fx.Tracer):
    """Traces on its own thread only: ``torch.fx`` changes ``nn.Module`` for all, others run as if it did not."""

    proxy_buffer_attributes = True

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.get_ident()
        self.channels: set[int] = set()  # of the input, as the network's own checks have it

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if threading.get_ident() != self._thread:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if threading.get_ident() != self._thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def create_arg(self, a: Any) -> Any:
        if isinstance(a, dict) and type(a) is not dict:  # Hugging Face's outputs: what is there, by name
            a = {key: value for key, value in a.items() if value is not None}
        return super().create_arg(a)

    def to_bool(self, obj: fx.Proxy) -> bool:
        """``if x.shape[1] != self.num_channels: raise``: the network's first layer has that many channels."""
        channels = _channels_compared(obj.node)
        if channels is None:
            return super().to_bool(obj)
        self.channels.add(channels)
        return obj.node.target is operator.eq

    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        if isinstance(module, (TrainedActivation, *_WHOLE)):
            return True
        return isinstance(module, _BATCH_NORMS) and type(module).__module__.startswith("torch.nn")


def source_graph(
    model: nn.Module, given: Collection[str] = (), constants: Mapping[str, Any] | None = None
) -> SourceGraph:
    """Trace ``model`` in evaluation mode, fold BatchNorm, mark every activation site.

    The model is not changed: the graph holds copies of its weights.

    Args:
        model: the network.
        given: arguments of its forward that calls give; the other optional ones keep their defaults.
        constants: arguments that are the same in every call, with their values.

    Raises:
        TraceFailure: the forward cannot be traced.
        ConversionError: a weight is NaN or infinite.

    >>> source = source_graph(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)))
    >>> list(source.sites)
    ['1']
    """
    source = trace_graph(model, given, constants)
    lower_batch_norm(source)
    fold_batch_norm(source)
    find_sites(source)
    pool_before_neurons(source)
    source.graph.lint()
    return source


def trace_graph(
    model: nn.Module, given: Collection[str] = (), constants: Mapping[str, Any] | None = None
) -> SourceGraph:
    """Trace only: in-place operators are made explicit, no-ops of evaluation mode removed."""
    twin = copy.deepcopy(model).eval()
    graph = run_tracer(ThreadTracer(), twin, given, constants)
    source = SourceGraph(graph, {})
    for node in list(graph.nodes):
        if node.op == "get_attr":
            value = _attribute(twin, node.target)
            if not isinstance(value, Tensor):
                raise TraceFailure(f"attribute {node.target} is not a tensor")
            source.tensors[node.target] = value.detach().clone()
        elif node.op == "call_module":
            source.modules[node.target] = twin.get_submodule(node.target)
    _check_finite(source)
    drop_no_ops(source)
    make_out_of_place(source)
    source.prune()
    return source


def run_tracer(
    tracer: fx.Tracer,
    model: nn.Module,
    given: Collection[str] = (),
    constants: Mapping[str, Any] | None = None,
) -> fx.Graph:
    """The graph of a model's forward; every node knows in which module it happens (``path``, ``module_type``).

    Raises:
        TraceFailure: the forward cannot be traced.
    """
    try:
        with tracing_alone(), _traced_factories():
            graph = tracer.trace(model, concrete_args=_defaults(model, given, constants or {}))
    except ConversionError:
        raise
    except Exception as error:  # forward is foreign code: whatever it raises means that it does not trace
        raise TraceFailure(f"{type(error).__name__}: {error}") from error
    if isinstance(tracer, ThreadTracer):
        _check_channels(graph, model, tracer.channels)
    for node in graph.nodes:
        stack = node.meta.get("nn_module_stack") or {}
        # the keys tell calls of a shared module apart ("relu@1"), the values hold its path
        node.meta["path"], node.meta["module_type"] = list(stack.values())[-1] if stack else ("", None)
    return graph


@contextmanager
def tracing_alone() -> Iterator[None]:
    """No other thread traces meanwhile, with SpikingJelly's converter neither.

    ``torch.fx`` changes ``nn.Module`` while it traces, and puts back what it found: of two at once, the second may
    leave the first one's change there for good. SpikingJelly's tracer also takes calls of other threads for its own.
    """
    module = sys.modules.get("spikingjelly.activation_based.ann2snn.converter")
    with _TRACING, getattr(module, "_FX_TRACE_LOCK", None) or nullcontext():
        yield


@contextmanager
def _traced_factories() -> Iterator[None]:
    """While tracing, ``torch.zeros(x.shape[0], ...)`` and its like take traced sizes."""
    originals = {name: getattr(torch, name) for name in _FACTORIES}

    def traced(function: Any) -> Any:
        def make(*args: Any, **kwargs: Any) -> Any:
            found: list[fx.Proxy] = []
            fx.node.map_aggregate((args, kwargs), lambda v: found.append(v) if isinstance(v, fx.Proxy) else None)
            if found:
                return found[0].tracer.create_proxy("call_function", function, args, kwargs)
            return function(*args, **kwargs)

        return make

    try:
        for name, function in originals.items():
            setattr(torch, name, traced(function))
        yield
    finally:
        for name, function in originals.items():
            setattr(torch, name, function)


def _defaults(model: nn.Module, given: Collection[str], constants: Mapping[str, Any]) -> dict[str, Any] | None:
    """Optional arguments of ``forward`` that are not given take their defaults, so that ``if mask is not None`` traces.

    Where nothing says what is given it is the first one, the image (``pixel_values=None`` in Hugging Face's models).
    """
    parameters = inspect.signature(model.forward).parameters.values()
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    given = given or [p.name for p in named[:1]]
    defaults = {p.name: p.default for p in named if p.default is not p.empty and p.name not in given}
    return {**defaults, **constants} or None


def _channels_compared(node: fx.Node) -> int | None:
    """The number in ``x.shape[1] == number`` or ``!=``, for the network's input x."""
    if node.op != "call_function" or node.target not in (operator.eq, operator.ne):
        return None
    size, number = node.args
    if isinstance(size, int):
        size, number = number, size
    if not isinstance(size, fx.Node) or not isinstance(number, int) or size.target is not operator.getitem:
        return None
    shape, index = size.args
    is_shape = isinstance(shape, fx.Node) and shape.op == "call_function" and shape.target is getattr
    if index != 1 or not is_shape or shape.args[1] != "shape":  # type: ignore[union-attr]
        return None
    image = shape.args[0]  # type: ignore[union-attr]
    return number if isinstance(image, fx.Node) and image.op == "placeholder" else None


def _check_channels(graph: fx.Graph, model: nn.Module, numbers: set[int]) -> None:
    """What was taken for the number of the input's channels is what the first layer asks for."""
    found = set()
    for node in graph.nodes:
        if any(n.op == "placeholder" for n in node.all_input_nodes):
            if node.op == "call_module":
                found.add(getattr(model.get_submodule(node.target), "in_channels", None))
            elif (
                SYNAPSES.get(node.target) == "conv"
                and isinstance(node.args[1], fx.Node)
                and node.args[1].op == "get_attr"
            ):
                groups = node.kwargs.get("groups", node.args[6] if len(node.args) > 6 else 1)
                found.add(_attribute(model, str(node.args[1].target)).shape[1] * groups)
    if numbers - found:
        raise TraceFailure(f"its code compares the channels of the input with {min(numbers - found)}")


def _attribute(root: nn.Module, path: str) -> Any:
    value: Any = root
    for part in path.split("."):
        value = getattr(value, part)
    return value


def _check_finite(source: SourceGraph) -> None:
    for name, tensor in source.tensors.items():
        check_finite(name, tensor)
    for path, module in source.modules.items():
        for name, tensor in module.state_dict().items():
            check_finite(f"{path}.{name}", tensor)


def check_finite(name: str, tensor: Any) -> None:
    """Refuse a weight with NaN or infinite values, by name.

    >>> check_finite("fc.weight", torch.tensor([float("nan")]))
    Traceback (most recent call last):
    snnconv.graph.source.ConversionError: weight 'fc.weight' has 1 NaN or infinite value: the ...
    """
    if isinstance(tensor, Tensor) and tensor.is_floating_point():
        if math.isfinite(float(tensor.sum())):  # a sum of finite values may overflow: then they are counted
            return
        bad = int((~torch.isfinite(tensor)).sum())
        if bad:
            raise ConversionError(
                f"weight {name!r} has {bad} NaN or infinite value{'s' * (bad > 1)}: the network is broken "
                "before conversion; check the checkpoint it was loaded from"
            )


def drop_no_ops(source: SourceGraph) -> None:
    """Remove dropout, stochastic depth (identities in evaluation mode), assertions, and default arguments."""
    graph = source.graph
    for node in reversed(list(graph.nodes)):
        name = getattr(node.target, "__name__", "") if node.op == "call_function" else ""
        if name in ("_assert", "_assert_is_none") and not node.users:
            graph.erase_node(node)
        elif name in (
            "dropout",
            "dropout1d",
            "dropout2d",
            "dropout3d",
            "alpha_dropout",
            "feature_alpha_dropout",
        ):
            training = node.kwargs.get("training", node.args[2] if len(node.args) > 2 else node.target is not F.dropout)
            if not training:
                _bypass(graph, node)
        elif name == "stochastic_depth" and not node.kwargs.get(
            "training", node.args[3] if len(node.args) > 3 else True
        ):
            _bypass(graph, node)
    placeholders = [n for n in graph.nodes if n.op == "placeholder"]
    used = [n for n in placeholders if n.users] or placeholders[:1]
    for node in placeholders:
        if node not in used:
            graph.erase_node(node)


def _bypass(graph: fx.Graph, node: fx.Node) -> None:
    node.replace_all_uses_with(node.all_input_nodes[0])
    graph.erase_node(node)


def make_out_of_place(source: SourceGraph) -> None:
    """``relu(x, inplace=True)`` changes x for everybody who reads it later: say so in the graph."""
    for node in list(source.graph.nodes):
        method = node.op == "call_method" and str(node.target).endswith("_") and not str(node.target).endswith("__")
        function = node.op == "call_function" and (node.kwargs.get("inplace") is True or _inplace_position(node))
        if not (method or function) or not node.all_input_nodes:
            continue
        operand = node.args[0] if node.args else node.kwargs.get("input")
        if method:
            node.target = str(node.target).rstrip("_")
        elif "inplace" in node.kwargs:
            node.kwargs = {**node.kwargs, "inplace": False}
        if isinstance(operand, fx.Node):
            later = set(list(source.graph.nodes)[list(source.graph.nodes).index(node) + 1 :])
            replaced = operand.replace_all_uses_with(node, delete_user_cb=later.__contains__)
            node.meta["overwrites"] = bool(replaced)


def _inplace_position(node: fx.Node) -> bool:
    """``F.relu(x, True)``: the flag given by position."""
    positions = {
        F.relu: 1,
        F.relu6: 1,
        F.silu: 1,
        F.hardswish: 1,
        F.hardsigmoid: 1,
        F.hardtanh: 3,
        F.leaky_relu: 2,
    }
    at = positions.get(node.target)  # type: ignore[arg-type]
    if at is None or len(node.args) <= at or node.args[at] is not True:
        return False
    node.args = (*node.args[:at], False, *node.args[at + 1 :])
    return True
