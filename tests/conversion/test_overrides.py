"""What is different at single layers: overrides, excluded activations, a T for each layer in sum coding."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

import snnconv
from snnconv import ConversionError, methods
from snnconv.activations.quant import quantised
from snnconv.graph.activation import ReLU
from snnconv.metrics import fit_curve

IMAGES = torch.rand(64, 3, 8, 8, generator=torch.Generator().manual_seed(1))


class Residual(nn.Module):
    """Three layers on the longest path, two beside them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1)
        self.head = nn.Linear(8 * 16, 5)
        self.act0, self.act1, self.act2 = nn.ReLU(), nn.ReLU6(), nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.max_pool2d(self.act0(self.stem(x)), 2)
        x = self.act2(self.b(self.act1(self.a(x))) + x)
        return self.head(x.flatten(1))


def model() -> nn.Module:
    return Residual().eval()


def convert(method: methods.Method, **options: object) -> snnconv.SpikingNetwork:
    return snnconv.convert(model(), method, IMAGES, progress=False, **options)  # type: ignore[arg-type]


MIXED = {"act1": {"timesteps": 2}, "act[02]": {"timesteps": 5}}


class TestMixedT:
    def test_every_layer_is_its_own_quantiser(self) -> None:
        snn = convert(methods.ShiftedThreshold(4, correction="none"), overrides=MIXED)
        steps = {"act0": 5, "act1": 2, "act2": 5}
        assert snn.timesteps == 5
        assert {s.name: s.timesteps for s in snn.report.spiking} == steps
        seen: dict[str, torch.Tensor] = {}
        snn.run(IMAGES, inputs=lambda site, z: seen.__setitem__(site, z.sum(0)))
        for site, rate in snn.rates(IMAGES).items():
            wanted = quantised(ReLU(), seen[site], snn.thresholds[site], 2 ** steps[site] - 1, 1)
            torch.testing.assert_close(rate, wanted, rtol=1e-4, atol=1e-5)

    def test_bits_go_in_the_first_slots(self) -> None:
        snn = convert(methods.ShiftedThreshold(4), overrides=MIXED)
        found: dict[str, torch.Tensor] = {}
        snn.run(IMAGES, "steps", observe=lambda site, out: found.__setitem__(site, out))
        assert {site: len(out) for site, out in found.items()} == dict.fromkeys(found, 5)
        assert bool(found["act1"][:2].any())
        assert not bool(found["act1"][2:].any())

    def test_stream_ends_at_the_readout(self) -> None:
        snn = convert(methods.ShiftedThreshold(4), overrides=MIXED)
        steps = list(snn.stream(IMAGES[:4]))
        assert [t for t, _ in steps] == [1, 2, 3, 4, 5]
        torch.testing.assert_close(steps[-1][1], snn(IMAGES[:4]), rtol=1e-4, atol=1e-5)

    def test_latency_is_of_the_longest_path(self) -> None:
        snn = convert(methods.ShiftedThreshold(4), overrides=MIXED)
        assert (snn.report.path_steps, snn.report.period) == (12, 5)
        assert "12 steps from input to output, a new input every 5" in str(snn.report)
        costs = snnconv.profile(model(), snn, IMAGES)
        assert (costs.latency, costs.network_latency) == (5, 12)
        assert all(site.rate <= 1 for site in costs.sites)

    def test_audit_compare_and_trace_follow(self) -> None:
        snn = convert(methods.ShiftedThreshold(4), overrides=MIXED)
        assert snnconv.audit(snn, IMAGES).failures == []
        assert snnconv.compare(model(), snn, IMAGES).output_error < 0.3
        from snnconv.metrics.tracing import trace

        found = trace(snn, IMAGES[:2], "act1")
        rate = (found.spikes * found.worth.reshape(-1, 1, 1, 1, 1) * found.threshold).sum(0)
        torch.testing.assert_close(rate, snn.rates(IMAGES[:2])["act1"], rtol=1e-4, atol=1e-5)

    def test_it_is_saved(self, tmp_path: Path) -> None:
        snn = convert(methods.ShiftedThreshold(4), overrides=MIXED)
        snnconv.save(snn, tmp_path / "net.safetensors")
        loaded = snnconv.load(tmp_path / "net.safetensors")
        assert loaded.method == snn.method
        assert torch.equal(loaded(IMAGES), snn(IMAGES))
        loaded.thresholds["act1"] = snn.thresholds["act1"]
        assert torch.equal(loaded(IMAGES), snn(IMAGES))

    def test_a_trainable_copy_computes_the_same(self) -> None:
        snn = convert(methods.ShiftedThreshold(4), overrides=MIXED)
        torch.testing.assert_close(snnconv.trainable(snn)(IMAGES), snn(IMAGES), rtol=1e-4, atol=1e-5)

    def test_one_t_for_all_is_the_plain_method(self) -> None:
        plain = convert(methods.ShiftedThreshold(4))
        mixed = convert(methods.ShiftedThreshold(6), overrides={"*": {"timesteps": 4}})
        assert mixed.method == plain.method
        assert torch.equal(plain(IMAGES), mixed(IMAGES))

    def test_reconstruction_knows_each_layers_levels(self) -> None:
        method = methods.ShiftedThreshold(3, correction="reconstruct")
        errors = [
            snnconv.compare(model(), convert(m, overrides={"act1": {"timesteps": 1}}), IMAGES).output_error
            for m in (methods.ShiftedThreshold(3, correction="none"), method)
        ]
        assert errors[1] < errors[0]


class TestOtherFields:
    def test_thresholds_and_channels(self) -> None:
        snn = convert(methods.SignedIF(8), overrides={"act1": {"thresholds": "max", "per_channel": False}})
        plain = convert(methods.SignedIF(8))
        assert (snn.thresholds["act1"].numel(), snn.thresholds["act0"].numel()) == (1, 8)
        assert torch.equal(snn.thresholds["act0"], plain.thresholds["act0"])
        peak = convert(methods.SignedIF(8, thresholds="max", per_channel=False)).thresholds["act1"]
        assert torch.equal(snn.thresholds["act1"], peak)

    def test_a_neurons_own_settings(self) -> None:
        snn = convert(methods.SignedIF(8), overrides={"act1": {"eps": 0.25}})
        assert snn.neurons["act1"].options["eps"] == 0.25
        assert snn.neurons["act0"].options["eps"] == 1e-3

    def test_a_start_of_its_own(self) -> None:
        snn = convert(methods.IF(8, correction="none"), overrides={"act1": {"start": "zero"}})
        bounds = {layer.name: layer.bounds[8] / layer.k * 8 for layer in fit_curve(model(), snn, IMAGES).layers}
        assert bounds == pytest.approx({"act0": 0.5, "act1": 1.0, "act2": 0.5})
        pytest.importorskip("nir")
        with pytest.raises(ConversionError, match="one initial state for all neurons"):
            snnconv.to_nir(snn)

    @pytest.mark.parametrize(
        ("method", "overrides", "sentence"),
        [
            (methods.ShiftedThreshold(4), {"layer3.*": {"timesteps": 2}}, r"'layer3\.\*' names no activation.*act0"),
            (methods.ShiftedThreshold(4), {"act9": {"timesteps": 2}}, "near: act"),
            (
                methods.ShiftedThreshold(4, layers={"act9": {"timesteps": 2}}),
                {},
                "layers of the method: 'act9' names no",
            ),
            (methods.ShiftedThreshold(4), {"act1": {}}, "give the method's fields"),
            (methods.ShiftedThreshold(4), {"act1": {"timesteps": 0}}, "timesteps must be at least 1"),
            (methods.ShiftedThreshold(4), {"act1": {"timesteps": 99}}, "more than float32"),
            (methods.ShiftedThreshold(4), {"act1": {"correction": "none"}}, "correction cannot differ at act1"),
            (methods.SignedIF(8), {"act1": {"timesteps": 4}}, "timesteps cannot differ at act1: layers step together"),
            (methods.SignedIF(8), {"act1": {"thresholds": "ltb"}}, "threshold balancing is of all layers together"),
            (methods.SignedIF(8), {"act1": {"thresholds": "trained"}}, "needs an activations"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, method: methods.Method, overrides: dict, sentence: str) -> None:
        with pytest.raises(ConversionError, match=sentence):
            convert(method, overrides=overrides)


class TestExclude:
    @pytest.mark.parametrize("method", [methods.SignedIF(64), methods.ShiftedThreshold(6)], ids=lambda m: m.name)
    def test_what_is_excluded_stays_analog_and_is_reported(self, method: methods.Method, tmp_path: Path) -> None:
        snn = convert(method, exclude="act1", strict=True)
        assert [s.name for s in snn.report.spiking] == ["act0", "act2"]
        assert [(a.name, a.reason[:8]) for a in snn.report.analog] == [("act1", "excluded")]
        torch.testing.assert_close(snn(IMAGES), model()(IMAGES), rtol=0.1, atol=0.05)
        snnconv.save(snn, tmp_path / "net.safetensors")
        assert torch.equal(snnconv.load(tmp_path / "net.safetensors")(IMAGES), snn(IMAGES))

    def test_what_the_method_says_of_it_is_dropped(self) -> None:
        snn = convert(methods.ShiftedThreshold(6, layers={"act1": {"timesteps": 3}}), exclude="act1")
        assert snn.method == methods.ShiftedThreshold(6)

    def test_from_a_calibration(self) -> None:
        network = model()
        seen = snnconv.calibrate(network, IMAGES)
        options = {"exclude": ["act1"], "overrides": {"act2": {"timesteps": 3}}, "progress": False}
        one, other = (snnconv.convert(network, methods.ShiftedThreshold(4), c, **options) for c in (seen, IMAGES))
        assert torch.equal(one(IMAGES), other(IMAGES))

    @pytest.mark.parametrize(
        ("patterns", "sentence"), [(["act7"], "'act7' names no activation"), ("*", "nothing would spike")]
    )
    def test_bad_patterns(self, patterns: object, sentence: str) -> None:
        with pytest.raises(ConversionError, match=sentence):
            convert(methods.IF(4), exclude=patterns)

    def test_trained_activations_do_not_stay(self) -> None:
        network = nn.Sequential(nn.Linear(4, 4), snnconv.activations.QuantReLU(3, 1.0), nn.Linear(4, 4), nn.ReLU())
        with pytest.raises(ConversionError, match="with trained parameters cannot stay analog"):
            snnconv.convert(network, methods.IF(4), torch.randn(9, 4), exclude="1")


class TestAutomatic:
    def test_the_mean_is_within_the_budget_and_the_frontier_leads_there(self) -> None:
        snn = convert(methods.ShiftedThreshold(4), timesteps="auto", budget=3.0)
        steps = {s.name: s.timesteps for s in snn.report.spiking}
        sizes = {"act0": 8 * 16, "act1": 8 * 16, "act2": 8 * 16}  # a max-pooling stands in front of act0
        mean = sum(steps[s] * n for s, n in sizes.items()) / sum(sizes.values())
        assert mean <= 3.0
        frontier = snn.report.frontier
        assert frontier[0][0] == 8.0
        assert frontier[-1][0] == pytest.approx(mean)
        assert all(a[0] > b[0] for a, b in pairwise(frontier))
        assert "output error" in str(snn.report)

    def test_sops_are_those_of_the_profile(self) -> None:
        snn = convert(methods.ShiftedThreshold(4, correction="none"), timesteps="auto", budget={"sops": 20_000})
        assert snn.report.frontier[-1][1] <= 20_000
        assert snnconv.profile(model(), snn, IMAGES).sops == pytest.approx(snn.report.frontier[-1][1], rel=0.1)

    def test_it_errs_less_than_the_worst_order(self) -> None:
        chosen = convert(methods.ShiftedThreshold(4), timesteps="auto", budget=3.0)
        errors = []
        for steps in ([s.timesteps for s in chosen.report.spiking], [6, 2, 1], [1, 2, 6]):
            overrides = {f"act{i}": {"timesteps": t} for i, t in enumerate(steps)}
            snn = convert(methods.ShiftedThreshold(4), overrides=overrides)
            errors.append(snnconv.compare(model(), snn, IMAGES).output_error)
        assert errors[0] == min(errors)

    def test_the_seed_decides(self) -> None:
        one, again = (convert(methods.ShiftedThreshold(4), timesteps="auto", budget=3.0, seed=5) for _ in range(2))
        assert one.report.frontier == again.report.frontier

    @pytest.mark.parametrize(
        ("method", "options", "sentence"),
        [
            (methods.SignedIF(8), {"timesteps": "auto", "budget": 4.0}, "all layers step together"),
            (methods.ShiftedThreshold(4), {"timesteps": "auto"}, "go together"),
            (methods.ShiftedThreshold(4), {"budget": 4.0}, "go together"),
            (methods.ShiftedThreshold(4), {"timesteps": 5, "budget": 4.0}, "the method has its own"),
            (methods.ShiftedThreshold(4), {"timesteps": "auto", "budget": -1}, "give the mean number of steps"),
            (methods.ShiftedThreshold(4), {"timesteps": "auto", "budget": {"joules": 1}}, "give the mean number"),
            (methods.ShiftedThreshold(4), {"timesteps": "auto", "budget": 0.5}, "less than one step a layer"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, method: methods.Method, options: dict, sentence: str) -> None:
        with pytest.raises(ConversionError, match=sentence):
            convert(method, **options)
