"""What a run holds in memory: the budget bounds it."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import snnconv
from snnconv import methods


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU())
        self.first, self.second = nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = (x + self.second(self.first(x).relu())).relu()
        return self.head(x.mean((2, 3)))


class Alive(TorchDispatchMode):
    """Counts the bytes of what operators return while it lives; views of what was there before are nothing new."""

    def __init__(self, before: Tensor) -> None:
        super().__init__()
        self.before = before.untyped_storage().data_ptr()
        self.users: dict[int, int] = {}
        self.now = self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor) and leaf.untyped_storage().data_ptr() != self.before:
                storage = leaf.untyped_storage()
                pointer, size = storage.data_ptr(), storage.nbytes()
                if not self.users.get(pointer):
                    self.now += size
                self.users[pointer] = self.users.get(pointer, 0) + 1
                weakref.finalize(leaf, self.gone, pointer, size)
        self.most = max(self.most, self.now)
        return out

    def gone(self, pointer: int, size: int) -> None:
        self.users[pointer] -= 1
        if not self.users[pointer]:
            self.now -= size


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("backend", ["auto", "eager"])
@pytest.mark.parametrize(
    "method", [methods.IF(8), methods.SignedIF(8), methods.SRP(8, pre_timesteps=4), methods.ShiftedThreshold(4)]
)
def test_a_run_stays_within_the_budget(method: methods.Method, backend: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(64, 3, 20, 20)
    snn = snnconv.convert(Residual().eval(), method, calibration=x[:8], progress=False)
    snn.backend = backend
    steps = 1 if method.coding == "sum" else 8
    one = snn.input_spec["constant_bytes"] + steps * snn.input_spec["step_bytes"]
    if method.pre_timesteps_:  # a mask: a byte a neuron
        one += snn.input_spec["neurons"] + snn.input_spec["widest"]
    whole = snn(x)
    snn.memory_budget = 40 * one - 1
    assert snn.simulation().plan.batch_size(x) == 39
    snn.memory_budget = 5 * one + 1
    with Alive(x) as alive:
        parts = snn(x)
    allowed = snn.memory_budget + x[:5].nbytes + 4096  # the part itself, laid out anew, and what has been read out
    if backend == "eager":  # membranes, masks: what the kernel keeps to itself
        allowed += 5 * 6 * 4 * int(snn.input_spec["widest"]) * (1 if steps > 1 else 4)
    assert snn.memory_budget / 3 < alive.most <= allowed
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-5)


def test_the_module_tree_is_cut_too() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.relu = nn.Linear(8, 8), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.relu(self.layer(x)) if float(x.detach().sum()) > -1e9 else x

    x = torch.randn(32, 8)
    snn = snnconv.convert(Branches(), methods.IF(4), calibration=x, progress=False)
    snn.memory_budget = 5 * 4 * snn.input_spec["step_bytes"]
    assert snn.input_spec["step_bytes"] == 3 * 8 * 4
    assert [len(part) for part in snn.slices(x)] == [5] * 6 + [2]


def test_files_that_say_less_are_cut_too() -> None:
    x = torch.randn(32, 8)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
    snn = snnconv.convert(model, methods.IF(4), calibration=x, progress=False)
    del snn.input_spec["constant_bytes"], snn.input_spec["step_bytes"]
    snn.memory_budget = 5 * 4 * 3 * 4 * 16
    assert [len(part) for part in snn.slices(x)] == [5] * 6 + [2]
