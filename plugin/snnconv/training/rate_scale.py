"""The second stage of rate norm training: only the scales p, for few time steps."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sized
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from snnconv.activations import RateNorm
from snnconv.graph.source import ConversionError
from snnconv.inputs import input_of, label_of
from snnconv.progress import ProgressFn, bars
from snnconv.training.losses import RateInferenceLoss, rate_ks

__all__ = ["RateScaleReport", "Stage", "train_rate_scale"]

STATISTICS = ("moving", "frozen")


@dataclass(frozen=True)
class Stage:
    """The network after a number of steps.

    Attributes:
        step: steps of the optimiser so far.
        accuracy: on the validation data, percent; without labels, agreement with stage (i).
        mean_k: K̄ on the validation data.
    """

    step: int
    accuracy: float
    mean_k: float


@dataclass(frozen=True)
class RateScaleReport:
    """The course of stage (ii).

    Attributes:
        stages: measured from time to time; the first one is stage (i).
        chosen: step of the one that was taken.
        stopped: whether the accuracy ended it, before the data did.
    """

    stages: tuple[Stage, ...]
    chosen: int
    stopped: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def train_rate_scale(
    model: nn.Module,
    loader: Iterable[Any],
    validation: Iterable[Any],
    *,
    weight: float = 0.1,
    epochs: int = 1,
    learning_rate: float = 1e-2,
    tolerance: float = 0.5,
    every: int = 100,
    distance: str = "cosine",
    statistics: str = "moving",
    progress: bool | ProgressFn | None = None,
) -> tuple[nn.Module, RateScaleReport]:
    """Stage (ii) of rate norm training (Ding et al., IJCAI 2021, arXiv 2105.11654): lower p for few time steps.

    Weights and the running maxima r are frozen; only the scales p of the rate norm layers learn, by Adam on the Rate
    Inference Loss 1 − cos(logits of stage (i), logits) + λ·K̄. It ends with the data, or when the validation accuracy
    has fallen more than ``tolerance`` below stage (i); the last state before that is taken.

    The output y = z/θ of a rate norm layer grows as p falls. A BatchNorm layer behind it takes that back if its
    statistics follow, as they do in the authors' code; frozen ones are right where nothing grows (``scaled=True``).

    Args:
        model: a network with :class:`~snnconv.activations.RateNorm` layers after stage (i); it is not changed.
        loader: training inputs ``[B, ...]``, pairs or dictionaries; labels are not read. Read once an epoch.
        validation: ``(input, label)`` pairs, or inputs alone; read again and again.
        weight: λ.
        epochs: passes over ``loader`` at most.
        learning_rate: of Adam.
        tolerance: in percentage points.
        every: steps between two validations.
        distance: of the logits to those of stage (i), ``"cosine"`` or ``"mse"``; see `RateInferenceLoss`.
        statistics: of BatchNorm layers: ``"moving"``, those of each batch, with running statistics that follow by the
            layer's momentum; or ``"frozen"``, those of stage (i).
        progress: ``False`` for no progress bars, or a function ``(what, done, total)``.

    Returns:
        The new network, and how it came about.

    Raises:
        ConversionError: no rate norm layer, or one that has seen no data.
        ValueError: ``epochs`` or ``every`` below 1, a negative ``tolerance``, an unknown ``distance`` or choice of
            ``statistics``.

    >>> network = nn.Sequential(nn.Linear(4, 8), RateNorm(), nn.Linear(8, 2))
    >>> x = torch.randn(64, 4)
    >>> _ = network.train()(x)
    >>> fast, report = train_rate_scale(network, [x], [x], progress=False)
    >>> report.stages[-1].mean_k < report.stages[0].mean_k
    True
    """
    _check(model)
    if epochs < 1 or every < 1 or tolerance < 0:
        raise ValueError("epochs and every must be at least 1, tolerance at least 0")
    if statistics not in STATISTICS:
        raise ValueError(f"statistics must be one of {STATISTICS}, got {statistics!r}")
    teacher, student = copy.deepcopy(model).eval(), copy.deepcopy(model).eval()
    student.requires_grad_(False)
    scales = list({id(m.p): m.p.requires_grad_(True) for m in student.modules() if isinstance(m, RateNorm)}.values())
    optimiser = torch.optim.Adam(scales, lr=learning_rate)
    criterion = RateInferenceLoss(weight, distance)
    device = scales[0].device
    norms = [m for m in student.modules() if isinstance(m, _BatchNorm)] if statistics == "moving" else []
    state = [*scales, *(buffer for m in norms for buffer in m.buffers())]
    stages = [_measure(student, teacher, validation, 0, device)]
    best = [value.detach().clone() for value in state]
    stopped = False

    def acceptable() -> bool:
        stages.append(_measure(student, teacher, validation, step, device))
        if stages[-1].accuracy < stages[0].accuracy - tolerance:
            return False
        best[:] = [value.detach().clone() for value in state]
        return True

    total = epochs * len(loader) if isinstance(loader, Sized) else 0
    step = 0
    with bars(progress) as tell:
        for batch in (b for _ in range(epochs) for b in loader):
            _learn(student, teacher, input_of(batch).to(device), criterion, optimiser, norms)
            step += 1
            if total:
                tell("rate norm, stage (ii)", step, total)
            if step % every == 0 and not acceptable():
                stopped = True
                break
    if not stopped and stages[-1].step != step:
        stopped = not acceptable()
    with torch.no_grad():
        for value, chosen_value in zip(state, best, strict=True):
            value.copy_(chosen_value)
    chosen = stages[-2].step if stopped else stages[-1].step
    for own, given in zip(student.parameters(), model.parameters(), strict=True):
        own.requires_grad_(given.requires_grad)
    return student.train(model.training), RateScaleReport(tuple(stages), chosen, stopped)


def _check(model: nn.Module) -> None:
    layers = {name: m for name, m in model.named_modules() if isinstance(m, RateNorm)}
    if not layers:
        raise ConversionError(
            "this network has no rate norm layer: make one with snnconv.prepare(model, activations.RateNorm()) and "
            "train it (stage i) first"
        )
    unused = [name for name, m in layers.items() if float(m.running_max) <= 0]
    if unused:
        raise ConversionError(f"{unused[0]}: this rate norm layer has seen no data; train the network (stage i) first")


def _learn(
    student: nn.Module,
    teacher: nn.Module,
    x: Tensor,
    criterion: RateInferenceLoss,
    optimiser: torch.optim.Optimizer,
    norms: list[_BatchNorm],
) -> None:
    """One step of the optimiser; ``norms`` are the layers whose statistics follow."""
    with torch.no_grad():
        reference = teacher(x)
    for norm in norms:
        norm.train(len(x) > 1)  # the statistics of a single input say nothing
    with torch.enable_grad(), rate_ks(student) as ks:
        loss = criterion(reference, student(x), ks.mean())
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


def _measure(
    student: nn.Module, teacher: nn.Module, validation: Iterable[Any], step: int, device: torch.device
) -> Stage:
    """Accuracy and K̄ on the validation data."""
    student.eval()
    correct = samples = batches = 0
    mean_k = 0.0
    for batch in validation:
        x = input_of(batch).to(device)
        with torch.no_grad(), rate_ks(student) as ks:
            found = student(x).argmax(1)
            labels = label_of(batch)
            wanted = teacher(x).argmax(1) if labels is None else labels.to(device)
        correct += int((found == wanted).sum())
        samples += len(x)
        batches += 1
        mean_k += float(ks.mean())
    if not samples:
        raise ConversionError("the validation data is empty")
    return Stage(step, 100 * correct / samples, mean_k / batches)
