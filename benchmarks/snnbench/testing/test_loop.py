"""A mmengine test loop that evaluates the source model and every converted network in one pass over the data."""

from __future__ import annotations

import copy
import itertools
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_reduce, barrier, get_rank, get_world_size, is_main_process
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.registry import LOOPS
from mmengine.runner import TestLoop

from snnbench.testing.answers import Sampled, bootstrap, sampled
from snnbench.testing.convert_hook import bare_model
from snnbench.testing.model_parts import Part, replaced
from snnbench.testing.readouts import Variant, Window, readouts
from snnbench.testing.resume import PartialState
from snnbench.testing.twins import Agreement
from snnconv.progress import bars
from snnconv.sequence import Continued

__all__ = ["SNNTestLoop"]

ANN = "ANN"
Key = tuple[str, Window]


@LOOPS.register_module()
class SNNTestLoop(TestLoop):
    """Tests the model itself and every :class:`~snnbench.testing.readouts.Variant` that ``ConvertHook`` made.

    Each sample is loaded and preprocessed once. Each readout window of each network has its own evaluator; windows of
    one network share one run of it. The state is stored as the pass goes on, so that a killed run resumes.

    Args:
        runner, dataloader, evaluator: as for mmengine's ``TestLoop``.
        saves: how often the state is stored over the pass (at the same batches on every rank).
        progress: a bar with the time left, on the main process.

    Attributes:
        parts, variants, failures: what ``ConvertHook`` made of the model, and the rows it could not convert.
        on_prediction: called as ``(name, samples, inputs)`` with every prediction, for drawing.
        results: metrics by network name and readout window, after the pass.
        samples: what the metrics held of each sample, likewise; not of metrics that are not known.
        errors: standard errors of metrics that have one by bootstrap alone, likewise.
        agreements: share of samples to which a quantised network and its spiking one give the same answer, by name.
        notes: what the metrics say beside their figures, for the result files.
    """

    def __init__(
        self,
        runner: Any,
        dataloader: Any,
        evaluator: Any,
        saves: int = 25,
        progress: bool = True,
        fp16: bool = False,
    ) -> None:
        self.evaluator_cfg = copy.deepcopy(evaluator)
        super().__init__(runner, dataloader, evaluator, fp16)
        self.parts: list[Part] = []
        self.variants: list[Variant] = []
        self.failures: dict[str, str] = {}
        self.notes: list[str] = []
        self.on_prediction: Callable[[str, Sequence[Any], dict[str, Any]], None] | None = None
        self.progress = progress
        self.save_every = max(1, len(self.dataloader) // saves)
        self.resume = False
        self.state: PartialState | None = None
        self.seconds: dict[str, float] = {}
        self.evaluators: dict[Key, Evaluator] = {}
        self.samples: dict[Key, Sampled] = {}
        self.errors: dict[Key, dict[str, float]] = {}
        self.agreements: dict[str, float] = {}

    def keep_state(self, stem: Path, resume: bool, fingerprint: str) -> None:
        """Store the state of the pass as it goes on.

        Args:
            stem: of the file, one a rank.
            resume: go on from what is stored there.
            fingerprint: of everything that decides the figures; a state of another run is not used.

        Raises:
            OSError: the file cannot be written.
        """
        path = stem.with_name(f"{stem.name}-{get_rank()}of{get_world_size()}.pt")
        self.state = PartialState(path, f"{fingerprint}:{len(self.dataloader)}")
        self.state.check()
        self.resume = resume

    # ------------------------------------------------------------------ the pass

    def run(self) -> dict[str, Any]:
        """Run the pass; returns the source model's metrics. ``results`` holds every network's."""
        self.runner.call_hook("before_test")
        self.runner.call_hook("before_test_epoch")
        model = bare_model(self.runner.model).eval()
        self._build_evaluators()
        start = self._restore()
        with self._bar(start) as advance:
            for index, batch in enumerate(self.dataloader):
                if index < start:
                    continue
                self.run_iter(index, batch, model)
                advance()
                if self.state is not None and (index + 1) % self.save_every == 0:
                    self._save(index + 1)
        if self.state is not None:
            self._save(len(self.dataloader))
        self.results = self._evaluate()
        ann = self.results[ANN, (0, 0)]
        self.runner.call_hook("after_test_epoch", metrics=ann)
        self.runner.call_hook("after_test")
        return ann

    @torch.no_grad()
    def run_iter(self, idx: int, data_batch: Any, model: Any = None) -> None:
        """One batch through the source model and every network."""
        self.runner.call_hook("before_test_iter", batch_idx=idx, data_batch=data_batch)
        model = model if model is not None else bare_model(self.runner.model)
        data = model.data_preprocessor(data_batch, False)
        outputs = self._predict(ANN, (0, 0), model, data, data_batch)
        compared = {variant.twin_of: None for variant in self.variants}
        found: dict[Any, Any] = {}
        for variant in self.variants:
            calls: list[list[Any]] = []
            for number, reading in enumerate(variant.readings):
                functions = {part: _reader(variant, part, number, calls if part.once else None) for part in self.parts}
                with replaced(functions):
                    predicted = self._predict(variant.name, reading.window, model, data, data_batch)
                key = variant.name, reading.window
                if key in compared:
                    found[key] = predicted
                elif variant.twin_of is not None:
                    self.evaluators[_agreement(variant)].metrics[0].note(found[variant.twin_of], predicted)
        self.runner.call_hook("after_test_iter", batch_idx=idx, data_batch=data_batch, outputs=outputs)

    def _predict(self, name: str, window: Window, model: Any, data: Any, data_batch: Any) -> Any:
        start = time.perf_counter()
        outputs = model(**data, mode="predict")
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
        self.evaluators[name, window].process(data_samples=outputs, data_batch=data_batch)
        if self.on_prediction is not None:
            self.on_prediction(name, outputs, data)
        return outputs

    # ------------------------------------------------------------------ evaluators

    def _build_evaluators(self) -> None:
        keys: list[Key] = [(ANN, (0, 0))]
        keys += [(variant.name, reading.window) for variant in self.variants for reading in variant.readings]
        duplicates = {key for key in keys if keys.count(key) > 1}
        if duplicates:
            raise ValueError(f"two rows have the same label and steps: {', '.join(sorted(k[0] for k in duplicates))}")
        for key in keys:
            evaluator = (
                self.evaluator if key[0] == ANN else self.runner.build_evaluator(copy.deepcopy(self.evaluator_cfg))
            )
            evaluator.dataset_meta = getattr(self.dataloader.dataset, "metainfo", None)
            for metric in evaluator.metrics:
                metric.results.clear()
                if hasattr(metric, "img_ids") and getattr(self.dataloader.dataset, "_indices", None) is not None:
                    dataset = self.dataloader.dataset  # a part of the data set: score the part
                    metric.img_ids = [dataset.get_data_info(i)["img_id"] for i in range(len(dataset))]
            self.evaluators[key] = evaluator
        for variant in self.variants:
            if variant.twin_of is not None:
                self.evaluators[_agreement(variant)] = Evaluator([Agreement()])

    def _evaluate(self) -> dict[Key, dict[str, float]]:
        """Metrics of every evaluator, without the prefix that metrics put before their names."""
        results: dict[Key, dict[str, float]] = {}
        size = len(self.dataloader.dataset)
        agreements = {_agreement(variant): variant.name for variant in self.variants if variant.twin_of is not None}
        for key, evaluator in self.evaluators.items():
            of_samples = [found for metric in evaluator.metrics if (found := sampled(metric, size)) is not None]
            with _quiet(key[0] != ANN):
                metrics = evaluator.evaluate(size)
            if key in agreements:
                if metrics:
                    self.agreements[agreements[key]] = float(metrics["agreement"])
                continue
            results[key] = {name.rpartition("/")[2]: float(v) for name, v in metrics.items() if _is_number(v)}
            self._keep_samples(key, of_samples, results[key])
            self.notes += [n for m in evaluator.metrics for n in getattr(m, "notes", ()) if n not in self.notes]
        self._score_nothing(results)
        return results

    def _keep_samples(self, key: Key, found: Sequence[Sampled], metrics: dict[str, float]) -> None:
        """Of the evaluator at ``key``: what it held of each sample, and the errors that follow."""
        if not found:
            return
        self.samples[key] = found[0]
        try:
            self.errors[key] = bootstrap(found[0], metrics) if metrics else {}
        except ValueError as error:
            self.notes.append(f"{key[0]}: no bootstrap error: {error}")

    def _score_nothing(self, results: dict[Key, dict[str, float]]) -> None:
        """Zero where a network detects nothing in any image: mmdet's COCO metric says nothing at all then."""
        names = {name for metrics in results.values() for name in metrics}
        for key in [key for key, metrics in results.items() if not metrics]:
            coco = [m for m in self.evaluators[key].metrics if hasattr(m, "_coco_api")]
            if coco:
                found = names or {f"{kind}_mAP" for metric in coco for kind in metric.metrics}
                results[key] = dict.fromkeys(sorted(found), 0.0)
                note = f"{key[0]}: no detection in any image"
                self.notes += [note] if note not in self.notes else []

    # ------------------------------------------------------------------ interruption

    def _save(self, done: int) -> None:
        assert self.state is not None
        self.state.save(done, {key: [m.results for m in e.metrics] for key, e in self.evaluators.items()}, self.seconds)

    def _restore(self) -> int:
        """Batches already done, on every rank."""
        if self.state is None or not self.resume:
            return 0
        done = torch.tensor(self.state.done(self.evaluators))
        if get_world_size() > 1:
            all_reduce(done, "min")
        start = int(done)
        if start:
            stored, self.seconds = self.state.load(start)
            for key, evaluator in self.evaluators.items():
                for metric, results in zip(evaluator.metrics, stored[key], strict=True):
                    metric.results.extend(results)
            self.runner.logger.info(f"resumed: {start} of {len(self.dataloader)} batches are done")
        else:
            why = self.state.problem or "no state of this run is stored"
            self.runner.logger.warning(f"--resume: {why}, so the pass begins with the first batch")
        return start

    def finish(self) -> None:
        """Forget the partial state: the results are stored."""
        barrier()
        if self.state is not None:
            self.state.delete()

    def forget_finished(self) -> None:
        """Forget the state of a run that ended with its last result stored, and before it could `finish`."""
        if self.state is not None and self.state.done():
            self.state.delete()

    @contextmanager
    def _bar(self, start: int) -> Any:
        shown = self.progress and is_main_process()
        title, done = f"testing {1 + len(self.variants)} networks", itertools.count(start + 1)
        with bars(None if shown else False) as tell:
            yield lambda: tell(title, next(done), len(self.dataloader))


def _agreement(variant: Variant) -> Key:
    """Where the comparison of a quantised network with its spiking one is kept."""
    return f"{variant.name}, same answers", variant.readings[0].window


def _reader(variant: Variant, part: Part, number: int, calls: list[list[Any]] | None) -> Callable[[Any], Any]:
    """The part's output at readout ``number``; calls of one pass share a run where ``calls`` is given."""
    network = variant.networks[part.name]
    made = 0
    if isinstance(network, Continued):  # a new batch: new episodes
        network.reset()

    def read(inputs: Any) -> Any:
        nonlocal made
        if calls is None:
            return readouts(network, inputs, [variant.readings[number].window])[0]
        if made == len(calls):
            calls.append(readouts(network, inputs, [reading.window for reading in variant.readings]))
        made += 1
        return calls[made - 1][number]

    return read


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


@contextmanager
def _quiet(silent: bool) -> Any:
    """Metrics log a table for each evaluation: one is enough."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    if silent:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
