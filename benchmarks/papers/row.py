"""A row of the papers' tables: a network on a data set, its configs, and the results that are there."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mmengine.config import Config

from snnbench import catalogue, results
from snnbench.results import Record

__all__ = ["RESULTS", "ROOT", "Row", "committed", "measured"]

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"


@dataclass(frozen=True)
class Row:
    """A network on a data set.

    Attributes:
        network, data: as the table calls them.
        configs: their short names, stage by stage; none where nothing here runs it.
        show: label of a result row → steps to show, all of them if empty; no other rows are shown.
        published: data set and architecture by which the paper's figures are found; None: the paper has none that are
            held.
        why: why ours differ from the paper's, or what of the setting matters.
    """

    network: str
    data: str
    configs: tuple[str, ...] = ()
    show: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    published: tuple[str | None, str | None] | None = None
    why: str = ""


@functools.cache
def committed() -> dict[tuple[str, str, str], Record]:
    """Data set, architecture and label → result file."""
    found = (results.read(path) for path in sorted(RESULTS.rglob("*.json")))
    return {(record["dataset"], record["architecture"], record["label"]): record for record in found}


@functools.cache
def _of(name: str) -> tuple[str, str]:
    """Data set and architecture of a config."""
    config = Config.fromfile(str(catalogue.find(name)), import_custom_modules=False)
    return str(config.bench.get("dataset") or config.model.env), str(config.bench.architecture)  # a policy has no data


def measured(row: Row) -> Iterator[tuple[str, Record]]:
    """The result files of a row's configs, in their order, with the config's name."""
    for name in row.configs:
        for label in row.show:
            record = committed().get((*_of(name), label))
            if record is not None:
                yield name, record
