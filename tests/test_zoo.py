"""Published architectures convert, and every activation call is accounted for."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import snnconv
from snnconv import methods

torchvision = pytest.importorskip("torchvision")

RELUS = {
    torch.relu, torch.relu_, F.relu, F.relu6, F.hardtanh, torch.clamp, torch.clamp_,
    Tensor.relu, Tensor.relu_, Tensor.clamp, Tensor.clamp_, torch.nn.functional.relu_,
}  # fmt: skip
ANALOG = {
    F.silu,
    F.gelu,
    F.hardswish,
    F.hardsigmoid,
    F.leaky_relu,
    F.elu,
    torch.sigmoid,
    Tensor.sigmoid,
    F.softmax,
}


class ActivationCalls(TorchFunctionMode):
    """Counts the outermost calls of activation functions in a forward pass, independently of any tracing."""

    def __init__(self) -> None:
        super().__init__()
        self.relus = 0
        self.others = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in RELUS:
            self.relus += 1
        elif func in ANALOG:
            self.others += 1
        return func(*args, **(kwargs or {}))  # inside, the mode is off: F.relu's torch.relu is not counted again


def from_torchvision(name: str, **options) -> Callable[[], nn.Module]:
    return lambda: torchvision.models.get_model(name, weights=None, num_classes=10, **options)


def from_timm(name: str) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        return pytest.importorskip("timm").create_model(name, pretrained=False, num_classes=10)

    return make


def slow(name: str, make: Callable[[], nn.Module]):
    return pytest.param(make, id=name, marks=pytest.mark.slow)


ZOO = [
    slow("resnet18", from_torchvision("resnet18")),
    slow("resnet34", from_torchvision("resnet34")),
    slow("resnet50", from_torchvision("resnet50")),
    slow("vgg16_bn", from_torchvision("vgg16_bn")),
    slow("mobilenet_v2", from_torchvision("mobilenet_v2")),
    slow("regnet_x_400mf", from_torchvision("regnet_x_400mf")),
    slow("densenet121", from_torchvision("densenet121")),
    slow("squeezenet1_1", from_torchvision("squeezenet1_1")),
    slow("googlenet", from_torchvision("googlenet", aux_logits=False, init_weights=False)),
    slow("resnet26", from_timm("resnet26")),
    slow("repvgg_a0", from_timm("repvgg_a0")),
]


def live(model: nn.Module, x: Tensor) -> nn.Module:
    """Give random weights the statistics of a trained network: BatchNorms that have seen data."""
    model.train()
    for module in model.modules():
        if isinstance(module, (nn.Dropout, nn.Dropout2d)):
            module.eval()
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None  # the running mean of what it sees
    with torch.no_grad():
        model(x)
    return model.eval()


@pytest.mark.parametrize("make", ZOO)
@torch.no_grad()
def test_it_converts_with_every_activation_accounted_for(make: Callable[[], nn.Module]) -> None:
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = make()
    x = torch.randn(4, 3, 64, 64)
    live(model, x)
    with ActivationCalls() as calls:
        expected = model(x)
    method = methods.ShiftedThreshold(14, correction="none", thresholds="max")
    snn = snnconv.convert(model, method, x, progress=False)
    assert snn.report is not None
    assert snn.report.path == "graph"
    assert len(snn.report.spiking) == calls.relus
    assert len([a for a in snn.report.analog if a.activation]) == calls.others
    assert len({s.name for s in snn.report.spiking}) == calls.relus
    out = snn(x)
    assert out.shape == expected.shape
    # so many levels that what is lost is rounding: a larger difference would be a fault of the structure
    assert float((out - expected).norm() / expected.norm()) < 0.02


def from_hugging_face(name: str, **options) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = getattr(transformers, f"{name}Config")(
        num_labels=5, embedding_size=8, hidden_sizes=[8, 16, 16, 32], **options
    )
    return getattr(transformers, f"{name}ForImageClassification")(config)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param("ResNet", dict(depths=[1, 1, 1, 1], layer_type="basic"), id="resnet"),
        pytest.param("ResNet", dict(depths=[1, 1, 2, 1], layer_type="bottleneck"), id="resnet-bottleneck"),
        pytest.param("RegNet", dict(depths=[1, 1, 1, 1], groups_width=8), id="regnet"),
    ],
)
@torch.no_grad()
def test_hugging_faces_classifiers_keep_their_outputs_names(name: str, options: dict, tmp_path) -> None:
    torch.set_num_threads(1)
    model = from_hugging_face(name, **options)
    x = torch.randn(4, 3, 64, 64)
    live(model, x)
    with ActivationCalls() as calls:
        expected = model(x).logits
    method = methods.ShiftedThreshold(14, correction="none", thresholds="max")
    snn = snnconv.convert(model, method, x, progress=False)
    assert snn.report is not None
    assert snn.report.path == "graph"
    assert sum(site.kind == "relu" for site in snn.program.sites.values()) == calls.relus
    out = snn(x)
    assert out.logits is out["logits"]
    assert float((out.logits - expected).norm() / expected.norm()) < 0.02
    *_, (last, streamed) = snn.stream(x)
    assert last == 14
    assert torch.allclose(streamed.logits, out.logits, atol=2e-3)  # the order of sums may move a level of 2^14
    snnconv.save(snn, tmp_path / "net")
    assert torch.equal(snnconv.load(tmp_path / "net")(x).logits, out.logits)
    with pytest.raises(AttributeError, match="no output 'features', only logits"):
        out.features  # noqa: B018


@torch.no_grad()
def test_a_network_that_branches_on_channels_is_not_traced_past_it() -> None:
    class Grey(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.relu = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            if x.shape[1] == 1:
                x = x.repeat(1, 3, 1, 1)
            return self.relu(self.conv(x)).mean((2, 3))

    model, x = Grey().eval(), torch.rand(4, 1, 8, 8)
    snn = snnconv.convert(model, methods.SignedIF(64, correction="none", thresholds="max"), x, progress=False)
    assert torch.allclose(snn(x), model(x), atol=0.02)


@pytest.mark.slow
@torch.no_grad()
def test_what_has_no_spiking_equivalent_is_reported() -> None:
    torch.set_num_threads(1)
    model = torchvision.models.get_model("mobilenet_v3_small", weights=None, num_classes=10)
    x = torch.randn(4, 3, 64, 64)
    live(model, x)
    with ActivationCalls() as calls:
        model(x)
    signed = snnconv.convert(model, methods.SignedIF(8, correction="none"), x, progress=False)
    assert signed.report is not None
    assert len(signed.report.spiking) == calls.relus + calls.others, "signed neurons take them all"
    snn = snnconv.convert(model, methods.IF(8, correction="none"), x, progress=False)
    assert snn.report is not None
    inside = [a for a in snn.report.analog if a.activation and a.operator == "hardswish"]
    assert len(inside) + len(snn.report.spiking) == calls.relus + calls.others, "a Hardswish falls below 0"
    with pytest.raises(snnconv.ConversionError, match="strict=True"):
        snnconv.convert(model, methods.IF(8), x, strict=True, progress=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "densenet121", "googlenet"])
@torch.no_grad()
def test_it_saves_and_loads(name: str, tmp_path) -> None:
    torch.set_num_threads(1)
    options = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    model = from_torchvision(name, **options)()
    x = torch.randn(2, 3, 64, 64)
    live(model, x)
    snn = snnconv.convert(model, methods.SignedIF(2, correction="none", thresholds="max"), x, progress=False)
    snnconv.save(snn, tmp_path / "net")
    again = snnconv.load(tmp_path / "net")
    assert torch.equal(again(x), snn(x))
    assert again.report == snn.report
