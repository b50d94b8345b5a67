"""Accuracy against time steps: a list of methods and recipes on one network and one test set."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from . import records
from .records import Record
from .spikingjelly_recipes import SpikingJellyRecipe
from .spikingjelly_recipes import evaluate as evaluate_recipe

Batch = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Entry:
    """One row of the table: methods, one for each number of steps, or a recipe of SpikingJelly.

    ``model`` is the network the row converts where it is not the task's own, for instance one trained with
    rate norm layers, or one with shortcuts that SpikingJelly accepts; ``architecture`` then names it.
    ``batches`` keeps a slow row to the first batches of the test set.
    """

    label: str
    methods: tuple[Any, ...] = ()
    recipe: SpikingJellyRecipe | None = None
    timesteps: tuple[int, ...] = ()
    model: nn.Module | None = None
    architecture: str | None = None
    batches: int | None = None

    def __post_init__(self) -> None:
        if bool(self.methods) == (self.recipe is not None):
            raise ValueError(f"{self.label}: give methods, or a recipe with timesteps")
        if self.recipe is not None and not self.timesteps:
            raise ValueError(f"{self.label}: a recipe needs timesteps")


@dataclass(frozen=True)
class Task:
    """A network with its data. ``calibration`` holds unlabelled batches; ``test`` labelled ones."""

    name: str
    dataset: str
    architecture: str
    model: nn.Module
    calibration: Sequence[torch.Tensor]
    test: Sequence[Batch]
    seed: int = 0
    profile_images: int = 64
    folder: Path = field(default=records.RESULTS)

    def test_of(self, entry: Entry) -> Sequence[Batch]:
        return self.test[: entry.batches]


def latency(method: Any) -> int:
    """Every step a method runs: τ + T for SRP, T for the others."""
    return int(method.latency)


def accuracy(
    forward: Callable[[torch.Tensor], torch.Tensor],
    test: Sequence[Batch],
    progress: Callable[[int], None] = lambda done: None,
) -> float:
    """Top-1 accuracy in percent."""
    correct = images = 0
    with torch.no_grad():
        for x, y in test:
            correct += int((forward(x).argmax(1) == y).sum())
            images += len(y)
            progress(len(y))
    if not images:
        raise ValueError("the test set is empty")
    return 100 * correct / images


def run(
    task: Task,
    entries: Sequence[Entry],
    resume: bool = False,
    on_error: Callable[[Entry, int, Exception], None] | None = None,
    show_progress: bool = True,
) -> Iterator[Record]:
    """Measure every entry at each of its numbers of steps; each record is stored, then yielded.

    With ``resume`` a stored record of the same configuration is yielded as it is. A row that fails is
    reported to ``on_error`` and the others go on; without ``on_error`` the exception passes.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    provenance = records.provenance(task.seed)
    ann: dict[tuple[int, int], tuple[float, str]] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True, disable=not show_progress) as bar:
        for entry in entries:
            model = entry.model if entry.model is not None else task.model
            test = task.test_of(entry)
            key = id(model), len(test)
            if key not in ann:
                ann[key] = accuracy(model.eval(), test), records.digest(model)
            top1, digest = ann[key]
            common = {
                "task": task.name,
                "dataset": task.dataset,
                "architecture": entry.architecture or task.architecture,
                "label": entry.label,
                "ann": {"top1": top1},
                **provenance,
            }
            measure = _measure_methods if entry.methods else _measure_recipe
            yield from measure(task, entry, model, digest, common, resume, on_error, bar)


def _images(batches: Sequence[Batch]) -> int:
    return sum(len(y) for _, y in batches)


def _config(task: Task, entry: Entry, settings: Any, steps: int, digest: str) -> Record:
    return {
        "dataset": task.dataset,
        "architecture": entry.architecture or task.architecture,
        "weights": digest,
        "settings": records.describe(settings),
        "timesteps": steps,
        "test_images": _images(task.test_of(entry)),
        "calibration_images": sum(len(x) for x in task.calibration),
        "seed": task.seed,
    }


def _measure_methods(
    task: Task,
    entry: Entry,
    model: nn.Module,
    digest: str,
    common: Record,
    resume: bool,
    on_error: Callable[[Entry, int, Exception], None] | None,
    bar: Any,
) -> Iterator[Record]:
    import snnconv

    for method in entry.methods:
        steps = latency(method)
        path = records.record_path(task.folder, entry.label, steps)
        config = _config(task, entry, method, steps, digest)
        if resume and (found := records.finished(path, config)):
            yield found
            continue
        line = bar.add_task(f"{entry.label} T={steps}", total=_images(task.test_of(entry)))
        try:
            start = time.perf_counter()
            snn = snnconv.convert(model, method, calibration=list(task.calibration))
            converted = time.perf_counter()
            top1 = accuracy(snn, task.test_of(entry), functools.partial(bar.advance, line))
            seconds = {"convert": converted - start, "evaluate": time.perf_counter() - converted}
            counted = spike_figures(model, snn, [task.test[0][0][: task.profile_images]])
        except Exception as error:
            if on_error is None:
                raise
            on_error(entry, steps, error)
            continue
        finally:
            bar.remove_task(line)
        record = {
            **common,
            "method": config["settings"],
            "timesteps": steps,
            "metrics": {"top1": top1},
            **counted,
            "seconds": seconds,
            "config": config,
        }
        records.write(path, record)
        yield record


def spike_figures(model: nn.Module, snn: Any, loader: Sequence[torch.Tensor]) -> Record:
    """Spikes per neuron, SOPs and energy an image from `snnconv.profile`."""
    import snnconv

    profile = snnconv.profile(model, snn, loader)
    return {
        "spikes_per_neuron": profile.spikes_per_neuron,
        "sops": profile.sops,
        "macs": profile.snn_macs,
        "energy": {
            "ann_pj": _pico(profile.ann_energy),
            "snn_pj": _pico(profile.snn_energy),
            "ratio": profile.energy_ratio,
        },
    }


def _pico(joules: float | None) -> float | None:
    return None if joules is None else joules * 1e12


def _measure_recipe(
    task: Task,
    entry: Entry,
    model: nn.Module,
    digest: str,
    common: Record,
    resume: bool,
    on_error: Callable[[Entry, int, Exception], None] | None,
    bar: Any,
) -> Iterator[Record]:
    recipe = entry.recipe
    assert recipe is not None
    configs = {t: _config(task, entry, recipe, t, digest) for t in entry.timesteps}
    paths = {t: records.record_path(task.folder, entry.label, t) for t in entry.timesteps}
    if resume:
        found = [records.finished(paths[t], configs[t]) for t in entry.timesteps]
        if all(found):
            yield from (record for record in found if record)
            return
    line = bar.add_task(entry.label, total=_images(task.test_of(entry)))
    try:
        result = evaluate_recipe(
            model,
            recipe,
            task.calibration,
            task.test_of(entry),
            task.test[0][0][: task.profile_images],
            entry.timesteps,
            lambda done: bar.advance(line, done),
        )
    except Exception as error:
        if on_error is None:
            raise
        for steps in entry.timesteps:
            on_error(entry, steps, error)
        return
    finally:
        bar.remove_task(line)
    for t in entry.timesteps:
        record = {
            **common,
            "method": configs[t]["settings"],
            "timesteps": t,
            "metrics": {"top1": result.accuracy[t]},
            "spikes_per_neuron": result.spikes_per_neuron[t],
            # its tools count no synaptic operations; left empty rather than estimated
            "sops": None,
            "macs": None,
            "energy": None,
            # one run serves every T, so its time is shared out by the number of steps
            "seconds": {
                "convert": result.seconds_convert,
                "evaluate": result.seconds_run * t / result.timesteps,
            },
            "readout_starts_after": result.delay.get(t, 0),
            "config": configs[t],
        }
        records.write(paths[t], record)
        yield record
