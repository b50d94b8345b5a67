"""PyTorch's activation functions as kinds: what each computes, where it turns, and in which spelling it is found."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnconv.graph import functions as kinds
from snnconv.graph.activation import Activation, ReLU, get, register_activation
from snnconv.graph.capture.fx import source_graph
from snnconv.graph.cover import Cover
from snnconv.graph.functions import GELU, SELU, Clamp, LeakyReLU, PReLU, SiLU
from snnconv.graph.source import SourceGraph
from snnconv.runtime.executor import Executor

SLOPES = torch.tensor([0.25, -0.1, 0.5, 0.0, 1.5])


def prelu() -> nn.PReLU:
    module = nn.PReLU(5)
    module.weight.data.copy_(SLOPES)
    return module


# module, the same as a function, the kind
FUNCTIONS: dict[str, tuple[nn.Module, Callable[[Tensor], Tensor], Activation]] = {
    "relu6": (nn.ReLU6(), F.relu6, ReLU(6.0)),
    "leaky_relu": (nn.LeakyReLU(0.2), lambda x: F.leaky_relu(x, 0.2), LeakyReLU(0.2)),
    "leaky_relu default": (nn.LeakyReLU(), lambda x: F.leaky_relu(x, inplace=False), LeakyReLU()),
    "rrelu": (nn.RReLU(0.1, 0.3), lambda x: F.rrelu(x, 0.1, 0.3), LeakyReLU(0.2)),
    "elu": (nn.ELU(0.5), lambda x: F.elu(x, alpha=0.5), kinds.ELU(0.5)),
    "celu": (nn.CELU(2.0), lambda x: torch.celu(x, 2.0), kinds.CELU(2.0)),
    "selu": (nn.SELU(), torch.selu, SELU()),
    "silu": (nn.SiLU(), F.silu, SiLU()),
    "gelu": (nn.GELU(), F.gelu, GELU()),
    "gelu tanh": (nn.GELU("tanh"), lambda x: F.gelu(x, approximate="tanh"), GELU("tanh")),
    "hardswish": (nn.Hardswish(), F.hardswish, kinds.Hardswish()),
    "hardsigmoid": (nn.Hardsigmoid(), F.hardsigmoid, kinds.Hardsigmoid()),
    "sigmoid": (nn.Sigmoid(), lambda x: x.sigmoid(), kinds.Sigmoid()),
    "logsigmoid": (nn.LogSigmoid(), F.logsigmoid, kinds.LogSigmoid()),
    "tanh": (nn.Tanh(), lambda x: x.tanh(), kinds.Tanh()),
    "softsign": (nn.Softsign(), F.softsign, kinds.Softsign()),
    "mish": (nn.Mish(), F.mish, kinds.Mish()),
    "softplus": (nn.Softplus(2.0), lambda x: F.softplus(x, beta=2.0), kinds.Softplus(2.0)),
    "hardtanh": (nn.Hardtanh(), lambda x: x.clamp(-1, 1), Clamp(-1.0, 1.0)),
    "clamp": (nn.Hardtanh(-0.5, 2.0), lambda x: torch.clip(x, min=-0.5, max=2.0), Clamp(-0.5, 2.0)),
    "prelu": (prelu(), lambda x: F.prelu(x, SLOPES), PReLU(SLOPES)),
}


class Between(nn.Module):
    """An activation between two layers; ``act`` is a module or a function."""

    def __init__(self, act: Any) -> None:
        super().__init__()
        self.first, self.act, self.last = nn.Linear(4, 5), act, nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.act(self.first(x)))


def traced(model: nn.Module) -> SourceGraph:
    return source_graph(model, cover=Cover(wanted=lambda kind: True))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_activation_is_found_as_a_module_and_as_a_function(name: str) -> None:
    module, function, kind = FUNCTIONS[name]
    x = 3 * torch.randn(64, 4)
    for spelled in (module, function):
        model = Between(spelled).eval()
        source = traced(model)
        (site,) = source.sites.values()
        assert type(site.function) is type(kind)
        assert site.function.to_dict() == kind.to_dict()
        got = Executor(source, lambda name, z, source=source: source.sites[name].activation(z))(x)
        torch.testing.assert_close(got, model(x))
    assert list(traced(Between(module)).sites) == ["act"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_kind_computes_the_function_in_double_precision(name: str) -> None:
    module, _, kind = FUNCTIONS[name]
    z = torch.linspace(-30, 30, 5 * 4001, dtype=torch.float64).reshape(-1, 5)
    torch.testing.assert_close(kind(z), module.double().eval()(z), rtol=1e-9, atol=1e-9)
    module.float()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_kind_rises_or_falls_between_its_extrema_and_keeps_its_bounds(name: str) -> None:
    kind = FUNCTIONS[name][2]
    assert kind.extrema is not None
    ends = [-40.0, *kind.extrema, 40.0]
    columns = SLOPES.numel() if kind.tensors() else 1
    low, high = kind.bounds
    reached = []
    for start, end in pairwise(ends):
        z = torch.linspace(start, end, 20_001, dtype=torch.float64)
        y = kind(z[:, None].expand(-1, columns))
        steps = y.diff(dim=0)
        assert bool(((steps >= -1e-15).all(0) | (steps <= 1e-15).all(0)).all())
        assert float(y.min()) >= low - 1e-15
        assert float(y.max()) <= high + 1e-15
        reached.append(y)
    every = torch.cat(reached)
    if math.isfinite(low):
        assert float(every.min()) == pytest.approx(low, abs=0.03)
    if math.isfinite(high):
        assert float(every.max()) == pytest.approx(high, abs=0.03)
    assert kind.signed == (low < 0)


@pytest.mark.parametrize("kind", [k for _, _, k in FUNCTIONS.values()], ids=list(FUNCTIONS))
def test_a_kind_is_its_plain_values_and_tensors(kind: Activation) -> None:
    z = torch.randn(7, 5)
    assert torch.equal(Activation.from_dict(kind.to_dict(), kind.tensors())(z), kind(z))


def test_without_asking_for_others_only_relus_are_sites() -> None:
    assert not source_graph(Between(nn.SiLU())).sites
    assert list(source_graph(Between(nn.ReLU6())).sites) == ["act"]


def test_an_activation_that_only_the_readout_reads_stays() -> None:
    model = nn.Sequential(nn.Linear(4, 5), nn.SiLU(), nn.Linear(5, 3), nn.Tanh(), nn.Sigmoid())
    assert list(traced(model).sites) == ["1"]
    assert list(traced(nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.ReLU())).sites) == ["1", "2"]


def test_an_activation_whose_product_is_read_is_a_site() -> None:
    class Gate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 5), nn.Linear(4, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.a(x) * self.b(x).sigmoid()

    assert list(traced(Gate()).sites) == ["sigmoid"]


GUARDS = {
    "a lower bound": lambda x: x / x.norm(dim=1, keepdim=True).clamp(min=1e-6),
    "a divisor": lambda x: x / F.softplus(x),
    "a divisor plus a constant": lambda x: x / (F.softplus(x) + 0.1),
    "a logarithm": lambda x: torch.log(torch.sigmoid(x)),
}


@pytest.mark.parametrize("name", GUARDS)
def test_what_divides_is_no_site(name: str) -> None:
    assert not traced(Between(GUARDS[name])).sites


NOT_KINDS = {
    "a threshold elsewhere": lambda x: F.threshold(x, 0.5, 0.0),
    "bounds that are computed": lambda x: torch.clamp(x, min=x.mean()),
    "a softplus with a jump": lambda x: F.softplus(x, 1.0, 2.0),
}


@pytest.mark.parametrize("name", NOT_KINDS)
def test_what_is_no_such_function_stays(name: str) -> None:
    assert not traced(Between(NOT_KINDS[name])).sites


def test_slopes_stay_on_the_axis_that_prelu_has() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.act, self.last = nn.Linear(4, 6), prelu(), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.act(self.first(x)))

    model, x = Net(), torch.randn(8, 5, 4)
    source = traced(model)
    assert source.sites["act"].axis == 1
    torch.testing.assert_close(Executor(source, lambda s, z: source.sites[s].activation(z))(x), model(x))


def test_max_pooling_moves_only_in_front_of_what_rises() -> None:
    def pooled(act: nn.Module) -> list[str]:
        model = nn.Sequential(nn.Conv2d(1, 2, 3), act, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2, 2))
        return [n.name for n in traced(model).graph.nodes if "pool" in n.name or "site" in n.name]

    assert pooled(nn.Tanh()) == ["max_pool2d", "activation_site"]
    assert pooled(nn.SiLU()) == ["activation_site", "max_pool2d"]


def test_a_users_own_kind_is_a_site_where_it_says_where_it_turns() -> None:
    @dataclass(frozen=True)
    class Bump(Activation):
        name = "bump_of_test_functions"
        extrema = (0.0,)
        bounds = (0.0, 1.0)

        def f(self, z: Tensor) -> Tensor:
            return 1 / (1 + z * z)

    @dataclass(frozen=True)
    class Silent(Bump):
        name = "silent_of_test_functions"
        extrema = None

    for kind, sites in ((Bump, 1), (Silent, 0)):

        class Layer(nn.Module):
            kind: type[Activation]

            def forward(self, z: Tensor) -> Tensor:
                return self.kind()(z)

        Layer.kind = kind
        register_activation(kind, modules={Layer: lambda layer: layer.kind()})
        assert get(kind.name) is kind
        assert len(traced(Between(Layer())).sites) == sites
