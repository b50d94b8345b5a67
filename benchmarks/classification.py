"""Accuracy against time steps: a list of methods and recipes on one network and one test set."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from snnbench import results
from snnbench.baselines.spikingjelly import SpikingJellyRecipe
from snnbench.baselines.spikingjelly import evaluate as evaluate_recipe
from snnbench.results import Point, Record
from snnbench.results.answers import word_of

RESULTS = Path(__file__).parent / "results"

Batch = tuple[torch.Tensor, torch.Tensor]
NOT_COUNTED = (
    "SpikingJelly's tools count no synaptic operations, so SOPs, MACs and energy are left empty rather than estimated; "
    "it does not list what stays analog."
)
OnError = Callable[["Entry", int, Exception], None]


@dataclass(frozen=True)
class Entry:
    """One row of the table: a method at several numbers of steps, or a recipe of SpikingJelly.

    ``methods`` differ in nothing but ``timesteps`` and ``pre_timesteps``. ``model`` is the network the row converts
    where it is not the task's own, for instance one trained with rate norm layers, or one with shortcuts that
    SpikingJelly accepts; ``architecture`` then names it, and ``training`` says how it was trained. ``batches`` keeps
    a slow row to the first batches of the test set.
    """

    label: str
    methods: tuple[Any, ...] = ()
    recipe: SpikingJellyRecipe | None = None
    timesteps: tuple[int, ...] = ()
    model: nn.Module | None = None
    architecture: str | None = None
    batches: int | None = None
    training: Record | None = None

    def __post_init__(self) -> None:
        if bool(self.methods) == (self.recipe is not None):
            raise ValueError(f"{self.label}: give methods, or a recipe with timesteps")
        if self.recipe is not None and not self.timesteps:
            raise ValueError(f"{self.label}: a recipe needs timesteps")
        if any(results.describe(m) != results.describe(self.methods[0]) for m in self.methods):
            raise ValueError(f"{self.label}: the methods of one row differ in nothing but their steps")


@dataclass(frozen=True)
class Task:
    """A network with its data. ``calibration`` holds unlabelled batches; ``test`` labelled ones of ``split``."""

    name: str
    dataset: str
    architecture: str
    model: nn.Module
    calibration: Sequence[torch.Tensor]
    test: Sequence[Batch]
    seed: int = 0
    profile_images: int = 64
    split: str = "test"
    training: Record | None = None
    folder: Path = field(default=RESULTS)

    def test_of(self, entry: Entry) -> Sequence[Batch]:
        return self.test[: entry.batches]


def predictions(
    forward: Callable[[torch.Tensor], torch.Tensor],
    test: Sequence[Batch],
    progress: Callable[[int], None] = lambda done: None,
) -> torch.Tensor:
    """The class of every image, ``[N]``."""
    found = []
    with torch.no_grad():
        for x, y in test:
            found.append(forward(x).argmax(1).cpu())
            progress(len(y))
    if not found:
        raise ValueError("the test set is empty")
    return torch.cat(found)


def labels(test: Sequence[Batch]) -> torch.Tensor:
    """The true class of every image, ``[N]``."""
    return torch.cat([y.cpu() for _, y in test])


def top1(predicted: torch.Tensor, true: torch.Tensor) -> float:
    """Top-1 accuracy in percent."""
    return 100 * int((predicted == true).sum()) / len(true)


def accuracy(forward: Callable[[torch.Tensor], torch.Tensor], test: Sequence[Batch]) -> float:
    """Top-1 accuracy in percent."""
    return top1(predictions(forward, test), labels(test))


def run(
    task: Task,
    entries: Sequence[Entry],
    resume: bool = False,
    on_error: OnError | None = None,
    show_progress: bool = True,
) -> Iterator[tuple[Record, Point]]:
    """Measure every entry at each of its numbers of steps: the row so far, stored, and its new point.

    Points that a row's file holds of the same configuration stay; with ``resume`` those that are asked for are
    yielded as they are instead of being measured again. Steps that fail are reported to ``on_error`` and the others
    go on; without ``on_error`` the exception passes.

    Raises:
        ValueError: two entries would be stored in one file.
        ResultError: a result cannot be written.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    _refuse_equal_names(task, entries)
    provenance = results.provenance(task.seed, device_of(task.model))
    digests: dict[int, str] = {}
    anns: dict[tuple[int, int], tuple[Record, torch.Tensor]] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True, disable=not show_progress) as bar:
        for entry in entries:
            model = (entry.model if entry.model is not None else task.model).eval()
            test = task.test_of(entry)
            if id(model) not in digests:
                digests[id(model)] = results.digest(model)
            row = _Row(task, entry, model, digests[id(model)], provenance, on_error, bar)
            todo = row.begin(resume)
            yield from ((row.record, item) for item in row.kept)
            if not todo:
                continue
            key = id(model), len(test)
            if key not in anns:
                anns[key] = _ann(model, test)
            row.record["ann"], row.predicted["ann"] = anns[key]
            yield from row.measure_methods(todo) if entry.methods else row.measure_recipe(todo)


def _refuse_equal_names(task: Task, entries: Sequence[Entry]) -> None:
    names = Counter(results.path_of(task.folder, entry.label) for entry in entries)
    for path, count in names.items():
        if count > 1:
            raise ValueError(f"{count} rows would be stored in {path.name}; give them labels that differ in letters")


def device_of(model: nn.Module) -> torch.device:
    """Where a network's parameters are."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def _images(batches: Sequence[Batch]) -> int:
    return sum(len(y) for _, y in batches)


def _ann(model: nn.Module, test: Sequence[Batch]) -> tuple[Record, torch.Tensor]:
    """The source network's figures (accuracy, seconds for the test images, operations and energy an image), answers."""
    from snnbench.results.migration import of_totals
    from snnconv.metrics.profiling import MAC_JOULES
    from snnconv.metrics.synapses import WatchedMacs

    start = time.perf_counter()
    predicted = predictions(model, test)
    seconds = time.perf_counter() - start
    with torch.no_grad(), WatchedMacs() as macs:
        model(test[0][0][:1])
    figures = {
        "metrics": {"top1": top1(predicted, labels(test))},
        "seconds": seconds,
        "macs": macs.total,
        "energy_joule": MAC_JOULES * macs.total,
        "energies": of_totals(0.0, macs.total),
    }
    return figures, predicted


def spike_figures(model: nn.Module, snn: Any, loader: Sequence[torch.Tensor]) -> tuple[Record, list[str]]:
    """Spikes, operations and energy an image from `snnconv.profile`, and what it could not count."""
    import snnconv

    profile = snnconv.profile(model, snn, loader)
    return results.counted(profile), list(profile.notes)


def has_levels(method: Any) -> bool:
    """Whether a method's neurons have levels that a quantised network could have: each spike worth as much."""
    return bool(method.coding != "differential")


def twin_figures(
    model: nn.Module, snn: Any, task: Task, test: Sequence[Batch], answered: torch.Tensor
) -> Record | None:
    """The quantised ANN with as many levels on the same images; None where the coding has no levels.

    ``answered`` holds the spiking network's classes: the share that it shares with the quantised one is told.

    In rate coding a corrected bias makes up for what spikes do unevenly, which a quantised network does not: there it
    is made from the same conversion without correction.
    """
    import snnconv
    from snnconv.metrics import costs

    if not has_levels(snn.method):
        return None
    plain = snn
    if snn.method.coding == "rate" and snn.method.correction != "none":
        method = dataclasses.replace(snn.method, correction="none")
        plain = snnconv.convert(model, method, calibration=list(task.calibration), progress=False)
    twins = [snnconv.quantised_twin(plain), snnconv.quantised_twin(plain, int8_weights=True)]
    found = [predictions(twin, test) for twin in twins]
    scores = [{"top1": top1(predicted, labels(test))} for predicted in found]
    agreement = float((found[0] == answered).double().mean())
    levels = max(twins[0].levels.values())
    counts = snnconv.profile(model, snn, [test[0][0][:1]])
    energies = {name: cost.of_twin(counts, levels) for name, cost in costs.COSTS.items()}
    return {
        "levels": levels,
        "metrics": scores[0],
        "metrics_int8": scores[1],
        "agreement": agreement,
        "energies": energies,
    }


def header(task: Task, entry: Entry, weights: str, provenance: Record) -> Record:
    """The fields of an entry's row that are known before it is measured."""
    architecture = entry.architecture or task.architecture
    settings = entry.methods[0] if entry.methods else entry.recipe
    method = results.describe(settings, None if entry.methods else "SpikingJelly")
    images = _images(task.test_of(entry))
    config = {
        "dataset": task.dataset,
        "architecture": architecture,
        "weights": weights,
        "method": method,
        "test_images": images,
        "calibration_images": sum(len(x) for x in task.calibration),
        "seed": task.seed,
    }
    return {
        "task": task.name,
        "dataset": task.dataset,
        "split": task.split,
        "samples": images,
        "architecture": architecture,
        "label": entry.label,
        "method": method,
        "metric": "top1",
        "higher_is_better": True,
        "sites": None,
        "training": entry.training if entry.model is not None else task.training,
        "config": config,
        "weights": weights,
        **provenance,
    }


@dataclass
class _Row:
    """One entry while it is measured: its record, its file, and what is left to do."""

    task: Task
    entry: Entry
    model: nn.Module
    digest: str
    provenance: Record
    on_error: OnError | None
    bar: Any
    record: Record = field(default_factory=dict)
    kept: list[Point] = field(default_factory=list)
    predicted: dict[str, torch.Tensor] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        return results.path_of(self.task.folder, self.entry.label)

    @property
    def counted_on(self) -> torch.Tensor:
        return self.task.test[0][0][: self.task.profile_images]

    def begin(self, resume: bool) -> list[Any]:
        """Read what is stored; the methods, or the recipe's numbers of steps, that are to be measured."""
        task, entry = self.task, self.entry
        row = header(task, entry, self.digest, self.provenance)
        self.record = results.begin(self.path, row)
        steps = [(m.timesteps, m.pre_timesteps_) for m in entry.methods] or [(t, 0) for t in entry.timesteps]
        found = [results.finished(self.record, row["config"], *pair) if resume else None for pair in steps]
        self.kept = [item for item in found if item is not None]
        wanted: Sequence[Any] = entry.methods or entry.timesteps
        return [item for item, stored in zip(wanted, found, strict=True) if stored is None]

    def measure_methods(self, methods: Sequence[Any]) -> Iterator[tuple[Record, Point]]:
        import snnconv

        test = self.task.test_of(self.entry)
        for method in methods:
            line = self.bar.add_task(f"{self.entry.label} T={method.latency}", total=_images(test))
            try:
                start = time.perf_counter()
                snn: Any = snnconv.convert(self.model, method, calibration=list(self.task.calibration))
                converted = time.perf_counter()
                predicted = predictions(snn, test, functools.partial(self.bar.advance, line))
                seconds = {"convert": converted - start, "evaluate": time.perf_counter() - converted}
                memory = results.peak_memory(device_of(self.model))
                figures, notes = spike_figures(self.model, snn, [self.counted_on])
                twin = twin_figures(self.model, snn, self.task, test, predicted)
            except Exception as error:
                self._failed(method.latency, error)
                continue
            finally:
                self.bar.remove_task(line)
            self.record["sites"] = results.sites(snn.report)
            measured = results.point(
                method.timesteps,
                {"top1": top1(predicted, labels(test))},
                seconds,
                pre_timesteps=method.pre_timesteps_,
                window=(snn.delay + 1, method.timesteps),
                memory_mib=memory,
                thresholds=results.thresholds(snn.report),
                twin=twin,
                **figures,
            )
            self.predicted[word_of(measured)] = predicted
            yield self._store(measured, notes)

    def measure_recipe(self, timesteps: Sequence[int]) -> Iterator[tuple[Record, Point]]:
        recipe, test = self.entry.recipe, self.task.test_of(self.entry)
        assert recipe is not None
        line = self.bar.add_task(self.entry.label, total=_images(test))
        try:
            result = evaluate_recipe(
                self.model,
                recipe,
                self.task.calibration,
                test,
                self.counted_on,
                timesteps,
                lambda done: self.bar.advance(line, done),
            )
            memory = results.peak_memory(device_of(self.model))
        except Exception as error:
            for steps in timesteps:
                self._failed(steps, error)
            return
        finally:
            self.bar.remove_task(line)
        self.record["sites"] = {"spiking": result.sites, "analog": None}
        for t in timesteps:
            measured = results.point(
                t,
                {"top1": result.accuracy[t]},
                # one run serves every T, so its time is shared out by the number of steps
                {"convert": result.seconds_convert, "evaluate": result.seconds_run * t / result.timesteps},
                window=(result.delay.get(t, 0) + 1, t),
                pipelined_latency=t,
                memory_mib=memory,
                spikes=result.spikes[t],
                spikes_per_neuron=result.spikes_per_neuron[t],
            )
            self.predicted[word_of(measured)] = result.predicted[t]
            yield self._store(measured, [NOT_COUNTED])

    def _failed(self, steps: int, error: Exception) -> None:
        if self.on_error is None:
            raise error
        self.on_error(self.entry, steps, error)

    def _store(self, measured: Point, notes: Sequence[str]) -> tuple[Record, Point]:
        self.record = results.with_point(self.record, measured, notes)
        results.write(self.path, self.record, self._answers())
        return self.record, measured

    def _answers(self) -> results.Answers:
        true = labels(self.task.test_of(self.entry))
        right = {word: {"right": (found == true).byte().numpy()} for word, found in self.predicted.items()}
        return results.Answers("right", {"label": true.int().numpy()}, right)
