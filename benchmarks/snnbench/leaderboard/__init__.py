"""Leaderboards from result files: ``snnconv leaderboard``.

files → entries (a method on a network, its seeds together) → boards (one a data set, with ranks and Pareto fronts) →
Markdown and one HTML page. Numbers that publications state stand beside them, marked as not measured here.
"""

from snnbench.leaderboard.boards import Board, Network, build
from snnbench.leaderboard.entries import Entry, Row
from snnbench.leaderboard.published import Published, read_published
from snnbench.leaderboard.render import load, to_html, to_markdown
from snnbench.leaderboard.statistics import Estimate, differ, estimate, rank_range
from snnbench.leaderboard.write import check, write

__all__ = [
    "Board", "Entry", "Estimate", "Network", "Published", "Row", "build", "check", "differ", "estimate", "load",
    "rank_range", "read_published", "to_html", "to_markdown", "write",
]  # fmt: skip
