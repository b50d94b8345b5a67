"""Tracing: from an ``nn.Module`` to a :class:`~snnconv.graph.source.SourceGraph` of plain operators."""

from __future__ import annotations

import inspect
import math
import operator
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, fx, nn

from snnconv.graph import activation, ops
from snnconv.graph.arguments import argument
from snnconv.graph.capture.passes import drop_no_ops, make_out_of_place, name_activations, passes
from snnconv.graph.capture.plain import plain_forward
from snnconv.graph.cover import RELUS, Cover
from snnconv.graph.ops import operator_of
from snnconv.graph.source import ConversionError, SourceGraph
from snnconv.graph.trained import TrainedActivation
from snnconv.graph.unwrap import copied

__all__ = [
    "ThreadTracer", "TraceFailure", "attribute", "check_finite", "check_weights", "run_tracer", "source_graph",
    "trace_graph", "tracing_alone",
]  # fmt: skip

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
# modules of torch.nn whose forward branches on values or shapes, so that they can only be kept whole
_WHOLE = (
    nn.MultiheadAttention, nn.RNNBase, nn.RNNCellBase, nn.Transformer, nn.TransformerEncoder,
    nn.TransformerEncoderLayer, nn.TransformerDecoder, nn.TransformerDecoderLayer, nn.LocalResponseNorm,
    nn.SyncBatchNorm, nn.LazyLinear,
)  # fmt: skip


_FACTORIES = ("zeros", "ones", "full", "arange", "linspace")
_TRACING = threading.RLock()  # tracing changes torch's functions for a moment


class TraceFailure(Exception):
    """The network's forward cannot be traced (its Python code depends on values)."""


class _Proxy(fx.Proxy):
    """A traced value that knows of ``x += y``: others that hold x see it change."""

    def _in_place(self, function: Callable[..., Any], other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", function, (self, other), {})

    def __iadd__(self, other: Any) -> fx.Proxy:
        return self._in_place(operator.iadd, other)

    def __isub__(self, other: Any) -> fx.Proxy:
        return self._in_place(operator.isub, other)

    def __imul__(self, other: Any) -> fx.Proxy:
        return self._in_place(operator.imul, other)

    def __itruediv__(self, other: Any) -> fx.Proxy:
        return self._in_place(operator.itruediv, other)


class ThreadTracer(fx.Tracer):
    """Traces on its own thread only: ``torch.fx`` changes ``nn.Module`` for all, others run as if it did not."""

    proxy_buffer_attributes = True

    def __init__(self) -> None:
        own = (*activation.leaf_functions(), *ops.leaf_functions())
        places = {sys.modules[f.__module__] for f in own if getattr(f, "__module__", None) in sys.modules}
        super().__init__(autowrap_modules=(math,), autowrap_functions=own)
        self._autowrap_search += places  # there, and wherever else they are named; their neighbours stay what they are
        self._thread = threading.get_ident()
        self.channels: set[int] = set()  # of the input, as the network's own checks have it

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if threading.get_ident() != self._thread or not self._installed(m):
            return forward(*args, **kwargs)
        return super().call_module(m, plain_forward(m) or forward, args, kwargs)

    def _installed(self, module: nn.Module) -> bool:
        """Whether a module is part of the network; a slice of a Sequential is made by the forward, its layers are."""
        try:
            self.path_of_module(module)
        except NameError:
            return False
        return True

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
        if plain_forward(module) is not None:
            return False
        if isinstance(module, (TrainedActivation, *_WHOLE)) or activation.leaf_module(module) is not None:
            return True
        return isinstance(module, _BATCH_NORMS) and type(module).__module__.startswith("torch.nn")


def source_graph(
    model: nn.Module,
    given: Collection[str] = (),
    constants: Mapping[str, Any] | None = None,
    cover: Cover = RELUS,
) -> SourceGraph:
    """Trace ``model`` in evaluation mode, fold BatchNorm, mark every activation site.

    The model is not changed: the graph holds copies of its weights.

    Args:
        model: the network.
        given: arguments of its forward that calls give; the other optional ones keep their defaults.
        constants: arguments that are the same in every call, with their values.
        cover: where neurons will stand; encoders are not placed yet (:mod:`snnconv.graph.encoders`).

    Raises:
        TraceFailure: the forward cannot be traced.
        ConversionError: a weight is NaN or infinite.

    >>> source = source_graph(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)))
    >>> list(source.sites)
    ['1']
    """
    source = trace_graph(model, given, constants)
    for step in passes(cover):
        step.run(source)
        source.graph.lint()
    return source


def trace_graph(
    model: nn.Module, given: Collection[str] = (), constants: Mapping[str, Any] | None = None
) -> SourceGraph:
    """Trace only: in-place operators are made explicit, no-ops of evaluation mode removed.

    Raises:
        TraceFailure: the network does not trace.
        ConversionError: weights with NaN or infinite values, by their name.
    """
    twin = copied(model)[0].eval()
    graph = run_tracer(ThreadTracer(), twin, given, constants)
    source = SourceGraph(graph, {})
    for node in list(graph.nodes):
        if node.op == "get_attr":
            value = attribute(twin, node.target)
            if not isinstance(value, Tensor):
                raise TraceFailure(f"attribute {node.target} is not a tensor")
            check_finite(str(node.target), value)
            source.tensors[node.target] = value.detach().clone()
        elif node.op == "call_module":
            source.modules[node.target] = twin.get_submodule(node.target)
            check_weights(source.modules[node.target], f"{node.target}.")
    drop_no_ops(source)
    make_out_of_place(source)
    name_activations(source)
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
            elif operator_of(node.target).synapse == "conv":
                weight = argument(node, "weight")
                if isinstance(weight, fx.Node) and weight.op == "get_attr":
                    found.add(attribute(model, str(weight.target)).shape[1] * argument(node, "groups", 1))
    if numbers - found:
        raise TraceFailure(f"its code compares the channels of the input with {min(numbers - found)}")


def attribute(root: nn.Module, path: str) -> Any:
    """What stands at a dotted path.

    >>> attribute(nn.Sequential(nn.Linear(2, 3)), "0.bias").shape
    torch.Size([3])
    """
    value: Any = root
    for part in path.split("."):
        value = getattr(value, part)
    return value


def check_weights(model: nn.Module, prefix: str = "") -> None:
    """:func:`check_finite` for all parameters and buffers of a module."""
    for name, tensor in model.state_dict(keep_vars=True).items():
        check_finite(prefix + name, tensor)


def check_finite(name: str, tensor: Any) -> None:
    """Refuse a weight with NaN or infinite values, by name.

    What is no parameter may hold −inf, as masks of an attention do; the statistics of a BatchNorm may not.

    Raises:
        ConversionError: it has some; the message counts them.

    >>> check_finite("fc.weight", torch.tensor([float("nan")]))
    Traceback (most recent call last):
    snnconv.graph.error.ConversionError: weight 'fc.weight' has 1 NaN or infinite value: the ...
    >>> check_finite("mask", torch.tensor([0.0, float("-inf")]))
    """
    if isinstance(tensor, Tensor) and tensor.is_floating_point():
        if math.isfinite(float(tensor.detach().sum())):  # a sum of finite values may overflow: then they are counted
            return
        bad = ~torch.isfinite(tensor)
        if not isinstance(tensor, nn.Parameter) and not name.endswith(("running_mean", "running_var")):
            bad &= tensor != -torch.inf
        count = int(bad.sum())
        if count:
            raise ConversionError(
                f"weight {name!r} has {count} NaN or infinite value{'s' * (count > 1)}: the network is broken "
                "before conversion; check the checkpoint it was loaded from"
            )
