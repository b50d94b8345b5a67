"""What is written on a full disk: one file by a function, or several by a command."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from _pytest.outcomes import Skipped

from snnconv.files.untrusted import read_safetensors
from tests.faults.disk.small import filled, free
from tests.faults.kill.jobs import CONVERT, JOBS, Job
from tests.faults.kill.moments import Died, inside
from tests.faults.test_disk import WRITERS, laid

__all__ = ["TRIES", "Try", "Whole", "needed"]

FULL = ("no space", "cannot be written")
"""What a refusal says, one of them."""


BY_STEPS = ("fine-tuning",)
"""Writers that write their file once a step: with room for the first steps, theirs is there."""


class Whole(NamedTuple):
    """A run with room for all: what it made, the bytes that it took, and its seconds."""

    made: Any
    size: int
    seconds: float


class Try(Protocol):
    """What is tried."""

    def whole(self, place: Path) -> Any:
        """Run with room for all, and give what is made."""

    def run(self, place: Path, left: int, whole: Whole) -> tuple[str, str]:
        """Run with so many bytes left: how it ended, and what is wrong."""


def needed(of: Try, place: Path) -> Whole:
    """A run with room for all."""
    _clear(place)
    before, begin = free(place), time.monotonic()
    made = of.whole(place)
    return Whole(made, before - free(place), time.monotonic() - begin)


def _clear(place: Path) -> None:
    for entry in list(place.iterdir()):
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def _files(place: Path) -> dict[str, str]:
    """Hash of every file by its path, the filler left out."""
    return {
        str(path.relative_to(place)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(place.rglob("*"))
        if path.is_file() and path.name != "filler"
    }


@dataclass(frozen=True)
class File:
    """A file that a function writes, over one that is there, in a process of its own.

    Attributes:
        name: in the table of `tests.faults.test_disk`.
    """

    name: str

    def whole(self, place: Path) -> Any:
        def written() -> list[str]:
            laid(self.name, place)()
            return sorted(_files(place))

        try:
            return inside(place, written)[1]
        except Died as error:
            if "Skipped:" in str(error):
                raise Skipped(str(error).rpartition("Skipped:")[2].strip()) from error
            raise

    def run(self, place: Path, left: int, whole: Whole) -> tuple[str, str]:
        _clear(place)
        try:
            outcome, wrong = inside(place, lambda: self._run(place, left, whole))[1]
        except Died as error:
            return "raw", str(error)
        return outcome, wrong

    def _run(self, place: Path, left: int, whole: Whole) -> tuple[str, str]:
        file, _, kind = WRITERS[self.name]
        path = place / file
        write = laid(self.name, place)
        before = _files(place)
        with filled(place, left):
            try:
                write()
            except kind as error:
                said, after = str(error), _files(place)
                if str(path) not in said and str(path.parent) not in said:
                    return "refused", f"no file named: {said}"
                if self.name in BY_STEPS and path.exists():
                    read_safetensors(path)  # that of an earlier step, which is whole
                elif after != before:
                    return "refused", f"there is something else: {sorted(set(after.items()) ^ set(before.items()))}"
            except BaseException as error:
                return "raw", f"{type(error).__name__}: {error}"
            else:
                return "written", "" if sorted(_files(place)) == whole.made else f"files are {sorted(_files(place))}"
        write()  # there is room again
        return "refused", "" if sorted(_files(place)) == whole.made else f"afterwards files are {sorted(_files(place))}"


@dataclass(frozen=True)
class Command:
    """A command that writes several files, in a process of its own.

    Attributes:
        job: lays out the folder, and tells what was made.
        arguments: of ``snnconv``.
        first: commands with room for all that come before it.
    """

    job: Job
    arguments: Sequence[str]
    first: Sequence[Sequence[str]] = ()

    def _lay(self, place: Path) -> None:
        _clear(place)
        self.job.prepare(place)
        for arguments in self.first:
            inside(place, lambda arguments=arguments: called(arguments))

    def whole(self, place: Path) -> Any:
        self._lay(place)
        status, said = inside(place, lambda: called(self.arguments))[1]
        if status:
            raise Died(said)
        return inside(place, self.job.found)[1]

    def run(self, place: Path, left: int, whole: Whole) -> tuple[str, str]:
        self._lay(place)
        with filled(place, left):
            try:
                status, said = inside(place, lambda: called(self.arguments))[1]
            except Died as error:
                return "raw", str(error)
            outcome = {0: "written", 2: "refused"}.get(status, f"status {status}")
            if outcome not in ("written", "refused"):
                return outcome, said
            if outcome == "refused" and not any(words in said.lower() for words in FULL):
                return outcome, f"it does not say so: {said[-500:]}"
            if outcome == "refused" and not _names(said, place):
                return outcome, f"no file named: {said[-500:]}"
            try:
                half = inside(place, self.job.found)[1]
            except Died as error:
                return outcome, f"what is left is half: {error}"
            if half != whole.made and (outcome == "written" or half is not None):
                return outcome, f"what is left is read as {str(half)[:200]}"
        try:
            status, said = inside(place, lambda: called(self.arguments))[1]
            made = inside(place, self.job.found)[1]
        except Died as error:
            return outcome, f"the next run fails: {error}"
        if status or made != whole.made:
            return (
                outcome,
                f"the next run makes {str(made)[:200]}, one with room for all {str(whole.made)[:200]}; {said[-300:]}",
            )
        return outcome, ""


def _names(said: str, place: Path) -> bool:
    """Whether a message names a file or folder on the disk, as a path from there or a whole one."""
    words = [word.strip("'\"():,;") for word in said.split()]
    return any(word and ("/" in word or "." in word[1:-1]) and (place / word).parent.is_dir() for word in words)


def called(arguments: Sequence[str]) -> tuple[int, str]:
    """Exit status of a command line, and what it said."""
    from typer.testing import CliRunner

    from snnconv.cli.app import app

    os.environ["SNNCONV_CACHE"] = "cache"
    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def _pictures() -> Any:
    """The files that are drawn, where they are there."""
    found = []
    for name in ("curve.png", "page.html"):
        with suppress(FileNotFoundError):
            content = Path(name).read_bytes()
            whole = content.endswith(b"IEND\xaeB`\x82") if name.endswith("png") else b"</html>" in content[-200:]
            if not whole:
                raise ValueError(f"{name} is half")
            found.append(name)
    return found or None


def _tries() -> dict[str, Try]:
    found: dict[str, Try] = {name: File(name) for name in WRITERS}
    net = ["net.py:net", "--data", "set.safetensors", "--timesteps", "8"]
    bench = ["bench", "config.json", "--out", "out", "--work-dir", "work", "--resume"]
    drawn = Job(JOBS["convert"].prepare, JOBS["convert"].run, _pictures)
    found["snnconv convert"] = Command(JOBS["convert"], CONVERT)
    found["snnconv compare --plot"] = Command(drawn, ["compare", *net, "--plot", "curve.png"])
    found["snnconv report"] = Command(drawn, ["report", "net.snn", "--html", "page.html"], [CONVERT])
    found["snnconv train"] = Command(JOBS["train"], ["train", "config.json", "--work-dir", "work"])
    found["snnconv bench"] = Command(JOBS["bench"], bench)
    found["snnconv leaderboard"] = Command(JOBS["leaderboard"], ["leaderboard", "--folder", "."])
    return found


TRIES = _tries()
"""By name."""
