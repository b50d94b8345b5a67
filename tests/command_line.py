"""Commands run in the test's own process."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple

from typer import Typer
from typer.testing import CliRunner


class Done(NamedTuple):
    """What a command printed, its exit status, and what it raised."""

    exit_code: int
    stdout: str
    stderr: str
    exception: BaseException | None

    @property
    def output(self) -> str:
        """Both streams, one after the other."""
        return self.stdout + self.stderr


class Runner:
    """typer's runner with stdout and stderr apart, which click keeps so since 8.2 and only when told before."""

    def __init__(self, **env: str) -> None:
        settings: dict[str, Any] = {"env": {"COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1", **env}}
        if "mix_stderr" in inspect.signature(CliRunner).parameters:
            settings["mix_stderr"] = False
        self._runner = CliRunner(**settings)

    def invoke(self, app: Typer, arguments: Sequence[str]) -> Done:
        done = self._runner.invoke(app, list(arguments))
        return Done(done.exit_code, done.stdout, done.stderr, done.exception)
