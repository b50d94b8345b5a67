"""Two releases beside each other: what their conversions found differently, and whether that is all."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from benchmarks.against import ROOT, Worker
from benchmarks.against_worker import Digits, Release


@pytest.fixture
def release(tmp_path: Path) -> Release:
    """One that has converted a network and saved it as ``before``."""
    torch.manual_seed(0)
    save_file(Digits().eval().state_dict(), tmp_path / "digits.safetensors")
    save_file(
        {"calibration": torch.rand(32, 1, 8, 8), "test": torch.rand(8, 1, 8, 8)}, tmp_path / "digits.inputs.safetensors"
    )
    found = Release(tmp_path)
    found.convert("digits", "spikingjelly", "IF", "before")
    return found


BEFORE = "before.snn.safetensors"


def outputs(release: Release, name: str) -> torch.Tensor:
    found: torch.Tensor = torch.load(release.folder / name, weights_only=True)
    return found


def test_the_same_conversion_finds_the_same(release: Release) -> None:
    assert release.moved(BEFORE) == {}
    assert torch.equal(outputs(release, release.old_file(BEFORE, "digits")), outputs(release, "before.pt"))


def test_what_differs_is_named_and_taken_back(release: Release) -> None:
    snn = release.snn
    snn.thresholds["act2"] = snn.thresholds["act2"] * 1.5
    next(value for value in snn.weights.state_dict().values() if value.dim() == 1).add_(0.1)
    snn.delay = 3
    found = release.moved(BEFORE)
    assert found.keys() == {"thresholds", "biases", "delay"}
    assert found["thresholds"]["largest"] == pytest.approx(0.5)
    assert 0 < found["thresholds"]["share"] < 1
    assert found["delay"] == [0, 3]
    assert not torch.equal(release.snn(torch.rand(8, 1, 8, 8)), outputs(release, "before.pt"))
    assert torch.equal(outputs(release, release.with_parts_of(BEFORE, "digits")), outputs(release, "before.pt"))


def test_another_difference_stays(release: Release) -> None:
    release.snn.method = type(release.snn.method)(timesteps=4)
    assert release.moved(BEFORE) == {}
    assert not torch.equal(outputs(release, release.with_parts_of(BEFORE, "digits")), outputs(release, "before.pt"))


@pytest.mark.skipif(sys.platform != "linux", reason="reads what the system knows of a process")
def test_both_releases_keep_the_memory_that_a_call_frees(tmp_path: Path) -> None:
    worker = Worker(ROOT, tmp_path)
    # what answers has started: a process that has not may show no environment yet
    with pytest.raises(RuntimeError, match="AttributeError"):
        worker.ask("nothing")
    given = Path(f"/proc/{worker.process.pid}/environ").read_bytes().split(b"\0")
    worker.close()
    assert b"MALLOC_MMAP_MAX_=0" in given
    assert any(value.startswith(b"MALLOC_TRIM_THRESHOLD_=") for value in given)
