"""Capture by ``torch.export``: from an ``nn.Module`` to a :class:`~snnconv.graph.source.SourceGraph`.

The network runs once, with sizes that have names, so that Python code of any kind is gone; what is left are ATen's
operators, which become those of the operator table. It takes seconds where ``torch.fx`` takes milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.utils._pytree import tree_map

from snnconv.graph.capture.aten import Uncovered
from snnconv.graph.capture.fx import TraceFailure, tracing_alone
from snnconv.graph.capture.kept import keeping
from snnconv.graph.capture.passes import drop_no_ops, make_out_of_place, name_activations, passes
from snnconv.graph.capture.plain import plain_forward
from snnconv.graph.capture.program import Progress, Recorded, Watch, arguments_of, forgetting, program_of, twice
from snnconv.graph.capture.recurrent import unrolled_forward
from snnconv.graph.capture.symbols import sizes_of
from snnconv.graph.capture.writer import Writer
from snnconv.graph.cover import RELUS, Cover
from snnconv.graph.source import SourceGraph
from snnconv.graph.unwrap import copied

__all__ = ["export_source", "exported_graph"]


def exported_graph(
    model: nn.Module,
    inputs: Mapping[str, Any],
    whole: frozenset[str] = frozenset(),
    cover: Cover = RELUS,
    progress: Progress | None = None,
) -> SourceGraph:
    """Export ``model`` in evaluation mode, fold BatchNorm, mark every activation site.

    The model is not changed: the graph holds copies of its weights. Every size that may vary is let free (the batch
    must be); :attr:`~snnconv.graph.source.SourceGraph.sizes` says for which inputs the graph holds.

    Args:
        model: the network.
        inputs: arguments of its forward by name: tensors ``[B, ...]``, plain values, trees of these.
        whole: names of tensors that have no batch dimension.
        cover: where neurons will stand; encoders are not placed yet.
        progress: is told how many of the network's modules have run.

    Raises:
        TraceFailure: the network does not export, or has an operator that the table does not know.
        ConversionError: a weight is NaN or infinite.

    >>> import torch
    >>> source = exported_graph(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)), {"input": torch.rand(2, 2)})
    >>> list(source.sites), source.sizes.dims["input"][1]
    (['1'], 2)
    """
    source = export_source(model, inputs, whole, progress)
    for step in passes(cover):
        step.run(source)
        source.graph.lint()
    return source


def export_source(
    model: nn.Module,
    inputs: Mapping[str, Any],
    whole: frozenset[str] = frozenset(),
    progress: Progress | None = None,
) -> SourceGraph:
    """Export only: in-place operators are made explicit, no-ops of evaluation mode removed.

    Raises:
        TraceFailure: the network does not export, or has an operator that the table does not have.
    """
    twin = copied(model)[0].eval()
    for module in twin.modules():
        plain = plain_forward(module) or unrolled_forward(module)
        if plain is not None:
            module.forward = plain
    forward = Recorded(twin)
    args, kwargs, names = arguments_of(twin, inputs)
    args, kwargs = tree_map(twice, (args, kwargs))
    with tracing_alone(), forgetting() as knowing, keeping(twin) as kept:
        program = program_of(twin, forward, args, kwargs, whole, Watch(twin, progress, knowing))
        for module in twin.modules():
            module.__dict__.pop("forward", None)
        written = Writer(program, twin, kept, forward.form, names)
        try:
            source = written.source()
        except Uncovered as missing:
            raise TraceFailure(
                f"torch.export gives the operator {missing}{written.place()}, which has no equivalent here"
            ) from missing
        source.sizes = sizes_of(written.values, {n for n in written.values if n not in whole})
    drop_no_ops(source)
    make_out_of_place(source)
    name_activations(source)
    source.prune()
    return source
