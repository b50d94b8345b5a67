"""The papers and this project: which config is which experiment, and what came out (docs/papers.md)."""

from benchmarks.papers.row import Row, measured
from benchmarks.papers.rows import ROWS
from benchmarks.papers.table import NOT_RUN, PAPERS, stated, table

__all__ = ["NOT_RUN", "PAPERS", "ROWS", "Row", "measured", "stated", "table"]
