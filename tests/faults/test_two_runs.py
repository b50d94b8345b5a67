"""Runs that add points to one result file at the same time: each keeps the others', also where one is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("jsonschema")

from snnbench import results

ROOT = Path(__file__).parents[2]
POINTS = 15
RUN = """
import sys
from snnbench import results
base = results.read(sys.argv[1])
header = {name: value for name, value in base.items() if name not in ("schema", "config_hash", "points")}
for number in range(int(sys.argv[3]), int(sys.argv[3]) + int(sys.argv[4])):
    steps = {"timesteps": number, "pre_timesteps": 0, "latency": number, "window": [1, number]}
    row = results.begin(sys.argv[2], header)
    results.write(sys.argv[2], results.with_point(row, {**base["points"][0], **steps}))
    print(number, flush=True)
"""


def start(path: Path, first: int) -> subprocess.Popen[str]:
    """A process that adds :data:`POINTS` points to a file and says each when it is written."""
    base = ROOT / "benchmarks" / "results" / "digits" / "if.json"
    command = [sys.executable, "-c", RUN, str(base), str(path), str(first), str(POINTS)]
    folders = os.pathsep.join([str(ROOT / "plugin"), str(ROOT / "benchmarks")])
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": folders})


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kills a process")
@pytest.mark.parametrize(("runs", "killed_after"), [(2, None), (4, 3), (4, 8)])
def test_every_point_that_was_written_is_kept(runs: int, killed_after: int | None, tmp_path: Path) -> None:
    path = tmp_path / "row.json"
    processes = [start(path, 1 + 100 * number) for number in range(runs)]
    said: list[int] = []
    if killed_after is not None:
        assert processes[0].stdout is not None
        said += [int(processes[0].stdout.readline()) for _ in range(killed_after)]
        processes[0].send_signal(signal.SIGKILL)
    said += [int(line) for process in processes for line in process.communicate(timeout=900)[0].split()]
    assert [process.returncode for process in processes[1:]] == [0] * (runs - 1)
    kept = [point["timesteps"] for point in results.read(path)["points"]]
    assert set(said) <= set(kept)  # and one that was being written when the process ended
    assert len(kept) == len(set(kept)) <= len(said) + (killed_after is not None)
    assert len(said) >= POINTS * (runs - (killed_after is not None))
    results.write(path, results.read(path))  # what a killed process left, the next run takes away
    assert [entry.name for entry in tmp_path.iterdir()] == ["row.json"]
