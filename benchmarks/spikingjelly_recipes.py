"""SpikingJelly 2's own conversion recipes, as baselines.

They run as in SpikingJelly's examples (``ann2snn/examples``): step by step on a constant input, the outputs
summed from the first step on, or, with a delayed readout, from the step that ``estimate_delay_start`` gives.
One run at the largest T yields the readout at every smaller T, because their thresholds do not depend on T.
"""

from __future__ import annotations

import contextlib
import copy
import io
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn


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
    """What one run measured, per number of steps; spikes an image."""

    accuracy: dict[int, float]
    spikes: dict[int, float]
    spikes_per_neuron: dict[int, float]
    sites: int = 0
    delay: dict[int, int] = field(default_factory=dict)
    seconds_convert: float = 0.0
    seconds_run: float = 0.0
    timesteps: int = 0


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

    correct = dict.fromkeys(timesteps, 0)
    images = 0
    start = time.perf_counter()
    with torch.no_grad(), _no_log():
        for x, y in test:
            functional.reset_net(snn)
            outputs = torch.stack([snn(x) for _ in range(max(timesteps))])
            total = torch.cat([torch.zeros_like(outputs[:1]), outputs.cumsum(0)])
            for t in timesteps:
                readout = total[t] - total[delay[t]]
                correct[t] += int((readout.argmax(1) == y).sum())
            images += len(y)
            progress(len(y))
    seconds_run = time.perf_counter() - start
    if not images:
        raise ValueError("the test set is empty")
    spikes, neurons = count_spikes(snn, counted_on, timesteps)
    return RecipeResult(
        accuracy={t: 100 * correct[t] / images for t in timesteps},
        spikes=spikes,
        spikes_per_neuron={t: spikes[t] / sum(neurons.values()) for t in timesteps},
        sites=len(neurons),
        delay=delay if recipe.delay else {},
        seconds_convert=seconds_convert,
        seconds_run=seconds_run,
        timesteps=max(timesteps),
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
        with torch.no_grad(), _no_log():
            functional.reset_net(snn)
            for _ in range(max(timesteps)):
                spikes.append(0)
                snn(x)
    finally:
        for handle in handles:
            handle.remove()
    return {t: sum(spikes[:t]) / len(x) for t in timesteps}, neurons


@contextlib.contextmanager
def _no_log() -> Iterator[None]:
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
    with _no_log(), contextlib.redirect_stderr(io.StringIO()):
        yield
