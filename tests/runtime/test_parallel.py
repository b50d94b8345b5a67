"""Parts of a batch side by side give what they give one after the other."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn

import snnconv
from snnconv import methods
from snnconv.runtime.parallel import run_slices
from snnconv.runtime.simulation import Simulation

GENERATOR = torch.Generator().manual_seed(0)
METHODS = [methods.IF(8), methods.SignedIF(8), methods.SRP(5, pre_timesteps=3), methods.ShiftedThreshold(4)]


@pytest.fixture(params=[2, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def network(method: methods.Method, x: torch.Tensor) -> snnconv.SpikingNetwork:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 5)
    )
    return snnconv.convert(model.eval(), method, x, progress=False)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_the_readout_is_that_of_one_thread(method: methods.Method, threads: int, monkeypatch) -> None:
    x = torch.rand(13, 3, 12, 12, generator=GENERATOR)
    snn = network(method, x)
    ran = set()
    outputs = Simulation.outputs

    def noted(self, *args, **kwargs):
        ran.add(threading.current_thread().name)
        return outputs(self, *args, **kwargs)

    monkeypatch.setattr(Simulation, "outputs", noted)
    together = snn(x)
    assert all(name.startswith("snnconv-slice") for name in ran)
    assert torch.get_num_threads() == threads
    torch.set_num_threads(1)
    assert torch.allclose(together, snn(x), atol=1e-5)
    assert "MainThread" in ran


def test_its_threads_compute_alone_and_others_as_before(threads: int) -> None:
    counts = run_slices(lambda _: torch.get_num_threads(), range(12), threads)
    assert counts == [1] * 12
    with pytest.raises(ZeroDivisionError):
        run_slices(lambda part: 1 // part, [0, 1], threads)
    assert torch.get_num_threads() == threads
    found: list[int] = []
    other = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    other.start()
    other.join()
    assert found == [threads]


def test_a_watched_network_runs_part_after_part(threads: int) -> None:
    x = torch.rand(6, 3, 12, 12, generator=GENERATOR)
    snn = network(methods.IF(8), x)
    names: list[str] = []
    handle = snn.neurons["1"].register_forward_hook(lambda *_: names.append(threading.current_thread().name))
    snn(x)
    handle.remove()
    assert set(names) == {"MainThread"}


def test_an_observed_network_runs_part_after_part(threads: int) -> None:
    x = torch.rand(6, 3, 12, 12, generator=GENERATOR)
    snn = network(methods.IF(8), x)
    names: list[str] = []
    snn.program.executor.observers.append(lambda *_: names.append(threading.current_thread().name))
    snn(x)
    assert set(names) == {"MainThread"}


def test_an_error_of_a_part_comes_out(threads: int) -> None:
    def fail(part: int) -> int:
        raise RuntimeError(f"part {part}")

    with pytest.raises(RuntimeError, match="part 0"):
        run_slices(fail, [0, 1], threads)
