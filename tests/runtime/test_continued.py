"""Calls that go on from each other are one long call."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import snnconv
from snnconv import methods
from snnconv.sequence import Continued

STEPS = 48
IMAGES = torch.rand(8, 2, 8, 8, generator=torch.Generator().manual_seed(0))


class Untraced(nn.Module):
    """Its Python code looks at values."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        if float(x.abs().max()) > 1e6:
            raise ValueError
        return self.net(x)


def network(*between: nn.Module, end: nn.Module | None = None) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), *between, nn.Conv2d(8, 8, 2),
        nn.ReLU(), nn.Flatten(), nn.Linear(32, 4), end or nn.Identity(),
    ).eval()  # fmt: skip


def one_by_one(continued: Continued, frames: list[Tensor]) -> Tensor:
    return torch.stack([continued.readouts(frame, [(1, 1)])[0] for frame in frames]).mean(0)


NETWORKS = {
    "average pooling": network(nn.AvgPool2d(2)),
    "max pooling": network(nn.MaxPool2d(2)),
    "max pooling behind a sum": network(nn.AvgPool2d(2, 1, 1), nn.MaxPool2d(2, 2, 1), nn.MaxPool2d(2, 1)),
    "an analog activation inside": network(nn.AvgPool2d(2), nn.GELU()),
    "not traced": Untraced(network(nn.MaxPool2d(2))),
}


@pytest.mark.parametrize("model", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("method", [methods.IF, methods.SignedIF], ids=lambda m: m.name)
class TestEveryNetwork:
    def test_calls_of_one_step_are_one_call(self, model: nn.Module, method: type[methods.IF]) -> None:
        snn = snnconv.convert(model, method(STEPS, correction="none"), IMAGES, progress=False)
        whole = snn(IMAGES)
        continued = Continued(snn)
        torch.testing.assert_close(one_by_one(continued, [IMAGES] * STEPS), whole, rtol=1e-4, atol=1e-4)
        continued.reset()
        torch.testing.assert_close(one_by_one(continued, [IMAGES] * STEPS), whole, rtol=1e-4, atol=1e-4)

    def test_frames_come_to_what_the_source_says_of_their_mean(
        self, model: nn.Module, method: type[methods.IF]
    ) -> None:
        snn = snnconv.convert(model, method(STEPS, correction="none"), IMAGES, progress=False)
        frames = (torch.rand(STEPS, *IMAGES.shape, generator=torch.Generator().manual_seed(1)) < IMAGES).float()
        with torch.no_grad():
            wanted = model(frames.mean(0))
        error = (one_by_one(Continued(snn), list(frames)) - wanted).norm() / wanted.norm()
        assert error < 0.1


def test_an_activation_at_the_output_acts_on_each_call_and_pooling_goes_on() -> None:
    plain, bounded = network(nn.MaxPool2d(2)), network(nn.MaxPool2d(2), end=nn.Tanh())
    method = methods.IF(4, correction="none")
    one, other = (Continued(snnconv.convert(m, method, IMAGES, progress=False)) for m in (plain, bounded))
    for _ in range(3):
        torch.testing.assert_close(other(IMAGES), one(IMAGES).tanh())


def test_another_batch_begins_afresh() -> None:
    snn = snnconv.convert(network(nn.MaxPool2d(2)), methods.IF(8, correction="none"), IMAGES, progress=False)
    continued = Continued(snn)
    continued(IMAGES)
    torch.testing.assert_close(continued(IMAGES[:3]), snn(IMAGES[:3]))
