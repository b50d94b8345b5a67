"""Running NIR graphs of integrate-and-fire networks, as the reference for what a file says."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import nir
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnconv import dynamics, limits
from snnconv.export.nir.checks import checked_edges, checked_metadata, checked_node, input_shape
from snnconv.export.nir.extension import read_graph
from snnconv.export.shapes import per_channel, spread
from snnconv.files.hdf5 import check_hdf5
from snnconv.files.refusal import UntrustedFileError, brief
from snnconv.graph.source import ConversionError
from snnconv.graph.store import Store

__all__ = ["NIRNetwork", "from_nir"]


def from_nir(
    source: str | os.PathLike[str] | nir.NIRGraph, *, timesteps: int | None = None, dt: float = 1.0
) -> NIRNetwork:
    """Read a NIR file that `snnconv.to_nir` wrote, or one of another tool of the same nodes.

    Neurons reset by subtraction where the metadata say ``reset = "subtract"``. A file without such metadata runs as its
    nodes say: v ← v + dt·r·x, a spike where v > v_threshold, then v ← v_reset; it says no number of steps.

    Args:
        source: the file, or a graph.
        timesteps: T, in place of the metadata's.
        dt: length of a step, in the units of the file's ``r`` (SpikingJelly writes r = 1/dt).

    Raises:
        ConversionError: a file that is damaged or something else; a graph with a node that is not supported, with
            values that no network has (thresholds that are not positive and finite, half a time step), with edges that
            are recurrent, missing or lead nowhere, or without a number of steps. The message names the file and the
            node.
        OSError: no such file.

    >>> import snnconv
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> snn = snnconv.convert(model, snnconv.methods.IF(timesteps=8), calibration=torch.randn(64, 4))
    >>> x = torch.randn(3, 4)
    >>> torch.allclose(from_nir(snnconv.to_nir(snn, start="state"))(x), snn(x), atol=1e-5)
    True
    """
    if isinstance(source, nir.NIRGraph):
        return NIRNetwork(source, timesteps, dt)
    if not Path(source).is_file():
        raise FileNotFoundError(f"there is no NIR file {source}")
    try:
        check_hdf5(source)
        graph = read_graph(str(source))
    except UntrustedFileError as error:
        raise ConversionError(str(error)) from error
    except ConversionError as error:
        raise ConversionError(f"{source}: {brief(error)}") from error
    except Exception as error:  # what h5py and nir say to a file that is not one has no common class
        raise ConversionError(f"{source}: not a readable NIR file ({type(error).__name__}: {brief(error)})") from error
    if not isinstance(graph, nir.NIRGraph):
        raise ConversionError(f"{source}: it holds a {type(graph).__name__}, not a graph")
    try:
        return NIRNetwork(graph, timesteps, dt)
    except ConversionError as error:
        raise ConversionError(f"{source}: {brief(error)}") from error


class NIRNetwork(nn.Module):
    """A NIR graph as a network: ``y = network(x)`` runs all steps on a constant input and returns the mean output.

    Attributes:
        timesteps: T.
        delay: D, steps left out of the mean.
        neurons: names of the integrate-and-fire nodes, in order.
    """

    def __init__(self, graph: nir.NIRGraph, timesteps: int | None = None, dt: float = 1.0) -> None:
        super().__init__()
        data = checked_metadata(graph.metadata, timesteps)
        if not (isinstance(dt, (int, float)) and 0 < dt < math.inf):
            raise ValueError(f"dt must be above 0 and finite, got {dt!r:.200}")
        self.timesteps, self.delay, self.v_init = data.timesteps, data.delay, data.v_init
        self.subtract, self.coding, self.dt = data.subtract, data.coding, float(dt)
        self.kinds = {str(name): type(node).__name__ for name, node in graph.nodes.items()}
        unknown = [f"{name} ({kind})" for name, kind in self.kinds.items() if kind not in _RUN]
        if unknown:
            raise ConversionError(f"these NIR nodes are not supported: {', '.join(unknown)}")
        self.inputs = checked_edges(self.kinds, graph.edges)
        try:
            self.order = list(TopologicalSorter(self.inputs).static_order())
        except CycleError as error:
            raise ConversionError(f"recurrent edges are not supported: {' -> '.join(error.args[1])}") from None
        self.neurons = [name for name in self.order if self.kinds[name] in _NEURONS]
        self.settings: dict[str, dict[str, Any]] = {}
        self.tensors = Store()
        for name in self.order:
            tensors, self.settings[name] = checked_node(name, graph.nodes[name], _RUN[self.kinds[name]][1])
            for key, value in tensors.items():
                self.tensors[f"{name}.{key}"] = value
        first = next(name for name in self.order if self.kinds[name] == "Input")
        self.shape = input_shape(first, graph.nodes[first])
        self._check_sizes()
        self._run(torch.zeros(1, *self.shape), 1)  # what fits together shows with one step

    def forward(self, x: Tensor) -> Tensor:
        """Mean output over the steps that are read."""
        outputs = self.run(x)[0]
        return outputs[0] if self.coding == "sum" else outputs[self.delay :].mean(0)

    def run(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Output ``[T, B, ...]`` and the unit spikes of every neuron node ``[T, B, ...]`` for an input ``[B, ...]``.

        In sum coding the output is the sum over all steps ``[1, B, ...]``.

        Raises:
            ConversionError: an input of another shape than the graph's.
        """
        if tuple(x.shape[1:]) != self.shape:
            raise ConversionError(
                f"wrong input shape {tuple(x.shape)}: this graph takes [B, {', '.join(map(str, self.shape))}]"
            )
        return self._run(x, 1 if self.coding == "sum" else self.timesteps)

    def _run(self, x: Tensor, timesteps: int) -> tuple[Tensor, dict[str, Tensor]]:
        batch = len(x)
        values: dict[str, Tensor] = {}
        spikes: dict[str, Tensor] = {}
        with torch.no_grad():
            for name in self.order:
                with self._named(name):
                    given = [values[source] for source in self.inputs[name]]
                    total = sum(given[1:], given[0]) if given else x.expand(timesteps, *x.shape).flatten(0, 1)
                    if self.kinds[name] in _NEURONS:
                        x_seq = total.reshape(timesteps, batch, *total.shape[1:])
                        spikes[name], sent = _NEURONS[self.kinds[name]](self, name, x_seq)
                        values[name] = sent.flatten(0, 1)
                    else:
                        values[name] = self._layer(name, total)
        return values[self._last()].reshape(timesteps, batch, *values[self._last()].shape[1:]), spikes

    @contextmanager
    def _named(self, name: str) -> Iterator[None]:
        """What does not fit together is refused by the node that it is at."""
        try:
            yield
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise ConversionError(f"node {name!r:.200} ({self.kinds[name]}) fails: {brief(error)}") from error

    def _layer(self, name: str, x: Tensor) -> Tensor:
        function, names = _RUN[self.kinds[name]]
        return function(x, {k: self.tensors[f"{name}.{k}"].to(x.device) for k in names}, self.settings[name])

    def _check_sizes(self) -> None:
        """Refuse a node whose result for one sample is larger than a network's is; shapes alone are computed."""
        shapes: dict[str, Tensor] = {}
        for name in self.order:
            given = [shapes[source] for source in self.inputs[name]]
            with self._named(name):
                total = sum(given[1:], given[0]) if given else torch.empty(1, *self.shape, device="meta")
                shapes[name] = total if self.kinds[name] in _NEURONS else self._layer(name, total)
            window = self.settings[name].get("options", {}).get("timesteps") if self.coding == "sum" else None
            size = [int(window or 1), *shapes[name].shape[1:]]
            if math.prod(size) > limits.VALUES:
                shown = " x ".join(map(str, size))
                raise ConversionError(
                    f"node {name!r:.200} ({self.kinds[name]}) gives {shown} values for one sample, "
                    f"more than snnconv.limits.VALUES = {limits.VALUES}; raise that limit if it is right"
                )

    def _last(self) -> str:
        return next(name for name in self.order if self.kinds[name] == "Output")

    def _fire(self, name: str, x_seq: Tensor) -> tuple[Tensor, Tensor]:
        """Spikes of an IF node, and what is sent."""
        theta = self.tensors[f"{name}.v_threshold"]
        v = (theta * self.v_init).expand(x_seq.shape[1:]).to(x_seq)
        x_seq = x_seq * (self.tensors[f"{name}.r"] * self.dt)
        if self.subtract:
            found: Tensor = dynamics.if_multistep(x_seq, theta, dynamics.IFState(v))[0]
            return found, found
        steps, rest = [], self.tensors[f"{name}.v_reset"].expand_as(v)
        for x in x_seq:
            v = v + x
            fired = v > theta
            v = torch.where(fired, rest, v)
            steps.append(fired.to(x.dtype))
        return torch.stack(steps), torch.stack(steps)

    def _extension(self, name: str, x_seq: Tensor) -> tuple[Tensor, Tensor]:
        """Spikes of an extension node, and what is sent: in sum coding their weighted sum."""
        settings = self.settings[name]
        record, options = dynamics.NEURONS[settings["neuron"]], settings["options"]
        if (record.coding == "sum") != (self.coding == "sum"):
            raise ConversionError(
                f"node {name!r:.200}: {record.name} neurons code by {record.coding}, and the graph by {self.coding}"
            )
        theta = self.tensors[f"{name}.v_threshold"]
        channels = per_channel(theta, tuple(theta.shape))
        if channels is None:
            raise ConversionError(f"node {name!r:.200}: its thresholds differ inside a channel")
        settings = {**options, "channel_axis": 1, "scaled": False}
        spikes = dynamics.scan(x_seq=x_seq, neuron=record.name, v_threshold=channels, **settings)
        if record.weight is None:
            return spikes, spikes
        worth = torch.tensor([float(record.weight(t, **options)) for t in range(len(spikes))]).to(spikes)
        return spikes, (spikes * worth.reshape(-1, *[1] * (spikes.dim() - 1))).sum(0, keepdim=True)


def _conv(function: Callable[..., Tensor], dims: int) -> Callable[..., Tensor]:
    def run(x: Tensor, t: dict[str, Tensor], s: dict[str, Any]) -> Tensor:
        padding = s["padding"] if isinstance(s["padding"], str) else spread(_plain(s["padding"]), dims)
        stride, dilation = (spread(_plain(s[key]), dims) for key in ("stride", "dilation"))
        return function(x, t["weight"], t["bias"], stride, padding, dilation, int(s["groups"]))

    return run


def _pool(divided: bool) -> Callable[..., Tensor]:
    def run(x: Tensor, t: dict[str, Tensor], s: dict[str, Any]) -> Tensor:
        kernel, stride, padding = (spread(_plain(s[key]), 2) for key in ("kernel_size", "stride", "padding"))
        return F.avg_pool2d(x, kernel, stride, padding, divisor_override=None if divided else 1)

    return run


def _flatten(x: Tensor, t: dict[str, Tensor], s: dict[str, Any]) -> Tensor:
    first, last = (int(v) + (1 if int(v) >= 0 else 0) for v in (s["start_dim"], s["end_dim"]))
    return x.flatten(first, last)


def _plain(value: Any) -> Any:
    return np.asarray(value).tolist()


_Run = Callable[[Tensor, dict[str, Tensor], dict[str, Any]], Tensor]
_RUN: dict[str, tuple[_Run, tuple[str, ...]]] = {
    "Input": (lambda x, t, s: x, ()),
    "Output": (lambda x, t, s: x, ()),
    "IF": (lambda x, t, s: x, ("r", "v_threshold", "v_reset")),
    "NeuronNode": (lambda x, t, s: x, ("v_threshold",)),
    "Linear": (lambda x, t, s: F.linear(x, t["weight"]), ("weight",)),
    "Affine": (lambda x, t, s: F.linear(x, t["weight"], t["bias"]), ("weight", "bias")),
    "Scale": (lambda x, t, s: x * t["scale"], ("scale",)),
    "Conv1d": (_conv(F.conv1d, 1), ("weight", "bias")),
    "Conv2d": (_conv(F.conv2d, 2), ("weight", "bias")),
    "AvgPool2d": (_pool(True), ()),
    "SumPool2d": (_pool(False), ()),
    "Flatten": (_flatten, ()),
}
"""How each node runs, and the tensors that it takes."""
_NEURONS = {"IF": NIRNetwork._fire, "NeuronNode": NIRNetwork._extension}
"""Nodes of neurons: ``(network, name, currents [T, B, ...])`` gives their spikes, and what they send."""
