"""A trial of what a file describes, before anybody runs it: without samples or values where that can be."""

from __future__ import annotations

import copy
import math
import operator
import warnings
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx

from snnconv import limits
from snnconv.files.refusal import brief
from snnconv.graph.source import ConversionError, SourceGraph
from snnconv.network import SpikingNetwork
from snnconv.runtime.batch import call
from snnconv.runtime.executor import Executor
from snnconv.runtime.program import GraphProgram
from snnconv.runtime.tree import TreeProgram
from snnconv.runtime.values import Static
from snnconv.storage.graph_json import DTYPES

__all__ = ["try_out"]

_GROWING = (operator.pow, operator.mul, operator.imul)
"""Operators that on two plain numbers, or on a sequence and a number, give a result of any size."""


def try_out(network: SpikingNetwork) -> None:
    """Send a batch without samples through the network; where that is not possible, first shapes, then one sample.

    What does not know its input's shape, and the forward of a model that asks for numbers, is left to the first call.

    Raises:
        ConversionError: an operator that fails, thresholds that are not those of the channels where they stand, a
            result beyond :mod:`snnconv.limits`; names the operator or the site.
    """
    program = network.program
    if not isinstance(program, GraphProgram):
        _try_tree(network)
    elif not _empty_batch_runs(network, program):
        if not _moves(program.source.graph):
            _try_shapes(network, program)
        _try_sample(network, program)


def _empty_batch_runs(network: SpikingNetwork, program: GraphProgram) -> bool:
    """Whether a batch of no samples goes through, which is quick; not where an operator could make much of nothing."""
    executor = program.executor
    for node in executor.nodes:
        if node.op in ("call_function", "call_method") and (
            (node.op == "call_method" and str(node.target).startswith("new_"))
            or (executor.kinds[node] != "site" and node not in executor.varies)
            or (executor.kinds[node] == "size" and getattr(node.target, "__module__", "_operator") != "_operator")
        ):
            return False
    x = _sample(network, next(network.buffers()).device)
    if x is None:
        return False
    try:
        _run(network, executor, x[:0], program.source)
    except _Refused:
        raise
    except Exception:  # views cannot tell a size where there is nothing: shapes alone can
        return False
    return True


def _try_shapes(network: SpikingNetwork, program: GraphProgram) -> None:
    """One sample without values: what grows without end shows, and takes no memory."""
    x = _sample(network, torch.device("meta"))
    shapes = {name: torch.empty_like(value, device="meta") for name, value in program.source.tensors.items()}
    try:
        if x is not None:
            with torch.device("meta"):
                _run(network, program.executor, x, replace(program.source, tensors=shapes))
    except ConversionError as error:
        if not isinstance(error.__cause__, NotImplementedError):  # an operator that must see values
            raise
    except NotImplementedError:
        pass
    except Exception as error:  # of a file that says anything, operators raise anything
        raise _failed(error) from error


def _try_sample(network: SpikingNetwork, program: GraphProgram) -> None:
    """One sample of zeros: shapes alone let some contradictions by."""
    x = _sample(network, next(network.buffers()).device)
    try:
        if x is not None:
            _run(network, program.executor, x, program.source)
    except ConversionError:
        raise
    except Exception as error:
        raise _failed(error) from error


def _failed(error: Exception) -> ConversionError:
    return ConversionError(f"the network of the file does not run: {type(error).__name__}: {brief(error)}")


def _run(network: SpikingNetwork, executor: Executor, x: Any, source: SourceGraph) -> None:
    executor = copy.copy(executor)
    executor.source = source
    executor.neuron = lambda site, z: _checked(network, site, z)
    numbers: dict[fx.Node, Any] = {}
    executor.observers = [lambda node, value: _bounded(node, value, numbers)]
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of statistics over nothing
        executor(x)


class _Refused(ConversionError):
    """What no other trial would see otherwise."""


def _try_tree(network: SpikingNetwork) -> None:
    x = _sample(network, next(network.buffers()).device)
    program = network.program
    if x is None or not isinstance(program, TreeProgram):
        return
    try:
        with torch.no_grad():
            program.static(x, lambda site, z: _checked(network, site, z))
    except Exception as error:
        try:
            with torch.no_grad():
                call(program.model, x)
        except Exception:  # the forward is the caller's own, and zeros need not be what it takes
            return
        raise ConversionError(f"the network of the file does not run in the given model: {brief(error)}") from error


def _sample(network: SpikingNetwork, device: torch.device) -> Any:
    """One sample of zeros; ``None`` where the file does not know its shape."""
    entries = network.signature.entries
    if not entries or any("[" in entry.name for entry in entries):
        return None
    values = {
        entry.name: torch.zeros((*([1] if entry.batch else []), *entry.shape), dtype=DTYPES[entry.dtype], device=device)
        for entry in entries
    }
    bound = network.signature.bind((), values)
    network.signature.check(bound, None)
    return bound


def _moves(graph: fx.Graph) -> bool:
    """Whether an operator names a device."""
    for node in graph.nodes:
        if node.op == "call_method" and node.target in ("cpu", "cuda"):
            return True
        values = (*node.args, *node.kwargs.values())
        if any(isinstance(v, torch.device) or (isinstance(v, str) and node.target == "to") for v in values):
            return True
    return False


def _checked(network: SpikingNetwork, site: str, z: Tensor) -> Tensor:
    """The activation of a site, where its thresholds fit its currents."""
    found, theta, ndim = network.program.sites[site], torch.as_tensor(network.neurons[site].v_threshold), z.dim()
    axis, channels = found.axis, len(theta) if theta.dim() else None
    if (axis or channels is not None) and (not -ndim <= axis < ndim or axis % ndim == 0):
        raise _Refused(f"site {site!r:.200}: {axis} is no channel axis of its input of {ndim} dimensions")
    if channels is not None and channels != z.shape[axis]:
        raise _Refused(f"site {site!r:.200} has the thresholds of {channels} channels, and its input {z.shape[axis]}")
    return found.activation(z)


def _bounded(node: fx.Node, value: Any, numbers: dict[fx.Node, Any]) -> None:
    """Refuse results of no sensible size, of ``node`` and, before they are computed, of what reads it."""
    if isinstance(value, Tensor):  # a weight
        return
    if isinstance(value, Static):
        data = value.data
        if isinstance(data, Tensor) and math.prod(data.shape[1:]) > limits.VALUES:
            raise _Refused(f"{_at(node)}: a result of {list(data.shape[1:])} a sample, more than snnconv.limits.VALUES")
        return
    found = getattr(value, "static", value)
    if isinstance(found, (int, float, tuple, list, str)):
        numbers[node] = found
    if isinstance(found, int) and abs(found) > limits.SIZE:
        raise _Refused(f"{_at(node)}: it computes the number {found}, more than snnconv.limits.SIZE")
    for user in node.users if node in numbers else ():
        operands = [numbers.get(a) if isinstance(a, fx.Node) else a for a in user.args]
        if user.target in _GROWING and len(operands) == 2 and _size(user.target, *operands) > 4096:
            raise _Refused(f"{_at(user)}: {user.target.__name__} of numbers gives one without end")


def _at(node: fx.Node) -> str:
    return str(node.meta.get("path") or node.name)


def _size(function: Any, a: Any, b: Any) -> float:
    """Bits or members of the result, about; 0 where an operand is a tensor."""
    if isinstance(b, (tuple, list, str)) and isinstance(a, int):
        a, b = b, a
    if isinstance(a, (tuple, list, str)) and isinstance(b, int):
        return float(len(a)) * b
    if function is operator.pow and isinstance(a, int) and isinstance(b, int):
        return float(abs(a).bit_length()) * abs(b)
    return 0.0
