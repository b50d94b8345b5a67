"""``python -m benchmarks.gpu_check``: does everything run on this GPU, is it right, how fast is it?

Each part runs in a process of its own, which is ended at the part's limit, and writes its figures line by line. A
second run goes on: it measures what failed or was left out.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.main import GOES_ON, exit_with
from benchmarks.speed.__main__ import RESULTS
from snnbench.results.provenance import provenance

from .device import Device
from .record import Log, Setting, table

PARTS = {"kernels": 55.0, "networks": 60.0, "speed": 65.0, "int8": 15.0, "training": 80.0}
"""Seconds of each part; all that it starts ends with it."""
WHOLE = "the whole part"
START = 12.0
"""Seconds of a part's limit that go to starting its process and to the case at hand when the others are left out."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: 0, or 1 where a case failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_check", description=__doc__)
    parser.add_argument("--only", choices=list(PARTS), action="append", help="this part (again for more)")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--small", action="store_true", help="shapes, steps and repeats for a processor")
    parser.add_argument("--out", type=Path, help="file of figures, one JSON object a line; goes on where it stopped")
    parser.add_argument("--here", action="store_true", help="in this process, without an end to what takes too long")
    options = parser.parse_args(arguments)
    device = Device(options.device)
    out = options.out or RESULTS / f"gpu_check_{options.device}.jsonl"
    parts = options.only or list(PARTS)
    log = Log(out, machine(device, options.small))
    for part in parts:
        if options.here:
            setting = Setting(device, options.small, limit(part, options.small) - START)
            log.run(part, importlib.import_module(f".{part}", __package__).cases(setting), setting)
        else:
            took, why = _apart(part, options, out)
            log = Log(out, log.machine)  # with what the process has written
            log.put(part, WHOLE, **{"error": why} if why else {}, seconds=took)
    if not options.here:
        print(table(log))
    return int(any("error" in row for row in log.rows.values()))


def limit(part: str, small: bool) -> float:
    """Seconds of a part; a processor, however busy, is given ten times as long."""
    return PARTS[part] * (10 if small else 1)


def machine(device: Device, small: bool) -> dict[str, Any]:
    """What the figures are of."""
    return {"device": device.name, "small": small, "versions": provenance(0)["versions"]}


def _apart(part: str, options: argparse.Namespace, out: Path) -> tuple[float, str]:
    """One part in a process of its own: an invalid access, or a kernel without end, takes nothing else with it.

    Returns:
        Seconds, and why it did not come to its end; empty where it did.
    """
    command = [sys.executable, "-m", "benchmarks.gpu_check", "--here", "--only", part]
    command += ["--device", options.device, "--out", str(out), *["--small"] * options.small]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "TQDM_DISABLE": "1"}
    if part == "kernels" and options.device == "cpu":
        environment["TRITON_INTERPRET"] = "1"  # Triton's own switch: its kernels run on a processor, slowly
    seconds, start = limit(part, options.small), time.perf_counter()
    why = ""
    try:
        code = subprocess.run(command, timeout=seconds, env=environment, check=False).returncode
        if code not in (0, 1):
            why = f"its process ended with status {code}"
    except subprocess.TimeoutExpired:
        why = f"it took more than {seconds:g} s and was ended"
    return round(time.perf_counter() - start, 1), why


if __name__ == "__main__":
    exit_with(main, GOES_ON)
