"""fits(): a network against the published limits of a chip, layer by layer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import snnconv
from snnconv import methods
from snnconv.export.chips import CHIPS
from snnconv.export.fitting import Fit

METHOD = methods.IF(timesteps=8, per_channel=False, correction="none")


def checked(model: nn.Module, shape: tuple[int, ...] = (2, 32, 32), method: methods.Method = METHOD) -> Fit:
    torch.manual_seed(0)
    snn = snnconv.convert(model.eval(), method, torch.rand(4, *shape), progress=False)
    return snnconv.fits(snn, "speck2f")


def small(**changes: Any) -> nn.Sequential:
    parts = {
        "conv": nn.Conv2d(2, 16, 3, padding=1), "act": nn.ReLU(), "pool": nn.AvgPool2d(2),
        "conv2": nn.Conv2d(16, 32, 3, stride=2, padding=1), "act2": nn.ReLU(), "flat": nn.Flatten(),
        "head": nn.Linear(32 * 64, 10),
    }  # fmt: skip
    model = nn.Sequential()
    for name, module in {**parts, **changes}.items():
        model.add_module(name, module)
    return model


def test_a_small_network_fits_and_says_what_it_takes() -> None:
    fit = checked(small())
    assert fit, str(fit)
    sizes = {layer.name: (layer.kernel, layer.neurons, layer.biases) for layer in fit.layers}
    assert sizes["conv"] == (2 * 16 * 16, 16 * 32 * 32, 16), "9 places take the addresses of 16"
    assert sizes["conv2"] == (16 * 16 * 32, 32 * 8 * 8, 32)
    assert sizes["head"] == (32 * 64 * 16, 10, 10), "a dense layer is a kernel over the whole map"
    cores = [layer.core for layer in fit.layers]
    assert len(set(cores)) == 3
    assert CHIPS["speck2f"].kernel_memory[cores[2]] >= 32 * 64 * 16


def test_the_table_of_the_makers_own_example() -> None:
    """16 to 32 channels, 3x3 at 64x64: 8 Ki of kernel memory, 128 Ki of neuron memory, so that no core holds it."""
    fit = checked(nn.Sequential(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU()), (16, 64, 64))
    (layer,) = fit.layers
    assert (layer.kernel, layer.neurons) == (8 * 1024, 128 * 1024)
    assert not fit
    assert "131072 neurons, at most 65536" in layer.problems[0]


def test_a_network_that_is_too_wide_is_told_where() -> None:
    fit = checked(small(conv2=nn.Conv2d(16, 256, 5, stride=2, padding=2), head=nn.Linear(256 * 64, 10)))
    problems = {layer.name: " ".join(layer.problems) for layer in fit.layers}
    assert problems["conv"] == ""
    assert "131072 entries of kernel memory" in problems["conv2"]
    assert "262144 entries of kernel memory" in problems["head"]
    assert "too wide" in str(fit)


def test_wrong_pooling_is_named() -> None:
    fit = checked(small(pool=nn.MaxPool2d(2)))
    assert [p for p in fit.problems if "max-pooling" in p and p.startswith("pool")]
    fit = checked(small(pool=nn.AvgPool2d(3, 2, padding=1)))
    assert [p for p in fit.problems if "pooling 3x3: there are 1x1, 2x2, 4x4" in p]


@pytest.mark.parametrize(
    ("changes", "layer", "problem"),
    [
        ({"conv2": nn.Conv2d(16, 32, 3, stride=3), "head": nn.Linear(32 * 25, 10)}, "conv2", "stride (3, 3)"),
        ({"conv2": nn.Conv2d(16, 32, 3, padding=8), "head": nn.Linear(32 * 30 * 30, 10)}, "conv2", "padding (8, 8)"),
        ({"conv2": nn.Conv2d(16, 32, 3, groups=2), "head": nn.Linear(32 * 14 * 14, 10)}, "conv2", "grouped"),
        ({"conv2": nn.Conv2d(16, 32, 3, dilation=2), "head": nn.Linear(32 * 12 * 12, 10)}, "conv2", "dilated"),
        ({"pool": nn.Identity(), "head": nn.Linear(32 * 256, 10)}, "head", "too wide"),
    ],
)
def test_every_limit_of_a_core_names_its_layer(changes: dict[str, nn.Module], layer: str, problem: str) -> None:
    fit = checked(small(**changes))
    assert not fit
    assert problem in " ".join(next(f for f in fit.layers if f.name == layer).problems)


def test_what_methods_have_to_choose() -> None:
    fit = checked(small(), method=methods.SignedIF(8, per_channel=False))
    assert any("puts signed_if neurons at act: convert with methods.IF" in p for p in fit.problems)
    fit = checked(small(), method=methods.IF(8))
    assert any("per_channel=False" in p for p in fit.problems)


def test_shortcuts_and_fan_out() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(2, 4, 3, padding=1), nn.ModuleList(nn.Conv2d(4, 4, 3) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.a(x))
            return torch.stack([b(x) for b in self.b]).sum(0) if len(self.b) == 3 else self.b[0](x)

    fit = checked(Net())
    assert any("3 layers read it, and a core sends to 2" in p for p in fit.problems)

    class Shortcut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.a(x))
            return F.relu(self.b(x) + x)

    assert any("a core sums what its own layer gives" in p for p in checked(Shortcut()).problems)


def test_too_many_layers_and_no_core_left() -> None:
    deep = nn.Sequential(*[m for _ in range(10) for m in (nn.Conv2d(2, 2, 3, padding=1), nn.ReLU())])
    assert any("10 layers for 9 cores" in p for p in checked(deep).problems)
    wide = nn.Sequential(*[m for _ in range(4) for m in (nn.Conv2d(16, 16, 3, padding=1), nn.ReLU())])
    fit = checked(wide, (16, 60, 60))  # 57,600 neurons each: three cores have the room
    assert [bool(layer.problems) for layer in fit.layers] == [False, False, False, True]
    assert "no core is left" in fit.layers[3].problems[0]


def test_a_chip_of_ones_own_and_an_unknown_one() -> None:
    snn = snnconv.convert(small().eval(), METHOD, torch.rand(4, 2, 32, 32), progress=False)
    tiny = replace(CHIPS["speck2f"], name="tiny", kernel_memory=(1024,) * 9)
    assert not snnconv.fits(snn, tiny)
    with pytest.raises(ValueError, match=r"unknown chip 'loihi'; known: speck2f"):
        snnconv.fits(snn, "loihi")


def test_padding_by_a_word_is_the_number_that_it_stands_for() -> None:
    def net(padding: int | str) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=padding), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 64, 10)
        )  # fmt: skip

    assert str(checked(net("same"), (2, 8, 8))) == str(checked(net(1), (2, 8, 8)))


def test_a_pooling_that_is_no_sum_does_not_fit() -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.LPPool2d(2, 2), nn.Flatten(), nn.Linear(36, 10))
    fit = checked(model, (2, 8, 8))
    assert not fit
    assert any("lp_pool2d stands between layers" in p for p in fit.problems)


MISPLACED = {
    "pooled currents": (dict(pool=nn.Identity(), conv=nn.Sequential(nn.Conv2d(2, 16, 3, padding=1), nn.AvgPool2d(2))),
                        "act reads pooled currents, and a core pools the spikes of its neurons"),
    "two layers": (dict(act=nn.Identity(), pool=nn.Identity(), head=nn.Linear(32 * 256, 10)),
                   "conv2 reads the currents of conv, and a core gives spikes: put an activation between them"),
    "two activations": (dict(pool=nn.ReLU(), head=nn.Linear(32 * 256, 10)), "pool reads no layer"),
    "a view": (dict(act=nn.Sequential(nn.ReLU(), nn.Flatten(2), nn.Unflatten(2, (16, 64)))),
               "as [16, 1024]: cores send maps as they are"),
}  # fmt: skip


@pytest.mark.parametrize("kind", MISPLACED)
def test_a_core_is_a_convolution_its_neurons_and_their_pooling_in_this_order(kind: str) -> None:
    changes, problem = MISPLACED[kind]
    fit = checked(small(**changes))
    assert any(problem in found for found in fit.problems), fit.problems
