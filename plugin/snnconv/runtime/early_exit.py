"""Early exit: an input leaves the batch as soon as its class is settled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from snnconv.graph.source import ConversionError
from snnconv.runtime.finite import NonFinite
from snnconv.runtime.parallel import run_slices
from snnconv.runtime.readout import Held, join_batches
from snnconv.runtime.run import RunState
from snnconv.runtime.sequence import check_follows
from snnconv.runtime.simulation import Simulation
from snnconv.runtime.values import Static, channels_last

__all__ = ["EarlyExit", "run_until_settled"]

MOVE = 1.5
"""Steps of the whole batch that take as long as moving its states: what is settled leaves when that saves more."""


@dataclass(frozen=True)
class EarlyExit:
    """Readouts, each as it was when its input was settled.

    Attributes:
        output: ``[B, classes]``.
        steps: steps of the readout phase that each input took ``[B]``.
        latency: steps before the readout phase.
    """

    output: Tensor
    steps: Tensor
    latency: int = 0

    @property
    def average_steps(self) -> float:
        """Mean number of steps an input took, the steps before the readout phase included.

        >>> EarlyExit(torch.zeros(2, 3), torch.tensor([4, 8])).average_steps
        6.0
        """
        return float(self.steps.double().mean()) + self.latency


def run_until_settled(
    simulation: Simulation,
    x: Any,
    *,
    margin: float | None,
    confidence: float | None,
    every: int,
    at_least: int,
    sequence: bool = False,
) -> EarlyExit:
    """:meth:`snnconv.SpikingNetwork.early_exit`; ``sequence``: of ``x`` [T, B, ...], a frame a step."""
    _check(simulation, margin, confidence, every, at_least)
    method, delay, plan = simulation.population.method, simulation.delay, simulation.plan
    threads = 1 if sequence else simulation.threads()
    first = x  # what a batch is cut by
    if sequence:
        check_follows(method, delay)
        x = _by_sample(x)
        first = x[:, 0]
    most = plan.batch_size(first, max(1 if sequence else every, method.pre_timesteps_))
    blocks = [_Block(here, rows) for here, rows in _numbered(x, plan.slices(first, threads, most), sequence)]
    last = x.shape[1] if sequence else method.timesteps
    readouts = _Readouts(len(x), last, delay, x.device)
    try:
        if method.pre_timesteps_:
            for block in blocks:
                _advance(simulation, block, method.pre_timesteps_)
                block.state.restart()
        done = 0
        while blocks and done < last:
            size = min(every, last - done)
            outputs = (
                [_followed(simulation, block, range(done, done + size)) for block in blocks]
                if sequence
                else _advanced(simulation, blocks, size, threads)
            )
            done += size
            readouts.add(blocks, outputs, done)
            if not max(delay + 1, at_least) <= done < last:
                continue
            readouts.settle(partial(_settled, margin=margin, confidence=confidence), done)
            if not len(readouts.going):
                break
            left = readouts.unsettled(blocks, last - done)
            blocks = blocks if left is None else _dealt(left, most, threads)
    finally:
        simulation.population.reset()
    return EarlyExit(NonFinite(x).mark(readouts.output), readouts.steps, method.pre_timesteps_)


class _Readouts:
    """Means of the outputs behind the delay, each until its input is settled.

    Attributes:
        output, steps: as in `EarlyExit`.
        going: places in the batch of what is not settled yet.
    """

    def __init__(self, batch: int, last: int, delay: int, device: torch.device) -> None:
        self.delay = delay
        self.output = self._total = torch.empty(0)
        self.steps = torch.full((batch,), last, device=device)
        self.going = torch.arange(batch, device=device)

    def add(self, blocks: list[_Block], outputs: list[Tensor], done: int) -> None:
        """The outputs ``[T, B, classes]`` of the blocks' last steps, of ``done`` in all."""
        if not self._total.numel():
            self._total = outputs[0].new_zeros(len(self.steps), outputs[0].shape[2])
            self.output = self._total.clone()
        for block, new in zip(blocks, outputs, strict=True):
            self._total[block.here] += new[max(0, len(new) - (done - self.delay)) :].sum(0)
        if done > self.delay:
            self.output[self.going] = self._total[self.going] / (done - self.delay)

    def settle(self, settled: Callable[[Tensor], Tensor], done: int) -> None:
        """Those whose output is settled after ``done`` steps are left as they are."""
        ends = settled(self.output[self.going])
        self.steps[self.going[ends]] = done
        self.going = self.going[~ends]

    def unsettled(self, blocks: list[_Block], steps: int) -> list[_Block] | None:
        """Blocks without what is settled; None where running it for the ``steps`` to come costs less than moving."""
        here = torch.cat([block.here for block in blocks])
        if (len(here) - len(self.going)) * steps <= MOVE * len(here):
            return None
        kept = torch.isin(here, self.going).split([len(block.here) for block in blocks])
        return [block.only(k) for block, k in zip(blocks, kept, strict=True) if k.any()]


@dataclass
class _Block:
    """Inputs that run together, and what their run remembers.

    Attributes:
        here: their places in the whole batch.
        memory: the neurons' states, by site.
    """

    here: Tensor
    x: Any
    state: RunState = field(default_factory=RunState)
    memory: dict[str, Any] = field(default_factory=dict)

    def only(self, kept: Tensor) -> _Block:
        """The same without those that are settled."""
        if kept.all():
            return self
        stays, batch = kept.nonzero().flatten(), len(self.here)

        def chosen(value: Any) -> Any:
            return value[stays] if _of_inputs(value, batch) else value

        return _Block(self.here[stays], self.x[stays], *_remembered([self], lambda values: chosen(values[0])))

    def cut(self, first: int, size: int) -> _Block:
        """Some neighbours among them, without a copy."""
        batch, rows = len(self.here), slice(first, first + size)

        def chosen(value: Any) -> Any:
            return value[rows] if _of_inputs(value, batch) else value

        return _Block(self.here[rows], self.x[rows], *_remembered([self], lambda values: chosen(values[0])))


def _of_inputs(value: Any, batch: int) -> bool:
    return isinstance(value, Tensor) and value.dim() > 0 and len(value) == batch


def _dealt(blocks: list[_Block], most: int, threads: int) -> list[_Block]:
    """The same inputs in as few blocks as there is room for, as many for each thread, all of about one size."""
    left = sum(len(block.here) for block in blocks)
    rounds = -(-left // (most * threads)) if most else 1
    if (len(blocks) <= 1 and threads == 1) or not left:
        return blocks
    whole = _join(blocks)
    sizes = [len(places) for places in torch.arange(left).tensor_split(rounds * threads) if len(places)]
    cuts = [sum(sizes[:i]) for i in range(len(sizes))]
    return [whole.cut(first, size) for first, size in zip(cuts, sizes, strict=True)]


def _join(blocks: list[_Block]) -> _Block:
    if len(blocks) == 1:
        return blocks[0]
    sizes = [len(block.here) for block in blocks]

    def joined(values: list[Any]) -> Any:
        ours = all(_of_inputs(v, size) for v, size in zip(values, sizes, strict=True))
        return torch.cat(values) if ours else values[0]

    here, x = torch.cat([b.here for b in blocks]), join_batches([b.x for b in blocks])
    return _Block(here, x, *_remembered(blocks, joined))


def _remembered(blocks: list[_Block], function: Callable[[list[Any]], Any]) -> tuple[RunState, dict[str, Any]]:
    """What ``function`` makes of everything that the runs of blocks remember, tensor by tensor."""

    def each(trees: list[Any]) -> Any:
        return tree_map(lambda *values: function(list(values)), *trees)

    def static(*values: Any) -> Any:  # a plain tensor among them is a constant, whatever its size
        return Static(function([v.data for v in values])) if isinstance(values[0], Static) else values[0]

    states = [block.state for block in blocks]
    constant = tree_map(static, *[s.static for s in states], is_leaf=lambda v: isinstance(v, Static))
    state = RunState(states[0].steps, constant, each([s.accumulated for s in states]))
    return state, each([block.memory for block in blocks])


def _numbered(x: Any, batches: list[Any], sequence: bool) -> list[tuple[Tensor, Any]]:
    sizes = [len(rows) for rows in batches]
    places = torch.arange(len(x), device=x.device).split(sizes)
    if sequence:
        return list(zip(places, x.split(sizes), strict=True))
    return [(here, channels_last(rows)) for here, rows in zip(places, batches, strict=True)]


def _by_sample(x_seq: Any) -> Tensor:
    """``[T, B, ...]`` → ``[B, T, ...]``, so that a sample can leave."""
    if not isinstance(x_seq, Tensor) or x_seq.dim() < 3 or not len(x_seq):
        got = list(x_seq.shape) if isinstance(x_seq, Tensor) else type(x_seq).__name__
        raise ConversionError(f"early exit over time takes one input [T, B, ...], got {got}")
    return x_seq.transpose(0, 1)


def _followed(simulation: Simulation, block: _Block, steps: range) -> Tensor:
    """Outputs ``[T, B, classes]`` of one block on its next frames."""
    found = []
    for t in steps:
        block.state.static = {}  # what came of the frame before
        found.append(_advance(simulation, replace(block, x=channels_last(block.x[:, t])), 1, block))
    return torch.cat(found)


def _advanced(simulation: Simulation, blocks: list[_Block], size: int, threads: int) -> list[Tensor]:
    """Outputs ``[T, B, classes]`` of the next ``size`` steps of every block."""
    if not simulation.resumable():
        return [_advance(simulation, block, size) for block in blocks]

    def alone(block: _Block) -> Tensor:
        fire = partial(simulation.population.fire_from, block.memory, in_place=True)
        block.state.may_overwrite = True
        with torch.no_grad():
            return _one_tensor(simulation.program.steps(block.x, size, fire, block.state))

    if threads > 1 and len(blocks) > 1:
        return run_slices(alone, blocks, threads)
    return [alone(block) for block in blocks]


def _advance(simulation: Simulation, block: _Block, size: int, keeper: _Block | None = None) -> Tensor:
    """The same for one block, by neurons that remember by themselves; ``keeper`` remembers, else the block itself."""
    block.state.may_overwrite = not simulation.population.watched
    out, memory = simulation.resume(block.x, size, block.memory, block.state)
    (keeper or block).memory = memory
    return _one_tensor(out)


def _check(simulation: Simulation, margin: float | None, confidence: float | None, every: int, at_least: int) -> None:
    method = simulation.population.method
    if method.coding == "sum":
        raise ConversionError(
            f"{method.name}: every bit but the first needs those before it, in each layer, so that nothing is "
            "known before the last step; early exit is for rate coding"
        )
    if simulation.plan.whole_batch:
        raise ConversionError(
            "the inputs of a batch have to do with one another in this network, so that none can leave the batch early"
        )
    if (margin is None) == (confidence is None):
        raise ValueError("give margin or confidence, one of the two")
    if margin is not None and not margin >= 0:
        raise ValueError(f"margin is {margin}: it is a difference of two outputs, 0 or more")
    if confidence is not None and not 0 < confidence <= 1:
        raise ValueError(f"confidence is {confidence}: it is a probability, above 0 and up to 1")
    if every < 1 or at_least < 1:
        raise ValueError(f"every={every} and at_least={at_least} are numbers of steps, 1 or more")


def _settled(y: Tensor, margin: float | None, confidence: float | None) -> Tensor:
    if margin is not None:
        best = y.topk(2, 1).values
        return best[:, 0] - best[:, 1] >= margin
    return y.float().softmax(1).amax(1) >= confidence  # type: ignore[operator]


def _one_tensor(out: Any) -> Tensor:
    shares = [v.shares if isinstance(v, Held) else v for v in tree_leaves(out)]
    tensors = [v for v in shares if isinstance(v, Tensor)]
    if len(tensors) != 1 or tensors[0].dim() != 3 or tensors[0].shape[2] < 2:
        shapes = ", ".join(f"[B{''.join(f', {n}' for n in v.shape[2:])}]" for v in tensors) or "nothing"
        raise ConversionError(f"early exit needs one output [B, classes]; this network gives {shapes}")
    return tensors[0]
