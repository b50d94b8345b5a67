"""The short form of ``python tests/faults/disk``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.disk.small import can_mount

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
@pytest.mark.skipif(not can_mount(), reason="only an administrator mounts a file system")
def test_a_full_disk_loses_nothing_is_said_with_the_file_and_the_next_run_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("mmengine")
    pytest.importorskip("matplotlib")
    record = tmp_path / "disk.json"
    command = [sys.executable, "tests/faults/disk", "--count", "44", "--seed", "2", "--record", str(record)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
    if "no file system can be mounted here" in done.stderr:  # in a container that may not
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    ended = json.loads(record.read_text())["ended"]
    assert {"refused", "written"} == {outcome for found in ended.values() for outcome in found}
