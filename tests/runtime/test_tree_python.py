"""A forward that runs call by call is Python: it keeps, prints, aliases, hooks and slices as any other."""

from __future__ import annotations

import functools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnconv import ConversionError
from snnconv.runtime.readout import window_mean
from snnconv.runtime.run import RunState
from snnconv.runtime.tree import TreeProgram
from tests.runtime.test_tree_operators import IMAGES, ROWS, Net, Swinging, hidden, over_steps


@torch.no_grad()
def same_over_time(model: nn.Module, x: Tensor) -> None:
    got = window_mean(over_steps(model.eval(), x), 1, 4)
    torch.testing.assert_close(got, model(x), rtol=1e-3, atol=1e-4)


def test_what_is_printed_is_one_step_and_says_so() -> None:
    said: list[str] = []

    def body(s: Net, x: Tensor) -> Tensor:
        said.append(f"{x!r} {hidden(s, x)!r}")
        return s.c(hidden(s, x))

    same_over_time(Net(body, ROWS), ROWS)
    assert any("Value([6, 8], torch.float32, 4 steps)" in line for line in said)
    assert any(line.startswith("tensor(") for line in said)  # the input is the same at every step


def test_a_slice_may_end_at_a_tensor() -> None:
    same_over_time(Net(lambda s, x: F.pad(hidden(s, x)[:, : torch.tensor(5)], (0, 3)) @ s.c.weight.t(), ROWS), ROWS)


def test_a_copy_is_a_tensor_of_its_own() -> None:
    def body(s: Net, x: Tensor) -> Tensor:
        import copy

        h = hidden(s, x)
        other = copy.deepcopy(h)
        other += 1
        return s.c(h) + s.c(other)

    same_over_time(Net(body, ROWS), ROWS)


class Aliased(nn.Module):
    """One module under two names, a bound method, and a partial of it, as attributes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(5, 5), nn.Linear(5, 5)
        self.again = self.a
        self.method = self.mixed
        self.half = functools.partial(self.mixed, 0.5)
        self.layers = [self.a, self.b]
        self.same_layers = self.layers

    def mixed(self, share: float, x: Tensor) -> Tensor:
        return share * self.b(x) + (1 - share) * x

    def forward(self, x: Tensor) -> Tensor:
        assert bool(torch.isfinite(x).all())
        assert self.same_layers is self.layers
        return self.same_layers[1](self.half(F.relu(self.again(x))) + self.method(0.25, x))


def test_modules_under_several_names_are_one() -> None:
    same_over_time(Aliased(), ROWS)


def test_hooks_that_change_outputs_run_at_every_step() -> None:
    model = Net(lambda s, x: s.c(hidden(s, x)), ROWS)
    model.c.register_forward_hook(lambda module, args, out: out * 2)
    model.c.register_forward_pre_hook(lambda module, args: (args[0] + 1,))
    same_over_time(model, ROWS)


@torch.no_grad()
def test_a_view_of_what_lies_channels_last_is_a_reshape() -> None:
    model = Net(lambda s, x: s.c(hidden(s, x).view(len(x), 8, 64).mean(2)), IMAGES)
    last = IMAGES.contiguous(memory_format=torch.channels_last)
    program = TreeProgram(model, IMAGES)
    for x in (IMAGES, last):
        torch.testing.assert_close(program.static(x, lambda _, z: z.clamp(min=0)), model(IMAGES))
        got = program.steps(x, 4, Swinging(), RunState())
        torch.testing.assert_close(window_mean(got, 1, 4), model(IMAGES), rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_what_a_call_leaves_behind_is_read_only_where_it_is_the_same_at_every_step() -> None:
    kept: list[tuple[Tensor, Tensor]] = []

    def body(s: Net, x: Tensor) -> Tensor:
        h = hidden(s, x)
        kept.append((x, h))
        return s.c(h + kept[0][0].sum() + (kept[0][1] if len(kept) > 4 else 0))

    program = TreeProgram(Net(body, ROWS), ROWS)
    kept.clear()
    program.steps(ROWS, 4, Swinging(), RunState())
    x, h = kept[-1]
    assert torch.equal(torch.add(x, 1), ROWS + 1)
    with pytest.raises(ConversionError, match="left behind is read"):
        torch.add(h, 1)
    kept[:] = [kept[-1]] * 4
    with pytest.raises(ConversionError, match="reads a tensor that an earlier call of the network left behind"):
        program.steps(ROWS, 4, Swinging(), RunState())


def data_set(s: Net, x: Tensor) -> Tensor:
    y = s.a(x)
    y.data = y * 2
    return s.c(F.relu(y))


OUTSIDE = torch.zeros(6, 8)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (data_set, r"sets \.data of a tensor that it computed; use x = y instead"),
        (lambda s, x: s.c(torch.add(hidden(s, x), 1, out=OUTSIDE)), r"out= writes what the network computes.*clone"),
    ],
    ids=["data", "out"],
)
def test_writes_that_cannot_be_followed_are_refused(body: object, message: str) -> None:
    with pytest.raises(ConversionError, match=message), torch.no_grad():
        TreeProgram(Net(body, ROWS), ROWS).check_steps(ROWS)  # type: ignore[arg-type]
    assert torch.equal(OUTSIDE, torch.zeros(6, 8))
