"""The digits MLP on SANA-FE's Loihi: what is put on the chip, what it does, what that costs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import snnconv
from benchmarks.chip_energy import (
    FACTOR,
    PRICES,
    Events,
    Group,
    compared,
    events_of,
    groups_of,
    priced,
    run,
    simulate,
    spikes_of,
)
from benchmarks.data import DataError
from snnbench.networks.digits import digits_mlp
from snnconv import methods

RECORD = Path(__file__).parents[2] / "benchmarks/exchange/sanafe.json"
T = 6


@pytest.fixture(scope="module")
def network() -> tuple[nn.Module, snnconv.SpikingNetwork, Tensor]:
    torch.manual_seed(0)
    model, x = digits_mlp(width=12).eval(), torch.rand(64, 1, 8, 8)
    return model, snnconv.convert(model, methods.IF(T, per_channel=False), x, progress=False), x


def on_the_chip(groups: list[Group], timesteps: int) -> tuple[list[Tensor], Tensor]:
    """Spikes of each group ``[steps, N]`` and the last one's membrane: each gets its input a step later."""
    depth = len(groups) - 1
    membranes = [group.start - d * group.bias for d, group in enumerate(groups)]
    spikes = [torch.zeros(timesteps + depth, len(group.bias)) for group in groups]
    for step in range(timesteps + depth):
        for d, group in enumerate(groups):
            membranes[d] = membranes[d] + group.bias
            if group.weight is not None and step > 0:
                membranes[d] = membranes[d] + group.weight @ spikes[d - 1][step - 1]
            fired = (membranes[d] >= group.threshold) & (step < timesteps + d)
            if d < depth and fired.any():
                membranes[d] = membranes[d] - group.threshold * fired
            spikes[d][step] = fired.float()
    return spikes, membranes[-1]


def test_the_groups_spike_as_the_network_does_and_give_its_answer(network) -> None:
    _, snn, x = network
    groups = groups_of(snn, x[:1])
    ours: dict[str, Tensor] = {}
    snn.run(x[:1], "steps", lambda site, out: ours.__setitem__(site, (out != 0).float()[:, 0]))
    spikes, answer = on_the_chip(groups, T)
    assert [group.name for group in groups] == [*ours, "answer"]
    for d, seq in enumerate(ours.values()):
        assert torch.equal(spikes[d][d : d + T], seq)
        assert spikes[d].sum() == seq.sum() > 0
    assert torch.allclose(answer / T, snn(x[:1])[0], atol=1e-5)


def test_events_and_prices_by_hand() -> None:
    groups = [
        Group("a", torch.zeros(3), 0.0, 1.0),
        Group("b", torch.zeros(2), 0.0, 1.0, torch.zeros(2, 3)),
        Group("answer", torch.zeros(5), 0.0, float("inf"), torch.zeros(5, 2)),
    ]
    events = events_of(groups, {"a": 7.0, "b": 4.0}, timesteps=6)
    assert events == Events(synaptic=7 * 2 + 4 * 5, accesses=10 * 8, updates=10 * 8, spikes=11, packets=11)
    assert priced(events) == pytest.approx(
        {"synapse": 34 * 35.5e-12, "soma": 80 * (51.2e-12 + 21.6e-12) + 11 * 69.3e-12, "network": 11 * 111e-12}
    )


def test_synaptic_events_and_spikes_are_those_of_profile(network) -> None:
    model, snn, x = network
    events, found = events_of(groups_of(snn, x[:1]), spikes_of(snn, x[:1]), T), snnconv.profile(model, snn, x[:1])
    assert (events.synaptic, events.spikes) == (found.sops, found.spikes)


def test_a_layer_that_is_not_linear_is_named() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 3)).eval()
    x = torch.rand(8, 1, 8, 8)
    snn = snnconv.convert(model, methods.IF(2, per_channel=False), x, progress=False)
    with pytest.raises(snnconv.ConversionError, match="0: only linear layers"):
        groups_of(snn, x[:1])


def test_without_sanafe_it_says_what_to_install_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sanafe", None)
    with pytest.raises(DataError, match=r"pip install sanafe==2\.2\.9 \(GPL"):
        run(["--out", str(tmp_path / "a.json")])


def test_the_stored_comparison_is_within_the_stated_factor_and_explained_by_prices_alone() -> None:
    record = json.loads(RECORD.read_text())
    theirs, ours = record["sanafe"], record["profile"]
    assert theirs["events"] == pytest.approx(record["expected events"]), "both count the same"
    assert theirs["events"]["synaptic"] == pytest.approx(ours["events"]["synaptic"])
    assert theirs["events"]["spikes"] == pytest.approx(ours["events"]["spikes"])
    by_our_counts = priced(Events(**record["expected events"]))
    assert sum(by_our_counts.values()) == pytest.approx(theirs["joules"]["total"], rel=1e-6)
    assert record["ratio"] == pytest.approx(theirs["joules"]["total"] / ours["joules"]["total"])
    assert record["factor"] == FACTOR
    assert 1 / FACTOR < record["ratio"] < FACTOR


def test_sanafe_counts_and_prices_as_expected(network) -> None:
    pytest.importorskip("sanafe", reason="GPL, in an environment of its own")
    model, snn, x = network
    found = compared(snn, model, x[:2])
    assert found["sanafe"]["events"] == pytest.approx(found["expected events"])
    expected = found["expected events at SANA-FE's prices"]
    assert found["sanafe"]["joules"] == pytest.approx(expected)
    events, joules = simulate(groups_of(snn, x[:1]), T)
    assert joules["synapse"] == pytest.approx(PRICES["synaptic event"] * events.synaptic)
