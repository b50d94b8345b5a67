"""Try the methods on a network and its data, give up the hopeless ones early, recommend one that meets a budget."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from snnconv.conversion.convert import convert
from snnconv.graph.capture.fx import TraceFailure, source_graph
from snnconv.graph.source import ConversionError
from snnconv.inputs import placement
from snnconv.methods import Method
from snnconv.metrics.evaluating import METRICS, class_scores
from snnconv.metrics.latency import LATENCIES, latencies
from snnconv.network import SpikingNetwork
from snnconv.progress import ProgressFn, bars
from snnconv.selection.budget import Budget, candidates
from snnconv.selection.data import Samples, collect, divide
from snnconv.selection.recommendation import Recommendation, describe
from snnconv.selection.trial import Z90, Score, Trial, front, paired, scores

__all__ = ["recommend"]

FIRST_RUNG = 100
CALIBRATED = 64  # of the inputs for calibration, until the last round
PROFILED = 16
BATCH = 50


def recommend(
    model: nn.Module,
    data: Any,
    budget: str | Budget,
    *,
    calibration: Any = None,
    test: Any = None,
    score: Score | None = None,
    methods: Sequence[Method] | None = None,
    latency: str = "layer",
    limit: int = 2048,
    seed: int = 0,
    progress: bool | ProgressFn | None = None,
) -> Recommendation:
    """Try the conversion methods on a network and recommend one that meets a budget.

    Successive halving (Jamieson & Talwalkar, AISTATS 2016): every method is scored on a few inputs, then those that
    remain on twice as many, and so on; the last round calibrates on all inputs for that. A method is given up when it
    costs more than the budget, when its drop exceeds the budget beyond the error, when a cheaper one is better beyond
    the error or as good as the source network, or when it is in the worse half and not on the Pareto front.
    Calibration, choice and the closing test each use inputs of their own.

    With a bound on the drop, the cheapest method is recommended whose drop plus one standard error stays within it
    (least energy, then fewest steps; where none does, the smallest drop that does without the error). Without one, it
    is the cheapest within one standard error of the best score.

    Args:
        model: the trained network.
        data: a tensor ``[N, ...]``, a pair (inputs, labels), or a loader; labels are class numbers ``[N]``. Without
            labels, what is scored is the agreement with the source network's own class.
        budget: ``"T=8"``, ``"energy=0.3"``, ``"drop=1.0"`` (percentage points), or several with commas.
        calibration: inputs for calibration; by default a part of ``data``.
        test: inputs, with labels as in ``data``, for the closing test; by default a part of ``data``.
        score: ``score(output, target)`` gives one number a sample, larger is better, instead of accuracy in percent.
        methods: try these instead of the usual ones.
        latency: which steps count, in the budget and on the front: those that a ``"layer"`` runs, those of the
            ``"network"`` where all layers step together, or ``"pipelined"`` ones, each layer a step behind the one
            before (:func:`snnconv.metrics.latency.latencies`).
        limit: samples of ``data``, and of ``test``, to use at most.
        seed: decides which inputs serve for what.
        progress: ``False`` for no progress bar, or a function ``(what, done, total)``.

    Raises:
        ValueError: a budget of another form, or another ``latency``.
        ConversionError: data that cannot be used, or a network that no method converts.

    >>> import torch, snnconv
    >>> model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2)).eval()
    >>> found = snnconv.recommend(model, torch.randn(400, 4), "T=16", progress=False)
    >>> found.best.latency <= 16 and found.holds
    True
    """
    if latency not in LATENCIES:
        raise ValueError(f"latency must be one of {LATENCIES}, got {latency!r}")
    budget = Budget.parse(budget) if isinstance(budget, str) else budget
    where = placement(model)[0]
    given = collect(data, limit, device=where)
    fitting, choosing, held_out = divide(
        given,
        None if calibration is None else collect(calibration, 1024, "calibration", where),
        None if test is None else collect(test, limit, "test", where),
        seed,
    )
    tried = list(methods) if methods is not None else candidates(budget, _is_trained(model))
    training = {m: m.training for m in model.modules()}
    try:
        with bars(progress) as tell:
            race = _Race(model.eval(), budget, fitting, choosing, score, tell, latency)
            trials = race.run([Trial(m) for m in tried])
            done = [t for t in trials if not t.stopped]
            best = _choose(done, budget)
            found = Recommendation(
                budget, best, trials, front(done), float(race.ann.mean()), race.title, latency=latency
            )
            if best is not None and best.network is not None:
                _confirm(found, model, best.network, held_out, score, tell)
    finally:
        for module, was in training.items():
            module.training = was
    return found


class _Race:
    """The trials on growing parts of the inputs for choosing."""

    def __init__(
        self,
        model: nn.Module,
        budget: Budget,
        fitting: Samples,
        data: Samples,
        score: Score | None,
        tell: ProgressFn,
        latency: str = "layer",
    ) -> None:
        self.model, self.budget, self.fitting, self.tell, self.latency = model, budget, fitting, tell, latency
        self.x = list(data.x.split(BATCH))
        self.y, self.score, self.title = _targets(model, data, score)
        self.ann = scores(model, self.x, self.y, self.score)
        self.failures: list[str] = []

    def run(self, trials: list[Trial]) -> list[Trial]:
        seen = 0
        for rung in self._rungs():
            running = [t for t in trials if not t.stopped]
            last = rung == len(self.x)
            if last:  # what is scored on all inputs is calibrated on all inputs
                seen = 0
            what = f"{min(rung * BATCH, len(self.ann))} inputs"
            for done, trial in enumerate(running):
                self.tell(what, done, len(running))
                if seen == 0 and not self._begin(
                    trial, trials, self.fitting.x if last else self.fitting.x[:CALIBRATED]
                ):
                    continue
                assert trial.network is not None
                trial.see(scores(trial.network, self.x[seen:rung], self.y[seen:rung], self.score), self.ann)
                self._stop_if_hopeless(trial, trials)
            self.tell(what, len(running), len(running))
            if not last:
                _halve([t for t in trials if not t.stopped], len(running))
            seen = rung
        if self.failures and len(self.failures) == len(trials):
            raise ConversionError(f"no method converts this network; {self.failures[0]}")
        return trials

    def _rungs(self) -> list[int]:
        """Numbers of batches: few, twice as many, ..., all."""
        found = [FIRST_RUNG // BATCH]
        while 2 * found[-1] < len(self.x):
            found.append(2 * found[-1])
        return [*[n for n in found if 2 * n <= len(self.x)], len(self.x)]

    def _begin(self, trial: Trial, trials: Sequence[Trial], calibration: Tensor) -> bool:
        """Convert and count the costs; False where the trial is over."""
        limit = self.budget.energy
        trial.each = trial.each[:0]
        if hopeless := self._hopeless_unseen(trial, trials):
            trial.give_up(hopeless)
            return False
        try:
            trial.network = convert(self.model, trial.method, calibration=calibration, progress=False)
        except (ConversionError, ValueError) as error:
            self.failures.append(str(error))
            trial.give_up(f"cannot be converted: {error}")
            return False
        from snnconv.metrics import profile

        trial.counted, most = latencies(trial.network)[self.latency], self.budget.latency
        if most is not None and trial.latency > most:
            trial.give_up(f"takes {trial.latency} steps")
            return False
        costs = profile(self.model, trial.network, self.fitting.x[:PROFILED])
        trial.network_latency, trial.energy_ratio = costs.network_latency, costs.energy_ratio
        if limit is not None and trial.energy_ratio is None:
            trial.give_up("its energy cannot be counted")
        elif limit is not None and trial.energy_ratio is not None and trial.energy_ratio > limit:
            trial.give_up(f"takes {trial.energy_ratio:.3f} of the energy")
        return not trial.stopped

    def _hopeless_unseen(self, trial: Trial, trials: Sequence[Trial]) -> str:
        """Why a trial need not be converted; a method's energy does not fall with the number of steps."""
        if self.budget.latency is not None and trial.latency > self.budget.latency:
            return f"takes {trial.latency} steps"
        shorter = [t for t in trials if type(t.method) is type(trial.method) and t.latency < trial.latency]
        energy = max((t.energy_ratio for t in shorter if t.energy_ratio is not None), default=None)
        if energy is None:
            return ""
        if self.budget.energy is not None and energy > self.budget.energy:
            return "fewer steps cost too much energy"
        for other in trials:
            cheaper = other.latency <= trial.latency and other.energy_ratio is not None and other.energy_ratio <= energy
            if other.stopped or not other.samples or not cheaper:
                continue
            most = self.budget.drop
            if most is not None and other.drop + Z90 * other.drop_error <= most:
                return f"{describe(other.method)} meets the drop and costs less"
            if type(other.method) is not type(trial.method) and other.drop <= other.drop_error:
                return f"{describe(other.method)} equals the ANN within the error and costs less"
        return ""

    def _stop_if_hopeless(self, trial: Trial, trials: Sequence[Trial]) -> None:
        most = self.budget.drop
        if most is not None and trial.drop - 2 * Z90 * trial.drop_error > most:
            trial.give_up(f"drops more than {most:g}")
            return
        better = next(
            (t for t in trials if t.samples and t.network is not None and t is not trial and t.beats(trial)), None
        )
        if better is not None:
            trial.give_up(f"{describe(better.method)} is better and costs no more")


def _targets(model: nn.Module, data: Samples, score: Score | None) -> tuple[list[Tensor], Score, str]:
    """Target of each batch, the score, and its name."""
    if score is not None:
        if data.y is None:
            raise ConversionError("score= needs targets: give data as pairs (input, target)")
        return list(data.y.split(BATCH)), score, "score"
    if data.y is not None and (data.y.dim() != 1 or data.y.is_floating_point()):
        raise ConversionError(f"targets of shape {tuple(data.y.shape)} are no class numbers [N]: give score= as well")
    accuracy = METRICS["top1"].score
    with torch.no_grad():
        first = model(data.x[:1])
        if class_scores(first) is None:
            got = tuple(first.shape) if isinstance(first, Tensor) else type(first).__name__
            raise ConversionError(f"the network gives {got} where class scores [B, classes] are needed: give score=")
        if data.y is not None:
            return list(data.y.split(BATCH)), accuracy, "top-1 (%)"
        own = [class_scores(model(x)) for x in data.x.split(BATCH)]
        return [found.argmax(1) for found in own if found is not None], accuracy, "agreement (%)"


def _halve(running: list[Trial], before: int) -> None:
    """Give up the worse half: those farthest below the best that costs no more. The front stays."""
    keep = -(-before // 2)
    if len(running) <= keep:
        return
    held = set(map(id, front(running)))
    behind = {id(t): max(o.score for o in running if o.costs_at_most(t)) - t.score for t in running}
    ordered = sorted(running, key=lambda t: (id(t) not in held, behind[id(t)]))
    for trial in ordered[max(keep, len(held)) :]:
        trial.give_up(f"in the worse half, {behind[id(trial)]:.2f} behind a cheaper one")


def _choose(trials: Sequence[Trial], budget: Budget) -> Trial | None:
    def cost(trial: Trial) -> tuple[float, int]:
        return (math.inf if trial.energy_ratio is None else trial.energy_ratio), trial.latency

    if not trials:
        return None
    if budget.drop is not None:
        sure = [t for t in trials if t.drop + t.drop_error <= budget.drop]
        if sure:
            return min(sure, key=cost)
        within = [t for t in trials if t.drop <= budget.drop]
        return min(within, key=lambda t: t.drop, default=None)
    best = max(trials, key=lambda t: t.score)
    close = [t for t in trials if t is best or _within_one_error(best, t)]
    return min(close, key=cost)


def _within_one_error(best: Trial, other: Trial) -> bool:
    gap, error = paired(best.each, other.each)
    return gap <= error


def _confirm(
    found: Recommendation,
    model: nn.Module,
    network: SpikingNetwork,
    data: Samples,
    score: Score | None,
    tell: ProgressFn,
) -> None:
    """Score the recommended network and the source network on inputs that took no part in the choice."""
    targets, used, _ = _targets(model, data, score)
    x = list(data.x.split(BATCH))
    tell("test", 0, 2)
    ann = scores(model, x, targets, used)
    tell("test", 1, 2)
    snn = scores(network, x, targets, used)
    tell("test", 2, 2)
    found.test_ann, found.test, found.test_samples = float(ann.mean()), float(snn.mean()), len(snn)
    found.test_drop = paired(ann, snn)


def _is_trained(model: nn.Module) -> bool:
    """Whether every activation of the network has a trained threshold."""
    try:
        sites = source_graph(model).sites.values()
    except TraceFailure:
        return False
    return bool(sites) and all(site.threshold is not None for site in sites)
