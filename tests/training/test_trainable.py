"""A converted network trains on: the same forward, surrogate gradients backward, and back to a converted network."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import snnconv
from snnconv import ConversionError, SpikingNetwork, activations, methods
from snnconv.training.trainable import LEAST

FRAMEWORKS = ("spikingjelly", "snntorch")
METHODS = [
    methods.IF(4),
    methods.SignedIF(4),
    methods.SRP(4, 4),
    methods.ShiftedThreshold(3),
    methods.LocalThresholdBalancing(8, delay=2),
]
IMAGES = torch.randn(24, 3, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(24) % 4


class Net(nn.Module):
    """BatchNorm, a max-pooling between layers, a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.bn, self.b = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Linear(6 * 16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.bn(self.a(x))), 2)
        x = F.relu(self.b(x) + x)
        return self.head(x.flatten(1))


class Untraced(Net):
    """Its Python code looks at values."""

    def forward(self, x: Tensor) -> Tensor:
        if float(x.sum()) == 12345.0:
            raise ValueError
        return super().forward(x)


def converted(method: methods.Method, framework: str, model: type[Net] = Net) -> SpikingNetwork:
    torch.manual_seed(0)
    if framework == "snntorch":
        pytest.importorskip("snntorch")
    return snnconv.convert(model().eval(), method, IMAGES, framework=framework, progress=False)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
class TestEveryMethod:
    def test_forward_is_the_networks(self, method: methods.Method, framework: str) -> None:
        snn = converted(method, framework)
        net = snnconv.trainable(snn)
        wanted = snn(IMAGES)
        for mode in (net.train(), net.eval()):
            torch.testing.assert_close(mode(IMAGES), wanted)
            torch.testing.assert_close(mode(IMAGES[:3]), wanted[:3])

    def test_every_parameter_and_the_input_get_a_gradient(self, method: methods.Method, framework: str) -> None:
        net = snnconv.trainable(converted(method, framework))
        x = IMAGES.clone().requires_grad_(True)
        F.cross_entropy(net(x), LABELS).backward()
        assert x.grad is not None
        assert float(x.grad.abs().sum()) > 0
        names = {name for name, p in net.named_parameters() if p.grad is not None and float(p.grad.abs().sum()) > 0}
        assert names == {name for name, _ in net.named_parameters()}
        assert {len(net.threshold_parameters()), len(net.weight_parameters())} == {2, len(names) - 2}
        assert all(bool(torch.isfinite(p.grad).all()) for p in net.parameters() if p.grad is not None)

    def test_a_loss_falls(self, method: methods.Method, framework: str) -> None:
        net = snnconv.trainable(converted(method, framework))
        optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
        losses = []
        for _ in range(30):
            optimiser.zero_grad()
            loss = F.cross_entropy(net(IMAGES), LABELS)
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
        assert losses[-1] < 0.8 * losses[0]

    def test_back_to_a_converted_network_and_to_a_file(
        self, method: methods.Method, framework: str, tmp_path: Path
    ) -> None:
        net = snnconv.trainable(snn := converted(method, framework))
        with torch.no_grad():
            for p in net.parameters():
                p.mul_(1.1)
        wanted = net(IMAGES)
        back = net.to_snn()
        torch.testing.assert_close(back(IMAGES), wanted)
        assert not list(back.parameters())
        assert not torch.allclose(back(IMAGES), snn(IMAGES))
        assert back.framework == framework
        assert back.method == method
        assert back.report is not None
        assert "trained on as a spiking network" in str(back.report)
        assert [s.threshold_max for s in back.report.spiking] == [float(v.max()) for v in back.thresholds.values()]
        snnconv.save(back, tmp_path / "net")
        torch.testing.assert_close(snnconv.load(tmp_path / "net")(IMAGES), wanted)
        again = snnconv.trainable(back)
        torch.testing.assert_close(again(IMAGES), wanted)
        fresh = snnconv.trainable(snn)
        fresh.load_state_dict(net.state_dict())
        torch.testing.assert_close(fresh(IMAGES), wanted)


def test_the_network_itself_stays_as_it_is() -> None:
    snn = converted(methods.SignedIF(4), "spikingjelly")
    before, state = snn(IMAGES), {k: v.clone() for k, v in snn.state_dict().items()}
    net = snnconv.trainable(snn)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    F.cross_entropy(net(IMAGES), LABELS).backward()
    optimiser.step()
    assert torch.equal(snn(IMAGES), before)
    assert all(torch.equal(v, state[k]) for k, v in snn.state_dict().items())


def test_a_surrogate_sees_potentials_in_units_of_the_threshold() -> None:
    """A network whose layer is scaled with its threshold has gradients scaled by as much: no scale is favoured."""
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2)).eval()
    x = torch.randn(64, 4)
    snn = snnconv.convert(model, methods.IF(4, correction="none"), x, progress=False)
    grads = []
    for scale in (1.0, 64.0):
        net = snnconv.trainable(snn)
        with torch.no_grad():
            first, *_, last = [p for p in net.weight_parameters() if p.dim() == 2]
            for p in net.weight_parameters():
                if p.shape[0] == 16:
                    p.mul_(scale)
            net.threshold_parameters()[0].mul_(scale)
            last.div_(scale)
        net(x).square().sum().backward()
        assert first.grad is not None
        grads.append(first.grad * scale)
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-4, atol=1e-5)


def surrogates() -> dict[str, Callable[[], Any]]:
    from spikingjelly.activation_based import surrogate

    def fast_sigmoid() -> Any:
        return pytest.importorskip("snntorch").surrogate.fast_sigmoid(slope=5)

    return {
        "ATan": lambda: surrogate.ATan(alpha=5),
        "PiecewiseQuadratic": surrogate.PiecewiseQuadratic,
        "fast_sigmoid": fast_sigmoid,
    }


@pytest.mark.parametrize("make", surrogates().values(), ids=surrogates())
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_either_framework_s_surrogate_functions_serve_both(make: Callable[[], Any], framework: str) -> None:
    snn = converted(methods.IF(4), framework)
    found = []
    for chosen in (None, make()):
        net = snnconv.trainable(snn, surrogate=chosen)
        out = net(IMAGES)
        torch.testing.assert_close(out, snn(IMAGES))
        F.cross_entropy(out, LABELS).backward()
        found.append(next(iter(net.weight_parameters())).grad)
    assert not torch.allclose(found[0], found[1])  # type: ignore[arg-type]


def test_the_gradient_of_a_rate_is_that_of_its_surrogate() -> None:
    """One neuron, one step, θ = 2, identity layers: d out/d x = θ·g'((v − θ)/θ)/θ with v = θ/2 + x."""
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU(), nn.Linear(1, 1, bias=False)).eval()
    for p in model.parameters():
        p.data.fill_(1.0)
    snn = snnconv.convert(model, methods.IF(1, thresholds="max", correction="none"), torch.full((2, 1), 2.0))
    net = snnconv.trainable(snn, surrogate=lambda u: torch.sigmoid(4 * u))
    x = torch.tensor([[0.5]], requires_grad=True)
    net(x).backward()
    u = torch.tensor((1.0 + 0.5 - 2.0) / 2, requires_grad=True)
    torch.sigmoid(4 * u).backward()
    assert x.grad is not None
    assert u.grad is not None
    torch.testing.assert_close(float(x.grad), float(u.grad))


def test_shifted_threshold_has_the_gradient_of_its_quantiser() -> None:
    qann = nn.Sequential(nn.Linear(4, 8), activations.QuantReLU(levels=7, lsq_scale=False), nn.Linear(8, 2)).eval()
    net = snnconv.trainable(
        snnconv.convert(qann, methods.ShiftedThreshold(3, thresholds="trained"), torch.randn(8, 4), progress=False)
    )
    x = torch.randn(16, 4)
    one, other = x.clone().requires_grad_(True), x.clone().requires_grad_(True)
    net(one).square().sum().backward()
    qann(other).square().sum().backward()
    torch.testing.assert_close(one.grad, other.grad)
    clip = qann[1].clip.grad
    assert clip is not None
    torch.testing.assert_close(net.threshold_parameters()[0].grad, clip * 7)  # of λ/7, the least significant bit


def test_thresholds_do_not_fall_below_their_bound() -> None:
    snn = converted(methods.SignedIF(4), "spikingjelly")
    net = snnconv.trainable(snn)
    with torch.no_grad():
        for theta in net.threshold_parameters():
            theta.fill_(-1.0)
    assert torch.isfinite(net(IMAGES)).all()
    for name, theta in net.to_snn().thresholds.items():
        torch.testing.assert_close(theta, LEAST * snn.thresholds[name])


def test_thresholds_can_stay() -> None:
    net = snnconv.trainable(converted(methods.IF(4), "spikingjelly"), thresholds=False)
    assert net.threshold_parameters() == []
    F.cross_entropy(net(IMAGES), LABELS).backward()
    assert net.to_snn().thresholds.keys() == net.network.thresholds.keys()


@pytest.mark.parametrize("method", [methods.SignedIF(4), methods.ShiftedThreshold(3)], ids=lambda m: m.name)
def test_a_network_that_does_not_trace_trains_on(method: methods.Method, tmp_path: Path) -> None:
    snn = converted(method, "spikingjelly", Untraced)
    assert snn.report is not None
    assert snn.report.path == "module tree"
    net = snnconv.trainable(snn)
    statistics = net.network.program.model.bn.running_mean.clone()  # type: ignore[attr-defined]
    torch.testing.assert_close(net(IMAGES), snn(IMAGES))
    optimiser = torch.optim.SGD(net.parameters(), lr=0.01)
    F.cross_entropy(net(IMAGES), LABELS).backward()
    optimiser.step()
    assert torch.equal(net.network.program.model.bn.running_mean, statistics)  # type: ignore[attr-defined]
    back = net.to_snn()
    assert not torch.allclose(back(IMAGES), snn(IMAGES))
    torch.testing.assert_close(back(IMAGES), net(IMAGES))
    snnconv.save(back, tmp_path / "net")
    torch.testing.assert_close(snnconv.load(tmp_path / "net", Untraced())(IMAGES), back(IMAGES))


def test_several_inputs_train_on() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(4, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.c(F.relu(self.a(x) + self.b(y)))

    a, b = torch.randn(8, 6), torch.randn(8, 4)
    net = snnconv.trainable(snnconv.convert(Two().eval(), methods.SignedIF(4), (a, b), progress=False))
    net(a, y=b).square().sum().backward()
    assert all(p.grad is not None for p in net.parameters())


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_it_is_copied_pickled_and_moved_like_any_module(framework: str) -> None:
    net = snnconv.trainable(converted(methods.SignedIF(4), framework))
    wanted = net(IMAGES)
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        torch.testing.assert_close(twin(IMAGES), wanted)
        F.cross_entropy(twin(IMAGES), LABELS).backward()
        assert all(p.grad is None for p in net.parameters())
    wide = copy.deepcopy(net).double()
    assert wide(IMAGES.double()).dtype == torch.float64
    with pytest.raises(ConversionError, match="wrong input dtype"):
        wide(IMAGES)


def test_what_cannot_train_is_refused() -> None:
    with pytest.raises(TypeError, match="made, got Sequential"):
        snnconv.trainable(nn.Sequential())  # type: ignore[arg-type]
    snn = converted(methods.SignedIF(4), "spikingjelly")
    snn._precision = "int8"
    with pytest.raises(ConversionError, match="8-bit layers have no gradient"):
        snnconv.trainable(snn)
    snn._precision = "float32"
    name = next(iter(snn.neurons))
    snn.neurons[name] = nn.Identity()
    with pytest.raises(ConversionError, match=f"{name}: a Identity stands here"):
        snnconv.trainable(snn)


def test_a_converted_network_says_where_its_gradients_are() -> None:
    snn = converted(methods.SignedIF(4), "spikingjelly")
    x = IMAGES.clone().requires_grad_(True)
    with pytest.raises(ConversionError, match=r"train snnconv.trainable\(snn\)"):
        snn(x)
    with torch.no_grad():
        wanted = snn(x)
    snn.train()  # as a part of a network that trains
    assert torch.equal(snn(IMAGES), wanted)
    with pytest.raises(ConversionError, match="gives no gradient"):
        snn.requires_grad_(True)(IMAGES)
    assert torch.equal(snn.requires_grad_(False)(IMAGES), wanted)
