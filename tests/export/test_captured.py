"""What torch.export, ONNX and TorchScript record of a converted network follows its input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

import snnconv
from snnconv import ConversionError, SpikingNetwork, methods

METHODS = [methods.IF(4), methods.SignedIF(4), methods.SRP(4, 4), methods.ShiftedThreshold(3)]
ONE, OTHER = torch.randn(16, 3, 16, 16), torch.randn(16, 3, 16, 16)
BATCH = ({0: Dim("batch")},)
exported = pytest.mark.skipif(
    not hasattr(torch.onnx, "ops"), reason="torch.export before PyTorch 2.8 fails at batches of any size"
)


def network(method: methods.Method, framework: str = "spikingjelly") -> SpikingNetwork:
    torch.manual_seed(0)
    if framework == "snntorch":
        pytest.importorskip("snntorch")
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 16, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5),
    ).eval()  # fmt: skip
    return snnconv.convert(model, method, ONE, framework=framework, progress=False)


@pytest.mark.parametrize("framework", ["spikingjelly", "snntorch"])
@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
class TestEveryMethod:
    @exported
    def test_export(self, method: methods.Method, framework: str) -> None:
        snn = network(method, framework)
        program = torch.export.export(snn, (ONE,), dynamic_shapes=BATCH, strict=False).module()
        for x in (ONE, OTHER, OTHER[:3]):
            torch.testing.assert_close(program(x), snn(x))

    @pytest.mark.filterwarnings("ignore")
    def test_torchscript(self, method: methods.Method, framework: str) -> None:
        snn = network(method, framework)
        program = torch.jit.trace(snn, ONE, check_trace=False)
        torch.testing.assert_close(program(OTHER), snn(OTHER))

    @exported
    @pytest.mark.filterwarnings("ignore")
    def test_onnx(self, method: methods.Method, framework: str, tmp_path: Path) -> None:
        pytest.importorskip("onnxscript")
        reference = pytest.importorskip("onnx.reference")
        snn = network(method, framework)
        torch.onnx.export(snn, (ONE,), str(tmp_path / "net.onnx"), verbose=False, dynamic_shapes=BATCH)
        program = reference.ReferenceEvaluator(str(tmp_path / "net.onnx"))
        for x in (OTHER, OTHER[:3]):
            (got,) = program.run(None, {program.input_names[0]: x.numpy()})
            torch.testing.assert_close(torch.from_numpy(got), snn(x), rtol=1e-4, atol=1e-4)


@exported
def test_an_exported_batch_is_not_cut_and_no_kernel_stands_in() -> None:
    snn = network(methods.SignedIF(4))
    snn.memory_budget = 1
    snn.backend = "numba"
    program = torch.export.export(snn, (ONE,), dynamic_shapes=BATCH, strict=False).module()
    torch.testing.assert_close(program(OTHER[:5]), snn(OTHER[:5]))


def test_several_inputs_are_exported() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(4, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.c(torch.relu(self.a(x) + self.b(y)))

    a, b = torch.randn(8, 6), torch.randn(8, 4)
    snn = snnconv.convert(Two().eval(), methods.SignedIF(4), (a, b), progress=False)
    program = torch.export.export(snn, (a, b), strict=False).module()
    torch.testing.assert_close(program(-a, -b), snn(-a, -b))


def test_torch_compile_gives_the_same() -> None:
    snn: Any = network(methods.SignedIF(4))
    compiled = torch.compile(snn, backend="eager")
    for x in (ONE, OTHER[:3]):
        torch.testing.assert_close(compiled(x), snn(x))


@exported
def test_strict_export_says_what_to_do() -> None:
    with pytest.raises(Exception, match="export it with strict=False"):
        torch.export.export(network(methods.SignedIF(4)), (ONE,), strict=True)


@pytest.mark.filterwarnings("ignore")
def test_8_bit_layers_are_not_exported() -> None:
    snn = network(methods.SignedIF(4))
    snn._precision = "int8"  # set where processors have it
    for capture in (
        lambda: torch.export.export(snn, (ONE,), strict=False),
        lambda: torch.jit.trace(snn, ONE, check_trace=False),
    ):
        with pytest.raises(ConversionError, match="8-bit layers cannot be exported"):
            capture()
