"""SpikingJelly 2's own conversion recipes, as baselines and as rows of a config.

A row is ``dict(type="SpikingJelly", recipe="ltb", timesteps=[...])``.

They run as in SpikingJelly's examples (``ann2snn/examples``): step by step on a constant input, the outputs
summed from the first step on, or, with a delayed readout, from the step that ``estimate_delay_start`` gives.
One run at the largest T yields the readout at every smaller T, because their thresholds do not depend on T.
"""

from __future__ import annotations

import contextlib
import copy
import io
import operator
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn
from torch.utils._pytree import tree_map

from snnbench.networks.models import PadShortcut, with_conv_shortcuts
from snnbench.testing.readouts import CONVERSIONS, Window

__all__ = [
    "RecipeNetwork",
    "RecipeResult",
    "SpikingJellyRecipe",
    "build",
    "convert",
    "count_spikes",
    "evaluate",
    "quiet",
]


@dataclass(frozen=True)
class SpikingJellyRecipe:
    """One recipe with its settings.

    ``kind`` "rate" is ``RateCodingRecipe(mode=mode)``; "robust" is the setting of its ImageNet example
    (``mode``, per channel, max-pooling before the neuron, membrane starting at half the threshold); "ltb" is
    ``LocalThresholdBalancingRecipe``. ``delay=True`` reads out from SpikingJelly's estimated delay on.
    """

    kind: Literal["rate", "robust", "ltb"]
    mode: str = "99.9%"
    delay: bool = False

    def __post_init__(self) -> None:
        if self.kind not in ("rate", "robust", "ltb"):
            raise ValueError(f"kind is 'rate', 'robust' or 'ltb', got {self.kind!r}")

    def build(self, calibration: Sequence[torch.Tensor]) -> Any:
        """The recipe object of SpikingJelly."""
        from spikingjelly.activation_based import ann2snn

        loader = list(calibration)
        if self.kind == "ltb":
            return ann2snn.LocalThresholdBalancingRecipe(dataloader=loader)
        if self.kind == "robust":
            return ann2snn.RateCodingRecipe(
                dataloader=loader,
                mode=self.mode,
                channel_wise=True,
                pre_spike_maxpool=True,
                half_threshold=True,
            )
        return ann2snn.RateCodingRecipe(dataloader=loader, mode=self.mode)


@dataclass
class RecipeResult:
    """What one run measured, per number of steps; spikes an image; ``predicted``: the class of every image."""

    accuracy: dict[int, float]
    spikes: dict[int, float]
    spikes_per_neuron: dict[int, float]
    sites: int = 0
    delay: dict[int, int] = field(default_factory=dict)
    seconds_convert: float = 0.0
    seconds_run: float = 0.0
    timesteps: int = 0
    predicted: dict[int, torch.Tensor] = field(default_factory=dict)


def convert(model: nn.Module, recipe: SpikingJellyRecipe, calibration: Sequence[torch.Tensor]) -> nn.Module:
    """``ann2snn.Converter(recipe)`` on a copy of ``model``, without its log lines."""
    from spikingjelly.activation_based import ann2snn

    with _quiet():
        return ann2snn.Converter(recipe=recipe.build(calibration)).convert(copy.deepcopy(model).eval()).eval()


def evaluate(
    model: nn.Module,
    recipe: SpikingJellyRecipe,
    calibration: Sequence[torch.Tensor],
    test: Iterable[tuple[torch.Tensor, torch.Tensor]],
    counted_on: torch.Tensor,
    timesteps: Sequence[int],
    progress: Callable[[int], None] = lambda done: None,
) -> RecipeResult:
    """Convert ``model`` and measure top-1 accuracy (percent) at each of ``timesteps`` in one run.

    Spikes are counted on the images ``counted_on``.
    """
    from spikingjelly.activation_based import ann2snn, functional

    start = time.perf_counter()
    snn = convert(model, recipe, calibration)
    delay = dict.fromkeys(timesteps, 0)
    if recipe.delay:
        with _quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns where T is too small for the delay, and clamps
            for t in timesteps:
                delay[t] = int(ann2snn.estimate_delay_start(snn, calibration, "cpu", t))
    seconds_convert = time.perf_counter() - start

    answers: dict[int, list[torch.Tensor]] = {t: [] for t in timesteps}
    true: list[torch.Tensor] = []
    start = time.perf_counter()
    with torch.no_grad(), quiet():
        for x, y in test:
            functional.reset_net(snn)
            outputs = torch.stack([snn(x) for _ in range(max(timesteps))])
            total = torch.cat([torch.zeros_like(outputs[:1]), outputs.cumsum(0)])
            for t in timesteps:
                readout = total[t] - total[delay[t]]
                answers[t].append(readout.argmax(1).cpu())
            true.append(y.cpu())
            progress(len(y))
    seconds_run = time.perf_counter() - start
    if not true:
        raise ValueError("the test set is empty")
    predicted, labels = {t: torch.cat(found) for t, found in answers.items()}, torch.cat(true)
    spikes, neurons = count_spikes(snn, counted_on, timesteps)
    return RecipeResult(
        accuracy={t: 100 * int((found == labels).sum()) / len(labels) for t, found in predicted.items()},
        spikes=spikes,
        spikes_per_neuron={t: spikes[t] / sum(neurons.values()) for t in timesteps},
        sites=len(neurons),
        delay=delay if recipe.delay else {},
        seconds_convert=seconds_convert,
        seconds_run=seconds_run,
        timesteps=max(timesteps),
        predicted=predicted,
    )


def count_spikes(snn: nn.Module, x: torch.Tensor, timesteps: Sequence[int]) -> tuple[dict[int, float], dict[str, int]]:
    """Spikes an image until each of ``timesteps``, and the neurons of each site; apart from the timed run."""
    from spikingjelly.activation_based import functional, neuron

    nodes = {name: m for name, m in snn.named_modules() if isinstance(m, neuron.BaseNode)}
    if not nodes:
        raise RuntimeError("SpikingJelly converted no activation of this network")
    spikes: list[int] = []
    neurons: dict[str, int] = {}

    def hook(name: str) -> Callable[..., None]:
        def count(_module: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
            spikes[-1] += int(output.count_nonzero())
            neurons[name] = output.numel() // len(x)

        return count

    handles = [node.register_forward_hook(hook(name)) for name, node in nodes.items()]
    try:
        with torch.no_grad(), quiet():
            functional.reset_net(snn)
            for _ in range(max(timesteps)):
                spikes.append(0)
                snn(x)
    finally:
        for handle in handles:
            handle.remove()
    return {t: sum(spikes[:t]) / len(x) for t in timesteps}, neurons


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """SpikingJelly logs every conversion and every operator it binds."""
    from loguru import logger

    logger.disable("spikingjelly")
    try:
        yield
    finally:
        logger.enable("spikingjelly")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No log and none of its bars, which count a handful of calibration batches."""
    with quiet(), contextlib.redirect_stderr(io.StringIO()):
        yield


class RecipeNetwork:
    """A network converted by SpikingJelly, run step by step as in its examples; outputs may be nested tuples."""

    def __init__(self, snn: nn.Module, timesteps: int) -> None:
        self.snn = snn
        self.timesteps = timesteps

    def readouts(self, x: torch.Tensor, windows: Sequence[Window]) -> list[Any]:
        """The output averaged over each window ``(first, last)``, counted from 1."""
        from spikingjelly.activation_based import functional

        totals: list[Any] = [None] * len(windows)
        with torch.no_grad(), quiet():
            functional.reset_net(self.snn)
            for step in range(1, max(last for _, last in windows) + 1):
                out = self.snn(x)
                for index, (first, last) in enumerate(windows):
                    if first <= step <= last:
                        total = totals[index]
                        totals[index] = out if total is None else tree_map(operator.add, total, out)
            functional.reset_net(self.snn)
        return [
            tree_map(lambda v, steps=last - first + 1: v / steps, total)
            for total, (first, last) in zip(totals, windows, strict=True)
        ]


def build(
    module: nn.Module,
    calibration: Sequence[torch.Tensor],
    timesteps: int,
    recipe: str,
    mode: str = "99.9%",
) -> RecipeNetwork:
    """Convert ``module`` by one of SpikingJelly's recipes; it refuses what it cannot convert.

    Zero-padding shortcuts, which it refuses, are written as the convolutions that compute the same.

    Raises:
        RuntimeError: SpikingJelly's reason.
    """
    if any(isinstance(child, PadShortcut) for child in module.modules()):
        module = with_conv_shortcuts(module)
    try:
        snn = convert(module, SpikingJellyRecipe(recipe, mode), calibration)  # type: ignore[arg-type]
    except Exception as error:  # its converter raises whatever its tracer meets
        raise RuntimeError(f"SpikingJelly refuses this network: {error}") from error
    return RecipeNetwork(snn, timesteps)


CONVERSIONS["SpikingJelly"] = build
