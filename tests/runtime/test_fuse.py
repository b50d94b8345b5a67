"""Convolutions that add their result to another value: the same bits, and nothing is overwritten that is needed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import snnconv
from snnconv import methods
from snnconv.runtime import executor as executor_module
from snnconv.runtime import fuse

GENERATOR = torch.Generator().manual_seed(0)


class Block(nn.Module):
    def __init__(self, channels: int, stride: int, swapped: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, stride, 1)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 2, dilation=2, groups=2, bias=swapped)
        self.skip = nn.Conv2d(channels, channels, 1, stride) if stride > 1 else nn.Identity()
        self.relu2 = nn.ReLU()
        self.swapped = swapped

    def forward(self, x):
        y = self.conv2(self.relu1(self.conv1(x)))
        return self.relu2(self.skip(x) + y if self.swapped else y + self.skip(x))


class Residual(nn.Module):
    def __init__(self, read_again: bool = False) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1), nn.ReLU())
        self.one, self.two, self.three = Block(8, 1, False), Block(8, 1, True), Block(8, 2, True)
        self.linear = nn.Linear(8, 5)
        self.read_again = read_again

    def forward(self, x):
        x = self.stem(x)
        y = self.three(self.two(self.one(x)))
        if self.read_again:
            y = y + nn.functional.avg_pool2d(x, 2)
        return self.linear(y.mean((2, 3)))


class Aliases(nn.Module):
    """Sums over what the convolution itself reads, or what a view of it is read of later."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.own, self.part = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, 1, 1), nn.Conv2d(4, 8, 3, 1, 1)
        self.late = nn.Conv2d(4, 8, 3, 1, 1)
        self.linear = nn.Linear(8, 5)

    def forward(self, x):
        a = self.stem(x).relu()
        b = (self.own(a) + a).relu()
        c = (self.part(b[:, ::2]) + b).relu()
        first = c[:, :4]
        d = (self.own(c.abs()) + c).relu()
        return self.linear((d + self.late(first)).mean((2, 3)))


METHODS = [
    methods.IF(6),
    methods.SignedIF(6),
    methods.SRP(5, pre_timesteps=3),
    methods.ShiftedThreshold(4),
]


def outputs(snn, x):
    return snn(x), [y for _, y in snn.stream(x)]


@pytest.mark.parametrize("read_again", [False, True])
@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_fused_sums_have_the_same_bits(method, read_again: bool, monkeypatch) -> None:
    torch.manual_seed(0)
    x = torch.rand(6, 3, 12, 12, generator=GENERATOR)
    snn = snnconv.convert(Residual(read_again).eval(), method, x, progress=False)
    ran = []
    add = fuse.conv_added_to

    def counted(*args):
        out = add(*args)
        ran.append(out is not None)
        return out

    monkeypatch.setattr(executor_module, "conv_added_to", counted)
    fused = outputs(snn, x)
    assert ran
    assert all(ran)
    monkeypatch.setattr(executor_module, "conv_added_to", lambda *args: None)
    plain = outputs(snn, x)
    assert torch.equal(fused[0], plain[0])
    assert all(torch.equal(a, b) for a, b in zip(fused[1], plain[1], strict=True))


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_what_is_still_read_is_not_written_over(method, monkeypatch) -> None:
    torch.manual_seed(0)
    x = torch.rand(6, 3, 12, 12, generator=GENERATOR)
    snn = snnconv.convert(Aliases().eval(), method, x, progress=False)
    fused = outputs(snn, x)
    monkeypatch.setattr(executor_module, "conv_added_to", lambda *args: None)
    plain = outputs(snn, x)
    assert torch.equal(fused[0], plain[0])
    assert all(torch.equal(a, b) for a, b in zip(fused[1], plain[1], strict=True))


def test_what_somebody_keeps_is_not_written_over() -> None:
    torch.manual_seed(0)
    x = torch.rand(6, 3, 12, 12, generator=GENERATOR)
    snn = snnconv.convert(Residual().eval(), methods.IF(6), x, progress=False)
    seen: dict[str, torch.Tensor] = {}
    snn.run(x, observe=lambda site, out: seen.update({site: out}))
    copies: dict[str, torch.Tensor] = {}
    snn.run(x, observe=lambda site, out: copies.update({site: out.clone()}))
    assert all(torch.equal(seen[site], copies[site]) for site in seen)
    kept: list[torch.Tensor] = []
    handle = snn.neurons["one.relu2"].register_forward_hook(lambda module, inputs, output: kept.append(output))
    snn(x)
    handle.remove()
    assert torch.equal(kept[-1], copies["one.relu2"])


def test_the_input_stays() -> None:
    x = torch.rand(6, 3, 12, 12, generator=GENERATOR)
    snn = snnconv.convert(Residual().eval(), methods.ShiftedThreshold(4), x, progress=False)
    before = x.clone()
    first = snn(x)
    assert torch.equal(first, snn(x))
    assert torch.equal(x, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("channels_last", [True, False])
def test_the_operator_is_a_convolution_and_a_sum(dtype: torch.dtype, channels_last: bool) -> None:
    x, weight, bias = torch.rand(2, 4, 9, 7), torch.randn(6, 2, 3, 3), torch.randn(6)
    other = torch.randn(2, 6, 5, 3)
    x, weight, bias, other = (t.to(dtype) for t in (x, weight, bias, other))
    if channels_last:
        other = other.contiguous(memory_format=torch.channels_last)
    expected = torch.conv2d(x, weight, bias, 2, (1, 0), 1, 2) + other
    kept = other.clone()
    with torch.no_grad():
        out = fuse.conv_added_to(other, (x, weight, bias, 2, (1, 0)), {"groups": 2})
    if dtype == torch.float32 and channels_last:
        assert out is not None
        assert out.data_ptr() == other.data_ptr()
        assert torch.allclose(out, expected, atol=1e-5)
    else:
        assert out is None
        assert torch.equal(other, kept)
    assert fuse.conv_added_to(other[:1], (x, weight, bias, 2, (1, 0)), {"groups": 2}) is None
