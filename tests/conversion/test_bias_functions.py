"""Bias correction where activations have both signs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import snnconv
from snnconv import methods


class Last(nn.Module):
    """The last state of a recurrent layer behind a ReLU."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.first, self.layer = nn.Linear(6, 8), layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.first(x).relu())[0][:, -1]


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_channels_that_are_negative_throughout_do_not_swing(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model, x = Last(kind(8, 8, batch_first=True)).eval(), torch.randn(32, 5, 6)
    snn = snnconv.convert(model, methods.ShiftedThreshold(12), x, progress=False)
    with torch.no_grad():
        torch.testing.assert_close(snn(x), model(x), rtol=0, atol=1e-2)
