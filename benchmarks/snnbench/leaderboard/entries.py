"""From result files to entries: a method on a network, its seeds together, a row for each number of steps."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from snnbench.leaderboard.statistics import Estimate, estimate
from snnbench.results import Answers, Point, Record, ResultError, slug
from snnbench.results.answers import word_of
from snnbench.results.kinds import KINDS
from snnconv.files.fingerprint import canonical
from snnconv.files.refusal import brief

__all__ = ["Entry", "Row", "collect"]


@dataclass(eq=False)
class Row:
    """An entry at one number of steps. Figures are means over its seeds, ``None`` where a file does not hold them.

    Attributes:
        estimate: the metric.
        drop: the ANN's metric minus this one, positive where the ANN is better.
        wall_ratio: seconds for all samples over the ANN's.
        rank: best and worst rank among what the network's entries reach with at most this latency.
        rivals: number of entries in that comparison, this one included.
        certain: whether the files give the error of every entry in it; else ``rank`` is the values' order.
        energies: cost model → cost in its unit, mean over the seeds; None where it is not known.
        ann_energies: the same of the source network.
        bits_per_step: log₂ of the number of values that a neuron may send in one step.
        pipeline: steps until a pipeline's first answer, and between answers.
        twin: the quantised network with as many levels: ``levels``, ``value``, with 8-bit weights ``int8``, and the
            share ``agreement`` of inputs to which it gives the same answer, where that was compared.
        front: the costs, of ``"latency"`` and ``"energy"``, for which no row of the network is as good and cheaper.
    """

    timesteps: int
    pre_timesteps: int
    latency: int
    network_latency: int | None
    window: tuple[int, int] | None
    estimate: Estimate
    drop: float
    spikes_per_neuron: float | None
    sops: float | None
    macs: float | None
    energy_ratio: float | None
    wall_ratio: float | None
    convert_seconds: float | None
    command: str
    energies: dict[str, float | None] = field(default_factory=dict)
    ann_energies: dict[str, float | None] = field(default_factory=dict)
    bits_per_step: float | None = None
    pipeline: tuple[int, int] | None = None
    twin: dict[str, float] | None = None
    rank: tuple[int, int] = (1, 1)
    rivals: int = 1
    certain: bool = True
    front: set[str] = field(default_factory=set)

    @property
    def steps(self) -> str:
        """T, or τ + T."""
        return f"{self.pre_timesteps} + {self.timesteps}" if self.pre_timesteps else str(self.timesteps)

    def ratio(self, cost: str) -> float | None:
        """Cost over the source network's under a cost model."""
        own, ann = self.energies.get(cost), self.ann_energies.get(cost)
        return own / ann if own is not None and ann else None

    @property
    def equals_twin(self) -> bool:
        """Whether the quantised network gives every input the same answer: nothing is lost from levels to spikes."""
        return self.twin is not None and self.twin.get("agreement") == 1


@dataclass(eq=False)
class Entry:
    """A method on a network: the result files that differ in nothing but the seed.

    Attributes:
        name: unique; made from the first file's path.
        files: the result files, relative to their folder.
        records: what they hold, in the same order.
        ann: the source network's metric.
        epochs: training epochs that the row needs after the pretrained network; ``None`` where the file does not tell.
        rows: one for each latency.
        hidden: points left out of ``rows``: other readout windows of the same latency.
    """

    name: str
    files: list[str]
    records: list[Record]
    ann: Estimate
    epochs: float | None
    rows: list[Row]
    hidden: int

    @property
    def record(self) -> Record:
        """The first file's content, for what all of them have in common."""
        return self.records[0]

    @property
    def label(self) -> str:
        """The method's name in tables."""
        return str(self.record["label"])

    @property
    def seeds(self) -> list[int | None]:
        """Seed of each file, in rising order."""
        return [record["seed"] for record in self.records]


def collect(records: Mapping[PurePath, Record], answers: Mapping[PurePath, Answers] | None = None) -> list[Entry]:
    """The entries of result files, in the order of their first file.

    Files are repeats of one entry where task, data, network, label and settings are equal and the seeds differ.

    Args:
        records: file, relative to the folder of results → its content.
        answers: those that are kept beside them, by the same file.

    Raises:
        ResultError: files whose figures cannot be put together; it names them.
    """
    kept = {path.as_posix(): found for path, found in (answers or {}).items()}
    groups: dict[str, list[tuple[str, Record]]] = {}
    for path, record in sorted(records.items(), key=lambda item: item[0].as_posix()):
        groups.setdefault(_identity(record), []).append((path.as_posix(), record))
    found: list[Entry] = []
    for members in groups.values():
        members.sort(key=lambda member: (member[1]["seed"] is None, member[1]["seed"] or 0))
        seeds = [record["seed"] for _, record in members]
        repeats = len(set(seeds)) == len(seeds)  # two files of one seed are two measurements, not a repetition
        for group in [members] if repeats else [[member] for member in members]:
            try:
                found.append(_entry(group, kept))
            except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
                files = ", ".join(path for path, _ in group)
                raise ResultError(f"{files}: cannot be shown ({type(error).__name__}: {brief(error)})") from error
    found.sort(key=lambda entry: entry.files[0])
    taken: set[str] = set()
    for entry in found:  # a/b-c.json and a-b/c.json have one slug
        name, number = entry.name, 1
        while entry.name in taken:
            number += 1
            entry.name = f"{name}-{number}"
        taken.add(entry.name)
    return found


def _identity(record: Record) -> str:
    names = ("task", "dataset", "split", "samples", "architecture", "label", "method", "metric")
    settings = {key: value for key, value in record["config"].items() if key not in ("seed", "weights")}
    return canonical([*(record[name] for name in names), settings])


def _entry(members: Sequence[tuple[str, Record]], answers: Mapping[str, Answers]) -> Entry:
    records = [record for _, record in members]
    files = [path for path, _ in members]
    first, metric = records[0], records[0]["metric"]
    values = [record["ann"]["metrics"][metric] for record in records]
    if len({record["weights"] for record in records}) == 1:
        values = values[:1]  # one network measured again is no repetition
    sources = [record["ann"] for record in records[: len(values)]]
    ann = estimate(values, first["samples"], metric, [s["metrics"] for s in sources], _errors(sources, metric))
    points: dict[tuple[int, int, int], list[tuple[Record, Point]]] = {}
    hidden = 0
    for record in records:
        kept, left_out = _one_window(record["points"])
        hidden += left_out
        for point in kept:
            key = (point["latency"], point["timesteps"], point["pre_timesteps"])
            points.setdefault(key, []).append((record, point))
    alone = answers.get(files[0]) if len(files) == 1 else None
    rows = [_row(metric, points[key], ann.value, first["higher_is_better"], alone) for key in sorted(points)]
    name = slug(files[0].removesuffix(".json"))
    return Entry(name, files, records, ann, _epochs(first), rows, hidden)


def _one_window(points: Sequence[Point]) -> tuple[list[Point], int]:
    """Of several readout windows that end at one step, the widest: picking the best would be picking on test data."""
    widest: dict[tuple[int, int], Point] = {}
    for point in points:
        key = (point["pre_timesteps"], point["latency"])
        if key not in widest or _width(point) > _width(widest[key]):
            widest[key] = point
    return list(widest.values()), len(points) - len(widest)


def _width(point: Point) -> int:
    first, last = point["window"] or (1, point["timesteps"])
    return int(last) - int(first)


def _row(
    metric: str, members: Sequence[tuple[Record, Point]], ann: float, higher: bool, answers: Answers | None
) -> Row:
    record, point = members[0]
    metrics = [item["metrics"] for _, item in members]
    errors = _errors([item for _, item in members], metric)
    right = None if answers is None else _right(answers, point, metric)
    measured = estimate([m[metric] for m in metrics], record["samples"], metric, metrics, errors, right)

    def mean(name: str) -> float | None:
        return _mean(item[name] for _, item in members)

    gap = ann - measured.value
    return Row(
        timesteps=point["timesteps"],
        pre_timesteps=point["pre_timesteps"],
        latency=point["latency"],
        network_latency=point["pipelined_latency"],
        window=tuple(point["window"]) if point["window"] else None,
        estimate=measured,
        drop=gap if higher else -gap,
        spikes_per_neuron=mean("spikes_per_neuron"),
        sops=mean("sops"),
        macs=mean("macs"),
        energy_ratio=mean("energy_ratio"),
        wall_ratio=_mean(_wall_ratio(r, p) for r, p in members),
        convert_seconds=_mean(p["seconds"]["convert"] for _, p in members),
        command=point.get("run", {}).get("command", record["command"]),
        energies=_by_model([item.get("energies") for _, item in members]),
        ann_energies=_by_model([r["ann"].get("energies") for r, _ in members]),
        bits_per_step=point.get("bits_per_step"),
        pipeline=None if not point.get("pipeline") else (point["pipeline"][0], point["pipeline"][1]),
        twin=_twin([item.get("twin") for _, item in members], metric),
    )


def _errors(holders: Sequence[Mapping[str, Any]], metric: str) -> list[float | None]:
    """Standard error of the metric in each file."""
    return [(holder.get("errors") or {}).get(metric) for holder in holders]


def _right(answers: Answers, point: Point, metric: str) -> Any:
    """Whether a point's network answered each input right, where the metric is their share."""
    kind, arrays = KINDS[answers.kind], answers.networks.get(word_of(point))
    return None if arrays is None or not kind.right or kind.metric != metric else arrays[kind.right] == 1


def _by_model(found: Sequence[Mapping[str, float | None] | None]) -> dict[str, float | None]:
    """Cost model → mean over the seeds."""
    known = [item for item in found if item]
    if len(known) < len(found):
        return {}
    return {name: _mean(item.get(name) for item in known) for name in known[0]}


def _twin(found: Sequence[Mapping[str, Any] | None], metric: str) -> dict[str, float] | None:
    known = [item for item in found if item]
    if len(known) < len(found):
        return None
    value, int8 = (_mean(item[name].get(metric) for item in known) for name in ("metrics", "metrics_int8"))
    if value is None or int8 is None:
        return None
    agreement = _mean(item.get("agreement") for item in known)
    same = {} if agreement is None else {"agreement": agreement}
    return {"levels": known[0]["levels"], "value": value, "int8": int8, **same}


def _mean(values: Iterable[float | None]) -> float | None:
    known = list(values)
    return None if any(v is None for v in known) else statistics.fmean(v for v in known if v is not None)


def _wall_ratio(record: Record, point: Point) -> float | None:
    """Seconds over the ANN's, where both were measured on one machine and the run served this point alone."""
    own, ann = point["seconds"]["evaluate"], record["ann"]["seconds"]
    if not own or not ann or "machine" in point.get("run", {}):
        return None
    longer = [p for p in record["points"] if p["seconds"] == point["seconds"] and p["latency"] > point["latency"]]
    return None if longer else own / ann


def _epochs(record: Record) -> float | None:
    """Epochs after the pretrained network: fine-tuning after the conversion, and what trained thresholds took."""
    settings: dict[str, Any] = record["config"].get("settings") or {}
    after = float((settings.get("finetune") or {}).get("epochs", 0))
    if record["method"]["fields"].get("thresholds") != "trained":
        return after  # calibrated without labels
    training = record["training"] or {}
    return after + training["epochs"] if training.get("epochs") else None
