"""Accuracy against time steps, with the source network's beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from snnconv.graph.source import ConversionError
from snnconv.inputs import Progress, Reader, placement
from snnconv.metrics.labelled import count_of, labelled_batches
from snnconv.network import SpikingNetwork
from snnconv.report import table
from snnconv.runtime.batch import Batch, call, entries
from snnconv.runtime.sequence import frames
from snnconv.tables import add, named

__all__ = [
    "METRICS", "Evaluation", "Metric", "Score", "class_scores", "evaluate", "register_metric", "score_of", "top1",
    "top5",
]  # fmt: skip

Score = Callable[[Any, Any], Tensor]
"""``score(output, target)`` → one number a sample ``[B]``."""


@dataclass(frozen=True)
class Metric:
    """What is averaged over the samples.

    Attributes:
        name: the word for it.
        score: one number a sample of an output and its target.
        title: what tables and axes call it; its name by default.
        unit: of the number.
        higher_is_better: whether a larger one is the better one.
    """

    name: str
    score: Score
    title: str = ""
    unit: str = ""
    higher_is_better: bool = True

    @property
    def label(self) -> str:
        """Name and unit.

        >>> METRICS["top1"].label
        'top-1 accuracy (%)'
        """
        title = self.title or self.name
        return f"{title} ({self.unit})" if self.unit else title


@dataclass(frozen=True)
class Evaluation:
    """A converted network's score after each step, and the source network's; prints as a table.

    Attributes:
        metric: what was scored.
        curve: number of steps that are read out → mean score.
        ann: the source network's mean score on the same samples; ``None`` where it was not given.
        samples: inputs scored.
        pre_timesteps: steps that run before those of ``curve`` (τ of SRP).
    """

    metric: Metric
    curve: dict[int, float]
    ann: float | None
    samples: int
    pre_timesteps: int = 0

    @property
    def final(self) -> float:
        """Score after the last step."""
        return self.curve[max(self.curve)]

    @property
    def drop(self) -> float | None:
        """How far ``final`` is on the worse side of the source network."""
        if self.ann is None:
            return None
        return self.ann - self.final if self.metric.higher_is_better else self.final - self.ann

    def to_dict(self) -> dict[str, Any]:
        """All figures as plain values."""
        return {
            "metric": self.metric.name,
            "unit": self.metric.unit,
            "samples": self.samples,
            "pre_timesteps": self.pre_timesteps,
            "ann": self.ann,
            "curve": dict(self.curve),
        }

    def __str__(self) -> str:
        rows: list[tuple[Any, ...]] = [] if self.ann is None else [("ANN", "", f"{self.ann:.2f}")]
        rows += [("SNN", t, f"{value:.2f}") for t, value in self.curve.items()]
        before = f", {self.pre_timesteps} steps before each T" if self.pre_timesteps else ""
        return f"{table(('network', 'T', self.metric.label), rows)}\n{self.samples:,} inputs{before}"


def top1(output: Tensor, target: Tensor) -> Tensor:
    """100 where the largest output is the target's, else 0.

    >>> top1(torch.tensor([[0.1, 0.9], [0.8, 0.2]]), torch.tensor([1, 1])).tolist()
    [100.0, 0.0]
    """
    return 100.0 * (output.argmax(1) == target.to(output.device)).float()


def top5(output: Tensor, target: Tensor) -> Tensor:
    """100 where the target is among the five largest outputs, else 0.

    >>> top5(torch.arange(8.0).repeat(2, 1), torch.tensor([0, 7])).tolist()
    [0.0, 100.0]
    """
    best = output.topk(min(5, output.shape[1]), 1).indices
    return 100.0 * (best == target.to(output.device)[:, None]).any(1).float()


def mse(output: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of each sample.

    >>> mse(torch.zeros(2, 4), torch.ones(2, 4)).tolist()
    [1.0, 1.0]
    """
    if output.shape != target.shape:
        raise ConversionError(f"outputs have shape {tuple(output.shape)}, targets {tuple(target.shape)}")
    return (output - target.to(output)).square().flatten(1).mean(1)


def class_scores(output: Any) -> Tensor | None:
    """Class scores ``[B, classes]`` of a network's output: itself, or what it names ``logits``, as Hugging Face's do.

    >>> class_scores({"logits": torch.zeros(8, 10)}).shape, class_scores(torch.zeros(8, 10, 4, 4))
    (torch.Size([8, 10]), None)
    """
    if not isinstance(output, Tensor):
        output = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    return output if isinstance(output, Tensor) and output.dim() == 2 else None


METRICS: dict[str, Metric] = {}
"""Every metric that is known by name."""


def register_metric(metric: Metric, *, replace: bool = False) -> Metric:
    """Make a metric known by its name, to :func:`evaluate` and to the command line; returns it.

    Args:
        replace: take the place of another metric of this name.

    Raises:
        ValueError: the name is another one's.
    """
    if METRICS.get(metric.name) != metric:
        add(METRICS, metric.name, metric, "metric", replace=replace)
    return metric


def _of_classes(score: Score) -> Score:
    """A score of class scores ``[B, classes]`` and class numbers ``[B]``, which are checked."""

    def checked(output: Any, target: Any) -> Tensor:
        found = class_scores(output)
        if found is None:
            got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise ConversionError(
                f"the network gives {got}; accuracy needs class scores [batch, classes], as the output or as the one "
                "that it names logits: give metric=, a function of output and target"
            )
        if not isinstance(target, Tensor) or target.dim() != 1 or target.is_floating_point():
            raise ConversionError("the data holds no class labels: accuracy needs (input, label) batches")
        classes = found.shape[1]
        if len(target) and not 0 <= int(target.min()) <= int(target.max()) < classes:
            wrong = target[(target < 0) | (target >= classes)]
            raise ConversionError(
                f"label {int(wrong[0])} is none of the network's {classes} outputs, which are counted from 0 "
                f"to {classes - 1}"
            )
        return score(found, target)

    return checked


register_metric(Metric("top1", _of_classes(top1), "top-1 accuracy", "%"))
register_metric(Metric("top5", _of_classes(top5), "top-5 accuracy", "%"))
register_metric(Metric("mse", mse, "mean squared error", higher_is_better=False))


def evaluate(
    snn: SpikingNetwork,
    loader: Any,
    metric: str | Metric | Score = "top1",
    *,
    model: nn.Module | None = None,
    timesteps: Iterable[int] | None = None,
    limit: int | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Score a converted network after each step, and the source network on the same inputs.

    Args:
        snn: the converted network.
        loader: batches (input, target), dictionaries, or a pair of tensors ``(x, y)``; of a network of several inputs
            as for :func:`snnconv.convert`. Of one converted with ``input="sequence"``, recordings ``[B, T, ...]``,
            samples first; the source network's score is then that of the mean frame.
        metric: ``"top1"``, ``"top5"``, ``"mse"``, one of :data:`METRICS`, or a function of output and target that
            gives one number a sample ``[B]``, whose mean is taken.
        model: the source network, for the line beside.
        timesteps: after which steps; every one by default. The last one alone runs fastest.
        limit: inputs to use at most, from the start.
        progress: called with a title, the number of inputs done, and their total.

    Raises:
        ConversionError: no inputs, no targets, or outputs that the metric does not take.
        ValueError: steps that the network does not read out, or an unknown metric.

    >>> import snnconv
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> x = torch.randn(64, 4)
    >>> snn = snnconv.convert(model, snnconv.methods.SignedIF(timesteps=4), calibration=x)
    >>> found = evaluate(snn, (x, model(x).argmax(1)), model=model)
    >>> found.ann, list(found.curve), found.samples
    (100.0, [1, 2, 3, 4], 64)
    """
    chosen = _metric(metric)
    sequence = snn.input == "sequence"
    wanted = [] if sequence else _steps(timesteps, snn.timesteps)
    sums = dict.fromkeys(wanted, 0.0)
    ann, samples = 0.0, 0
    total = count_of(loader, limit)
    device, dtype = placement(snn)
    for given, target in labelled_batches(loader, limit, device, dtype, reader=Reader(snn.signature)):
        start = 0
        if sequence and not wanted:  # as many as its first recordings have
            wanted = _steps(timesteps, _frames_of(given))
            sums = dict.fromkeys(wanted, 0.0)
        for x in [given] if sequence else snn.slices(given):
            size = len(x)
            aims = target[start : start + size] if isinstance(target, Tensor) else target
            start += size
            for t, output in _readouts(snn, time_first(x) if sequence else x, wanted):
                sums[t] += _sum(chosen, output, aims, size)
        if model is not None:
            ann += score_of(_of_sequences(snn, model) if sequence else model, given, target, chosen)
        samples += start
        if progress is not None:
            progress("evaluating", samples, max(total, samples))
    if not samples:
        raise ConversionError("the data is empty: it gave no samples")
    curve = {t: value / samples for t, value in sums.items()}
    return Evaluation(chosen, curve, None if model is None else ann / samples, samples, snn.method.pre_timesteps_)


def score_of(model: nn.Module, given: Any, target: Any, metric: Metric) -> float:
    """Sum of a network's scores over one batch; it runs in evaluation mode where its weights are."""
    device, _ = placement(model)
    training = {module: module.training for module in model.modules()}
    try:
        with torch.no_grad():
            output = call(model.eval(), given.to(device) if device is not None else given)
    finally:
        for module, was in training.items():
            module.training = was
    return _sum(metric, output, target, len(given))


def _readouts(snn: SpikingNetwork, x: Any, wanted: list[int]) -> Iterable[tuple[int, Any]]:
    if wanted == [snn.timesteps] and snn.input == "constant":
        yield snn.timesteps, snn(x)
        return
    for t, output in snn.stream(x):
        if t in wanted:
            yield t, output
        if t == wanted[-1]:
            return


def _steps(timesteps: Iterable[int] | None, last: int) -> list[int]:
    wanted = sorted(set(range(1, last + 1) if timesteps is None else timesteps))
    if not wanted or wanted[0] < 1 or wanted[-1] > last:
        raise ValueError(f"the network reads out steps 1 … {last}, asked for {wanted}")
    return wanted


def _frames_of(given: Any) -> int:
    found = next(iter(entries(given).values()))
    if found.dim() < 3 or not found.shape[1]:
        raise ConversionError(f"data of a network of sequences is [B, T, ...], samples first, got {list(found.shape)}")
    return int(found.shape[1])


def time_first(given: Any) -> Any:
    """``[B, T, ...]``, as data sets have it, to ``[T, B, ...]``, as calls take it."""
    return tree_map(lambda v: v.transpose(0, 1) if isinstance(v, Tensor) else v, given)


def _of_sequences(snn: SpikingNetwork, model: nn.Module) -> nn.Module:
    """What the source network says of a recording: of its mean frame; in sum coding of each, and their mean."""

    class OfSequences(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *inputs: Any, **named: Any) -> Any:
            given = Batch(named) if named else inputs[0]
            if snn.method.coding != "sum":
                return call(self.model, tree_map(lambda v: v.mean(1) if isinstance(v, Tensor) else v, given))
            steps = _frames_of(given)
            return call(self.model, frames(given)).unflatten(0, (-1, steps)).mean(1)

    return OfSequences()


def _sum(metric: Metric, output: Any, target: Any, size: int) -> float:
    found = metric.score(output, target)
    if not isinstance(found, Tensor) or found.shape != (size,):
        got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ConversionError(f"the metric {metric.name} gives {got} for {size} samples; one number a sample is needed")
    return float(found.double().sum())


def _metric(metric: str | Metric | Score) -> Metric:
    if isinstance(metric, Metric):
        return metric
    if isinstance(metric, str):
        return named(METRICS, metric, "metric")
    return Metric(getattr(metric, "__name__", type(metric).__name__), metric)
