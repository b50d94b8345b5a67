"""stepwise(): ordinary modules, one step a call, that answer as the network does."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import snnconv
from snnconv import ConversionError, methods
from snnconv.runtime.step_modules import Neurons

METHODS = {
    "if": methods.IF(6),
    "if, read behind a delay": methods.IF(6, delay=2),
    "signed if": methods.SignedIF(6),
    "signed if, max of every step": methods.SignedIF(6, max_pool="instantaneous"),
    "srp": methods.SRP(4, 3),
    "local threshold balancing": methods.LocalThresholdBalancing(8, max_batches=8),
    "shifted threshold": methods.ShiftedThreshold(4),
    "shifted threshold, one a layer": methods.ShiftedThreshold(3, per_channel=False),
}


class Shortcuts(nn.Module):
    """A residual, branches of other depths, max-pooling, BatchNorm, a transposed convolution, a shared layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.bn = nn.Conv2d(2, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.same, self.up = nn.Conv2d(6, 6, 3, padding=1, groups=2), nn.ConvTranspose2d(6, 6, 2, stride=2)
        self.head = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.first(x)))
        y = F.relu(self.same(x) + x)
        y = F.relu(self.same(y) + 0.1)
        z = F.relu(self.up(F.max_pool2d(x, 2)))
        return self.head(torch.cat([y + x, z], 1).mean((2, 3)))


class Analog(nn.Module):
    """Softmax, layer norm and a gate between neurons; a second output that is a class."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.norm, self.head = nn.Linear(5, 8), nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> dict[str, Any]:
        h = F.relu(self.a(x))
        h = F.relu(self.b(self.norm(h) * h.softmax(-1)))
        y = self.head(h)
        return {"scores": y, "class": y.argmax(1), "sure": y.softmax(1), "bias": self.head.bias}


class Curves(nn.Module):
    """Functions at the neuron: one that turns, one with a parameter a channel, one that never falls, and a product."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.head = nn.Linear(5, 8), nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.prelu = nn.PReLU(8)

    def forward(self, x: Tensor) -> Tensor:
        h = self.prelu(self.b(F.gelu(self.a(x))))
        return self.head(torch.tanh(self.c(h)) * F.silu(h))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "shortcuts": (Shortcuts, (2, 6, 6)),
    "analog operators": (Analog, (5,)),
    "tokens": (lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)), (7, 4)),
}
WITH_FUNCTIONS = {**NETWORKS, "functions at the neuron": (Curves, (5,))}


def converted(network: str, method: methods.Method, **options: Any) -> tuple[snnconv.SpikingNetwork, Tensor]:
    make, shape = WITH_FUNCTIONS[network]
    torch.manual_seed(0)
    model, x = make(), torch.randn(24, *shape, dtype=torch.float64)
    model.double().train()(x)
    return snnconv.convert(model.eval(), method, x, progress=False, **options), x[:5]


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("method", METHODS)
def test_all_steps_together_are_the_answer(network: str, method: str) -> None:
    snn, x = converted(network, METHODS[method])
    want, got = snn(x), snnconv.stepwise(snn).run(x)
    want, got = ({"y": v} if isinstance(v, Tensor) else v for v in (want, got))
    assert list(got) == list(want)
    for name, value in want.items():
        torch.testing.assert_close(got[name], value, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("network", ["analog operators", "functions at the neuron"])
@pytest.mark.parametrize("method", ["signed if", "shifted threshold"])
def test_functions_and_encoders_step_too(method: str, network: str) -> None:
    for cover in ("activations", "synapses"):
        snn, x = converted(network, METHODS[method], cover=cover)
        want, got = snn(x), snnconv.stepwise(snn).run(x)
        want, got = (v if isinstance(v, Tensor) else v["scores"] for v in (want, got))
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


class Rows(nn.Module):
    """One layer and one ReLU for three rows, each with a bias of its own behind bias correction."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.relu = nn.Linear(4, 8), nn.Linear(8, 8), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.relu(self.b(row)) for row in self.a(x).unbind(1)], 1)


@pytest.mark.parametrize("method", [methods.SignedIF(6), methods.ShiftedThreshold(3)], ids=lambda m: m.name)
def test_a_layer_called_three_times_keeps_three_biases(method: methods.Method) -> None:
    torch.manual_seed(0)
    x = torch.randn(24, 3, 4, dtype=torch.float64)
    snn = snnconv.convert(Rows().double().eval(), method, x, progress=False)
    torch.testing.assert_close(snnconv.stepwise(snn).run(x), snn(x), rtol=1e-9, atol=1e-9)


class Pair(NamedTuple):
    scores: Tensor
    spread: Tensor


@dataclass
class Found:
    scores: Tensor
    spread: Tensor


@pytest.mark.parametrize("kind", [Pair, Found])
@pytest.mark.parametrize("method", [methods.SignedIF(5), methods.ShiftedThreshold(4)], ids=lambda m: m.name)
def test_outputs_in_containers(kind: Any, method: methods.Method) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Any:
            y = self.b(F.relu(self.a(x)))
            return kind(y, y.softmax(1))

    torch.manual_seed(0)
    x = torch.randn(16, 4, dtype=torch.float64)
    snn = snnconv.convert(Two().double().eval(), method, x, progress=False)
    got, want = snnconv.stepwise(snn).run(x), snn(x)
    got = got._asdict() if isinstance(got, Pair) else got  # a dataclass comes as a dictionary
    for name in ("scores", "spread"):
        torch.testing.assert_close(got[name], getattr(want, name), rtol=1e-9, atol=1e-9)


def test_snntorch_neurons_step_too() -> None:
    snn, x = converted("shortcuts", methods.SignedIF(5), framework="snntorch")
    torch.testing.assert_close(snnconv.stepwise(snn).run(x), snn(x), rtol=1e-9, atol=1e-9)


def test_outputs_of_each_step_are_those_of_a_run() -> None:
    snn, x = converted("shortcuts", methods.SignedIF(6))
    step = snnconv.stepwise(snn)
    states = step.initial(x)
    for want in snn.run(x):
        out, *states = step(x, *states)
        torch.testing.assert_close(out, want, rtol=1e-9, atol=1e-9)


def test_states_are_explicit_and_named() -> None:
    snn, x = converted("tokens", methods.SignedIF(6))
    step = snnconv.stepwise(snn)
    assert step.names == ("step", "1.v", "1.n", "3.v", "3.n")
    seen: list[dict[str, Tensor]] = []
    step.run(x, observe=lambda t, states: seen.append(copy.copy(states)))
    assert [int(s["step"]) for s in seen] == [1, 2, 3, 4, 5, 6]
    counts = torch.zeros(5, 7, 8, dtype=torch.float64)
    outputs: dict[str, Tensor] = {}
    snn.run(x, observe=lambda site, out: outputs.__setitem__(site, out))
    theta = snn.thresholds["3"]
    for t, states in enumerate(seen):
        counts += outputs["3"][t] / (theta if theta.dim() == 0 else theta.reshape(-1))
        torch.testing.assert_close(states["3.n"], counts, rtol=1e-6, atol=1e-6)
    first = step.initial(x)
    again = step(x, *first)
    assert all(torch.equal(a, b) for a, b in zip(step(x, *first), again, strict=True)), "nothing is kept inside"


def test_layers_and_populations_are_children_of_ordinary_kinds() -> None:
    snn, _ = converted("shortcuts", methods.ShiftedThreshold(4))
    kinds = [type(m) for m in snnconv.stepwise(snn).program.children()]
    assert kinds.count(nn.Conv2d) == 2, "a layer that is called twice stands there once"
    assert (kinds.count(nn.ConvTranspose2d), kinds.count(nn.Linear)) == (1, 1)
    assert sum(issubclass(kind, Neurons) for kind in kinds) == len(snn.thresholds)


def test_a_window_opens_when_all_inputs_have_come() -> None:
    """Sum coding: T steps a layer on the longest path, and no spike outside of them."""
    snn, x = converted("shortcuts", methods.ShiftedThreshold(4))
    step = snnconv.stepwise(snn)
    assert step.timesteps == 3 * 4
    sent: dict[str, list[int]] = {}
    for name, module in step.program.named_children():
        if isinstance(module, Neurons):
            module.register_forward_hook(
                lambda m, args, out, name=name: sent.setdefault(name, []).append(int(out[0].count_nonzero()))
            )
    step.run(x)
    windows = {
        name: [t // 4 for t, count in enumerate(counts[1:]) if count] for name, counts in sent.items()
    }  # one is `initial`
    assert [sorted(set(found)) for found in windows.values()] == [[0], [1], [2], [1]]


def test_the_network_itself_is_not_touched() -> None:
    snn, x = converted("shortcuts", methods.SignedIF(5))
    before, step = snn(x), snnconv.stepwise(snn)
    with torch.no_grad():
        for parameter in step.parameters():
            parameter.zero_()
    assert torch.equal(snn(x), before)


EXPORTED: tuple[tuple[str, methods.Method, str], ...] = (
    ("shortcuts", methods.SignedIF(4), "activations"),
    ("shortcuts", methods.SRP(3, 2), "activations"),
    ("shortcuts", methods.ShiftedThreshold(3), "activations"),
    ("functions at the neuron", methods.SignedIF(4), "activations"),
    ("functions at the neuron", methods.ShiftedThreshold(3), "activations"),
    ("functions at the neuron", methods.ShiftedThreshold(4, realisation="function"), "synapses"),
)


@pytest.mark.skipif(
    not hasattr(torch.onnx, "ops"), reason="torch.export before PyTorch 2.8 fails at batches of any size"
)
def test_exports_follow_their_input() -> None:
    for network, method, cover in EXPORTED:
        snn, x = converted(network, method, cover=cover)
        step = snnconv.stepwise(snn)
        given = (x, *step.initial(x))
        batch = torch.export.Dim("batch", min=1)
        shapes = tuple({0: batch} if v.dim() else None for v in given)
        exported = torch.export.export(step, given, dynamic_shapes=(shapes,), strict=False).module()
        traced = torch.jit.trace(step, given, check_trace=False)
        other = torch.randn(3, *x.shape[1:], dtype=torch.float64)
        states = step.initial(other)
        for _ in range(step.timesteps):
            out, *after = step(other, *states)
            for name, run in (("torch.export", exported), ("TorchScript", traced)):
                for a, b in zip(run(other, *states), (out, *after), strict=True):
                    assert torch.equal(a, b), name
            states = after


def test_ladders_are_looked_up_by_a_call_and_not_by_an_export() -> None:
    snn, x = converted("functions at the neuron", methods.ShiftedThreshold(3))
    step = snnconv.stepwise(snn)
    given = (x, *step.initial(x))
    for module in step.modules():
        if isinstance(module, Neurons):
            module._found.clear()
    with pytest.raises(RuntimeError, match=r"look up what belongs to their thresholds.*call step\.initial\(x\)"):
        torch.export.export(step, given, strict=False)


def test_what_has_no_single_steps_is_refused() -> None:
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 2)
            self.relu = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            h = self.relu(self.a(x))
            for _ in range(int(x.detach().abs().max() > 1e9)):
                h = h + 1
            return self.b(h)

    snn = snnconv.convert(Loop().eval(), methods.SignedIF(4), torch.randn(8, 4), progress=False)
    if snn.report.path == "module tree":
        with pytest.raises(ConversionError, match="runs as a graph"):
            snnconv.stepwise(snn)
    snn, x = converted("tokens", methods.SignedIF(4))
    with pytest.raises(ValueError, match="takes 1 inputs"):
        snnconv.stepwise(snn).run(x, x)


def test_differential_coding_has_no_single_steps_and_says_what_has() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
    snn = snnconv.convert(model, methods.MultiThreshold(4), torch.randn(16, 4), progress=False)
    words = r"'multi_threshold' neurons do not \(differential coding\): snn\.stream\(x\) .* methods\.SignedIF"
    with pytest.raises(snnconv.ConversionError, match=words):
        snnconv.stepwise(snn)
