"""Freed memory of large tensors is kept."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from snnconv.runtime.allocation import keep_memory

FAULTS = """
import ctypes, resource, sys, torch
from snnconv.runtime.allocation import keep_memory
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: small pages, whatever the machine is set to
kept = keep_memory()
faults = []
for _ in range(20):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    x = torch.ones(12 * 2**20)
    del x
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(kept, sorted(faults)[10])
"""
ALLOCATOR = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_MMAP_THRESHOLD_")


def run(**chosen: str) -> list[str]:
    environment = {k: v for k, v in os.environ.items() if k not in ALLOCATOR} | chosen
    out = subprocess.run([sys.executable, "-c", FAULTS], env=environment, check=True, capture_output=True, text=True)
    return out.stdout.split()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_pages_are_touched_once() -> None:
    # 48 MiB are 12,288 pages. Where small blocks come to lie is chance, and one behind a large block keeps that one
    # from being used for the next: half of the blocks must be in old pages, in one process of three
    runs = [run() for _ in range(3)]
    assert {kept for kept, _ in runs} == {"True"}
    assert min(int(faults) for _, faults in runs) < 1000


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_who_chose_otherwise_is_left_alone() -> None:
    kept, faults = run(MALLOC_TRIM_THRESHOLD_="131072")
    assert kept == "False"
    assert int(faults) > 10_000


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda *_: ("", ""))
    assert not keep_memory()


@pytest.mark.parametrize("name", ["train", "bench"])
def test_the_long_commands_keep_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import entry_points

    from snnconv.cli.app import app
    from snnconv.runtime import allocation
    from tests.command_line import Runner

    if name not in {entry.name for entry in entry_points(group="snnconv.commands")}:
        pytest.skip(f"snnconv {name} is not installed: the package is only on the path")
    calls: list[bool] = []
    monkeypatch.setattr(allocation, "keep_memory", lambda: calls.append(True))
    Runner().invoke(app, [name, "no/such/config.py"])
    assert calls == [True]
