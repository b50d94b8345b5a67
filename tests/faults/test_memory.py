"""What a conversion took is given back with its network, whichever way the network was captured."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KEPT = 16 * 2**10
"""Bytes of Python's own that a conversion may leave, in the mean: caches of a bounded size that still fill."""
CONVERT = """
import gc, tracemalloc
import torch
import snnconv
from tests.fuzz.samples import {kind}, inputs

def convert(times):
    for _ in range(times):
        torch.manual_seed(5)
        model = {kind}().train()
        model(inputs())
        snnconv.convert(model.eval(), snnconv.methods.IF(4), inputs(), progress=False)
    gc.collect()

convert(4)
tracemalloc.start(1)
convert(2)
before = tracemalloc.get_traced_memory()[0]
convert(6)
print(round((tracemalloc.get_traced_memory()[0] - before) / 6))
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Traced", "Loop"], ids=["traced", "exported"])
def test_conversions_one_after_another_leave_no_memory_taken(kind: str) -> None:
    # in a process of its own: pytest keeps whatever is logged
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
    done = subprocess.run(
        [sys.executable, "-c", CONVERT.format(kind=kind)],
        env=env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < KEPT
