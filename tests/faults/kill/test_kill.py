"""The short form of ``python tests/faults/kill``, in a process of its own: it forks, which threads do not survive."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="forks, and kills the fork")
def test_a_killed_job_that_runs_again_ends_as_one_that_nobody_disturbed(tmp_path: Path) -> None:
    pytest.importorskip("mmengine")
    record = tmp_path / "kill.json"
    command = [sys.executable, "tests/faults/kill", "--count", "5", "--seed", "1", "--record", str(record)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert sum(json.loads(record.read_text())["killed"].values()) == 5
