"""What the page shows, as plain values: its script draws tables and plots from them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from snnbench.leaderboard import wording
from snnbench.leaderboard.boards import Board, Network
from snnbench.leaderboard.budgets import answers
from snnbench.leaderboard.entries import Entry, Row
from snnbench.leaderboard.published import Published
from snnconv.metrics import costs

__all__ = ["commands", "page_data", "rounded"]

COLOURS = 10


def page_data(boards: Sequence[Board]) -> dict[str, Any]:
    """Everything on the page; texts that many entries share are in a pool, and told by their place in it."""
    pool: dict[str, int] = {}
    used = Counter(e.record["method"]["name"] for b in boards for e in b.entries)
    ordered = sorted(used, key=lambda name: (-used[name], name))
    colours = {name: place % COLOURS for place, name in enumerate(ordered)}
    return {
        "costs": {
            name: {"unit": m.unit, "source": m.source, "includes": m.includes, "excludes": m.excludes}
            for name, m in costs.COSTS.items()
        },
        "boards": [_board(board, colours, pool) for board in boards if board.networks],
        "others": [_published(p) for board in boards if not board.networks for p in board.published],
        "pool": list(pool),
    }


def commands(entry: Entry) -> list[tuple[str, str]]:
    """Each command that measured the entry, with the latencies it measured."""
    found: dict[str, list[int]] = {}
    for row in entry.rows:
        found.setdefault(row.command, []).append(row.latency)
    for record in entry.records[1:]:
        found.setdefault(record["command"], [row.latency for row in entry.rows])
    return [(command, ", ".join(map(str, latencies))) for command, latencies in found.items()]


def rounded(number: float | None, digits: int = 6) -> float | None:
    """A figure to so many digits.

    >>> rounded(1234.56789), rounded(None)
    (1234.57, None)
    """
    return None if number is None else float(f"{number:.{digits}g}")


def _board(board: Board, colours: Mapping[str, int], pool: dict[str, int]) -> dict[str, Any]:
    return {
        "name": board.name,
        "dataset": board.dataset,
        "task": board.task,
        "split": board.split,
        "metric": wording.metric(board.metric),
        "higher": board.higher_is_better,
        "networks": [_network(board, network, colours, pool) for network in board.networks],
        "published": [{**_published(p), "same": p.metric == board.metric} for p in board.published],
    }


def _network(board: Board, network: Network, colours: Mapping[str, int], pool: dict[str, int]) -> dict[str, Any]:
    rows = [(entry, row) for entry in network.entries for row in entry.rows]
    place = {id(row): number for number, (_, row) in enumerate(rows)}
    number = {id(entry): at for at, entry in enumerate(network.entries)}

    def told(cost: str | None) -> list[list[Any]]:
        found = answers(network, board.higher_is_better, cost)
        return [[a.budget, place[id(a.row)], [number[id(other)] for other in a.others]] for a in found]

    energy = {name: told(name) for name in costs.COSTS}
    return {
        "name": network.architecture,
        "samples": network.samples,
        "anns": [[rounded(ann.value), rounded(ann.sampling, 3)] for ann in network.anns[:3]],
        "entries": [_entry(entry, colours, pool) for entry in network.entries],
        "rows": [_row(number[id(entry)], row) for entry, row in rows],
        "steps": told(None),
        "energy": {name: found for name, found in energy.items() if found},
    }


def _row(entry: int, row: Row) -> dict[str, Any]:
    figures = {
        "t": row.steps,
        "p": row.network_latency,
        "n": None if row.pipeline is None else list(row.pipeline),
        "b": rounded(row.bits_per_step, 3),
        "s": rounded(row.estimate.sampling, 3),
        "d": rounded(row.estimate.std, 3),
        "k": rounded(row.spikes_per_neuron, 3),
        "o": wording.count(row.sops) if row.sops is not None else None,
        "w": rounded(row.wall_ratio, 3),
        "c": rounded(row.convert_seconds, 3),
        "q": {name: rounded(row.ratio(name), 4) for name in costs.COSTS if row.ratio(name) is not None} or None,
        "j": {name: rounded(row.energies.get(name), 3) for name in costs.COSTS if row.energies.get(name) is not None}
        or None,
        "twin": None if row.twin is None else _twin(row),
    }
    return {
        "e": entry,
        "l": row.latency,
        "v": rounded(row.estimate.value),
        "r": f"{wording.rank(row)} of {row.rivals}",
        **{name: value for name, value in figures.items() if value is not None},
    }


def _twin(row: Row) -> list[Any]:
    assert row.twin is not None
    agreement = rounded(row.twin.get("agreement"), 4)
    return [row.twin["levels"], rounded(row.twin["value"]), rounded(row.twin["int8"]), row.equals_twin, agreement]


def _entry(entry: Entry, colours: Mapping[str, int], pool: dict[str, int]) -> dict[str, Any]:
    record = entry.record

    def pooled(text: str) -> int:
        return pool.setdefault(text, len(pool))

    def pairs(values: Mapping[str, Any]) -> str:
        return "; ".join(f"{name} = {_plain(item)}" for name, item in values.items())

    settings = {k: v for k, v in record["config"].items() if k not in ("method", "dataset", "architecture", "seed")}
    sites = record["sites"]
    analog = (
        None if not sites or sites["analog"] is None else [f"{s['name']} ({s['operator']})" for s in sites["analog"]]
    )
    made = {
        "Method": pairs({"": record["method"]["name"], **record["method"]["fields"]}).removeprefix(" = "),
        "Settings": pairs(settings),
        "Seeds": ", ".join("unknown" if seed is None else str(seed) for seed in entry.seeds),
        "Spiking sites": "" if not sites else str(sites["spiking"]),
        "Stays analog": "" if analog is None else ", ".join(analog[:20]) or "nothing",
        "Trained": pairs(record["training"]) if record["training"] else "",
        "Versions": ", ".join(f"{name} {text}" for name, text in record["versions"].items()),
        "Machine": _machine(record["machine"]),
        "Commit": ", ".join(r["commit"] or "unknown" for r in entry.records),
        "Notes": " ".join(record.get("notes", [])),
    }
    return {
        "id": entry.name,
        "label": entry.label,
        "colour": colours[record["method"]["name"]],
        "epochs": rounded(entry.epochs),
        "hidden": entry.hidden,
        "files": entry.files,
        "commands": [[pooled(command), latencies] for command, latencies in commands(entry)],
        "made": [[pooled(title), pooled(text)] for title, text in made.items() if text],
    }


def _machine(machine: Mapping[str, Any]) -> str:
    threads = f"{machine['threads']} thread{'s' if machine['threads'] != 1 else ''}"
    return ", ".join(filter(None, (machine["processor"], threads, machine["accelerator"], machine["system"])))


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def _published(number: Published) -> dict[str, Any]:
    steps = None if number.timesteps is None else str(number.timesteps)
    if steps and number.pre_timesteps:
        steps = f"{number.pre_timesteps} + {steps}"
    return {
        "method": number.method,
        "data": f"{number.dataset or 'not stated'}{', ' + number.split if number.split else ''}",
        "network": number.architecture or "not stated",
        "t": steps,
        "l": number.latency,
        "metric": wording.metric(number.metric),
        "v": number.value,
        "ann": number.ann_value,
        "paper": number.paper,
        "url": number.url,
        "source": number.source,
        "note": number.note,
    }
