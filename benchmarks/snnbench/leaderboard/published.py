"""Numbers that publications state: one JSON file a publication, in the layout of ``published.schema.json``."""

from __future__ import annotations

import functools
import json
import os
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

from snnbench.results import ResultError, located, read_json
from snnbench.results.validation import beyond_measure, sentences

__all__ = ["Published", "read_published"]


@dataclass(frozen=True)
class Published:
    """A number that a publication states; it was not measured here.

    ``None`` where the publication does not state it; ``value`` is ``None`` where only the ANN's figure is given.
    """

    paper: str
    source: str
    method: str
    task: str
    dataset: str | None
    split: str | None
    architecture: str | None
    pre_timesteps: int | None
    timesteps: int | None
    metric: str
    value: float | None
    ann_value: float | None
    note: str = ""

    @property
    def latency(self) -> int | None:
        """τ + T, where both are stated."""
        if self.timesteps is None or self.pre_timesteps is None:
            return None
        return self.pre_timesteps + self.timesteps

    @property
    def url(self) -> str | None:
        """The publication's page, for an identifier of arXiv.

        >>> Published("arXiv:2302.02091", *[""] * 2, "classification", *[None] * 5, "top1", 1.0, 2.0).url
        'https://arxiv.org/abs/2302.02091'
        """
        kind, _, number = self.paper.partition(":")
        return f"https://arxiv.org/abs/{quote(number)}" if kind == "arXiv" else None


@functools.cache
def _schema() -> dict[str, Any]:
    text = files("snnbench.leaderboard").joinpath("published.schema.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def read_published(folder: str | os.PathLike[str]) -> list[Published]:
    """Every published number under ``folder``, file by file; none where there is no such folder.

    Raises:
        ResultError: files that are not in the layout: one sentence each with file, line and field.
    """
    found: list[Published] = []
    bad: list[str] = []
    for path in sorted(Path(folder).rglob("*.json")):
        try:
            content, text = read_json(path)
            if errors := [*beyond_measure(content), *sentences(content, _schema)]:
                raise ResultError(located(path, text, errors[0]))
        except ResultError as error:
            bad.append(str(error))
            continue
        found += [Published(content["paper"], content["source"], **item) for item in content["results"]]
    if bad:
        raise ResultError("\n".join(bad))
    return found
