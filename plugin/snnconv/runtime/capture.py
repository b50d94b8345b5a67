"""From a network to its graph, by the first way that gives the network's own output.

``torch.fx`` takes milliseconds and follows Python that does not depend on values or sizes; ``torch.export`` runs the
network once, takes seconds, and follows what depends on sizes, too.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map, tree_map_only

from snnconv.graph.capture.exported import exported_graph
from snnconv.graph.capture.fx import TraceFailure, source_graph
from snnconv.graph.cover import RELUS, Cover
from snnconv.graph.source import ConversionError, SourceGraph
from snnconv.progress import ProgressFn
from snnconv.runtime.batch import Batch, Whole, call, whole_names
from snnconv.runtime.program import GraphProgram
from snnconv.runtime.readout import output_leaves
from snnconv.runtime.signature import Signature

__all__ = ["WAYS", "Captured", "Way", "agree", "captured", "captured_as", "differs_from", "source_outputs"]

INPUTS = 2
"""Inputs on which a graph is tried beside its network."""
ROUNDING = 10.0
"""How many times the network's own error by rounding (its values beside those in double precision) a graph may have."""

Capture = Callable[[nn.Module, Signature, Sequence[Any], Cover, ProgressFn | None], SourceGraph]


@dataclass(frozen=True)
class Way:
    """A way to capture a network: its name, the function, and what its failure means.

    Attributes:
        name: as reports have it.
        run: from a network, its arguments and batches of inputs (which may be none) to its graph.
        fails: ``... (why)`` in a report's note.
        gives: what it gives, where that is not what the network does.
    """

    name: str
    run: Capture
    fails: str
    gives: str


def _by_fx(
    model: nn.Module, signature: Signature, batches: Sequence[Any], cover: Cover, progress: ProgressFn | None
) -> SourceGraph:
    source = source_graph(model, *signature.traced, cover)
    kept = next((path for path, module in source.modules.items() if isinstance(module, nn.RNNBase)), None)
    if kept is not None:
        kind = type(source.modules[kept]).__name__
        raise TraceFailure(f"{kept} ({kind}) is one kernel, whose positions have to be written out")
    return source


def _by_export(
    model: nn.Module, signature: Signature, batches: Sequence[Any], cover: Cover, progress: ProgressFn | None
) -> SourceGraph:
    if not batches:
        raise TraceFailure("it runs the network, and there are no inputs")
    x = batches[0][:INPUTS]
    if isinstance(x, Batch):
        values = tree_map(lambda v: v.data if isinstance(v, Whole) else v, x.values)
        return exported_graph(model, values, frozenset(whole_names(x)), cover, progress)
    inputs: Mapping[str, Any] = dict(zip(signature.names, x if isinstance(x, tuple) else (x,), strict=False))
    return exported_graph(model, inputs, cover=cover, progress=progress)


_TRACED = Way("torch.fx", _by_fx, "its forward does not trace", "its traced graph")
_EXPORTED = Way("torch.export", _by_export, "it does not export", "its exported graph")
WAYS = (_TRACED, _EXPORTED)
"""In the order in which they are tried."""


@dataclass
class Captured:
    """A network's graph.

    Attributes:
        source: the graph; None where no way gave one.
        way: the name of the way that did.
        failures: a sentence for each way before it.
    """

    source: SourceGraph | None = None
    way: str = ""
    failures: list[str] = field(default_factory=list)

    @property
    def why(self) -> str:
        """Why it is no graph."""
        return ", and ".join(self.failures)


def captured(
    model: nn.Module,
    signature: Signature,
    batches: Sequence[Any],
    cover: Cover = RELUS,
    progress: ProgressFn | None = None,
) -> Captured:
    """The graph of a network, by the first of `WAYS` whose graph gives what the network gives on a few inputs.

    Args:
        model: the network.
        signature: the arguments that calls give.
        batches: inputs; without any, no way that runs the network is tried.
        cover: where neurons will stand.
        progress: is told how far a slow way is.

    Raises:
        ConversionError: a weight is NaN or infinite, or the network fails on the inputs.
    """
    found = Captured()
    for way in WAYS:
        try:
            source = way.run(model, signature, batches, cover, progress)
        except TraceFailure as failure:
            found.failures.append(f"{way.fails} ({failure})")
            continue
        again = functools.partial(_in_double, way, signature, batches, cover)
        if not differs_from(model, source, batches, again):
            return Captured(source, way.name, found.failures)
        found.failures.append(f"{way.gives} gives other values than its forward")
    return found


def _in_double(way: Way, signature: Signature, batches: Sequence[Any], cover: Cover, model: nn.Module) -> SourceGraph:
    return way.run(model, signature, _doubled(batches), cover, None)


def captured_as(
    other: SourceGraph, model: nn.Module, signature: Signature, example: Any, cover: Cover = RELUS
) -> SourceGraph:
    """The graph of a network, in the way in which ``other`` was captured.

    Raises:
        TraceFailure: it cannot be captured so.
    """
    way = _TRACED if other.sizes is None else _EXPORTED
    weight = next((t for t in (*model.parameters(), *model.buffers())), None)
    return way.run(model, signature, [example if weight is None else example.to(weight.device)], cover, None)


# --- agreement ---------------------------------------------------------------------------------------------


def source_outputs(model: nn.Module, x: Any) -> Any:
    """What the network returns in evaluation mode, without gradients; its modules' modes stay as they are.

    Raises:
        ConversionError: it fails on ``x``.
    """
    training = {m: m.training for m in model.modules()}
    try:
        with torch.no_grad():
            return call(model.eval(), x)
    except Exception as error:  # the user's network on the user's data: say which, keep the cause
        shape = f"of shape {tuple(x.shape)}" if isinstance(x, Tensor) else f"{x}"
        raise ConversionError(f"the network fails on calibration data {shape}: {error}") from error
    finally:
        for module, was in training.items():
            module.training = was


def differs_from(
    model: nn.Module, source: SourceGraph, batches: Sequence[Any], again: Callable[[nn.Module], SourceGraph]
) -> bool:
    """Whether a captured graph gives other values than its network.

    Args:
        model: the network.
        source: its graph.
        batches: inputs; none says nothing.
        again: captures another network in the same way.
    """
    if not batches:
        return False
    if _differs(model, source, batches[0][:INPUTS], again):
        return True
    # exported with two inputs: does it hold for one?
    return source.sizes is not None and not _holds_for_one(model, source, batches[0][:1], again)


def _differs(model: nn.Module, source: SourceGraph, x: Any, again: Callable[[nn.Module], SourceGraph]) -> bool:
    expected, got = source_outputs(model, x), _static(source, x)
    if agree(expected, got):
        return False
    # folding BatchNorm rounds weights anew, and what lies on the border of two levels may fall to either side of it:
    # more digits tell
    exact = copy.deepcopy(model).double().eval()
    (x,) = _doubled([x])
    coarse = any(v.dtype in (torch.float16, torch.bfloat16) for v in source.tensors.values())
    levels = any(site.levels is not None for site in source.sites.values())
    try:
        truth = source_outputs(exact, x)
        if not (coarse or levels) and distance(truth, got) > ROUNDING * distance(truth, expected):
            return True
        return not agree(truth, _static(again(exact), x))
    except (ConversionError, TraceFailure, RuntimeError, TypeError):
        return True  # it computes in one precision only


def _holds_for_one(model: nn.Module, source: SourceGraph, x: Any, again: Callable[[nn.Module], SourceGraph]) -> bool:
    try:
        source_outputs(model, x)
    except ConversionError:
        return True  # the network itself does not
    try:
        return not _differs(model, source, x, again)
    except ConversionError:
        return False


def _doubled(batches: Sequence[Any]) -> list[Any]:
    """Inputs in double precision."""
    return [
        tree_map_only(Tensor, lambda v: v.double() if v.is_floating_point() else v, batch[:INPUTS])
        for batch in batches[:1]
    ]


def _static(source: SourceGraph, x: Any) -> Any:
    return GraphProgram(source).static(x, lambda site, z: source.sites[site].activation(z))


def agree(expected: Any, got: Any) -> bool:
    """Whether two outputs are the same, but for rounding."""
    for (_, a), (_, b) in zip(output_leaves(expected), output_leaves(got), strict=False):
        if isinstance(a, Tensor) and isinstance(b, Tensor) and not _close(a, b):
            return False
    return True


def distance(truth: Any, got: Any) -> float:
    """Largest difference of two outputs' values, relative to the largest value of each tensor."""
    found = 0.0
    for (_, a), (_, b) in zip(output_leaves(truth), output_leaves(got), strict=False):
        if isinstance(a, Tensor) and isinstance(b, Tensor) and a.is_floating_point():
            off, scale = _off(a.double(), b.double())
            found = max(found, off / scale if scale else 0.0)
    return found


def _close(a: Tensor, b: Tensor) -> bool:
    if a.shape == b.shape and not a.is_floating_point():
        return True  # a class may fall to either side of a tie
    off, scale = _off(a, b)
    return off <= 1e-3 * scale + 1e-6


def _off(a: Tensor, b: Tensor) -> tuple[float, float]:
    """The largest difference of ``b`` from what is finite in ``a``, and the largest value there."""
    if a.shape != b.shape:
        return torch.inf, 1.0
    finite = torch.isfinite(a)
    a, b = a[finite], b[finite]
    if not a.numel():
        return 0.0, 0.0
    return float((a - b).abs().nan_to_num(nan=torch.inf).max()), float(a.abs().max())
