"""One converted network, called from several threads at once, gives each what it gives one."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import snnconv
from snnconv import activations, methods

THREADS = 8
METHODS = [
    methods.IF(6),
    methods.SignedIF(6),
    methods.SRP(4, pre_timesteps=3),
    methods.ShiftedThreshold(4),
    methods.LocalThresholdBalancing(8, delay=2, max_batches=20),
    methods.RateNorm(6),
    methods.MultiThreshold(4),
    methods.HierarchicalMultiThreshold(4),
]


class Net(nn.Module):
    """A residual sum, a max-pooling, and an activation that stays analog."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.pool, self.head = nn.MaxPool2d(2), nn.Linear(6 * 9, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu()
        x = self.pool((x + self.second(x)).relu())
        return self.head(torch.tanh(x).flatten(1))


class Untraced(Net):
    """The same, called operator by operator."""

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(1 if float(x.detach().isfinite().sum()) >= 0 else 2):
            out = super().forward(x)
        return out


def converted(method: methods.Method, framework: str, kind: type[nn.Module] = Net) -> tuple[Any, nn.Module]:
    torch.manual_seed(0)
    model, x = kind().eval(), torch.randn(16, 2, 6, 6)
    if method.name == "rate_norm":
        model = snnconv.prepare(model, activations.RateNorm(), x, progress=False).eval()
    return snnconv.convert(model, method, x, framework=framework, progress=False), model


def what(snn: Any, model: nn.Module, x: Tensor) -> dict[str, Callable[[], Any]]:
    """The ways to run a network, each with what it gives."""
    return {
        "call": lambda: snn(x),
        "rates": lambda: snn.rates(x),
        "stream": lambda: [y for _, y in snn.stream(x)],
        "profile": lambda: torch.tensor([s.spikes for s in snnconv.profile(model, snn, x).sites]),
    }


def same(a: Any, b: Any) -> bool:
    return all(torch.equal(p, q) for p, q in zip(tree_leaves(a), tree_leaves(b), strict=True))


def check(snn: Any, model: nn.Module, calls: int, seed: int = 0) -> None:
    inputs = [torch.randn(2, 2, 6, 6, generator=torch.Generator().manual_seed(i)) for i in range(4)]
    ways = [(i, name, run) for i, x in enumerate(inputs) for name, run in what(snn, model, x).items()]
    alone = {(i, name): run() for i, name, run in ways}
    asked = random.Random(seed).choices(ways, k=calls)
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(lambda way: way[2](), asked))
    wrong = [name for (i, name, _), got in zip(asked, found, strict=True) if not same(alone[i, name], got)]
    assert not wrong, f"{len(wrong)} of {calls} differ: {sorted(set(wrong))}"


def test_every_method_is_among_them() -> None:
    ours = {name for name, method in methods.METHODS.items() if method.__module__.startswith("snnconv.")}
    assert {method.name for method in METHODS} == ours


@pytest.mark.parametrize("framework", ["spikingjelly", "snntorch"])
@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_threads_do_not_disturb_each_other(method: methods.Method, framework: str) -> None:
    if framework == "snntorch":
        pytest.importorskip("snntorch")
    check(*converted(method, framework), calls=40)


@pytest.mark.parametrize("method", METHODS[:3], ids=lambda m: m.name)
def test_nor_where_neurons_run_by_their_own_equation(method: methods.Method) -> None:
    snn, model = converted(method, "spikingjelly")
    for name in snn.neurons:
        snn.neurons[name].register_forward_hook(lambda *_: None)  # somebody looks: the neuron remembers by itself
    check(snn, model, calls=24)


def test_nor_call_by_call() -> None:
    snn, _model = converted(methods.SignedIF(4), "spikingjelly", Untraced)
    assert snn.report.path == "module tree"
    inputs = [torch.randn(2, 2, 6, 6, generator=torch.Generator().manual_seed(i)) for i in range(4)]
    alone = [snn(x) for x in inputs]
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(snn, inputs * 8))
    assert all(torch.equal(y, alone[i % 4]) for i, y in enumerate(found))


@pytest.mark.slow
@pytest.mark.parametrize("framework", ["spikingjelly", "snntorch"])
def test_a_thousand_mixed_calls(framework: str) -> None:
    if framework == "snntorch":
        pytest.importorskip("snntorch")
    for method in METHODS:
        check(*converted(method, framework), calls=1000 // len(METHODS), seed=1)
