"""The tables of docs/papers.md: ours from the result files, the papers' from `benchmarks/published`."""

from __future__ import annotations

import functools

from benchmarks.papers.again import stale
from benchmarks.papers.row import ROOT, Row, measured
from benchmarks.papers.rows import ROWS
from snnbench.leaderboard.published import Published, read_published
from snnbench.results import Record
from snnconv.metrics import operations_until

__all__ = ["NOT_RUN", "PAPERS", "stated", "table"]

PAPERS = {
    "rnl": ("arXiv:2105.11654",),
    "fast_snn": ("arXiv:2305.19868",),
    "srp": ("arXiv:2302.02091",),
    "shifted": ("arXiv:2312.06900", "TMLR 2025 (OpenReview WOwQKguWT0)"),
    "ltb": ("arXiv:2409.03368",),
}
"""Table → the publications whose figures stand in it."""
NOT_RUN = {
    "CIFAR-10": "not trained: hours of an accelerator",
    "CIFAR-100": "not run: the data set is not given",
    "ImageNet": "not run: the data set is not given",
    "VOC 2007": "not run: the data set is not given",
    "VOC 2012": "not run: the data set is not given",
    "COCO 2017": "not run: the data set is not given",
    "COCO 2017, 80 classes": "not run: the data set is not given",
    "COCO 2017, VOC's classes": "not run: the data set is not given",
    "Walker2d-v5": "not trained: a million steps, hours on two cores",
    "Kinetics-400": "not run: the data set is not given",
    "S-Kinetics-400": "not run: the data set is not given, nor the paper's list of its videos",
}
"""Data → why there is no result; other rows say it themselves."""


def _figure(record: Record, value: float) -> str:
    return f"{value:,.0f}" if record["metric"] == "return" else f"{value:.2f}"


def _curve(record: Record, steps: tuple[int, ...]) -> str:
    """``75.73 (1), 80.71 (2)``: the row's metric and T."""
    values: dict[int, float] = {}
    for point in record["points"]:
        values.setdefault(point["timesteps"], point["metrics"][record["metric"]])
    return ", ".join(f"{_figure(record, v)} ({t})" for t, v in sorted(values.items()) if not steps or t in steps)


def _ours(row: Row) -> str:
    parts: list[str] = []
    by_config: dict[str, list[Record]] = {}
    for name, record in measured(row):
        by_config.setdefault(name, []).append(record)
    for name, records in by_config.items():
        first = records[0]
        curves = "; ".join(f"{r['label']} {_curve(r, row.show[r['label']])}" for r in records)
        source = _figure(first, first["ann"]["metrics"][first["metric"]])
        title = f"`{name.rpartition('/')[2]}`: " if len(by_config) > 1 else ""
        parts.append(f"{title}{curves}; source {source}")
    return "<br>".join(parts) or "–"


@functools.cache
def _published() -> tuple[Published, ...]:
    return tuple(read_published(ROOT / "benchmarks" / "published"))


def stated(paper: tuple[str, ...], row: Row) -> list[Published]:
    """The paper's figures for a row."""
    if row.published is None:
        return []
    dataset, architecture = row.published
    return [p for p in _published() if p.paper in paper and p.dataset == dataset and p.architecture == architecture]


def _theirs(paper: tuple[str, ...], row: Row) -> str:
    found = stated(paper, row)
    if not found:
        return "–"
    parts = []
    for p in found:
        steps = "" if p.timesteps is None else f" ({p.timesteps})"
        parts.append(f"{p.metric} {p.value:g}" if p.timesteps is None else f"{p.value:.2f}{steps}")
    sources = {p.ann_value for p in found if p.ann_value is not None}
    return ", ".join(parts) + "".join(f"; source {value:.2f}" for value in sorted(sources))


def _why(row: Row) -> str:
    records = [record for _, record in measured(row)]
    before = "; measured with the delay of before, see below" if any(map(stale, records)) else ""
    return (row.why if row.why or records else NOT_RUN[row.data]) + before


def _sops(row: Row) -> str:
    """Operations until 90 and 95 % of the source network, in millions."""
    parts = []
    for _, record in measured(row):
        curve = {p["sops"]: p["metrics"][record["metric"]] for p in record["points"] if p["sops"] is not None}
        ann = record["ann"]["metrics"][record["metric"]]
        if curve and ann > 0:
            found = [operations_until(curve, ann, part) for part in (0.9, 0.95)]
            parts.append(" / ".join("not reached" if n is None else f"{n / 1e6:,.4g}" for n in found))
    return "<br>".join(parts) or "–"


def table(key: str) -> str:
    """The Markdown table of a paper; that of LTB has a column for SOP90 and SOP95."""
    paper = PAPERS[key]
    sops = key == "ltb"
    head = ["network", "data", "config", "ours (T)", "published (T)", *(["SOP90 / SOP95, millions"] if sops else [])]
    lines = ["| " + " | ".join([*head, "why they differ"]) + " |", "| --- " * (len(head) + 1) + "|"]
    for row in ROWS[key]:
        config = "<br>".join(f"`{name}`" for name in row.configs) or "–"
        cells = [row.network, row.data, config, _ours(row), _theirs(paper, row)]
        lines.append("| " + " | ".join([*cells, *([_sops(row)] if sops else []), _why(row)]) + " |")
    return "\n".join(lines)
