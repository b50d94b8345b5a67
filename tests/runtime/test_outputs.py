"""A converted network returns what its source returns: structure, shapes, dtypes, constants, classes."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import snnconv
from snnconv import methods
from snnconv.runtime.readout import output_leaves


class Named(NamedTuple):
    cls: Tensor
    box: Tensor


@dataclass
class Found:
    cls: Tensor
    box: Tensor


@dataclass
class Page:
    found: list[Found]
    number: int


class Net(nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function
        self.a, self.cls, self.box = nn.Linear(6, 16), nn.Linear(16, 3), nn.Linear(16, 4)
        self.log_std = nn.Parameter(torch.tensor([-1.0, 0.0, 2.0]))
        self.register_buffer("anchors", torch.randn(12, 4))

    def forward(self, x: Tensor) -> Any:
        return self.function(self, F.relu(self.a(x)), x)


OUTPUTS: dict[str, Callable[[Net, Tensor, Tensor], Any]] = {
    "dictionary with None and a number": lambda m, h, x: {"cls": m.cls(h), "box": m.box(h), "aux": None, "n": 2},
    "named tuple": lambda m, h, x: Named(m.cls(h), m.box(h)),
    "nested lists": lambda m, h, x: [m.cls(h), (m.box(h), [h])],
    "dataclass": lambda m, h, x: Found(m.cls(h), m.box(h)),
    "dataclasses in a dataclass": lambda m, h, x: Page([Found(m.cls(h), m.box(h)), Found(h, x)], 3),
    "its input, too": lambda m, h, x: (m.cls(h), x),
    "a parameter": lambda m, h, x: (m.cls(h), m.log_std),
    "a parameter for every input": lambda m, h, x: (m.cls(h), m.log_std.expand(x.shape[0], 3)),
    "a parameter of its output's shape": lambda m, h, x: ((y := m.cls(h)), m.log_std.expand_as(y)),
    "constants computed": lambda m, h, x: (m.cls(h), m.anchors * 2),
    "numbers of the classes": lambda m, h, x: ((y := m.cls(h)), y.argmax(1)),
    "the best two": lambda m, h, x: m.cls(h).topk(2, 1)[1],
    "comparisons": lambda m, h, x: ((y := m.cls(h)), y > 0),
    "classes alone": lambda m, h, x: m.cls(h).argmax(1),
    "a comparison inside": lambda m, h, x: m.cls(h * (m.cls(h).argmax(1) > 0).unsqueeze(1)),
    "probabilities": lambda m, h, x: m.cls(h).softmax(1),
    "what is masked": lambda m, h, x: m.cls(h).masked_fill(torch.tensor([True, False, False]), float("-inf")),
    "one number": lambda m, h, x: (m.cls(h), m.cls(h).square().mean()),
    "complex numbers": lambda m, h, x: torch.fft.rfft(m.cls(h)),
}
X = torch.randn(32, 6, generator=torch.Generator().manual_seed(0))
METHODS = {
    "sums": methods.ShiftedThreshold(timesteps=12, correction="none"),
    "rates": methods.SignedIF(timesteps=64, correction="none"),
    "rates behind a delay": methods.IF(timesteps=64, delay=7, correction="none"),
}


class Branching(Net):
    """What does not trace, and runs call by call."""

    def forward(self, x: Tensor) -> Any:
        if float(x.abs().max()) > 1e9:
            raise ValueError("these are no features")
        return super().forward(x)


PATHS = {"graph": Net, "module tree": Branching}


@functools.cache
def converted(name: str, method: str, path: str = "graph") -> tuple[nn.Module, snnconv.SpikingNetwork]:
    torch.manual_seed(0)
    model = PATHS[path](OUTPUTS[name]).eval().requires_grad_(False)
    snn = snnconv.convert(model, METHODS[method], X, progress=False)
    assert snn.report is not None
    assert snn.report.path == path
    return model, snn


def same_form(got: Any, want: Any) -> None:
    assert [name for name, _ in output_leaves(got)] == [name for name, _ in output_leaves(want)]
    for (_, a), (_, b) in zip(output_leaves(got), output_leaves(want), strict=True):
        assert type(a) is type(b) or (isinstance(a, Tensor) and isinstance(b, Tensor))
        if isinstance(b, Tensor):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
        else:
            assert a == b


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("path", PATHS)
def test_every_output_has_its_form_and_its_value(name: str, method: str, path: str) -> None:
    model, snn = converted(name, method, path)
    want, got = model(X), snn(X)
    same_form(got, want)
    for (_, a), (_, b) in zip(output_leaves(got), output_leaves(want), strict=True):
        if not isinstance(b, Tensor):
            continue
        if b.is_floating_point() or b.is_complex():
            finite = torch.isfinite(b)
            assert torch.equal(a[~finite], b[~finite])
            assert float((a[finite] - b[finite]).norm() / b[finite].norm()) < 0.1
        else:
            assert float((a == b).float().mean()) > 0.9


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("method", METHODS)
def test_a_stream_ends_where_the_call_does(name: str, method: str) -> None:
    _, snn = converted(name, method)
    want = snn(X)
    for _, got in snn.stream(X):
        same_form(got, want)
    for (_, a), (_, b) in zip(output_leaves(got), output_leaves(want), strict=True):
        if isinstance(b, Tensor) and not b.is_floating_point() and not b.is_complex():
            assert float((a == b).float().mean()) > 0.9
        elif isinstance(b, Tensor):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("method", METHODS)
def test_a_batch_that_is_cut_comes_back_whole(name: str, method: str) -> None:
    _, snn = converted(name, method)
    want = snn(X)
    small = copy.deepcopy(snn)
    small.memory_budget = 1
    got = small(X)
    same_form(got, want)
    for (_, a), (_, b) in zip(output_leaves(got), output_leaves(want), strict=True):
        if isinstance(b, Tensor) and b.is_floating_point():
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_constants_are_returned_as_they_are(method: str) -> None:
    model, snn = converted("a parameter", method)
    assert torch.equal(snn(X)[1], model.log_std)
    model, snn = converted("constants computed", method)
    assert torch.equal(snn(X)[1], model.anchors * 2)
    model, snn = converted("its input, too", method)
    assert torch.equal(snn(X)[1], X)


@pytest.mark.parametrize("method", METHODS)
def test_lists_and_dictionaries_can_be_changed(method: str) -> None:
    y = converted("nested lists", method)[1](X)
    assert type(y) is list
    assert type(y[1][1]) is list
    y[0] = y[0].sigmoid()
    y.append(None)
    y[1][1].append(None)
    z = converted("dictionary with None and a number", method)[1](X)
    z["cls"] = z.box
    assert z["n"] == 2


def test_classes_are_those_of_the_mean_output() -> None:
    torch.manual_seed(0)
    model = Net(OUTPUTS["numbers of the classes"]).eval()
    snn = snnconv.convert(model, methods.IF(timesteps=8), X, progress=False)
    scores, classes = snn(X)
    assert torch.equal(classes, scores.argmax(1))
    for _, (scores, classes) in snn.stream(X):
        assert torch.equal(classes, scores.argmax(1))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["dataclass", "probabilities", "a parameter"])
def test_an_input_of_nan_is_one_in_every_output_that_comes_from_it(name: str, method: str) -> None:
    model, snn = converted(name, method)
    wrong = X.clone()
    wrong[3, 0] = float("nan")
    last = list(snn.stream(wrong))[-1][1]
    for found in (snn(wrong), last):
        if name == "a parameter":
            assert torch.equal(found[1], model.log_std)
            found = found[0]
        for _, value in output_leaves(found):
            assert value[3].isnan().all()
            assert torch.isfinite(value[:3]).all()
