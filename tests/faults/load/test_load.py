"""The short form of ``python tests/faults/load``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads what the system says of a process")
def test_memory_files_and_threads_stay_as_they_are(tmp_path: Path) -> None:
    record = tmp_path / "load.json"
    command = [sys.executable, "tests/faults/load", "--seconds", "20", "--record", str(record)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert sum(json.loads(record.read_text())["calls"].values()) > 20
