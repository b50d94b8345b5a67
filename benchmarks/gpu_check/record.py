"""Cases and their figures, as JSON lines that are written one by one and gone on from."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .device import Device

__all__ = ["Case", "Failed", "Log", "Setting", "table"]


class Failed(Exception):
    """What a case found wrong, in a sentence; ``figures`` is what it had measured by then."""

    def __init__(self, message: str, **figures: Any) -> None:
        super().__init__(message)
        self.figures = figures


@dataclass(frozen=True)
class Setting:
    """How a part runs.

    Attributes:
        device: where.
        small: shapes, steps and repeats for a processor.
        seconds: how long the part may take.
    """

    device: Device
    small: bool
    seconds: float


@dataclass(frozen=True)
class Case:
    """One thing to find out: ``run()`` gives its figures, or raises."""

    name: str
    run: Callable[[], dict[str, Any]]


class Log:
    """The file of figures: one JSON object a line, the last one of a case counts.

    Args:
        path: the file; what it holds is not measured again, except what failed or was left out.
        machine: what must be the same in every line (device, versions).

    Raises:
        ValueError: a file of another machine, or one that holds something else.
    """

    def __init__(self, path: Path, machine: dict[str, Any]) -> None:
        self.path = path
        self.machine = machine
        self.rows: dict[tuple[str, str], dict[str, Any]] = {}
        if path.is_file():
            self._read()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._write({"machine": machine})

    def _read(self) -> None:
        for number, text in enumerate(self.path.read_text().splitlines(), 1):
            try:
                row = json.loads(text)
                if "machine" in row:
                    found = row["machine"]
                else:
                    self.rows[row["part"], row["case"]] = row
                    continue
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{self.path}, line {number}, is no line of figures: name another --out") from error
            if found != self.machine:
                raise ValueError(
                    f"{self.path} is of another machine, {found}; here it is {self.machine}: name another --out"
                )

    def _write(self, row: dict[str, Any]) -> None:
        with self.path.open("a") as file:  # a line at once, so that a killed run leaves whole lines
            file.write(json.dumps(row) + "\n")
            file.flush()

    def put(self, part: str, case: str, **figures: Any) -> None:
        """Write one line."""
        row = {"part": part, "case": case, **figures}
        self.rows[part, case] = row
        self._write(row)
        print(line(row), flush=True)

    def done(self, part: str, case: str) -> bool:
        """Whether a case has its figures."""
        row = self.rows.get((part, case))
        return row is not None and "error" not in row and "left_out" not in row

    def run(self, part: str, cases: Iterable[Case], setting: Setting) -> None:
        """Run what has no figures yet, what failed last time behind the rest; a failure is a line like others."""
        start = time.perf_counter()
        todo = [case for case in cases if not self.done(part, case.name)]
        todo.sort(key=lambda case: "error" in self.rows.get((part, case.name), {}))
        lost = ""
        for case in todo:
            if not lost and time.perf_counter() - start > setting.seconds:
                lost = f"the {setting.seconds:g} s of this part are over"
            if lost:
                if "error" not in self.rows.get((part, case.name), {}):
                    self.put(part, case.name, left_out=lost)
                continue
            begun = time.perf_counter()
            figures: dict[str, Any]
            try:
                figures = case.run()
            except Failed as error:
                figures = {**error.figures, "error": str(error)}
            except Exception as error:  # a case reports whatever goes wrong
                figures = {"error": f"{type(error).__name__}: {error}"[:2000]}
            lost = setting.device.lost()
            self.put(part, case.name, **figures, took=round(time.perf_counter() - begun, 2))


def line(row: dict[str, Any]) -> str:
    """One line of figures as a line of the table."""
    if "error" in row:
        text = "FAILED: " + " ".join(row["error"].split()).replace("|", "/")
    elif "left_out" in row:
        text = f"left out: {row['left_out']}"
    else:
        shown = {k: v for k, v in row.items() if k not in ("part", "case", "took")}
        text = ", ".join(f"{key.replace('_', ' ')} {_short(value)}" for key, value in shown.items())
    return f"| {row['part']} | {row['case']} | {text} |"


def _short(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def table(log: Log) -> str:
    """Every case as Markdown."""
    return "\n".join(["| part | case | figures |", "|---|---|---|", *map(line, log.rows.values())])
