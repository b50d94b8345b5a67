"""A job in a process of its own that ends, unasked, at a moment: one of its writes, or some time after it."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tests.faults.kill.jobs import Job

__all__ = ["Died", "Moment", "Whole", "inside", "killed", "undisturbed"]

LEFT = re.compile(r"\.tmp$|\.lock$|^partial")
"""Names of what is there only while a job runs."""
_EVENTS = ("os.rename", "os.remove", "os.rmdir", "os.mkdir")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Moment(NamedTuple):
    """The ``write``-th time that something is opened for writing, renamed, made or removed; and seconds after it."""

    write: int
    delay: float


class Whole(NamedTuple):
    """A run that nobody disturbed: what it made, how many writes there were, and the seconds that it took."""

    made: Any
    writes: int
    seconds: float


class Died(Exception):
    """A process that ended by itself or with an error; the message holds its last words."""


def inside(folder: Path, function: Callable[[], Any], moment: Moment | None = None) -> tuple[int, Any, int]:
    """Run a function in a fork in a folder: wait status, what it returns, writes."""
    with tempfile.TemporaryDirectory() as outside:
        answer, words = Path(outside) / "answer.json", Path(outside) / "words"
        child = os.fork()
        if child == 0:
            status = 1
            try:
                log = os.open(words, os.O_CREAT | os.O_WRONLY)
                os.dup2(log, 1)
                os.dup2(log, 2)
                os.chdir(folder)
                count = _watch(moment)
                value = function()
                answer.write_text(json.dumps([value, count[0]]))
                status = 0
            except BaseException:
                import traceback

                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            return status, None, 0
        if os.WEXITSTATUS(status):
            raise Died(words.read_text(errors="replace")[-1500:])
        value, writes = json.loads(answer.read_text())
        return status, value, writes


def _watch(moment: Moment | None) -> list[int]:
    """Count, from now on, the writes below the working directory, and end the process at one of them."""
    here, count = os.getcwd() + os.sep, [0]

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = args
            if not (isinstance(flags, int) and flags & _WRITES) and not set(str(mode or "")) & set("wax+"):
                return
        elif event in _EVENTS:
            path = args[0]
        else:
            return
        if not isinstance(path, str | bytes | os.PathLike) or not os.path.abspath(os.fsdecode(path)).startswith(here):
            return
        count[0] += 1
        if moment is not None and count[0] == moment.write:
            if moment.delay == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            threading.Timer(moment.delay, os.kill, (os.getpid(), signal.SIGKILL)).start()

    sys.addaudithook(hook)
    return count


def undisturbed(job: Job) -> Whole:
    """The job from beginning to end."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        job.prepare(folder)
        begin = time.monotonic()
        _, _, writes = inside(folder, job.run)
        seconds = time.monotonic() - begin
        return Whole(inside(folder, job.found)[1], writes, seconds)


def killed(job: Job, whole: Whole, draw: random.Random) -> tuple[str, Moment]:
    """Kill the job at a moment, look, run it again: what is wrong then, or nothing; "ended" where it was too late."""
    moment = Moment(draw.randint(1, max(1, whole.writes)), draw.choice((0.0, 0.0, draw.random() * 0.02, draw.random())))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        job.prepare(folder)
        try:
            status, _, _ = inside(folder, job.run, moment)
            if not os.WIFSIGNALED(status):
                return "ended", moment
        except Died as error:
            return f"the first run fails: {error}", moment
        try:
            half = inside(folder, job.found)[1]
        except Died as error:
            return f"what a killed run leaves is half: {error}", moment
        if half is not None and half != whole.made:
            return f"what a killed run leaves is read as {str(half)[:200]}", moment
        try:
            inside(folder, job.run)
            made = inside(folder, job.found)[1]
        except Died as error:
            return f"the next run fails: {error}", moment
        if made != whole.made:
            return f"the next run makes {str(made)[:200]}, an undisturbed one {str(whole.made)[:200]}", moment
        left = sorted(path.name for path in folder.rglob("*") if LEFT.search(path.name))
        return (f"after the next run there are still {left}" if left else ""), moment
