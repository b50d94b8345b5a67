"""Writing: whole or not at all, with the right permissions, nothing left behind, the path in every message."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from snnconv.files import atomic as files

posix = pytest.mark.skipif(os.name != "posix", reason="permissions and pipes as POSIX has them")


@pytest.fixture
def umask() -> Iterator[int]:
    before = os.umask(0o027)
    yield 0o027
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@posix
def test_a_new_file_follows_the_umask_and_a_replaced_one_its_predecessor(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "net"
    files.write_whole(path, b"new")
    assert mode(path) == 0o666 & ~umask
    path.chmod(0o604)
    files.write_whole(path, b"newer")
    assert (mode(path), path.read_bytes()) == (0o604, b"newer")


@posix
@pytest.mark.parametrize("special", ["pipe", "device", "socket"])
def test_what_is_no_plain_file_is_left_alone(special: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    path = tmp_path / special
    if special == "pipe":
        os.mkfifo(path)
    elif special == "device":
        path.symlink_to("/dev/null")
    else:
        monkeypatch.chdir(tmp_path)  # names of sockets are short
        socket.socket(socket.AF_UNIX).bind(special)
    before = path.stat().st_mode
    for write in (lambda: files.write_whole(path, b"x"), lambda: files.writable(path)):
        with pytest.raises(OSError, match=f"it is a pipe, a socket or a device.*{special}"):
            write()
    assert path.stat().st_mode == before
    assert [p.name for p in tmp_path.iterdir()] == [special]


def test_a_link_keeps_pointing_where_it_did(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there" / "net")
    files.write_whole(tmp_path / "link", b"x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there" / "net").read_bytes() == b"x"


def test_a_folder_is_named(tmp_path: Path) -> None:
    for write in (lambda: files.write_whole(tmp_path, b"x"), lambda: files.writable(tmp_path)):
        with pytest.raises(IsADirectoryError, match="it is a folder; give the name of a file in it") as caught:
            write()
        assert caught.value.filename == str(tmp_path)


@pytest.mark.parametrize("step", ["fsync", "replace", "open"])
def test_a_full_disk_names_the_path_and_leaves_the_old_file(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "net"
    path.write_bytes(b"old")

    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(OSError, match=r"No space left on device: .*net'") as caught:
        files.write_whole(path, b"new")
    monkeypatch.undo()
    assert caught.value.errno == errno.ENOSPC
    assert [p.name for p in tmp_path.iterdir()] == ["net"]
    assert path.read_bytes() == b"old"


@posix
def test_a_later_write_clears_what_killed_ones_left(tmp_path: Path) -> None:
    path = tmp_path / "net"
    code = """
import sys, time
from snnconv.files import atomic as files
with files.replacing(sys.argv[1]) as temporary:
    temporary.write_bytes(b"half")
    print("writing", flush=True)
    time.sleep(60)
"""
    child = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    (left,) = tmp_path.iterdir()
    files.write_whole(path, b"while it writes")
    assert left.read_bytes() == b"half", "a temporary that is being written was removed"
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    files.write_whole(tmp_path / "net2", b"another file")
    assert left.exists(), "a write to another path is no reason"
    files.write_whole(path, b"new")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net", "net2"]


def test_temporaries_of_other_machines_are_cleared_when_they_are_old(tmp_path: Path) -> None:
    path, old = tmp_path / "net", tmp_path / ".net.elsewhere-1-0123abcd.tmp"
    fresh, other = tmp_path / ".net.elsewhere-1-0123abce.tmp", tmp_path / ".net.mine.tmp"
    for left in (old, fresh, other):
        left.write_bytes(b"half")
    os.utime(old, (0, 0))
    os.utime(other, (0, 0))
    files.write_whole(path, b"new")
    assert sorted(tmp_path.iterdir()) == sorted([path, fresh, other])


def test_threads_that_write_one_path_do_not_disturb_each_other(tmp_path: Path) -> None:
    errors: list[BaseException] = []

    def write(number: int) -> None:
        try:
            for _ in range(20):
                files.write_whole(tmp_path / "net", bytes([number]) * 1000)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert [p.name for p in tmp_path.iterdir()] == ["net"]
    assert len(set((tmp_path / "net").read_bytes())) == 1


def test_a_path_is_tried_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files.writable(tmp_path / "net")
    assert not list(tmp_path.iterdir())
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*missing: .*net'"):
        files.writable(tmp_path / "missing" / "net")

    def denied(*args: Any) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(PermissionError, match=r"Permission denied: .*net'"):
        files.writable(tmp_path / "net")
