"""The neuron equations, against scalar re-implementations and the properties the papers state."""

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

EPS = 1e-3
EXAMPLES = settings(max_examples=40)

# Multiples of 1/8 and thresholds that are powers of two: every sum below is exact in float32.
eighths = st.integers(-40, 40).map(lambda i: i / 8)
sequences = st.integers(1, 12).flatmap(
    lambda t: st.lists(st.lists(eighths, min_size=3, max_size=3), min_size=t, max_size=t)
)
dyadic_thresholds = st.sampled_from([0.5, 1.0, 2.0, 4.0])

MULTISTEP: dict[str, Callable[..., Any]] = {
    "if": dyn.if_multistep,
    "signed_if": dyn.signed_if_multistep,
    "srp": lambda x, theta, **kwargs: dyn.srp_multistep(x, theta, 2, **kwargs),
}
STEP: dict[str, Callable[..., Any]] = {
    "if": dyn.if_step,
    "signed_if": dyn.signed_if_step,
    "srp": lambda x, state, theta: dyn.srp_step(x, state, theta, 2),
}


def scalar_if(xs: list[float], theta: float) -> tuple[list[int], float]:
    v, spikes = theta / 2, []
    for x in xs:
        v += x
        fired = v >= theta
        v -= theta if fired else 0.0
        spikes.append(int(fired))
    return spikes, v


def scalar_signed_if(xs: list[float], theta: float) -> list[int]:
    v, n, spikes = theta / 2, 0, []
    for x in xs:
        v += x
        spike = 0
        if v >= theta:
            v, n, spike = v - theta, n + 1, 1
        if v < -EPS * theta and n > 0:
            assert spike == 0
            v, n, spike = v + theta, n - 1, -1
        spikes.append(spike)
    return spikes


def scalar_srp(xs: list[float], theta: float, tau: int) -> list[int]:
    first, residual = scalar_if(xs[:tau], theta)
    second, _ = scalar_if(xs[tau:], theta)
    return first + [s if residual > EPS * theta else 0 for s in second]


def columns(x_seq: Tensor) -> list[list[float]]:
    return x_seq.flatten(1).T.tolist()


def bits_equal(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and torch.equal(a, b)


# --- integrate-and-fire ------------------------------------------------------------------------------------


@EXAMPLES
@given(sequences, dyadic_thresholds)
def test_if_matches_the_scalar_equation(xs: list[list[float]], theta: float) -> None:
    x_seq = torch.tensor(xs)
    spikes, state = dyn.if_multistep(x_seq, theta)
    expected = [scalar_if(column, theta) for column in columns(x_seq)]
    assert columns(spikes) == [s for s, _ in expected]
    assert state.v.tolist() == [v for _, v in expected]


@EXAMPLES
@given(st.integers(1, 20), eighths, dyadic_thresholds)
def test_if_rounds_a_constant_input(timesteps: int, z: float, theta: float) -> None:
    spikes, _ = dyn.if_multistep(torch.tensor(z).expand(timesteps, 1), theta)
    assert spikes.sum() == min(max(math.floor(timesteps * z / theta + 0.5), 0), timesteps)


def test_a_potential_that_equals_the_threshold_fires() -> None:
    assert dyn.if_step(torch.tensor([0.5]), None, 1.0)[0] == 1
    assert dyn.shifted_threshold_fire(torch.tensor([0.5]), 1.0, 1)[0] == 1


# --- signed integrate-and-fire -----------------------------------------------------------------------------


@EXAMPLES
@given(sequences, dyadic_thresholds)
def test_signed_if_matches_the_scalar_equation(xs: list[list[float]], theta: float) -> None:
    x_seq = torch.tensor(xs)
    spikes, state = dyn.signed_if_multistep(x_seq, theta)
    assert columns(spikes) == [scalar_signed_if(column, theta) for column in columns(x_seq)]
    assert torch.equal(state.n, spikes.sum(0))


@EXAMPLES
@given(st.integers(0, 2**32 - 1), st.integers(1, 20))
def test_signed_if_never_takes_back_more_than_it_gave(seed: int, timesteps: int) -> None:
    x_seq = torch.randn(timesteps, 50, generator=torch.Generator().manual_seed(seed))
    spikes, _ = dyn.signed_if_multistep(x_seq, 0.7)
    assert (spikes.cumsum(0) >= 0).all()


def test_signed_if_leaves_the_dead_zone_alone() -> None:
    # After one positive spike the potential goes to -eps*theta/2: below zero, inside the dead zone.
    x_seq = torch.tensor([[0.5], [-EPS / 2]])
    assert dyn.signed_if_multistep(x_seq, 1.0, eps=EPS)[0].flatten().tolist() == [1, 0]
    assert dyn.signed_if_multistep(x_seq, 1.0, eps=EPS / 4)[0].flatten().tolist() == [1, -1]


# --- SRP ---------------------------------------------------------------------------------------------------


@EXAMPLES
@given(sequences, dyadic_thresholds, st.integers(0, 6))
def test_srp_silences_exactly_the_neurons_whose_residual_is_not_positive(
    xs: list[list[float]], theta: float, tau: int
) -> None:
    x_seq = torch.tensor(xs)
    spikes, _ = dyn.srp_multistep(x_seq, theta, tau)
    if tau == 0:
        assert columns(spikes) == [scalar_if(column, theta)[0] for column in columns(x_seq)]
    else:
        assert columns(spikes) == [scalar_srp(column, theta, tau) for column in columns(x_seq)]


def test_srp_takes_its_mask_at_the_end_of_phase_one() -> None:
    x = torch.tensor([0.25, -0.25, -0.5])
    _, before = dyn.srp_step(x, None, 1.0, pre_timesteps=2)
    assert before.mask.all()
    _, after = dyn.srp_step(x, before, 1.0, pre_timesteps=2)
    assert after.mask.tolist() == [False, False, False]  # 1.0 fired, 0.0, -0.5
    assert after.v.tolist() == [0.5, 0.5, 0.5]
    assert after.step == 2


# --- shifted threshold -------------------------------------------------------------------------------------


@EXAMPLES
@given(st.lists(st.integers(-4000, 4000), min_size=1, max_size=40), st.integers(1, 8), dyadic_thresholds)
def test_shifted_threshold_sums_to_the_quantised_activation(zs: list[int], timesteps: int, q: float) -> None:
    z = torch.tensor(zs) / 8
    spikes, residual = dyn.shifted_threshold_fire(z, q, timesteps)
    value = torch.einsum("t,tb->b", dyn.shifted_threshold_amplitudes(q, timesteps), spikes)
    levels = (z / q + 0.5).floor().clamp(0, 2**timesteps - 1)
    assert torch.equal(value, levels * q)
    assert torch.equal(residual, z + q / 2 - value)


@EXAMPLES
@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_shifted_threshold_pipeline_lags_by_one_window(seed: int, timesteps: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    windows = torch.randn(3, timesteps, 2, 4, generator=generator) * 3
    state, fired = None, []
    for x in [*windows.flatten(0, 1), *torch.zeros(timesteps, 2, 4)]:
        spike, state = dyn.shifted_threshold_step(x, state, 0.3, timesteps)
        fired.append(spike)
    fired_windows = torch.stack(fired).unflatten(0, (4, timesteps))
    assert not fired_windows[0].any()
    for window, spikes in zip(windows, fired_windows[1:], strict=True):
        assert bits_equal(dyn.shifted_threshold_multistep(window, 0.3)[0], spikes)


def test_shifted_threshold_output_length_is_its_own() -> None:
    spikes, _ = dyn.shifted_threshold_multistep(torch.tensor([[5.0]]), 1.0, timesteps=3)
    assert spikes.flatten().tolist() == [1, 0, 1]
    assert dyn.shifted_threshold_multistep(torch.ones(4, 2), 1.0)[0].shape == (4, 2)


# --- what holds for every neuron ---------------------------------------------------------------------------


@EXAMPLES
@given(
    neuron=st.sampled_from(sorted(MULTISTEP)),
    seed=st.integers(0, 2**32 - 1),
    shape=st.lists(st.integers(0, 4), min_size=1, max_size=4),
    timesteps=st.integers(1, 6),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float64]),
    data=st.data(),
)
def test_multistep_equals_single_steps_bit_for_bit(neuron, seed, shape, timesteps, dtype, data) -> None:
    generator = torch.Generator().manual_seed(seed)
    x_seq = torch.randn(timesteps, *shape, generator=generator).to(dtype)
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    channels = torch.rand(shape[axis], generator=generator) + 0.25
    theta = dyn.per_channel(channels, len(shape), axis, size=shape[axis])
    spikes, state = MULTISTEP[neuron](x_seq, theta)
    single: list[Tensor] = []
    single_state: Any = None
    for x in x_seq:
        spike, single_state = STEP[neuron](x, single_state, theta)
        single.append(spike)
    assert bits_equal(spikes, torch.stack(single))
    assert spikes.dtype == dtype
    assert spikes.shape == x_seq.shape
    assert state.v.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    for a, b in zip(state, single_state, strict=True):
        assert a == b if isinstance(a, int) else bits_equal(a, b)


@pytest.mark.parametrize("neuron", sorted(MULTISTEP))
def test_a_sequence_may_be_run_in_pieces(neuron: str) -> None:
    x_seq = torch.randn(9, 2, 5)
    whole, _ = MULTISTEP[neuron](x_seq, 0.6)
    head, state = MULTISTEP[neuron](x_seq[:4], 0.6)
    tail, _ = MULTISTEP[neuron](x_seq[4:], 0.6, state=state)
    assert bits_equal(whole, torch.cat([head, tail]))


@pytest.mark.parametrize("neuron", sorted(MULTISTEP))
def test_an_expanded_view_gives_what_its_copy_gives(neuron: str) -> None:
    x_seq = torch.randn(1, 2, 5).expand(7, 2, 5)
    assert bits_equal(MULTISTEP[neuron](x_seq, 0.6)[0], MULTISTEP[neuron](x_seq.clone(), 0.6)[0])


@pytest.mark.parametrize("neuron", sorted(MULTISTEP))
def test_half_precision_inputs_keep_a_float32_membrane(neuron: str) -> None:
    x_seq = torch.randn(6, 3, 4).bfloat16()
    spikes, state = MULTISTEP[neuron](x_seq, 0.6)
    reference, reference_state = MULTISTEP[neuron](x_seq.float(), 0.6)
    assert bits_equal(spikes.float(), reference)
    assert bits_equal(state.v, reference_state.v)


def test_one_threshold_per_channel_is_as_many_neurons() -> None:
    x_seq = torch.randn(5, 2, 3, 4)
    theta = torch.tensor([0.3, 0.7, 1.1])
    spikes, _ = dyn.signed_if_multistep(x_seq, dyn.per_channel(theta, 3, 1))
    for channel, value in enumerate(theta):
        assert bits_equal(spikes[:, :, channel], dyn.signed_if_multistep(x_seq[:, :, channel], value)[0])


def test_states_are_not_modified() -> None:
    x = torch.randn(2, 3)
    cases: list[tuple[Callable[..., Any], Any]] = [
        (lambda s: dyn.if_step(x, s, 1.0), dyn.if_initial(x, 1.0)),
        (lambda s: dyn.signed_if_step(x, s, 1.0), dyn.signed_if_initial(x, 1.0)),
        (lambda s: dyn.srp_step(x, s, 1.0, 1), dyn.srp_initial(x, 1.0)),
        (lambda s: dyn.shifted_threshold_step(x, s, 1.0, 1), dyn.shifted_threshold_initial(x)),
    ]
    for step, state in cases:
        copies = [value.clone() if isinstance(value, Tensor) else value for value in state]
        step(state)
        assert all(torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in zip(state, copies, strict=True))


# --- errors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("threshold", "message"),
    [
        (0.0, "v_threshold is 0.0"),
        (float("nan"), "v_threshold is nan"),
        (torch.tensor([1.0, -2.0]), r"v_threshold at \[1\] is -2.0"),
        (torch.tensor([1.0, float("inf")]), r"at \[1\] is inf"),
        (torch.tensor(float("nan")), "v_threshold is nan"),
        (torch.ones(2, 2), r"shape \(2, 2\)"),
        (torch.ones(2), "2 values but axis 1 has 3 channels"),
    ],
)
def test_a_threshold_that_makes_no_sense_is_refused(threshold: float | Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dyn.per_channel(threshold, ndim=4, axis=1, size=3)


def test_an_axis_outside_the_step_is_refused() -> None:
    with pytest.raises(ValueError, match="channel axis 2 is outside a 2-d step"):
        dyn.per_channel(torch.ones(3), ndim=2, axis=2)


def test_lengths_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="pre_timesteps is -1"):
        dyn.srp_step(torch.zeros(1), None, 1.0, -1)
    for call in (
        lambda: dyn.shifted_threshold_step(torch.zeros(1), None, 1.0, 0),
        lambda: dyn.shifted_threshold_fire(torch.zeros(1), 1.0, 0),
        lambda: dyn.shifted_threshold_multistep(torch.zeros(0, 1), 1.0),
        lambda: dyn.shifted_threshold_amplitudes(1.0, 0),
    ):
        with pytest.raises(ValueError, match="timesteps is 0"):
            call()
