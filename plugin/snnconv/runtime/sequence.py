"""Input over time: currents that change at every step, and neurons that go on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from snnconv.graph.source import ConversionError
from snnconv.methods.base import Method
from snnconv.runtime.finite import NonFinite
from snnconv.runtime.readout import StepReadout, behind, step_of, window_mean
from snnconv.runtime.run import RunState
from snnconv.runtime.simulation import Simulation
from snnconv.runtime.values import channels_last

__all__ = [
    "INPUTS", "Observe", "SequenceRun", "check_follows", "frames", "run_sequence", "stream", "stream_sequence",
]  # fmt: skip

INPUTS = ("constant", "sequence")
"""What a network's calls take: an input that stands for all steps, or a frame a step."""

Observe = Callable[[str, Tensor], None]


@dataclass(frozen=True)
class SequenceRun:
    """What a network answers to a sequence.

    Attributes:
        readouts: the answer after each step ``[T, B, ...]``: the mean of the outputs of the last ``window`` steps, or
            of all since the start.
        final: the answer after the last step ``[B, ...]``.
        each_frame: each frame was coded anew (sum coding), so that steps are frames and no neuron went on.
    """

    readouts: Any
    final: Any
    each_frame: bool = False


@dataclass
class _Going:
    """What the steps so far leave to the next."""

    shapes: list[torch.Size]
    state: RunState
    memory: dict[str, Any] = field(default_factory=dict)
    wrong: NonFinite | None = None
    readout: StepReadout = field(default_factory=lambda: StepReadout("rate"))
    last: list[Any] = field(default_factory=list)
    """Outputs of the last steps, as many as a window has."""


_last = threading.local()
"""Where each thread's sequences ended, by network: two threads may each go on with their own."""


def run_sequence(
    owner: Any, simulation: Simulation, x_seq: Any, window: int | None, reset: bool, observe: Observe | None
) -> SequenceRun:
    """A sequence ``[T, B, ...]``, one step a frame: see :meth:`snnconv.SpikingNetwork.run_sequence`."""
    readouts = list(stream_sequence(owner, simulation, x_seq, window, reset, observe))
    return SequenceRun(_stacked(readouts), readouts[-1], simulation.population.method.coding == "sum")


def stream_sequence(
    owner: Any,
    simulation: Simulation,
    x_seq: Any,
    window: int | None = None,
    reset: bool = True,
    observe: Observe | None = None,
) -> Iterator[Any]:
    """The answers to a sequence after each of its steps, computed as they are asked for.

    Args:
        owner: whose sequence it is, for ``reset=False``.
        simulation: what runs.
        x_seq: input, or a tree of inputs, time first.
        window: steps that the readout is the mean of.
        reset: start afresh.
        observe: called with every site's outputs ``[1, B, ...]``.

    Raises:
        ConversionError: a method whose phases belong to one input; sum coding with ``observe``; frames of another size
            than those that they go on from.
        ValueError: a window below 1, or no frame.
    """
    if window is not None and (isinstance(window, bool) or not isinstance(window, int) or window < 1):
        raise ValueError(f"window must be a whole number of steps above 0, or None for all, got {window!r}")
    steps = {len(v) if v.dim() else 0 for v in tree_leaves(x_seq) if isinstance(v, Tensor)}
    if len(steps) != 1 or not max(steps):
        raise ValueError(f"a sequence is [T, B, ...], of T frames above 0 in every input; got {sorted(steps)} frames")
    check_follows(simulation.population.method, simulation.delay)
    if simulation.population.method.coding == "sum":
        if observe is not None:
            raise ConversionError("sum coding codes every frame anew, so there are no steps of a sequence to observe")
        yield from _each_frame(owner, x_seq, max(steps), window)
        return
    runs = _runs()
    shapes = [v.shape[1:] for v in tree_leaves(x_seq) if isinstance(v, Tensor)]
    going = _Going(shapes, simulation.state()) if reset else runs.get(owner)
    if going is None:
        raise ValueError("reset=False goes on from the sequence before, and this thread has run none on this network")
    if going.shapes != shapes:
        raise ConversionError(
            f"frames of {[list(s) for s in shapes]} cannot go on from frames of {[list(s) for s in going.shapes]}: "
            "membranes have the size of their input; run_sequence(x_seq, reset=True) starts afresh"
        )
    runs[owner] = going
    for t in range(max(steps)):
        with _time_first(x_seq):
            x = channels_last(owner.given(tree_map(lambda v, t=t: v[t] if isinstance(v, Tensor) else v, x_seq)))
        going.state.static = {}  # what came of the frame before
        out, going.memory = simulation.resume(x, 1, going.memory, going.state, observe)
        going.wrong = NonFinite(x).behind(going.wrong)
        out = going.wrong.mark(out, 1)
        answer = going.readout.after(out)
        if window is not None:
            going.last = [*going.last[-window + 1 :], out] if window > 1 else [out]
            answer = window_mean(behind(*going.last), 1, len(going.last))
        yield answer


def check_follows(method: Method, delay: Any) -> None:
    """Refuse a method whose phases belong to one input.

    Raises:
        ConversionError: differential coding, SRP, a delay.
    """
    if method.coding == "differential":
        raise ConversionError(
            "neurons with differential coding send what is new about one constant input; for input that changes use a "
            "rate method, such as methods.SignedIF"
        )
    if method.pre_timesteps_ or delay:
        what = "first phase" if method.pre_timesteps_ else "delay"
        raise ConversionError(
            f"methods.{type(method).__name__} cannot follow a sequence: its {what} is defined for a constant input; "
            "convert with SignedIF or IF and delay=None"
        )


@contextmanager
def _time_first(x_seq: Any) -> Iterator[None]:
    """Frames that the network does not take are refused as what they were taken for."""
    try:
        yield
    except ConversionError as error:
        shapes = ", ".join(str(list(v.shape)) for v in tree_leaves(x_seq) if isinstance(v, Tensor))
        raise ConversionError(f"{error} (a frame of {shapes}, read as a sequence [T, B, ...], time first)") from error


def _stacked(readouts: list[Any]) -> Any:
    return tree_map(lambda *v: torch.stack(v) if isinstance(v[0], Tensor) else v[0], *readouts)


def _runs() -> WeakKeyDictionary[Any, _Going]:
    if not hasattr(_last, "runs"):
        _last.runs = WeakKeyDictionary()
    found: WeakKeyDictionary[Any, _Going] = _last.runs
    return found


def frames(x_seq: Any) -> Any:
    """Sequences ``[T, B, ...]`` as single frames ``[T·B, ...]``.

    >>> frames(torch.zeros(3, 2, 5)).shape
    torch.Size([6, 5])
    """
    return tree_map(lambda v: v.flatten(0, 1) if isinstance(v, Tensor) and v.dim() > 1 else v, x_seq)


def _each_frame(network: Any, x_seq: Any, steps: int, window: int | None) -> Iterator[Any]:
    """Every frame by itself; the answer after some is the mean of theirs."""
    with _time_first(x_seq):
        said = network.of_constant(frames(x_seq))
    answers = tree_map(lambda v: v.unflatten(0, (steps, -1)) if isinstance(v, Tensor) and v.dim() else v, said)
    for t in range(1, steps + 1):
        yield window_mean(answers, 1 if window is None else max(1, t - window + 1), t)


def stream(simulation: Simulation, x: Any) -> Iterator[tuple[int, Any]]:
    """``(t, readout)`` for t = 1 … T on a constant input: see :meth:`snnconv.SpikingNetwork.stream`."""
    method = simulation.population.method
    readout = StepReadout(method.coding, simulation.delay)
    if method.coding == "sum":
        out = simulation.outputs(x, "steps")
        for t in range(1, method.timesteps + 1):
            yield t, readout.after(step_of(out, t - 1))
        return
    x = channels_last(x)
    memory: dict[str, Any] = {}
    state, wrong = simulation.state(), NonFinite(x)
    for t in range(1 - method.pre_timesteps_, method.timesteps + 1):
        if t == 1:
            state.restart()
        # one turn a step, not across the yield: others have theirs, and the caller's own gradients go on
        step, memory = simulation.resume(x, 1, memory, state)
        if t >= 1:
            yield t, readout.after(wrong.mark(step, 1))
