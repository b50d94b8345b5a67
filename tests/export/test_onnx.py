"""to_onnx(): one step with its states, and the quantised twin, both run by onnxruntime."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import snnconv
from snnconv import ConversionError, methods
from snnconv.export.twin import quantised_twin
from tests.networks import Encoder

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
if not hasattr(torch.onnx, "ops"):
    pytest.skip("to_onnx needs PyTorch 2.8", allow_module_level=True)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.bn = nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.b, self.head = nn.Conv2d(8, 8, 3, padding=1), nn.Linear(72, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.a(x)))
        y = F.max_pool2d(F.relu(self.b(x) + x), 2)
        return self.head(y.flatten(1))


def converted(method: methods.Method) -> snnconv.SpikingNetwork:
    torch.manual_seed(0)
    model, x = Net(), torch.rand(32, 1, 6, 6)
    model.train()(x)
    return snnconv.convert(model.eval(), method, x, progress=False)


def session(path: Path) -> Any:
    return ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(
    "method", [methods.IF(4), methods.SignedIF(4), methods.SRP(3, 2), methods.ShiftedThreshold(3)], ids=lambda m: m.name
)
def test_one_step_spikes_as_the_network_does(method: methods.Method, tmp_path: Path) -> None:
    snn, x = converted(method), torch.rand(7, 1, 6, 6)  # another batch size than the file was written with
    inputs, outputs = snnconv.to_onnx(snn, tmp_path / "step.onnx")
    run, step = session(tmp_path / "step.onnx"), snnconv.stepwise(snn)
    assert [i.name for i in run.get_inputs()] == inputs == ["x", *step.names]
    assert [o.name for o in run.get_outputs()] == outputs == ["output", *(f"{name}.next" for name in step.names)]
    states: list[Tensor] = list(step.initial(x))
    theirs = [state.numpy() for state in states]
    answer, close, total = np.zeros((7, 10), np.float32), 0, 0
    for t in range(step.timesteps):
        _, *states = step(x, *states)
        out, *theirs = run.run(None, dict(zip(inputs, [x.numpy(), *theirs], strict=True)))
        answer += out * (t >= step.latency)
        for a, b in zip(states, theirs, strict=True):
            close += int(np.isclose(a.numpy(), b, rtol=1e-4, atol=1e-4).sum())
            total += b.size
    assert close / total > 0.9999, "membranes differ by rounding, and by no spike"
    np.testing.assert_allclose(
        answer / (1 if method.coding == "sum" else method.timesteps), snn(x).numpy(), rtol=1e-3, atol=1e-4
    )


class Normalised(nn.Module):
    """A transformer's layer, with a GroupNorm in front and an RMSNorm behind."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.layer = nn.Conv2d(1, 8, 2, 2), nn.GroupNorm(2, 8), Encoder(8, 2)
        self.rms, self.head = nn.RMSNorm(8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(self.norm(self.conv(x)).flatten(2).transpose(1, 2))
        return self.head(self.rms(y[:, 0]))


def test_normalisations_by_ladders_are_written_as_what_they_compute(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = Normalised().eval(), torch.rand(16, 1, 6, 6)
    snn = snnconv.convert(
        model, methods.ShiftedThreshold(5), x, cover="synapses", normalisation="ladder", progress=False
    )
    assert len(snn.report.normalisations) == 5
    data = torch.rand(21, 1, 6, 6)  # another batch size than the file was written with
    wanted = snn(data)
    inputs, _ = snnconv.to_onnx(snn, tmp_path / "twin.onnx", twin=True)
    (got,) = session(tmp_path / "twin.onnx").run(None, {inputs[0]: data.numpy()})
    same = np.isclose(got, wanted.numpy(), rtol=1e-3, atol=1e-4).all(1)
    assert same.mean() > 0.9, "a value at the border of two codes may round the other way"
    inputs, _ = snnconv.to_onnx(snn, tmp_path / "step.onnx")
    run, step, answer = session(tmp_path / "step.onnx"), snnconv.stepwise(snn), 0.0
    states = [state.numpy() for state in step.initial(data)]
    for _ in range(step.timesteps):
        out, *states = run.run(None, dict(zip(inputs, [data.numpy(), *states], strict=True)))
        answer = answer + out
    assert np.isclose(answer, wanted.numpy(), rtol=1e-3, atol=1e-4).all(1).mean() > 0.9


EVALUATED = (nn.GELU(), nn.SiLU(), nn.Mish(), nn.ELU(), nn.SELU(), nn.Hardswish(), nn.Hardsigmoid(), nn.LeakyReLU())
BY_LADDERS = (nn.GELU(), nn.PReLU(8), nn.Tanh())
ANY = [(methods.SignedIF(6), f) for f in EVALUATED] + [(methods.ShiftedThreshold(4), f) for f in BY_LADDERS]


@pytest.mark.parametrize(("method", "activation"), ANY, ids=[f"{m.name}-{type(f).__name__}" for m, f in ANY])
def test_one_step_of_any_activation_runs_in_onnxruntime(
    method: methods.Method, activation: nn.Module, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(4, 8), activation, nn.Linear(8, 2)).eval(), torch.randn(32, 4)
    snn = snnconv.convert(model, method, x, progress=False)
    inputs, _ = snnconv.to_onnx(snn, tmp_path / "step.onnx")
    run, step = session(tmp_path / "step.onnx"), snnconv.stepwise(snn)
    states, total = [v.numpy() for v in step.initial(x)], torch.zeros(32, 2)
    for _ in range(step.timesteps):
        out, *states = run.run(None, dict(zip(inputs, [x.numpy(), *states], strict=True)))
        total += torch.from_numpy(out)
    torch.testing.assert_close(total / (1 if method.coding == "sum" else 6), snn(x), rtol=0, atol=1e-5)


class Weighed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor, gain: Tensor, ids: Tensor) -> Tensor:
        return self.b(F.gelu(self.a(x) * gain) + ids.to(x.dtype).mean(1, keepdim=True))


def test_inputs_go_by_name_and_those_of_no_batch_have_none(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = {"ids": torch.randint(0, 3, (16, 5)), "gain": torch.rand(8) + 0.5, "x": torch.randn(16, 4)}
    snn = snnconv.convert(Weighed().eval(), methods.ShiftedThreshold(4), [x], progress=False)
    inputs, _ = snnconv.to_onnx(snn, tmp_path / "twin.onnx", twin=True)
    assert inputs == ["x", "gain", "ids"]
    fed = {name: v[:3] if name != "gain" else v for name, v in x.items()}
    (out,) = session(tmp_path / "twin.onnx").run(None, {name: v.numpy() for name, v in fed.items()})
    np.testing.assert_allclose(out, snn(**fed).numpy(), rtol=0, atol=1e-5)
    inputs, _ = snnconv.to_onnx(snn, tmp_path / "step.onnx")
    run, step = session(tmp_path / "step.onnx"), snnconv.stepwise(snn)
    given = [fed[name] for name in step.inputs]
    states, total = [v.numpy() for v in step.initial(*given)], np.zeros((3, 2), np.float32)
    for _ in range(step.timesteps):
        out, *states = run.run(None, dict(zip(inputs, [*(v.numpy() for v in given), *states], strict=True)))
        total += out
    np.testing.assert_allclose(total, snn(**fed).numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("bits", [3, 8])
def test_the_twin_answers_as_the_sum_coded_network(bits: int, tmp_path: Path) -> None:
    snn, x = converted(methods.ShiftedThreshold(bits)), torch.rand(500, 1, 6, 6)
    snnconv.to_onnx(snn, tmp_path / "twin.onnx", twin=True)
    graph = onnx.load(tmp_path / "twin.onnx").graph
    kinds = [node.op_type for node in graph.node]
    assert kinds.count("QuantizeLinear") == kinds.count("DequantizeLinear") == len(snn.thresholds)
    (out,) = session(tmp_path / "twin.onnx").run(None, {"x": x.numpy()})
    want = snn(x).numpy()
    assert np.isclose(out, want, rtol=1e-4, atol=1e-4).all(1).mean() > 0.99
    assert (out.argmax(1) == want.argmax(1)).mean() > 0.995


def test_the_twin_with_weights_in_8_bits(tmp_path: Path) -> None:
    snn, x = converted(methods.ShiftedThreshold(6)), torch.rand(200, 1, 6, 6)
    snnconv.to_onnx(snn, tmp_path / "twin.onnx", twin=True, int8_weights=True)
    weights = [i for i in onnx.load(tmp_path / "twin.onnx").graph.initializer if i.data_type == onnx.TensorProto.INT8]
    assert sorted(list(w.dims) for w in weights) == [[8, 1, 3, 3], [8, 8, 3, 3], [10, 72]]
    (out,) = session(tmp_path / "twin.onnx").run(None, {"x": x.numpy()})
    np.testing.assert_allclose(out, quantised_twin(snn, int8_weights=True)(x).numpy(), rtol=1e-3, atol=1e-3)
    assert float(np.abs(out - snn(x).numpy()).mean()) < 0.1 * float(snn(x).std())


def test_the_twin_in_pytorch_is_the_network() -> None:
    snn, x = converted(methods.ShiftedThreshold(4)), torch.rand(100, 1, 6, 6)
    assert float(torch.isclose(quantised_twin(snn)(x), snn(x), rtol=1e-4, atol=1e-5).all(1).float().mean()) > 0.98


def test_what_has_no_twin_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="SignedIF codes by rates"):
        snnconv.to_onnx(converted(methods.SignedIF(4)), tmp_path / "a.onnx", twin=True)
    with pytest.raises(ConversionError, match="9 bits do not fit"):
        snnconv.to_onnx(converted(methods.ShiftedThreshold(9)), tmp_path / "a.onnx", twin=True)
    with pytest.raises(ValueError, match="is for the twin"):
        snnconv.to_onnx(converted(methods.ShiftedThreshold(4)), tmp_path / "a.onnx", int8_weights=True)
    assert not list(tmp_path.iterdir())


def test_an_unwritable_path_is_named(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(OSError, match=r"none/a\.onnx"):
            snnconv.to_onnx(converted(methods.IF(2)), tmp_path / "none" / "a.onnx")


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.block, self.head = nn.Linear(4, 8), Encoder(8, 2), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.embed(x)).mean(1))


@pytest.mark.parametrize("int8_weights", [False, True])
@pytest.mark.parametrize("kind", ["transformer", "layers"])
def test_products_of_values_whose_scales_differ_by_channel(kind: str, int8_weights: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 3))
    model, x = {"transformer": (Attending(), torch.randn(32, 6, 4)), "layers": (layers, torch.randn(32, 4))}[kind]
    snn = snnconv.convert(model.eval(), methods.ShiftedThreshold(4), x, cover="synapses", progress=False)
    snnconv.to_onnx(snn, tmp_path / "twin.onnx", twin=True, int8_weights=int8_weights)
    (out,) = session(tmp_path / "twin.onnx").run(None, {"x" if kind == "transformer" else "input": x.numpy()})
    want = quantised_twin(snn, int8_weights)(x).numpy()
    assert np.isclose(out, want, rtol=1e-4, atol=1e-4).all(1).mean() > 0.9
