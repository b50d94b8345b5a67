"""Networks of multi-threshold neurons against a lock-step run in plain tensors, and what the papers say of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import snnconv
from snnconv import ConversionError, methods
from snnconv.cli.inputs import make_method
from snnconv.metrics import fit_curve, unevenness
from snnconv.sequence import Continued

CLASSES = [methods.MultiThreshold, methods.HierarchicalMultiThreshold]
IDS = ["one", "all"]
both = pytest.mark.parametrize("cls", CLASSES, ids=IDS)


class Net(nn.Module):
    """Convolutions with batch norm, a max-pooling that can stand before its neurons and one that cannot, a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.pool = nn.MaxPool2d(2)
        self.second, self.third = nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 1, bias=False)
        self.out = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(F.relu(self.norm(self.first(x))))
        x = F.relu(self.third(F.relu(self.second(x))) + x)
        return self.out((self.pool(x).mean((2, 3)) + x.mean((2, 3))) / 2)


def network(seed: int = 0) -> Net:
    torch.manual_seed(seed)
    model = Net().double()
    model.norm.running_mean.normal_()
    model.norm.running_var.uniform_(0.5, 2)
    return model.eval()


def images(count: int = 8, seed: int = 1) -> Tensor:
    return torch.randn(count, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def converted(cls: Any, timesteps: int, model: nn.Module | None = None, **options: Any) -> snnconv.SpikingNetwork:
    model = network() if model is None else model
    return snnconv.convert(model, cls(timesteps, **{"correction": "none", **options}), images(64, 2), progress=False)


class MaxPool:
    """Max-pooling of what has come in so far, as what is new of it."""

    def __init__(self) -> None:
        self.r, self.pooled = torch.zeros(()), torch.zeros(())

    def __call__(self, new: Tensor, t: int) -> Tensor:
        self.r = self.r + new / t
        before, self.pooled = self.pooled, F.max_pool2d(self.r, 2)
        return t * (self.pooled - before)


class Lockstep:
    """Neurons of one layer, one step at a time, as the recursion is written down."""

    def __init__(self, theta: Tensor, hierarchical: bool, n: int = 4) -> None:
        self.hierarchical, self.n = hierarchical, n
        self.theta = theta.reshape(1, -1, 1, 1)
        self.v = self.m = self.r = torch.zeros(())

    def __call__(self, current: Tensor, t: int) -> Tensor:
        incoming = self.m + current
        self.m = self.m + current / t
        self.v = self.v + incoming
        u = self.v - self.r
        if self.hierarchical:
            levels = 2**self.n - 1
            q = self.theta / levels
            s = torch.floor(u / q + 0.5).clamp(-levels, levels)
            s = torch.maximum(s, -torch.floor(self.r * t / q + 1e-6)) * q
        else:
            s = torch.zeros_like(u)
            for k in reversed(range(self.n)):
                s = torch.where(u.abs() >= 0.75 * self.theta / 2**k, u.sign() * self.theta / 2**k, s)
            s = torch.where(self.r + s / t < 0, torch.zeros_like(s), s)
        self.v = self.v - (self.r + s)
        self.r = self.r + s / t
        return s


def lockstep(model: Net, theta: dict[str, Tensor], x: Tensor, timesteps: int, hierarchical: bool) -> list[Tensor]:
    """Readouts after every step; each layer knows of the one before only the spikes of the same step."""
    norm = model.norm
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    weight = model.first.weight * scale.reshape(-1, 1, 1, 1)
    bias = (model.first.bias - norm.running_mean) * scale + norm.bias
    one, two, three = (Lockstep(theta[site], hierarchical) for site in theta)
    before, behind = MaxPool(), MaxPool()
    readout, found = model.out.bias, []
    for t in range(1, timesteps + 1):
        first = t == 1  # the picture and the biases come with the first step, and then nothing is new of them
        silence = torch.zeros_like(x)
        a = one(before(F.conv2d(x if first else silence, weight, bias if first else None, padding=1), t), t)
        b = two(F.conv2d(a, model.second.weight, model.second.bias if first else None, padding=1), t)
        c = three(F.conv2d(b, model.third.weight) + a, t)
        mean = (behind(c, t).mean((2, 3)) + c.mean((2, 3))) / 2
        readout = readout + F.linear(mean, model.out.weight) / t
        found.append(readout)
    return found


@both
def test_a_network_is_its_lock_step_run(cls: Any) -> None:
    model, x = network(), images()
    snn = converted(cls, 6, model)
    assert list(snn.thresholds) == list(snn.program.sites)
    with torch.no_grad():
        expected = lockstep(model, dict(snn.thresholds), x, 6, cls is methods.HierarchicalMultiThreshold)
    torch.testing.assert_close(snn(x), expected[-1])
    for (t, y), wanted in zip(snn.stream(x), expected, strict=True):
        torch.testing.assert_close(y, wanted, msg=f"step {t}")
    running = snn.run(x).cumsum(0) / torch.arange(1, 7).reshape(-1, 1, 1)  # outputs are steps of a mean
    torch.testing.assert_close(running, torch.stack(expected))


@both
def test_it_is_the_same_run_in_slices_and_by_its_modules(cls: Any) -> None:
    x = images()
    for framework in ("spikingjelly", "snntorch"):
        if framework == "snntorch":
            pytest.importorskip("snntorch")
        snn = snnconv.convert(network(), cls(5), images(64, 2), framework=framework, progress=False)
        whole, rates = snn(x), snn.rates(x)
        snn.memory_budget = 1  # of the batch, and in time
        torch.testing.assert_close(snn(x), whole)
        for site in snn.neurons:  # watched: the modules fire by themselves
            snn.neurons[site].register_forward_hook(lambda *_: None)
        torch.testing.assert_close(snn(x), whole)
        assert all(torch.allclose(value, rates[site]) for site, value in snn.rates(x).items())


@both
def test_more_steps_come_closer_to_the_source(cls: Any) -> None:
    model, x = network(), images(32)
    with torch.no_grad():
        wanted = model(x)
    errors = [float((converted(cls, t, model)(x) - wanted).norm() / wanted.norm()) for t in (1, 2, 4, 16)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.02


def test_one_step_of_four_hierarchical_thresholds_is_four_steps_of_shifted_thresholds() -> None:
    model, x = network(), images(32)
    shifted = converted(methods.ShiftedThreshold, 4, model)
    one = converted(methods.HierarchicalMultiThreshold, 1, model)
    for site in one.thresholds:
        one.thresholds[site] = shifted.thresholds[site]
    torch.testing.assert_close(one(x), shifted(x))
    for site, value in one.rates(x).items():
        torch.testing.assert_close(value, shifted.rates(x)[site])


def test_the_errors_of_a_perceptron_lie_where_they_should() -> None:
    """64-128-128-10, random weights, T = 1, 2, 4, 8, 16: relative errors within a factor of two of known ones."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for a, b in ((64, 128), (128, 128), (128, 10)):
        layer = nn.Linear(a, b)
        nn.init.normal_(layer.weight, std=(2 / a) ** 0.5)
        nn.init.normal_(layer.bias, std=0.1)
        layers += [layer, nn.ReLU()]
    model, data, x = nn.Sequential(*layers[:-1]), torch.randn(512, 64), torch.randn(256, 64)
    with torch.no_grad():
        wanted = model(x)
    bands = {
        methods.MultiThreshold: (0.29, 0.087, 0.031, 0.013, 0.007),
        methods.HierarchicalMultiThreshold: (0.080, 0.040, 0.023, 0.013, 0.007),
    }
    for cls, band in bands.items():
        errors = []
        for t in (1, 2, 4, 8, 16):
            y = snnconv.convert(model, cls(t, correction="none"), data, progress=False)(x)
            errors.append(float((y - wanted).norm() / wanted.norm()))
        assert errors == sorted(errors, reverse=True), errors
        assert all(b / 2 < e < 2 * b for e, b in zip(errors, band, strict=True)), errors


class Analog(nn.Module):
    """A gate that stays analog between layers, and a softmax at the output."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.a(x))
        h = torch.relu(self.b(h / (1 + h.sum(1, keepdim=True))))
        return torch.softmax(self.c(h), 1)


@both
def test_what_stays_analog_acts_on_what_has_come_in_so_far(cls: Any) -> None:
    torch.manual_seed(3)
    model, x = Analog().double(), torch.randn(16, 6, dtype=torch.float64)
    snn = snnconv.convert(model, cls(32, correction="none"), torch.randn(128, 6, dtype=torch.float64), progress=False)
    with torch.no_grad():
        torch.testing.assert_close(snn(x), model(x), atol=2e-3, rtol=0)
    last = list(snn.stream(x))[-1][1]
    torch.testing.assert_close(last, snn(x))


@both
def test_a_saved_network_is_the_same_network(cls: Any, tmp_path: Path) -> None:
    model, x = network().float(), images().float()
    snn = snnconv.convert(model, cls(3, n=3, correction="none"), images(64, 2).float(), progress=False)
    snnconv.save(snn, tmp_path / "snn.safetensors")
    again = snnconv.load(tmp_path / "snn.safetensors")
    assert again.method == snn.method
    assert torch.equal(again(x), snn(x))


@both
def test_bias_correction_brings_it_closer(cls: Any) -> None:
    model, x = network(4), images(64, 5)
    with torch.no_grad():
        wanted = model(x)
    plain, corrected = (converted(cls, 2, model, correction=how)(x) for how in ("none", "bias"))
    assert float((corrected - wanted).norm()) < float((plain - wanted).norm())


@both
def test_the_audit_passes_and_finds_a_scaled_spike(cls: Any) -> None:
    x = images(4)
    snn = converted(cls, 4)
    found = snnconv.audit(snn, x)
    assert bool(found), str(found)
    assert "numbers of several bits" in str(found)  # behind the max-pooling
    site = next(iter(snn.neurons))
    snn.neurons[site].register_forward_hook(lambda module, args, out: out * 1.25)
    assert not snnconv.audit(snn, x)


def test_a_profile_counts_every_power_of_two() -> None:
    model, x = network(), images(4)
    one, every = (converted(cls, 1, model) for cls in CLASSES)
    fired: dict[str, Tensor] = {}
    every.run(x, observe=lambda site, out: fired.update({site: out}))
    bits = 0
    for site, out in fired.items():
        codes = (out[0] / (every.thresholds[site].reshape(1, -1, 1, 1) / 15)).round().abs().long()
        bits += sum(int((codes >> k & 1).sum()) for k in range(4))
    costs = snnconv.profile(model, every, x)
    assert costs.spikes == pytest.approx(bits / len(x))
    assert costs.latency == costs.network_latency == 1
    single = snnconv.profile(model, one, x)
    one.run(x, observe=lambda site, out: fired.update({site: out}))
    assert single.spikes == pytest.approx(sum(int((out != 0).sum()) for out in fired.values()) / len(x))


def test_early_exit_ends_at_the_readout_of_that_step() -> None:
    snn, x = converted(methods.MultiThreshold, 8), images(16)
    result = snn.early_exit(x, margin=0.05, every=1, at_least=1)
    readouts = [y for _, y in snn.stream(x)]
    for i, t in enumerate(result.steps.tolist()):
        torch.testing.assert_close(result.output[i], readouts[t - 1][i])


@pytest.mark.parametrize(
    ("method", "bits"),
    [
        (methods.IF(4), 1.0),
        (methods.SignedIF(4), 1.58),
        (methods.ShiftedThreshold(4), 1.0),
        (methods.SRP(4, 2), 1.0),
        (methods.MultiThreshold(4), 3.17),
        (methods.HierarchicalMultiThreshold(4), 4.95),
    ],
)
def test_bits_a_step(method: methods.Method, bits: float) -> None:
    assert method.bits_per_step == bits


def test_a_whole_number_of_thresholds_is_their_number() -> None:
    method = methods.MultiThreshold(4, thresholds=3, coding="differential")
    assert (method.n, method.thresholds, method.coding) == (3, "mse", "differential")
    assert methods.Method.from_dict(method.to_dict()) == method


def test_the_command_line_knows_both() -> None:
    assert make_method("multi-threshold", {"timesteps": "4", "thresholds": "3"}) == methods.MultiThreshold(4, n=3)
    given = {"timesteps": "2", "n": "5", "thresholds": "99.9%"}
    expected = methods.HierarchicalMultiThreshold(2, n=5, thresholds="99.9%")
    assert make_method("hierarchical-multi-threshold", given) == expected


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"n": 0}, "n must be at least 1"),
        ({"thresholds": 9}, "up to 8 thresholds"),
        ({"coding": "rate"}, "coding must be one of"),
        ({"correction": "reconstruct"}, "fits a quantiser of even levels"),
        ({"max_pool": "instantaneous"}, "a spike says what is new"),
    ],
)
def test_choices_that_make_no_sense_are_refused(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        methods.MultiThreshold(4, **fields)


def test_what_it_cannot_be_asked_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = network(), images()
    snn = converted(methods.MultiThreshold, 4, model)
    with pytest.raises(ConversionError, match="differential coding send what is new about one input"):
        Continued(snn)
    with pytest.raises(ConversionError, match="what is new about one constant input"):
        snn.run_sequence(torch.stack([x, x]))
    with pytest.raises(ConversionError, match="single steps add up to a mean or a sum"):
        snnconv.stepwise(snn)
    with pytest.raises(ConversionError, match="rate of equal spikes"):
        fit_curve(model, snn, x)
    with pytest.raises(ConversionError, match="spikes of several sizes"):
        unevenness(model, snn, x)
    monkeypatch.setattr("snnconv.runtime.precision.supported", lambda: "")
    with pytest.raises(ConversionError, match="spikes of one size"):
        snn.precision = "int8"
    pytest.importorskip("nir")
    with pytest.raises(ConversionError, match="NIR has no node for MultiThresholdNode"):
        snnconv.to_nir(snn)


def test_a_network_that_does_not_trace_is_refused_before_work() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            h = torch.relu(self.a(x))
            return self.b(h) if float(x.sum()) > 1e9 else self.b(2 * h)

    with pytest.raises(ConversionError, match="differential coding runs the operators of a traced"):
        snnconv.convert(Branches(), methods.MultiThreshold(4), torch.randn(16, 4), progress=False)
