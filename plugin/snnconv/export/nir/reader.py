"""Running NIR graphs of integrate-and-fire networks, as the reference for what a file says."""

from __future__ import annotations

import os
from collections.abc import Callable
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import nir
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnconv import dynamics
from snnconv.export.nir.shapes import spread
from snnconv.graph.source import ConversionError
from snnconv.graph.store import Store

__all__ = ["NIRNetwork", "from_nir"]


def from_nir(source: str | os.PathLike[str] | nir.NIRGraph) -> NIRNetwork:
    """Read a NIR file that `snnconv.to_nir` wrote, or a graph of the same nodes whose neurons reset by subtraction.

    Raises:
        ConversionError: a graph with a node that is not supported, with recurrent edges, or without the metadata
            ``timesteps`` and ``reset = "subtract"``.
        OSError: no such file.

    >>> import snnconv
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> snn = snnconv.convert(model, snnconv.methods.IF(timesteps=8), calibration=torch.randn(64, 4))
    >>> x = torch.randn(3, 4)
    >>> torch.allclose(from_nir(snnconv.to_nir(snn, start="state"))(x), snn(x), atol=1e-5)
    True
    """
    if isinstance(source, nir.NIRGraph):
        return NIRNetwork(source)
    if not Path(source).is_file():
        raise FileNotFoundError(f"there is no NIR file {source}")
    return NIRNetwork(nir.read(str(source)))


class NIRNetwork(nn.Module):
    """A NIR graph as a network: ``y = network(x)`` runs all steps on a constant input and returns the mean output.

    Attributes:
        timesteps: T.
        delay: D, steps left out of the mean.
        neurons: names of the integrate-and-fire nodes, in order.
    """

    def __init__(self, graph: nir.NIRGraph) -> None:
        super().__init__()
        data = graph.metadata
        if _text(data.get("reset")) != "subtract" or "timesteps" not in data:
            raise ConversionError(
                "this NIR graph does not say in its metadata that its neurons reset by subtraction, and in how many "
                "timesteps; snnconv.to_nir writes both"
            )
        self.timesteps, self.delay = int(data["timesteps"]), int(data.get("delay", 0))
        self.v_init = float(data.get("v_init", 0.0))
        self.kinds = {name: type(node).__name__ for name, node in graph.nodes.items()}
        self.inputs = {name: [a for a, b in graph.edges if b == name] for name in graph.nodes}
        try:
            self.order = list(TopologicalSorter(self.inputs).static_order())
        except CycleError as error:
            raise ConversionError(f"recurrent edges are not supported: {' -> '.join(error.args[1])}") from None
        unknown = [f"{name} ({self.kinds[name]})" for name in self.order if self.kinds[name] not in _RUN]
        if unknown:
            raise ConversionError(f"these NIR nodes are not supported: {', '.join(unknown)}")
        self.neurons = [name for name in self.order if self.kinds[name] == "IF"]
        self.settings: dict[str, dict[str, Any]] = {}
        self.tensors = Store()
        for name in self.order:
            plain = {}
            for key, value in vars(graph.nodes[name]).items():
                if isinstance(value, np.ndarray) and value.dtype.kind == "f":
                    self.tensors[f"{name}.{key}"] = torch.from_numpy(np.array(value))
                elif key not in ("input_type", "output_type", "metadata"):
                    plain[key] = value
            self.settings[name] = plain

    def forward(self, x: Tensor) -> Tensor:
        """Mean output over the steps that are read."""
        return self.run(x)[0][self.delay :].mean(0)

    def run(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Output ``[T, B, ...]`` and the unit spikes of every neuron node ``[T, B, ...]`` for an input ``[B, ...]``."""
        batch = len(x)
        values: dict[str, Tensor] = {}
        spikes: dict[str, Tensor] = {}
        with torch.no_grad():
            for name in self.order:
                given = [values[source] for source in self.inputs[name]]
                total = sum(given[1:], given[0]) if given else x.expand(self.timesteps, *x.shape).flatten(0, 1)
                if self.kinds[name] == "IF":
                    spikes[name] = self._fire(name, total.reshape(self.timesteps, batch, *total.shape[1:]))
                    values[name] = spikes[name].flatten(0, 1)
                else:
                    function, names = _RUN[self.kinds[name]]
                    tensors = {k: self.tensors[f"{name}.{k}"] for k in names}
                    values[name] = function(total, tensors, self.settings[name])
        return values[self._last()].reshape(self.timesteps, batch, *values[self._last()].shape[1:]), spikes

    def _last(self) -> str:
        return next(name for name in self.order if self.kinds[name] == "Output")

    def _fire(self, name: str, x_seq: Tensor) -> Tensor:
        theta = self.tensors[f"{name}.v_threshold"]
        v = (theta * self.v_init).expand(x_seq.shape[1:]).to(x_seq)
        return dynamics.if_multistep(x_seq * self.tensors[f"{name}.r"], theta, dynamics.IFState(v))[0]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


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
    "IF": (lambda x, t, s: x, ()),
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
