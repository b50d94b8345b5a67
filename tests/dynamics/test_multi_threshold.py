"""Multi-threshold neurons: differential coding against a scalar re-implementation, and what it implies."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from snnconv import dynamics as dyn
from snnconv.dynamics import neuron as neurons
from snnconv.dynamics.multi_threshold import ones
from snnconv.neurons.frameworks import FRAMEWORKS, neuron_class

STEPS: dict[str, Callable[..., Any]] = {
    "multi_threshold": dyn.multi_threshold_step,
    "hierarchical_multi_threshold": dyn.hierarchical_multi_threshold_step,
}
EXAMPLES = settings(max_examples=60)


def scalar(name: str, currents: list[float], q: float, n: int, rectified: bool, ceiling: float) -> list[float]:
    """The recursion in double precision, one number after the other."""
    v = m = r = 0.0
    sent = []
    for t, c in enumerate(currents, start=1):
        v += m + c
        m += c / t
        u = min(v - r, t * (ceiling - r))
        if name == "hierarchical_multi_threshold":
            most = 2**n - 1
            code = max(-most, min(most, math.floor(u / q + 0.5)))
            if rectified:
                code = max(code, -math.floor(r * t / q + 1e-6))
        else:
            fits = [2**k for k in range(n) if abs(u) >= 0.75 * q * 2**k]
            code = max(fits, default=0) * (1 if u >= 0 else -1)
            if rectified and r + code * q / t < 0:
                code = 0
        v -= r + code * q
        r += code * q / t
        sent.append(float(code))
    return sent


def run(name: str, x_seq: Tensor, theta: float | Tensor, **options: Any) -> tuple[Tensor, Any]:
    return neurons.get(name).sequence(x_seq, theta, **options)


@pytest.mark.parametrize("name", STEPS)
@EXAMPLES
@given(
    # eighths and a power of two: the first two steps divide by 1 and 2, and every number stays exact
    currents=st.lists(st.integers(-80, 80).map(lambda i: i / 8), min_size=2, max_size=2),
    n=st.integers(1, 6),
    rectified=st.booleans(),
    ceiling=st.sampled_from([math.inf, 2.0, 15.0]),
)
def test_the_neuron_is_the_recursion_of_the_paper(name, currents, n, rectified, ceiling) -> None:
    found, _ = run(
        name, torch.tensor(currents)[:, None], 0.5, thresholds=n, signed=not rectified,
        ceiling=None if ceiling == math.inf else ceiling / 0.5,
    )  # fmt: skip
    assert found.flatten().tolist() == scalar(name, currents, 0.5, n, rectified, ceiling)


@pytest.mark.parametrize("name", STEPS)
def test_over_many_steps_too_but_for_rounding_at_a_border(name: str) -> None:
    torch.manual_seed(0)
    x_seq = torch.randn(9, 400, dtype=torch.float64) * torch.tensor([3.0, *[0.5] * 8])[:, None]
    found, _ = run(name, x_seq, 0.3, thresholds=4, signed=False)
    expected = [scalar(name, column, 0.3, 4, True, math.inf) for column in x_seq.T.tolist()]
    assert torch.equal(found.T, torch.tensor(expected, dtype=torch.float64))


def test_four_thresholds_in_one_step_are_a_quantiser_of_fifteen_levels() -> None:
    z = torch.linspace(-3, 30, 5001)
    found, state = dyn.hierarchical_multi_threshold_step(z, None, 1.0, thresholds=4)
    assert torch.equal(found, (z + 0.5).floor().clamp(0, 15))
    assert torch.equal(state.expected_output, found)
    signed, _ = dyn.hierarchical_multi_threshold_step(-z, None, 1.0, thresholds=4, signed=True)
    assert torch.equal(signed, (0.5 - z).floor().clamp(-15, 15))


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("rectified", [True, False])
def test_what_it_stands_for_comes_closer_to_a_constant_input_with_every_step(name: str, rectified: bool) -> None:
    z = torch.linspace(-1.0, 1.0, 2001)
    silence = torch.zeros_like(z)
    target = z.clamp(min=0) if rectified else z
    record, state, errors = neurons.get(name), None, []
    for t in range(32):
        _, state = record.step(silence if t else z, state, 1 / 8, **record.settings({"signed": not rectified}))
        errors.append(float((state.expected_output - target).abs().max()))
    assert errors[31] < 1 / 8 / 16  # about half of the smallest threshold, divided by the steps
    assert all(later <= earlier + 1e-6 for earlier, later in zip(errors[::8], errors[8::8], strict=False))


def test_a_rectified_neuron_never_stands_for_less_than_nothing() -> None:
    torch.manual_seed(1)
    x_seq = torch.randn(20, 1000) * 2
    for name in STEPS:
        fired, _ = run(name, x_seq, 0.25, thresholds=4, signed=False)
        stands_for = (fired / torch.arange(1, 21)[:, None]).cumsum(0) * 0.25
        assert float(stands_for.min()) >= -1e-5
        assert bool((fired < 0).any())  # it takes back what was too much


def test_a_ceiling_holds_for_a_constant_input_beyond_it() -> None:
    silence = torch.zeros(3)
    for name in STEPS:
        record = neurons.get(name)
        for options in ({"ceiling": 15.0}, {"ceiling_absolute": 7.5}):
            state = None
            for t in range(16):
                x = silence if t else torch.tensor([7.0, 20.0, 300.0])
                _, state = record.step(x, state, 0.5, **record.settings(options))
            torch.testing.assert_close(state.expected_output, torch.tensor([7.0, 7.5, 7.5]), atol=0.1, rtol=0)


def test_a_spike_of_several_bits_costs_as_many_additions() -> None:
    codes = torch.tensor([0.0, 1.0, -7.0, 8.0, 15.0], dtype=torch.bfloat16)
    assert ones(codes).tolist() == [0, 1, 3, 1, 4]
    assert neurons.get("multi_threshold").pulses is None
    assert set(neurons.get("hierarchical_multi_threshold").sizes(thresholds=3)) == {1, 2, 3, 4, 5, 6, 7}
    assert neurons.get("multi_threshold").sizes(thresholds=3) == (1, 2, 4)


@pytest.mark.parametrize("name", STEPS)
def test_a_surrogate_gives_a_gradient_and_the_same_spikes(name: str) -> None:
    class Soft(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            return (x >= 0).to(x.dtype)

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            (x,) = ctx.saved_tensors
            return grad / (1 + x.abs()) ** 2

    x_seq = torch.randn(4, 50, generator=torch.Generator().manual_seed(2))
    expected, _ = run(name, x_seq, 0.3)
    x_seq.requires_grad_()
    for detach in (False, True):
        found, _ = neurons.get(name).sequence(x_seq, 0.3, surrogate=Soft.apply, detach_reset=detach)
        assert torch.equal(found, expected)
        (slope,) = torch.autograd.grad(found.sum(), x_seq)
        assert bool((slope[-1] != 0).any())


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("name", STEPS)
def test_the_modules_of_both_frameworks_send_the_equations_spikes(name: str, framework: str) -> None:
    if framework == "snntorch":
        pytest.importorskip("snntorch")
    x_seq = torch.randn(5, 2, 3, 4, generator=torch.Generator().manual_seed(3))
    theta = torch.tensor([0.2, 0.3, 0.5])
    how = {"step_mode": "m"} if framework == "spikingjelly" else {"init_hidden": True}
    module = neuron_class(name, framework)(theta, thresholds=3, scaled=True, **how)
    assert torch.equal(module.run(x_seq), dyn.scan(name, x_seq, theta, thresholds=3))
