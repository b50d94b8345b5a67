"""Cost models: each figure recomputed by hand, and against SpikingJelly's estimators where both count the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import nn

import snnconv
from snnconv.metrics import Profile, costs
from snnconv.metrics.costs.lemaire import access
from snnconv.metrics.costs.model import Prices
from snnconv.metrics.counts import LayerCost, LayerSize, SiteActivity

T = 4


def by_hand() -> Profile:
    """2 inputs, 3 neurons that send 5 spikes in 4 steps, 2 outputs; biases everywhere."""
    first = LayerCost("0", "input", 6.0, 0.0, 6.0, 0.0, LayerSize("linear", 2, 3, 6, 3, 3))
    second = LayerCost("2", "spikes", 6.0, 10.0, 0.0, 5.0, LayerSize("linear", 3, 2, 6, 2, 2))
    return Profile([SiteActivity("1", 3, 5.0, 5 / 12, T)], [first, second], 12.0, 10.0, 6.0, T, T, 1)


class TestByHand:
    @pytest.mark.parametrize(
        ("model", "snn", "ann"),
        [
            ("45nm", 10 * 0.9e-12 + 6 * 4.6e-12, 12 * 4.6e-12),
            ("int8", 10 * 0.03e-12 + 6 * 0.23e-12, 12 * 0.23e-12),
            ("bit-operations", 10 * 8 + 6 * 64, 12 * 64),
            ("77fj", 10 * 77e-15 + 6 * 12.5e-12, 12 * 12.5e-12),
            # 12 updates: 5 with a spike, 7 silent
            ("loihi", 10 * 23.6e-12 + 5 * 81e-12 + 7 * 52e-12 + 5 * 1.7e-12, None),
        ],
    )
    def test_models_of_events_and_of_arithmetic(self, model: str, snn: float, ann: float | None) -> None:
        found = by_hand().under(model)
        assert found.snn_energy == pytest.approx(snn)
        assert found.ann_energy == (None if ann is None else pytest.approx(ann))
        assert found.energies[model]["snn"] == found.snn_energy

    def test_lemaire_counts_addressing_and_memory_too(self) -> None:
        """Additions 0.1 pJ, products 3.1 pJ; a memory of n words of 4 bytes costs 10 pJ · 4n / 8192 an access."""
        found = by_hand().under("lemaire")

        def ram(words: float) -> float:
            return 10e-12 * 4 * words / 8192

        add, mac = 0.1e-12, 3.2e-12
        # the first layer multiplies once; the second adds 10 weights, and its 2 biases at each of 4 steps
        operations = 6 * mac + 3 * add + (10 + 8) * add + 5 * add
        addressing = (2 + 3) * add + 10 * add
        first = 2 * ram(2) + 6 * ram(9) + 3 * ram(9)
        second = 5 * ram(1000) + (10 + 8) * ram(8) + 10 * 2 * ram(2)
        neurons = 2 * 3 * T * ram(3) + 5 * ram(1000)
        assert found.snn_energy == pytest.approx(operations + addressing + first + second + neurons)
        assert found.classes is not None
        assert found.classes["operations"][1] == pytest.approx(operations)
        assert found.classes["addressing"][1] == pytest.approx(addressing)
        ann = 12 * mac + 5 * add + (5 + 5) * add
        ann += first + 3 * ram(3) + 3 * ram(3) + 6 * ram(8) + 2 * ram(8) + 2 * ram(2)
        assert found.ann_energy == pytest.approx(ann)

    def test_a_larger_memory_is_dearer_to_read_up_to_a_mebibyte(self) -> None:
        prices = [access(words) for words in (0, 10, 2048, 8192, 2**18, 2**20)]
        assert prices == sorted(prices)
        assert prices[0] == 0
        assert prices[2:] == pytest.approx([10e-12, 20e-12, 100e-12, 100e-12])

    def test_the_bits_of_a_twin_follow_its_levels(self) -> None:
        model = costs.get("bit-operations")
        assert model.of_twin(by_hand(), 15) == 6 * 64 + 6 * 8 * 4
        assert model.of_twin(by_hand(), 16) == 6 * 64 + 6 * 8 * 5
        assert costs.get("int8").of_twin(by_hand(), 15) == by_hand().under("int8").ann_energy


class TestWhatAModelHasNoEquationsFor:
    def test_nothing_is_invented(self) -> None:
        beside = replace(by_hand(), ann_functions=3.0, functions=3.0)
        assert beside.under("lemaire").snn_energy is None
        assert beside.under("lemaire").ann_energy is None
        assert beside.under("loihi").snn_energy is None
        assert beside.under("45nm").snn_energy is not None
        assert "not counted" in str(beside.under("lemaire"))

    def test_what_was_not_counted_has_no_cost_under_any_model(self) -> None:
        unknown = replace(by_hand(), sops=None, snn_macs=None)
        assert [figures["snn"] for figures in unknown.energies.values()] == [None] * len(costs.COSTS)


class TestTable:
    @pytest.fixture
    def mine(self) -> Iterator[costs.CostModel]:
        model = costs.CostModel("mine", "a bench", "additions", "the rest", unit="mJ", prices=Prices(1.0, 10.0))
        yield costs.register(model)
        del costs.COSTS["mine"]

    def test_one_of_ones_own_is_used_by_its_name(self, mine: costs.CostModel) -> None:
        found = by_hand().under("mine")
        assert found.snn_energy == 10 + 60
        assert "70 mJ" in str(found)
        assert found.to_dict()["energies"]["mine"] == {"unit": "mJ", "snn": 70.0, "ann": 120.0}
        with pytest.raises(ValueError, match="there is a cost model 'mine' already"):
            costs.register(replace(mine, unit="J"))

    def test_an_unknown_one_is_refused_with_those_that_are_known(self) -> None:
        model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
        snn = snnconv.convert(model, snnconv.methods.IF(2), torch.rand(8, 2), progress=False)
        with pytest.raises(ValueError, match=r"unknown cost model 'watts'; known: 45nm, int8"):
            snnconv.profile(model, snn, torch.rand(8, 2), cost="watts")

    def test_each_says_what_it_counts(self) -> None:
        for model in costs.COSTS.values():
            assert model.source
            assert model.includes
            assert model.excludes
            assert model.unit


def chain(kind: str) -> tuple[nn.Sequential, torch.Tensor]:
    torch.manual_seed(0)
    if kind == "linear":
        layers = [nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 4)]
        return nn.Sequential(*layers).eval(), torch.rand(1, 6)
    layers = [nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 5, 1), nn.ReLU(), nn.Conv2d(5, 2, 1)]
    return nn.Sequential(*layers).eval(), torch.rand(1, 1, 7, 7)


def spikingjelly_network(model: nn.Sequential, snn: snnconv.SpikingNetwork) -> nn.Sequential:
    """From the first neurons on: IF nodes with threshold 1, amplitudes folded into the weights behind them."""
    from spikingjelly.activation_based import layer, neuron

    found: list[nn.Module] = []
    for index in (1, 3):
        threshold = float(snn.neurons[str(index)].v_threshold)
        found.append(neuron.IFNode(v_threshold=threshold, v_reset=None, step_mode="m"))
        old = model[index + 1]
        new = layer.Linear(old.in_features, old.out_features) if isinstance(old, nn.Linear) else None
        if new is None:
            new = layer.Conv2d(old.in_channels, old.out_channels, old.kernel_size)
        new.step_mode = "m"
        new.weight.data, new.bias.data = old.weight.data * threshold, old.bias.data.clone()
        found.append(new)
    return nn.Sequential(*found)


@pytest.mark.parametrize("kind", ["linear", "conv"])
class TestAgainstSpikingJelly:
    def converted(self, kind: str) -> tuple[nn.Sequential, torch.Tensor, snnconv.SpikingNetwork]:
        model, x = chain(kind)
        method = snnconv.methods.IF(T, per_channel=False, correction="none")
        return model, x, snnconv.convert(model, method, x.repeat(4, *[1] * (x.dim() - 1)), progress=False)

    def test_lemaires_model_of_the_spiking_part(self, kind: str) -> None:
        from spikingjelly.activation_based.op_counter import analytical_energy

        model, x, snn = self.converted(kind)
        found = snnconv.profile(model, snn, x)
        theirs = spikingjelly_network(model, snn)
        for index in (0, 2):
            node = theirs[index]
            node.v = 0.5 * node.v_threshold
        with torch.no_grad():
            currents = model[0](x).unsqueeze(0).repeat(T, *[1] * (x.dim()))
        report = analytical_energy.estimate_lemaire_energy(theirs, currents)
        own = costs.get("lemaire").of_snn(replace(found, layers=found.layers[1:]))  # theirs begins behind the first
        assert found.spikes > 0
        assert own == pytest.approx(1e-12 * report.total_pj, rel=1e-6)

    def test_lemaires_model_of_the_ordinary_network(self, kind: str) -> None:
        from spikingjelly.activation_based.op_counter import analytical_energy

        model, x, snn = self.converted(kind)
        report = analytical_energy.estimate_lemaire_energy(nn.Sequential(*[model[i] for i in (0, 2, 4)]), x)
        assert snnconv.profile(model, snn, x, cost="lemaire").ann_energy == pytest.approx(1e-12 * report.total_pj)


@pytest.mark.parametrize(("own", "preset"), [("45nm", "fp32"), ("int8", "int8")])
def test_arithmetic_has_the_prices_of_spikingjellys_presets(own: str, preset: str) -> None:
    from spikingjelly.activation_based.op_counter.simple_energy import SimpleEnergyConfig, SimpleEnergyCostConfig
    from spikingjelly.activation_based.op_counter.simple_energy import estimate_simple_energy as estimate

    model, x = chain("linear")
    config = SimpleEnergyConfig(cost_config=getattr(SimpleEnergyCostConfig, preset)())
    without_bias = nn.Sequential(*[nn.Linear(m.in_features, m.out_features, bias=False) for m in model[::2]])
    theirs = estimate(without_bias, x, config=config).energy_compute_pj
    snn = snnconv.convert(model, snnconv.methods.IF(T), x.repeat(4, 1), progress=False)
    assert snnconv.profile(model, snn, x, cost=own).ann_energy == pytest.approx(1e-12 * theirs)


def test_a_network_has_a_cost_under_every_model() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3)).eval()
    x = torch.rand(8, 1, 8, 8)
    found = snnconv.profile(model, snnconv.convert(model, snnconv.methods.ShiftedThreshold(3), x, progress=False), x)
    assert all(figures["snn"] > 0 for figures in found.energies.values())
    conv, linear = (layer.size for layer in found.layers)
    assert conv == LayerSize("conv", 64, 36, 36, 4, 36)
    assert linear == LayerSize("linear", 36, 3, 108, 3, 3)
    assert found.layers[1].spikes == found.spikes
    assert found.sops == 3 * found.spikes
