"""Channels are found wherever they stand, so that thresholds go along them and never along a length."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import snnconv
from snnconv import ConversionError, methods
from snnconv.graph.capture.fx import source_graph

C = 7  # channels of the layer before the site; no other size is 7


class Chain(nn.Module):
    """A layer, something between, a ReLU, an output of two classes however long the input is."""

    def __init__(self, layer: nn.Module, between: Callable[[Tensor], Tensor], *norms: nn.Module) -> None:
        super().__init__()
        self.layer, self.between, self.norms = layer, between, nn.ModuleList(norms)
        self.weight = nn.Parameter(torch.randn(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(x)
        for norm in self.norms:
            x = norm(x)
        return F.relu(self.between(x)).flatten(1).mean(1, keepdim=True) * self.weight


def tokens(length: int, samples: int = 4) -> Tensor:
    return torch.randn(samples, length, 5)


def series(length: int) -> Tensor:
    return torch.randn(4, 5, length)


def pictures(length: int) -> Tensor:
    return torch.randn(4, 5, length, length + 1)


torch.manual_seed(0)  # whatever was imported before
linear, conv1, conv2 = nn.Linear(5, C), nn.Conv1d(5, C, 3), nn.Conv2d(5, C, 3)
PLACES: dict[str, tuple[nn.Module, Callable[[int], Tensor]]] = {
    "linear on tokens": (Chain(linear, lambda x: x), tokens),
    "linear, ReLU": (Chain(linear, lambda x: F.relu(x) - 0.1), tokens),
    "linear, LayerNorm": (Chain(linear, lambda x: x, nn.LayerNorm(C)), tokens),
    "linear, transposed": (Chain(linear, lambda x: x.transpose(1, 2)), tokens),
    "linear, transposed from the end": (Chain(linear, lambda x: x.transpose(-1, -2)), tokens),
    "linear, permuted": (Chain(linear, lambda x: x.permute(0, 2, 1)), tokens),
    "linear, heads": (Chain(linear, lambda x: x.view(x.shape[0], x.shape[1], 1, C).transpose(1, 2)), tokens),
    "linear, new axis at the end": (Chain(linear, lambda x: x.unsqueeze(-1)), tokens),
    "linear, one token": (Chain(linear, lambda x: x[:, 0]), lambda n: tokens(n, 64)),
    "linear, first tokens": (Chain(linear, lambda x: x[:, :3]), tokens),
    "linear, mean of tokens": (Chain(linear, lambda x: x.mean(1)), tokens),
    "linear, largest token": (Chain(linear, lambda x: x.max(1)[0]), tokens),
    "linear, scaled and added": (Chain(linear, lambda x: x * 2 + x), tokens),
    "linear, stacked": (Chain(linear, lambda x: torch.stack([x, x], 2)), tokens),
    "matrix of weights": (Chain(nn.Identity(), lambda x: x @ torch.ones(5, C)), tokens),
    "conv on series": (Chain(conv1, lambda x: x), series),
    "conv on series, transposed": (Chain(conv1, lambda x: x.transpose(1, 2)), series),
    "conv on series, swapped": (Chain(conv1, lambda x: x.swapaxes(1, 2)), series),
    "conv on series, turned": (Chain(conv1, lambda x: x.mT), series),
    "conv on series, transposed, LayerNorm": (Chain(conv1, lambda x: F.layer_norm(x.transpose(1, 2), (C,))), series),
    "conv on pictures": (Chain(conv2, lambda x: x), pictures),
    "conv on pictures, GroupNorm": (Chain(conv2, lambda x: x, nn.GroupNorm(1, C)), pictures),
    "conv on pictures, channels last": (Chain(conv2, lambda x: x.permute(0, 2, 3, 1)), pictures),
    "conv on pictures, there and back": (
        Chain(conv2, lambda x: F.layer_norm(x.permute(0, 2, 3, 1), (C,)).permute(0, 3, 1, 2)), pictures
    ),
    "conv on pictures, moved": (Chain(conv2, lambda x: x.movedim(1, -1)), pictures),
    "conv on pictures, tokens": (Chain(conv2, lambda x: x.flatten(2).transpose(1, 2)), pictures),
    "conv on pictures, viewed as tokens": (
        Chain(conv2, lambda x: x.view(x.shape[0], C, -1).transpose(1, 2)), pictures
    ),
    "conv on pictures, pooled": (Chain(conv2, lambda x: x.mean((-2, -1))), pictures),
    "conv on pictures, pooled with axes": (Chain(conv2, lambda x: x.mean((2, 3), keepdim=True)), pictures),
    "conv on pictures, squeezed": (
        Chain(conv2, lambda x: F.adaptive_avg_pool2d(x, 1).squeeze(-1).squeeze(-1)), pictures
    ),
    "conv on pictures, rows": (Chain(conv2, lambda x: x[..., 0]), pictures),
    "conv on pictures, padded": (Chain(conv2, lambda x: F.pad(x, (1, 1))), pictures),
    "conv on pictures, in parts": (Chain(conv2, lambda x: x.split(C, 1)[0]), pictures),
    "conv on pictures, unbound": (Chain(conv2, lambda x: x.unbind(3)[0]), pictures),
    "conv on pictures, heads": (Chain(conv2, lambda x: x.unflatten(1, (1, C)).flatten(1, 2)), pictures),
}  # fmt: skip


@pytest.mark.parametrize(("model", "make"), PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("method", [methods.ShiftedThreshold(8), methods.SignedIF(32)], ids=lambda m: m.name)
def test_another_length_after_calibration(model: nn.Module, make: Any, method: methods.Method) -> None:
    model.eval()
    snn = snnconv.convert(model, method, make(9), progress=False)
    assert snn.report is not None
    assert snn.report.path == "graph"
    assert {v.numel() for v in snn.thresholds.values()} == {C}
    for length in (9, 14, 6):
        x = make(length)
        with torch.no_grad():
            torch.testing.assert_close(snn(x), model(x), atol=0.2, rtol=0.2)


def test_where_a_weight_depends_on_the_length_another_one_is_refused() -> None:
    model = nn.Sequential(nn.Linear(5, C), nn.ReLU(), nn.Flatten(), nn.Linear(9 * C, 2)).eval()
    snn = snnconv.convert(model, methods.SignedIF(8), tokens(9), progress=False)
    with pytest.raises(ConversionError, match=r"wrong input shape \(4, 10, 5\): dimension 1 must be 9.*linear"):
        snn(tokens(10))


def test_thresholds_along_a_length_refuse_another_one() -> None:
    model = Chain(nn.Identity(), lambda x: x).eval()  # no layer says where channels are
    snn = snnconv.convert(model, methods.SignedIF(8, correction="none"), tokens(9), progress=False)
    with pytest.raises(ConversionError, match="thresholds of 9 channels, and here 10"):
        snn(tokens(10))


def test_what_a_larger_input_takes_is_within_the_budget() -> None:
    snn = snnconv.convert(Chain(conv2, lambda x: x).eval(), methods.SignedIF(8), pictures(9), progress=False)
    snn.memory_budget = 8 * (snn.input_spec["constant_bytes"] + 8 * snn.input_spec["step_bytes"])
    x = pictures(18)
    larger = snn.signature.growth(x)
    assert larger == 18 * 19 / (9 * 10)
    assert [len(part) for part in snn.slices(torch.cat([x, x]))] == [2] * 4


def test_a_trained_clip_of_each_channel_keeps_its_axis() -> None:
    quantised = snnconv.activations.QuantReLU(levels=7, clip=torch.rand(C) + 1, axis=-1)
    source = source_graph(nn.Sequential(nn.Conv1d(5, C, 3), nn.Flatten(2), quantised))
    assert [site.axis for site in source.sites.values()] == [-1]
