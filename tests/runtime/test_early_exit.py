"""Early exit: what is settled leaves, what is not is as in a plain run."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import snnconv
from snnconv import ConversionError, methods
from snnconv.runtime import early_exit
from snnconv.runtime.population import Population

GENERATOR = torch.Generator().manual_seed(0)
X = torch.rand(40, 3, 10, 10, generator=GENERATOR)


def network(method: methods.Method, framework: str = "spikingjelly") -> snnconv.SpikingNetwork:
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(32, 5),
    ).eval()  # fmt: skip
    with torch.no_grad():
        model[-1].weight *= 4
    return snnconv.convert(model, method, X, framework=framework, progress=False)


METHODS = [
    methods.IF(16),
    methods.SignedIF(16),
    methods.SRP(16, pre_timesteps=4),
    methods.LocalThresholdBalancing(16, delay=5, max_batches=5),
]


@pytest.mark.parametrize("framework", ["spikingjelly", "snntorch"])
@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_a_settled_output_is_the_streams_at_that_step(method: methods.Method, framework: str) -> None:
    snn = network(method, framework)
    snn.memory_budget = 2**40
    stream = dict(snn.stream(X))
    half = float(stream[9].softmax(1).amax(1).median())
    result = snn.early_exit(X, confidence=half, every=3, at_least=4)
    taken = result.steps.tolist()
    assert set(taken) <= {6, 9, 12, 15, 16}
    assert len(set(taken)) > 1
    for index, t in enumerate(taken):
        assert torch.allclose(result.output[index], stream[t][index], atol=1e-5)
        confident = result.output[index].softmax(0).max() >= half - 1e-5
        assert confident or t == 16
    assert result.average_steps == pytest.approx(sum(taken) / len(taken) + method.pre_timesteps_)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_what_never_settles_is_the_plain_readout(method: methods.Method) -> None:
    snn = network(method)
    result = snn.early_exit(X, margin=1e9)
    assert result.steps.unique().tolist() == [16]
    assert torch.allclose(result.output, snn(X), atol=1e-5)


def test_what_is_settled_costs_nothing_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    snn = network(methods.IF(16))
    fired: list[int] = []
    fire = Population.fire_from

    def count(self: Population, memory: dict, site: str, x_seq: torch.Tensor, **how: bool) -> object:
        if site == "2":
            fired.append(x_seq.shape[0] * x_seq.shape[1])
        return fire(self, memory, site, x_seq, **how)

    monkeypatch.setattr(Population, "fire_from", count)
    half = float(snn.early_exit(X, margin=1e9).output.softmax(1).amax(1).median())
    fired.clear()
    result = snn.early_exit(X, confidence=half, every=2)
    assert int(result.steps.sum()) <= sum(fired) < 0.9 * 16 * len(X)
    monkeypatch.setattr(early_exit, "MOVE", 0)  # everything that is settled leaves at once
    fired.clear()
    again = snn.early_exit(X, confidence=half, every=2)
    assert sum(fired) == int(result.steps.sum())
    assert torch.equal(again.steps, result.steps)
    assert torch.allclose(again.output, result.output, atol=1e-5)


def test_a_batch_in_parts_is_the_whole() -> None:
    snn = network(methods.SignedIF(16))
    whole = snn.early_exit(X, margin=0.5)
    snn.memory_budget = int(snn.input_spec["constant_bytes"] + 16 * snn.input_spec["step_bytes"]) * 7
    parts = snn.early_exit(X, margin=0.5)
    assert torch.equal(whole.steps, parts.steps)
    assert torch.allclose(whole.output, parts.output, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "margin or confidence"),
        ({"margin": 1.0, "confidence": 0.5}, "margin or confidence"),
        ({"margin": -1.0}, "margin is -1.0"),
        ({"confidence": 0.0}, "confidence is 0.0"),
        ({"confidence": 1.5}, "confidence is 1.5"),
        ({"margin": 1.0, "every": 0}, "every=0"),
    ],
)
def test_bad_arguments_are_named(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        network(methods.IF(4)).early_exit(X, **options)


def test_networks_that_cannot_leave_early_say_why() -> None:
    with pytest.raises(ConversionError, match="nothing is known before the last step"):
        network(methods.ShiftedThreshold(4)).early_exit(X, margin=1.0)
    images = snnconv.convert(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval(), methods.IF(4), X, progress=False)
    with pytest.raises(ConversionError, match=r"one output \[B, classes\]; this network gives \[B, 4, 8, 8\]"):
        images.early_exit(X, margin=1.0)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
@pytest.mark.parametrize("threads", [1, 2])
def test_blocks_are_joined_and_run_side_by_side(method: methods.Method, threads: int) -> None:
    snn = network(method)
    confidence = float(snn(X).softmax(1).amax(1).median())
    whole = snn.early_exit(X, confidence=confidence, every=2)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        spec = snn.input_spec
        snn.memory_budget = 6 * int(spec["constant_bytes"] + 4 * spec["step_bytes"] + 2 * spec["neurons"])
        parts = snn.early_exit(X, confidence=confidence, every=2)
    finally:
        torch.set_num_threads(before)
    assert len(whole.steps.unique()) > 2
    assert torch.equal(whole.steps, parts.steps)
    assert torch.allclose(whole.output, parts.output, atol=1e-5)


def test_what_is_left_is_dealt_evenly() -> None:
    def dealt(sizes: list[int], most: int, threads: int) -> list[int]:
        places = torch.arange(sum(sizes)).split(sizes)
        blocks = [early_exit._Block(here, here[:, None].float()) for here in places]
        found = early_exit._dealt(blocks, most, threads)
        assert torch.equal(torch.cat([b.here for b in found]), torch.arange(sum(sizes)))
        assert all(torch.equal(b.x[:, 0], b.here.float()) for b in found)
        return [len(b.here) for b in found]

    assert dealt([2, 3, 4, 1, 5], 5, 1) == [5, 5, 5]
    assert dealt([2, 3, 4, 1, 5], 100, 2) == [8, 7]
    assert dealt([9, 9, 2], 5, 2) == [5, 5, 5, 5]
    assert dealt([1], 5, 2) == [1]
    assert dealt([7], 5, 1) == [7]


def test_more_inputs_than_the_network_takes() -> None:
    with pytest.raises(ConversionError, match="takes a tensor"):
        network(methods.IF(8)).early_exit((X, X), margin=1.0)


def test_no_inputs() -> None:
    result = network(methods.IF(8)).early_exit(X[:0], margin=1.0)
    assert result.output.shape == (0, 5)
    assert result.steps.shape == (0,)
