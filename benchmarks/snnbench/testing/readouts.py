"""What one test pass evaluates: converted networks and the readouts taken from each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from snnconv.metrics.evaluating import time_first
from snnconv.network import SpikingNetwork
from snnconv.runtime.readout import join_batches, window_mean

__all__ = [
    "CONVERSIONS", "Readable", "Reading", "Variant", "Window", "default_window", "more_windows", "readouts",
]  # fmt: skip

Window = tuple[int, int]
"""First and last step of a readout, counted from 1, both included."""

CONVERSIONS: dict[str, Any] = {}
"""Conversions of other packages by the ``type`` a config names: ``convert(module, calibration, **settings)`` gives an
object with ``timesteps`` and ``readouts(x, windows)``."""


class Readable(Protocol):
    """A converted network of another package."""

    timesteps: int

    def readouts(self, x: Any, windows: Sequence[Window]) -> list[Any]:
        """The output averaged over each window."""
        ...


@dataclass(frozen=True)
class Reading:
    """One readout: T, the steps of it that are averaged, what it costs (empty where it was not counted), its method."""

    timesteps: int
    window: Window
    costs: dict[str, Any] = field(default_factory=dict)
    method: Any = None


@dataclass
class Variant:
    """Networks converted in one go, one for each part of the model, with the readouts to evaluate.

    Attributes:
        label: the row it belongs to.
        method: name and settings, as the result file records them.
        networks: converted network by the name of its part.
        pre_timesteps: steps before those that are read.
        readings: readouts, all from one run.
        sites: what spikes and what stays analog; ``notes`` say more.
        seconds: time of the conversion.
        twin_of: name and window of the readout whose quantised network this is; None for a spiking one.
        weight_bits: of a quantised network's weights: 32 or 8.
        levels: of its activations above zero, the most of a site.
    """

    label: str
    method: dict[str, Any]
    networks: dict[str, Any]
    pre_timesteps: int
    readings: list[Reading]
    sites: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    twin_of: tuple[str, Window] | None = None
    weight_bits: int = 32
    levels: int = 0

    @property
    def name(self) -> str:
        """Label and number of steps."""
        steps = ",".join(str(t) for t in sorted({reading.timesteps for reading in self.readings}))
        return f"{self.label} T={self.pre_timesteps}+{steps}" if self.pre_timesteps else f"{self.label} T={steps}"


def default_window(network: Any) -> Window:
    """The readout of a converted network itself: the steps behind its delay."""
    return int(getattr(network, "delay", 0)) + 1, int(network.timesteps)


def more_windows(asked: Any, timesteps: int, known: Sequence[Window]) -> list[Window]:
    """Windows that a config asks for beside ``known`` ones: ``"all"`` (the full grid), or pairs ``(first, last)``.

    Raises:
        ValueError: a window outside 1 … T.

    >>> more_windows("all", 2, [(1, 2)])
    [(1, 1), (2, 2)]
    """
    if asked == "all":
        asked = [(first, last) for last in range(1, timesteps + 1) for first in range(1, last + 1)]
    found: list[Window] = []
    for first, last in asked or ():
        if not 1 <= first <= last <= timesteps:
            raise ValueError(f"window ({first}, {last}) is not within 1 … {timesteps}")
        if (first, last) not in [*found, *known]:
            found.append((first, last))
    return found


def readouts(network: Any, x: Any, windows: Sequence[Window]) -> list[Any]:
    """Output of ``network`` for ``x``, averaged over each window; one run serves them all.

    >>> import torch, snnconv
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> snn = snnconv.convert(model, snnconv.methods.IF(timesteps=4), calibration=torch.randn(64, 4))
    >>> x = torch.randn(3, 4)
    >>> whole, half = readouts(snn, x, [(1, 4), (3, 4)])
    >>> bool((whole == snn(x)).all()), half.shape
    (True, torch.Size([3, 2]))
    >>> first, _ = readouts(snn, x, [(1, 2), (1, 4)])
    >>> bool((first == readouts(snn, x, [(1, 2)])[0]).all())  # two steps are run
    True
    """
    windows = list(windows)
    if not isinstance(network, SpikingNetwork):
        return list(network.readouts(x, windows))
    if network.input == "sequence":
        return _of_recordings(network, x, windows)
    if windows == [default_window(network)]:
        return [network(x)]
    if network.method.coding == "sum":
        raise ValueError("shifted-threshold spikes are bits of one number: a part of the steps is no readout")
    readouts = []
    needed = max(last for _, last in windows)
    for some in network.slices(x):
        out = network.run(some, timesteps=needed)
        readouts.append([window_mean(out, first, last) for first, last in windows])
    return [join_batches([found[i] for found in readouts]) for i in range(len(windows))]


def _of_recordings(network: SpikingNetwork, x: Any, windows: Sequence[Window]) -> list[Any]:
    """The same of recordings ``[B, T, ...]``, a frame a step; in sum coding each frame takes all steps by itself."""
    x_seq = time_first(x)
    if network.method.coding == "sum":
        if list(windows) != [default_window(network)]:
            raise ValueError("shifted-threshold spikes are bits of one number: a part of the steps is no readout")
        return [network.run_sequence(x_seq).final]
    last = max(end for _, end in windows)
    if last > len(x_seq):
        raise ValueError(f"step {last} is asked for, and the recordings have {len(x_seq)} frames: one a step")
    since_start = network.run_sequence(x_seq[:last]).readouts
    return [
        since_start[end - 1] if first == 1 else network.run_sequence(x_seq[:end], window=end - first + 1).final
        for first, end in windows
    ]
