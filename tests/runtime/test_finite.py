"""Inputs of NaN and infinity: NaN comes out for each of them, the others do not notice."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import snnconv
from snnconv import ConversionError, methods
from snnconv.dynamics.kernels.backends import BACKENDS
from snnconv.runtime import int8
from snnconv.runtime.finite import NonFinite
from snnconv.sequence import Continued
from tests.fuzz.samples import SAMPLES, inputs

BAD = [math.nan, math.inf, -math.inf]


def spoilt(x: Tensor, value: float = math.nan) -> Tensor:
    """One value of the second sample, all of the fifth."""
    x = x.clone()
    x[1].view(-1)[3] = value
    x[4] = value
    return x


def check(found: Tensor, expected: Tensor) -> None:
    rows = torch.tensor([1, 4])
    rest = torch.tensor([i for i in range(len(found)) if i not in (1, 4)])
    assert found[rows].isnan().all()
    assert torch.equal(found[rest], expected[rest])


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("name", SAMPLES)
def test_each_sample_answers_for_itself(name: str, value: float) -> None:
    snn, x = SAMPLES[name].network(), inputs()
    check(snn(spoilt(x, value)), snn(x))
    for (_, found), (_, expected) in (
        zip(snn.stream(spoilt(x, value)), snn.stream(x), strict=True)
        if (SAMPLES[name].traced or snn.method.coding == "rate")
        else ()
    ):
        check(found, expected)
    for site, rate in snn.rates(x).items():
        check(snn.rates(spoilt(x, value))[site], rate)
    if snn.method.coding == "rate":
        check(snn.early_exit(spoilt(x, value), margin=1e9).output, snn.early_exit(x, margin=1e9).output)
        assert snn.early_exit(spoilt(x, value), margin=0.0).output[4].isnan().all()


@pytest.mark.parametrize("backend", [name for name in BACKENDS if name in ("eager", "numba")])
@pytest.mark.parametrize("name", [n for n in SAMPLES if n.endswith("graph.spikingjelly")])
def test_in_every_backend_and_in_parts(name: str, backend: str) -> None:
    snn, x = SAMPLES[name].network(), inputs()
    snn.backend = backend
    check(snn(spoilt(x)), snn(x))
    snn.memory_budget = 1
    check(snn(spoilt(x)), snn(x))


@pytest.mark.skipif(bool(int8.supported()), reason="8-bit layers do not run here")
def test_in_8_bits() -> None:
    snn, x = SAMPLES["signed_if.graph.spikingjelly"].network(), inputs()
    snn.precision = "int8"
    check(snn(spoilt(x)), snn(x))


def test_membranes_that_go_on_remember_it_until_they_are_reset() -> None:
    snn, x = SAMPLES["if.graph.spikingjelly"].network(), inputs()
    clean, spoiled = Continued(snn), Continued(snn)
    check(spoiled(spoilt(x)), clean(x))
    check(spoiled(x), clean(x))
    clean.reset(), spoiled.reset()
    assert torch.equal(spoiled(x), clean(x))


def test_finite_values_whose_sum_is_not_are_left_alone() -> None:
    x = torch.full((2, 8), 3e38)
    assert NonFinite(x).samples is None
    assert NonFinite(torch.full((2, 8), 6e4, dtype=torch.float16)).samples is None
    assert NonFinite(torch.tensor([[3e38, 3e38], [1.0, math.nan]])).samples.tolist() == [False, True]


def test_token_indices_are_finite() -> None:
    assert NonFinite(torch.arange(4).reshape(2, 2)).samples is None


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor, mask: Tensor) -> dict[str, Tensor]:
        y = self.b(torch.relu(self.a(x)))
        return {"y": y, "pair": torch.softmax(y + mask, 1)}


def test_any_of_several_inputs_counts_and_masks_may_hold_minus_infinity() -> None:
    x, mask = torch.randn(8, 4), torch.zeros(8, 2)
    mask[:, 1] = -math.inf
    snn = snnconv.convert(Two().eval(), methods.IF(8), [{"x": x, "mask": torch.zeros(8, 2)}], progress=False)
    expected = snn(x, mask=mask)
    assert torch.isfinite(expected["y"]).all()
    wrong = mask.clone()
    wrong[1, 0] = wrong[4, 1] = math.nan
    for found in (snn(spoilt(x), mask=mask), snn(x, mask=wrong)):
        for name in ("y", "pair"):
            check(found[name], expected[name])


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.a, self.b = nn.Embedding(10, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        weights = torch.softmax(mask, 1)[..., None]
        return self.b((weights * torch.relu(self.a(self.embedding(tokens)))).sum(1))


def test_a_mask_behind_tokens_may_hold_minus_infinity() -> None:
    tokens, mask = torch.arange(40).reshape(8, 5) % 10, torch.zeros(8, 5)
    mask[:, 3:] = -math.inf
    snn = snnconv.convert(Tokens().eval(), methods.SignedIF(8), (tokens, mask), progress=False)
    expected = snn(tokens, mask)
    assert torch.isfinite(expected).all()
    wrong = mask.clone()
    wrong[1, 0] = wrong[4, 1] = math.nan
    check(snn(tokens, wrong), expected)


def test_whole_numbers_cannot_say_it_and_refuse() -> None:
    marks = NonFinite(torch.tensor([[1.0], [math.nan]]))
    with pytest.raises(ConversionError, match="1 of the inputs hold NaN or infinite values, and an output of int64"):
        marks.mark({"class": torch.tensor([1, 2])})
    fine = NonFinite(torch.ones(2, 1))
    assert fine.mark(torch.tensor([1, 2])).tolist() == [1, 2]


def test_an_output_without_the_batch_belongs_to_all_samples() -> None:
    marks = NonFinite(torch.tensor([[1.0], [math.nan]]))
    assert marks.mark(torch.ones(3)).isnan().all()
    assert marks.mark(torch.tensor(1.0)).isnan()
    assert marks.mark(torch.ones(4, 2, 5), 1).isnan().any((0, 2)).tolist() == [False, True]


def test_the_mark_is_part_of_an_exported_graph() -> None:
    """Where values cannot be looked at, the outputs follow their input nevertheless."""
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    snn = snnconv.convert(model, methods.IF(3), torch.randn(32, 4), progress=False)
    snn.backend = "eager"
    x = torch.randn(5, 4)
    traced = torch.jit.trace(snn, x, check_trace=False)
    check(traced(spoilt(x)), traced(x))
