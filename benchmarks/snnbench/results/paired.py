"""Two results on the same inputs: whether one is better beyond chance, from the answers beside them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from snnbench.results.answers import ANN, Answers, read_answers, word_of
from snnbench.results.files import read
from snnbench.results.kinds import KINDS, resamples
from snnbench.results.validation import Point, Record, ResultError
from snnconv.metrics import mcnemar

__all__ = ["Paired", "paired"]

TIMES = 2000


@dataclass(frozen=True)
class Paired:
    """The difference of two results on the same inputs.

    Attributes:
        labels: of the rows.
        latency: steps at which they are compared: the last that each reaches within.
        metric, values: what is compared.
        samples: inputs.
        test: McNemar's where each input is right or wrong, else the bootstrap of pairs.
        p_value: how likely a difference as large is where there is none.
        interval: of the difference at 95 %, by the bootstrap; None of McNemar's test.
        alone: inputs that this one alone answers right; None of the bootstrap.
    """

    labels: tuple[str, str]
    latency: tuple[int, int]
    metric: str
    values: tuple[float, float]
    samples: int
    test: str
    p_value: float
    interval: tuple[float, float] | None = None
    alone: tuple[int, int] | None = None

    @property
    def difference(self) -> float:
        """The first's value minus the second's."""
        return self.values[0] - self.values[1]

    def __str__(self) -> str:
        rows = [f"{n}, T = {t}: {self.metric} {v:.2f}" for n, t, v in zip(*self._columns, strict=True)]
        more = f"{self.alone[0]} and {self.alone[1]} inputs are right with one alone" if self.alone else ""
        if self.interval is not None:
            more = f"95 % of resamples lie in {self.interval[0]:+.2f} … {self.interval[1]:+.2f}"
        verdict = "differ" if self.p_value < 0.05 else "cannot be told apart"
        return "\n".join(
            (*rows, f"difference {self.difference:+.2f} on the same {self.samples:,} inputs; {more}",
             f"{self.test}: p = {self.p_value:.3g}: they {verdict} at the 95 % level")
        )  # fmt: skip

    @property
    def _columns(self) -> tuple[tuple[str, str], tuple[int, int], tuple[float, float]]:
        return self.labels, self.latency, self.values


def paired(first: str | os.PathLike[str], second: str | os.PathLike[str], at: int | None = None) -> Paired:
    """Compare two result files on the inputs that both were measured on.

    Where each input is right or wrong by McNemar's exact test, for other metrics by the bootstrap of pairs (Efron
    and Tibshirani 1993): inputs are drawn with replacement, the same for both, 2,000 times.

    Args:
        first, second: result files with answers beside them.
        at: the most steps that either may take; the last point of each by default.

    Raises:
        ResultError: a file without answers, of other inputs or another metric, or without a point within ``at``.
    """
    sides = [_side(Path(path), at) for path in (first, second)]
    (a, own, point), (b, other, beside) = sides
    _check_same(Path(first), Path(second), (a, own), (b, other))
    labels, metric = (a["label"], b["label"]), a["metric"]
    values = (point["metrics"][metric], beside["metrics"][metric])
    latency = (point["latency"], beside["latency"])
    arrays, against = own.networks[word_of(point)], other.networks[word_of(beside)]
    kind, samples = KINDS[own.kind], int(a["samples"])
    if kind.right:
        found = mcnemar(arrays[kind.right] == 1, against[kind.right] == 1)
        alone = (found.only_first, found.only_second)
        return Paired(labels, latency, metric, values, samples, "McNemar's exact test", found.p_value, alone=alone)
    drawn = resamples(samples, TIMES)
    gaps = kind.score(arrays, own.truth, drawn) - kind.score(against, other.truth, drawn)
    whole = kind.score(arrays, own.truth, np.ones((1, samples)))[0]
    gaps *= values[0] / whole if whole else 1.0  # the kind's unit to the file's
    share = min((gaps <= 0).sum(), (gaps >= 0).sum())
    p_value = min(1.0, 2 * (int(share) + 1) / (TIMES + 1))
    low, high = np.quantile(gaps, (0.025, 0.975))
    test = f"bootstrap of pairs, {TIMES:,} times"
    return Paired(labels, latency, metric, values, samples, test, p_value, interval=(float(low), float(high)))


def _side(path: Path, at: int | None) -> tuple[Record, Answers, Point]:
    record = read(path)
    found = read_answers(path, record)
    if found is None:
        raise ResultError(
            f"{path}: holds no answers to the single inputs; measure it again (snnconv bench, python -m "
            "benchmarks.cifar10), which keeps them"
        )
    points = [p for p in record["points"] if (at is None or p["latency"] <= at) and word_of(p) in found.networks]
    if not points:
        raise ResultError(f"{path}: holds no answers of a point within {at} steps; ask for more with --at")
    return record, found, max(points, key=lambda p: (p["latency"], p["timesteps"], -(p["window"] or [1])[0]))


def _check_same(first: Path, second: Path, one: tuple[Record, Answers], two: tuple[Record, Answers]) -> None:
    """Refuse results of different inputs: two tests that need pairs would give a figure all the same."""
    (a, own), (b, other) = one, two
    for name in ("task", "dataset", "split", "samples", "metric"):
        if a[name] != b[name]:
            raise ResultError(
                f"{first} and {second} were not measured on the same inputs: {name} is {a[name]!r} and {b[name]!r}"
            )
    if not (_equal_truth(own, other) and (a["weights"] != b["weights"] or _equal_sources(own, other))):
        raise ResultError(
            f"{first} and {second} were not measured on the same inputs: what is true of them differs; measure both "
            "with one seed and one --limit"
        )


def _equal_truth(own: Answers, other: Answers) -> bool:
    return (
        own.kind == other.kind
        and own.truth.keys() == other.truth.keys()
        and all(np.array_equal(own.truth[name], other.truth[name]) for name in own.truth)
    )


def _equal_sources(own: Answers, other: Answers) -> bool:
    """Whether one source network answered alike; to a hundredth of the inputs: processors round differently."""
    name = KINDS[own.kind].right
    if not name or ANN not in own.networks or ANN not in other.networks:
        return True
    return float(np.mean(own.networks[ANN][name] != other.networks[ANN][name])) <= 0.01
