"""Hierarchical multi-threshold neurons, compiled."""

from __future__ import annotations

from ..job import Job
from .multi_threshold import run

__all__ = ["resume", "scan"]


def scan(job: Job) -> None:
    """A sequence, from the start or from the job's state."""
    run(job, hierarchical=True)


resume = scan
