"""What users of other tools ran into, as acceptance tests."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD

import snnconv
from snnbench.networks.models import ResNet20
from snnconv import methods

ACCURATE = methods.ShiftedThreshold(8)  # 255 levels: what differs more than rounding is a fault of the conversion


def settled(model: nn.Module, x: Tensor, rounds: int = 3) -> nn.Module:
    """A network whose BatchNorms have seen data, as a trained one's have."""
    model.train()
    with torch.no_grad():
        for _ in range(rounds):
            model(x)
    return model.eval()


def distance(snn: nn.Module, model: nn.Module, x: Tensor) -> float:
    with torch.no_grad():
        expected = model(x)
        return float((snn(x) - expected).norm() / expected.norm())


def images(count: int = 32, size: int = 16) -> Tensor:
    coarse = torch.rand(count, 3, 4, 4)  # smooth, as pictures are
    return F.interpolate(coarse, size=(size, size), mode="bilinear", align_corners=False)


# --- "runs successfully", but nothing was converted: F.relu -------------------------------------------------


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)
        self.fc1, self.fc2 = nn.Linear(8 * 36, 20), nn.Linear(20, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(x))
        x = F.max_pool2d(torch.relu(self.conv2(x)), 2)
        return self.fc2(self.fc1(x.flatten(1)).relu())


def test_functional_relus_are_converted_and_reported() -> None:
    model, x = Functional(), images()
    snn = snnconv.convert(model, ACCURATE, x, progress=False)
    assert snn.report is not None
    assert [s.name for s in snn.report.spiking] == ["relu", "relu:2", "relu:3"]
    assert not snn.report.analog
    assert distance(snn, model, x) < 0.02
    assert "nothing stays analog" in str(snn.report)


def test_an_activation_without_a_neuron_is_said_and_why() -> None:
    """Integrate-and-fire neurons know no negative spike, and a SiLU gives values below 0."""

    class Mixed(Functional):
        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.conv1(x))
            x = F.max_pool2d(F.silu(self.conv2(x)), 2)
            return self.fc2(F.relu(self.fc1(x.flatten(1))))

    spiking = snnconv.convert(Mixed(), methods.SignedIF(8), images(), progress=False)
    assert spiking.report is not None
    assert not spiking.report.analog
    snn = snnconv.convert(Mixed(), methods.IF(8), images(), progress=False)
    assert snn.report is not None
    (analog,) = snn.report.analog
    assert analog.operator == "silu"
    assert "no spiking equivalent" in analog.reason
    assert "no spiking equivalent" in str(snn.report)


def test_a_network_without_relu_is_no_success() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU(), nn.Conv2d(4, 2, 3))
    with pytest.raises(
        snnconv.ConversionError, match=r"no activation that methods\.IF has neurons for.*SiLU.*SignedIF"
    ):
        snnconv.convert(model, methods.IF(4), images(), progress=False)


# --- the ResNet-20 with its zero-padding shortcut ----------------------------------------------------------


@pytest.fixture(scope="module")
def shortcut_network() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    x = images(16, 32)
    return settled(ResNet20(), x), x


def test_the_zero_padding_shortcut_converts(shortcut_network: tuple[nn.Module, Tensor]) -> None:
    model, x = shortcut_network
    snn = snnconv.convert(model, ACCURATE, x, progress=False)
    assert snn.report is not None
    assert len(snn.report.spiking) == 19
    assert not snn.report.analog
    assert distance(snn, model, x) < 0.03


def test_residual_adds_keep_one_scale_block_by_block(shortcut_network: tuple[nn.Module, Tensor]) -> None:
    """At every block, what the spikes say is what the source network's block says."""
    model, x = shortcut_network
    snn = snnconv.convert(model, ACCURATE, x, progress=False)
    wanted: dict[str, Tensor] = {}
    handles = [
        block.register_forward_hook(lambda m, a, out, name=name: wanted.__setitem__(name, out))
        for name, block in model.named_modules()
        if type(block).__name__ == "BasicBlock"
    ]
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    rates = snn.rates(x)
    assert len(wanted) == 9
    for name, out in wanted.items():
        rate = rates[f"{name}.relu2"]
        scale = float((rate * out).sum() / (out * out).sum())
        assert scale == pytest.approx(1, abs=0.02), f"{name} has another scale"
        assert float((rate - out).norm() / out.norm()) < 0.05, name


def test_small_steps_get_closer_with_time(shortcut_network: tuple[nn.Module, Tensor]) -> None:
    model, x = shortcut_network
    errors = []
    for timesteps in (4, 16, 48):
        snn = snnconv.convert(model, methods.SignedIF(timesteps, correction="bias"), x, progress=False)
        errors.append(distance(snn, model, x))
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.15


# --- deeper network, worse SNN, no way to see where --------------------------------------------------------


def test_compare_names_the_layer_where_it_goes_wrong(shortcut_network: tuple[nn.Module, Tensor]) -> None:
    model, x = shortcut_network
    snn = snnconv.convert(model, methods.SignedIF(16, correction="none"), x, progress=False)
    healthy = snnconv.compare(model, snn, x)
    broken = copy.deepcopy(snn)
    culprit = "layer2.1.relu1"
    broken.neurons[culprit].v_threshold *= 0.1  # this layer clips nearly everything
    comparison = snnconv.compare(model, broken, x)
    assert len(comparison.rows) == 19
    assert comparison.departs is not None
    assert comparison.departs.name == culprit
    assert culprit in str(comparison)
    before = [r.error for r in comparison.rows][: [r.name for r in comparison.rows].index(culprit)]
    assert before == pytest.approx([r.error for r in healthy.rows][: len(before)])


def test_the_report_of_a_deep_network_has_an_error_for_each_layer(
    shortcut_network: tuple[nn.Module, Tensor],
) -> None:
    model, x = shortcut_network
    snn = snnconv.convert(model, methods.IF(8, correction="none"), x, progress=False)
    assert snn.report is not None
    assert all(s.error is not None for s in snn.report.spiking)
    assert snn.report.worst is not None
    assert snn.report.worst.name in str(snn.report)


# --- concat and upsampling ---------------------------------------------------------------------------------


class UNet(nn.Module):
    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = mode
        self.down = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.pool = nn.MaxPool2d(2)
        self.mid = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.up = nn.Sequential(nn.Conv2d(16, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.down(x)
        b = F.interpolate(self.mid(self.pool(a)), size=a.shape[2:], mode=self.mode)
        return self.head(self.up(torch.cat([a, b], dim=1)))


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_concat_and_upsampling_convert(mode: str) -> None:
    x = images()
    model = settled(UNet(mode), x)
    for method in (ACCURATE, methods.SignedIF(128, correction="bias")):
        snn = snnconv.convert(model, method, x, progress=False)
        assert snn.report is not None
        assert not snn.report.analog
        assert distance(snn, model, x) < 0.03


# --- x.view(n, -1) with a traced batch size ----------------------------------------------------------------


class Viewing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc1, self.fc2 = nn.Conv2d(3, 4, 3), nn.Linear(4 * 14 * 14, 12), nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        n, c = x.size(0), self.conv.out_channels
        y = F.relu(self.conv(x))
        h, w = y.shape[-2:]
        y = y.view(n, c * h * w)
        return self.fc2(F.relu(self.fc1(y)).view(n, -1))


@pytest.mark.parametrize("batch", [1, 5, 32])
def test_view_with_a_traced_batch_size(batch: int) -> None:
    torch.manual_seed(0)
    model, x = Viewing(), images()
    for method in (methods.IF(256, correction="bias"), ACCURATE):
        snn = snnconv.convert(model, method, x, progress=False)
        assert snn.report is not None
        assert snn.report.path == "graph"
        assert distance(snn, model, x[:batch]) < 0.05


# --- one nn.ReLU used many times ---------------------------------------------------------------------------


def test_a_shared_relu_has_a_threshold_at_each_call() -> None:
    relu = nn.ReLU()
    layers = [nn.Linear(6, 16), relu, nn.Linear(16, 16), relu, nn.Linear(16, 4)]
    model = nn.Sequential(*layers)
    with torch.no_grad():
        layers[0].weight.mul_(50)
        layers[2].weight.mul_(0.01)
    x = torch.randn(64, 6)
    snn = snnconv.convert(model, ACCURATE, x, progress=False)
    assert snn.report is not None
    assert [s.name for s in snn.report.spiking] == ["1", "1:2"]
    one, two = (float(snn.thresholds[n].mean()) for n in ("1", "1:2"))
    assert one > 10 * two
    assert distance(snn, model, x) < 0.02


# --- a trained, accurate network that falls to chance ------------------------------------------------------


def test_a_trained_network_stays_accurate_at_few_steps() -> None:
    torch.manual_seed(0)
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    x = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    y = torch.tensor(digits.target)
    model = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(12, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(96, 10),
    )  # fmt: skip
    optimiser = SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(6):
        for part in torch.randperm(1200).split(64):
            optimiser.zero_grad()
            F.cross_entropy(model(x[part]), y[part]).backward()
            optimiser.step()
    model.eval()

    def accuracy(network: nn.Module) -> float:
        with torch.no_grad():
            return float((network(x[1200:]).argmax(1) == y[1200:]).float().mean())

    ann = accuracy(model)
    assert ann > 0.9
    for method in (methods.SignedIF(8), methods.IF(16), methods.ShiftedThreshold(4), methods.SRP(8, 8)):
        snn = snnconv.convert(model, method, x[:256], progress=False)
        assert accuracy(snn) > ann - 0.03, method
