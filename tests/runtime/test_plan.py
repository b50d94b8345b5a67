"""A run cut along time gives what the whole run gives, in less memory."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import snnconv
from snnconv import dynamics, methods
from snnconv.runtime.int8 import supported
from snnconv.runtime.plan import LARGEST
from tests.runtime.test_footprint import Alive, Residual

X = torch.randn(6, 3, 20, 20, generator=torch.Generator().manual_seed(3))
METHODS = [
    methods.IF(11),
    methods.SignedIF(11),
    methods.SRP(11, pre_timesteps=5),
    methods.LocalThresholdBalancing(11),
]


def network(method: methods.Method, model: nn.Module | None = None) -> snnconv.SpikingNetwork:
    torch.manual_seed(0)
    return snnconv.convert((model or Residual()).eval(), method, calibration=X, progress=False)


def budget(snn: snnconv.SpikingNetwork, steps: int) -> int:
    """The budget of which one input over so many steps takes as much as it may."""
    bytes = int(snn.input_spec["constant_bytes"]) + steps * int(snn.input_spec["step_bytes"])
    return -(-bytes // LARGEST)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
@pytest.mark.parametrize("backend", ["auto", "eager"])
@pytest.mark.parametrize("threads", [1, 2])
def test_pieces_equal_the_whole(method: methods.Method, backend: str, threads: int) -> None:
    snn = network(method)
    snn.backend = backend
    snn.memory_budget = 2**30
    whole, steps = snn(X[:3]), snn.run(X[:1])
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for size, lengths in ((1, [1] * 11), (2, [2] * 5 + [1]), (4, [4, 4, 3]), (6, [6, 5])):
            snn.memory_budget = budget(snn, size)
            assert snn.simulation().time_slices(X[:1], 11) == lengths
            parts = snn.run(X[:1])
            assert parts.shape == steps.shape == (11, 1, 10)
            torch.testing.assert_close(parts, steps, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(snn(X[:3]), whole, rtol=1e-4, atol=1e-5)
            assert all(state is None or not isinstance(state, torch.Tensor) for state in states(snn))
    finally:
        torch.set_num_threads(before)


def states(snn: snnconv.SpikingNetwork) -> list[object]:
    return [value for name in snn.neurons for value in snn.neurons[name].get_states().values()]


def test_less_than_one_step_runs_step_by_step() -> None:
    snn = network(methods.IF(3))
    snn.memory_budget = 1
    assert snn.simulation().time_slices(X[:1], 3) == [1, 1, 1]
    whole = snn(X)
    snn.memory_budget = 2**30
    assert snn.simulation().time_slices(X, 3) == [3]
    torch.testing.assert_close(whole, snn(X), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pooled", ["accumulated", "instantaneous"])
@pytest.mark.parametrize("kind", [methods.IF, methods.SRP])
def test_what_pooling_accumulates_goes_on(kind: type[methods.Method], pooled: str) -> None:
    layers = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten()]
    settings = {"pre_timesteps": 3} if kind is methods.SRP else {}
    snn = network(kind(8, max_pool=pooled, **settings), nn.Sequential(*layers, nn.Linear(512, 4)))
    whole = snn.run(X[:1])
    snn.memory_budget = budget(snn, 2)
    assert snn.simulation().time_slices(X[:1], 8) == [2, 2, 2, 2]
    torch.testing.assert_close(snn.run(X[:1]), whole, rtol=1e-4, atol=1e-5)


def test_srp_is_silenced_by_what_phase_1_leaves() -> None:
    x = torch.randn(32, 4)
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    snn = snnconv.convert(model, methods.SRP(6, pre_timesteps=3, eps=0.25), calibration=x, progress=False)
    theta = next(iter(snn.thresholds.values()))
    v = torch.stack([0.25 * theta, 0.26 * theta, -theta])
    allowed = snn.population.allowed(next(iter(snn.neurons)), dynamics.IFState(v))
    assert allowed.tolist() == [[False] * 3, [True] * 3, [False] * 3]


@pytest.mark.parametrize("method", [methods.IF(64), methods.SignedIF(64), methods.SRP(64, pre_timesteps=4)])
def test_memory_does_not_grow_with_the_steps(method: methods.Method) -> None:
    """One input over 64 steps: the budget, two values a neuron between the pieces, and what is put out."""
    snn = network(method)
    snn.memory_budget = budget(snn, 4)
    remembered = 8 * int(snn.input_spec["neurons"])
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        snn(X[:1])
        with Alive(X) as alive:
            snn(X[:1])
    finally:
        torch.set_num_threads(before)
    assert alive.most <= LARGEST * snn.memory_budget + remembered + X[:1].nbytes + 2 * 64 * 10 * 4 + 4096
    assert alive.most < 64 * int(snn.input_spec["step_bytes"]) / 4


def test_what_is_watched_runs_whole() -> None:
    snn = network(methods.IF(8))
    snn.memory_budget = 1
    seen: dict[str, int] = {}
    snn.run(X, observe=lambda site, out: seen.update({site: len(out)}))
    assert set(seen.values()) == {8}


def test_bits_are_never_cut() -> None:
    snn = network(methods.ShiftedThreshold(4))
    snn.memory_budget = 1
    whole = network(methods.ShiftedThreshold(4))
    torch.testing.assert_close(snn(X), whole(X), rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(bool(supported()), reason=f"8-bit layers: {supported()}")
@pytest.mark.parametrize("method", [methods.IF(8), methods.SRP(8, pre_timesteps=4)])
def test_whole_numbers_in_pieces(method: methods.Method) -> None:
    snn = network(method)
    snn.precision = "int8"
    snn.memory_budget = 2**30
    whole = snn(X)
    snn.memory_budget = budget(snn, 3)
    torch.testing.assert_close(snn(X), whole, rtol=1e-4, atol=1e-5)


def test_several_outputs_lie_one_behind_the_other() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 8), nn.Linear(8, 3), nn.Linear(8, 2)

        def forward(self, x: torch.Tensor) -> dict[str, object]:
            x = self.a(x).relu()
            return {"one": self.b(x), "two": (self.c(x), 7)}

    x = torch.randn(5, 4)
    snn = snnconv.convert(Two(), methods.SignedIF(6), calibration=x, progress=False)
    whole = snn.run(x[:1])
    snn.memory_budget = budget(snn, 4)
    parts = snn.run(x[:1])
    assert parts["one"].shape == (6, 1, 3)
    torch.testing.assert_close(parts["one"], whole["one"])
    torch.testing.assert_close(parts["two"][0], whole["two"][0])
    assert parts["two"][1] == whole["two"][1] == 7
