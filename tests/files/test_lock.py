"""A lock lets one process or thread in at a time and leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from snnconv.files.lock import LockTimeout, locked

COUNT_UP = """
import pathlib, sys
from snnconv.files.lock import locked
path = pathlib.Path(sys.argv[1])
for _ in range(20):
    with locked(path):
        path.write_text(str(int(path.read_text()) + 1))
"""


def count_up(path: Path) -> None:
    for _ in range(20):
        with locked(path):
            path.write_text(str(int(path.read_text()) + 1))


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_nothing_is_lost_between_readers_that_write(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "count"
    path.write_text("0")
    if kind == "threads":
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(count_up, [path] * 3))
    else:
        running = [subprocess.Popen([sys.executable, "-c", COUNT_UP, str(path)]) for _ in range(3)]
        assert [process.wait(120) for process in running] == [0, 0, 0]
    assert path.read_text() == "60"
    assert list(tmp_path.iterdir()) == [path]


def test_who_waits_too_long_is_told_which_file(tmp_path: Path) -> None:
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with locked(tmp_path / "a"):
            inside.set()
            leave.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    inside.wait(60)
    try:
        with (
            pytest.raises(LockTimeout, match=r"a: another process has held .*\.a\.lock for 0 s"),
            locked(tmp_path / "a", 0.01),
        ):
            pass
    finally:
        leave.set()
        holder.join()
    with locked(tmp_path / "a"):
        pass


def test_an_error_inside_lets_go(tmp_path: Path) -> None:
    with pytest.raises(KeyError), locked(tmp_path / "a"):
        raise KeyError
    with locked(tmp_path / "a", 0.01):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no such folder"), locked(tmp_path / "none" / "a", 0.01):
        pass
