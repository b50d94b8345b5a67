"""From entries to boards: one for each data set; ranks and Pareto fronts within each of its networks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from snnbench.leaderboard.entries import Entry, Row, collect
from snnbench.leaderboard.published import Published
from snnbench.leaderboard.statistics import Estimate, comparable, rank_range
from snnbench.results import Answers, Record, slug

__all__ = ["Board", "Network", "build"]

TASKS = ("classification", "segmentation", "detection", "video", "control")
COSTS = {"latency": lambda row: row.latency, "energy": lambda row: row.energy_ratio}


@dataclass(eq=False)
class Network:
    """Entries that are compared with each other: one architecture, measured on the same number of inputs."""

    name: str
    architecture: str
    samples: int
    entries: list[Entry]

    @property
    def anns(self) -> list[Estimate]:
        """The source networks' metrics that differ: one, unless entries start from weights of their own."""
        found: dict[float, Estimate] = {}
        for entry in self.entries:
            found.setdefault(entry.ann.value, entry.ann)
        return [found[value] for value in sorted(found, reverse=True)]

    @property
    def latencies(self) -> list[int]:
        """Every latency at which some entry was measured."""
        return sorted({row.latency for entry in self.entries for row in entry.rows})


@dataclass(eq=False)
class Board:
    """A data set of a task, with what was measured and what publications state; ``networks`` may be empty."""

    name: str
    task: str
    dataset: str
    split: str
    metric: str
    higher_is_better: bool
    networks: list[Network]
    published: list[Published]

    @property
    def entries(self) -> list[Entry]:
        """Every entry, network by network."""
        return [entry for network in self.networks for entry in network.entries]


def build(
    records: Mapping[PurePath, Record],
    published: Sequence[Published] = (),
    answers: Mapping[PurePath, Answers] | None = None,
) -> list[Board]:
    """Boards in the order task, data set: first those with measured results, then those with published numbers alone.

    Args:
        records: file, relative to the folder of results → its content.
        published: numbers to show beside them.
        answers: those that are kept beside the files, by the same file.
    """
    groups: dict[tuple[str, str, str, str], list[Entry]] = {}
    for entry in collect(records, answers):
        record = entry.record
        key = (record["task"], _key(record["dataset"]), record["split"], record["metric"])
        groups.setdefault(key, []).append(entry)
    spelled = _spellings([e.record["dataset"] for g in groups.values() for e in g] + [p.dataset for p in published])
    boards = []
    for (task, dataset, split, metric), entries in groups.items():
        beside = [p for p in published if p.task == task and _key(p.dataset) == dataset]
        higher = entries[0].record["higher_is_better"]
        board = Board("", task, spelled[dataset], split, metric, higher, _networks(entries, higher), beside)
        for network in board.networks:
            _rank(network, higher)
            _mark_fronts(network, higher)
        boards.append(board)
    shown = {id(p) for board in boards for p in board.published}
    rest: dict[tuple[str, str, str, str], list[Published]] = {}
    for number in published:
        if id(number) not in shown:
            key = (number.task, _key(number.dataset), number.split or "", number.metric)
            rest.setdefault(key, []).append(number)
    for (task, dataset, split, metric), numbers in rest.items():
        boards.append(Board("", task, spelled.get(dataset, "not stated"), split, metric, True, [], numbers))
    boards.sort(key=lambda b: (not b.networks, TASKS.index(b.task), slug(b.dataset), b.split, b.metric))
    _name(boards)
    return boards


def _key(name: str | None) -> str:
    """What equal data sets have in common, however they are written: CIFAR-10, cifar10."""
    return slug(name or "").replace("-", "")


def _spellings(names: Iterable[str | None]) -> dict[str, str]:
    """Key → how the data set is shown: with the most capital letters, so CIFAR-10 where a file says cifar10."""
    found: dict[str, str] = {}
    for name in filter(None, names):
        if _key(name) not in found or _capitals(name) > _capitals(found[_key(name)]):
            found[_key(name)] = name
    return found


def _capitals(name: str) -> int:
    return sum(letter.isupper() for letter in name)


def _networks(entries: Sequence[Entry], higher: bool) -> list[Network]:
    sign = 1 if higher else -1
    groups: dict[tuple[str, int], list[Entry]] = {}
    for entry in entries:
        groups.setdefault((entry.record["architecture"], entry.record["samples"]), []).append(entry)
    for group in groups.values():  # the best value first
        group.sort(key=lambda entry: -max(sign * row.estimate.value for row in entry.rows))
    found = [Network(slug(f"{name} {samples}"), name, samples, group) for (name, samples), group in groups.items()]
    return sorted(found, key=lambda n: (-n.samples, len(n.architecture), n.architecture))  # the plainest name first


def _name(boards: Sequence[Board]) -> None:
    taken: set[str] = set()
    for board in boards:
        wanted = slug(f"{board.task} {board.dataset}")
        for more in (board.split, board.metric, *map(str, range(len(boards)))):
            if wanted not in taken:
                break
            wanted = slug(f"{wanted} {more}")
        board.name = wanted
        taken.add(wanted)


def _rank(network: Network, higher: bool) -> None:
    """Rank each row among the best that every entry reaches with no more steps."""
    sign = 1 if higher else -1
    for latency in network.latencies:
        best: dict[int, Row] = {}
        for i, entry in enumerate(network.entries):
            within = [row for row in entry.rows if row.latency <= latency]
            if within:
                best[i] = max(within, key=lambda row: sign * row.estimate.value)
        for i, entry in enumerate(network.entries):
            for row in entry.rows:
                if row.latency == latency:
                    others = [best[k].estimate for k in best if k != i]
                    row.rank = rank_range(row.estimate, others, higher)
                    row.rivals = len(others) + 1
                    row.certain = all(comparable(row.estimate, other) for other in others)


def _mark_fronts(network: Network, higher: bool) -> None:
    sign = 1 if higher else -1
    for name, cost in COSTS.items():
        rows = [row for entry in network.entries for row in entry.rows if cost(row) is not None]
        best = float("-inf")
        for row in sorted(rows, key=lambda r: (cost(r), -sign * r.estimate.value)):
            if sign * row.estimate.value > best:
                best = sign * row.estimate.value
                row.front.add(name)
