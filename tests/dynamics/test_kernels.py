"""Every backend of `scan` gives the reference functions' spikes bit for bit, in the input's memory format."""

from __future__ import annotations

import concurrent.futures
import importlib.util
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from snnconv import dynamics as dyn
from snnconv.dynamics.kernels import backends, dispatch
from snnconv.dynamics.neuron import REQUIRED

HAS_NUMBA = importlib.util.find_spec("numba") is not None
BACKENDS = ["eager", pytest.param("numba", marks=pytest.mark.skipif(not HAS_NUMBA, reason="needs numba"))]
FLOATS = [torch.float32, torch.bfloat16]
PRE = 2
NEEDED = {name: [o.name for o in record.options if o.default is REQUIRED] for name, record in dyn.NEURONS.items()}
PLAIN = [name for name, needed in NEEDED.items() if "function" not in needed]
"""Neurons that need no function of the input; for the others see `test_function_kernels`."""


def reference(
    neuron: str, x_seq: Tensor, theta: float | Tensor, scaled: bool, timesteps: int | None = None, **options
) -> Tensor:
    if neuron == "shifted_threshold":
        spikes, _ = dyn.shifted_threshold_multistep(x_seq, theta, timesteps)
        if not scaled:
            return spikes
        weight = theta.to(spikes.dtype) if isinstance(theta, Tensor) else theta
        return torch.stack([s * (weight * 2.0**k) for k, s in zip(range(len(spikes))[::-1], spikes, strict=True)])
    if neuron == "if":
        spikes, _ = dyn.if_multistep(x_seq, theta)
    elif neuron == "signed_if":
        spikes, _ = dyn.signed_if_multistep(x_seq, theta)
    elif neuron == "srp":
        spikes, _ = dyn.srp_multistep(x_seq, theta, PRE)
    else:
        step = {
            "multi_threshold": dyn.multi_threshold_step,
            "hierarchical_multi_threshold": dyn.hierarchical_multi_threshold_step,
        }[neuron]
        state, steps = None, []
        for x in x_seq:
            spike, state = step(x, state, theta, **options)
            steps.append(spike)
        spikes = torch.stack(steps)
        theta = torch.as_tensor(theta)  # codes of several bits: the threshold is rounded before it is multiplied
    return spikes * (theta.to(spikes.dtype) if isinstance(theta, Tensor) else theta) if scaled else spikes


def run(neuron: str, x_seq: Tensor, theta: float | Tensor, **kwargs) -> Tensor:
    return dyn.scan(neuron, x_seq, theta, pre_timesteps=PRE if neuron == "srp" else None, **kwargs)


def arrange(x_seq: Tensor, layout: str) -> Tensor:
    """Return the same values in another memory layout."""
    if layout == "channels_last" and x_seq.ndim == 5:
        folded = x_seq.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        return folded.unflatten(0, x_seq.shape[:2])
    if layout == "transposed":
        return x_seq.transpose(0, 1).contiguous().transpose(0, 1)
    if layout == "strided":
        return torch.stack([x_seq, x_seq], dim=-1)[..., 0]
    if layout == "constant":
        return x_seq[:1].expand(x_seq.shape)
    if layout == "constant strided":
        return torch.stack([x_seq[:1], x_seq[:1]], dim=-1)[..., 0].expand(x_seq.shape)
    return x_seq


LAYOUTS = ["contiguous", "channels_last", "transposed", "strided", "constant", "constant strided"]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("neuron", PLAIN)
@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    timesteps=st.integers(PRE + 1, 7),
    shape=st.one_of(
        st.tuples(st.integers(1, 5), st.integers(1, 3000)),
        st.tuples(st.integers(1, 3), st.integers(1, 33), st.integers(1, 11), st.integers(1, 9)),
    ),
    layout=st.sampled_from(LAYOUTS),
    per_channel=st.booleans(),
    scaled=st.booleans(),
    ties=st.booleans(),
    dtype=st.sampled_from(FLOATS),
)
def test_spikes_are_the_reference_functions(
    backend, neuron, seed, timesteps, shape, layout, per_channel, scaled, ties, dtype
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x_seq = torch.randn(timesteps, *shape, generator=generator)
    theta = torch.rand(shape[1], generator=generator) + 0.1 if per_channel else 0.3
    if ties:  # coarse values, so that potentials often equal a threshold or a zero residual
        x_seq = (x_seq * 4).round() / 8
        theta = (theta * 4).ceil() / 4 if isinstance(theta, Tensor) else 0.25
    x_seq = arrange(x_seq.to(dtype), layout)
    spikes = run(neuron, x_seq, theta, backend=backend, scaled=scaled)
    expected = reference(neuron, x_seq, dyn.per_channel(theta, len(shape), 1), scaled)
    assert spikes.dtype == expected.dtype
    assert torch.equal(spikes, expected)


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.one_of(
        st.tuples(st.integers(1, 5), st.integers(1, 3000)),
        st.tuples(st.integers(1, 3), st.integers(1, 33), st.integers(1, 11), st.integers(1, 9)),
    ),
    pre=st.integers(1, 4),
    layouts=st.tuples(st.sampled_from(LAYOUTS), st.sampled_from(LAYOUTS)),
    per_channel=st.booleans(),
    ties=st.booleans(),
    scaled=st.booleans(),
    dtype=st.sampled_from(FLOATS),
)
def test_phases_of_srp_one_after_the_other_are_the_whole(
    backend, seed, shape, pre, layouts, per_channel, ties, scaled, dtype
) -> None:
    generator = torch.Generator().manual_seed(seed)
    first, second = torch.randn(pre, *shape, generator=generator), torch.randn(3, *shape, generator=generator)
    theta = torch.rand(shape[1], generator=generator) + 0.1 if per_channel else 0.3
    if ties:
        first, second = (first * 4).round() / 8, (second * 4).round() / 8
        theta = (theta * 4).ceil() / 4 if isinstance(theta, Tensor) else 0.25
    first, second = (arrange(x.to(dtype), layout) for x, layout in zip((first, second), layouts, strict=True))
    a, mask = dyn.srp_phase(first, theta, backend=backend, scaled=scaled)
    b, again = dyn.srp_phase(second, theta, mask, backend=backend, scaled=scaled)
    whole = dyn.scan("srp", torch.cat([first, second]), theta, pre_timesteps=pre, backend="eager", scaled=scaled)
    assert torch.equal(torch.cat([a, b]), whole)
    assert torch.equal(mask, again)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("neuron", [name for name, record in dyn.NEURONS.items() if record.resumable and name in PLAIN])
@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.one_of(
        st.tuples(st.integers(1, 5), st.integers(1, 3000)),
        st.tuples(st.integers(1, 3), st.integers(1, 33), st.integers(1, 11), st.integers(1, 9)),
    ),
    pieces=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    layouts=st.lists(st.sampled_from(LAYOUTS), min_size=4, max_size=4),
    ties=st.booleans(),
    dtype=st.sampled_from(FLOATS),
    in_place=st.booleans(),
)
def test_pieces_of_a_sequence_are_the_whole(
    backend, neuron, seed, shape, pieces, layouts, ties, dtype, in_place
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x_seq = torch.randn(sum(pieces), *shape, generator=generator)
    theta = torch.rand(shape[1], generator=generator) + 0.1
    if ties:
        x_seq, theta = (x_seq * 4).round() / 8, (theta * 4).ceil() / 4
    state, found = None, []
    parts = [arrange(x.to(dtype), layout) for x, layout in zip(x_seq.split(pieces), layouts, strict=False)]
    for part in parts:
        out, state = dyn.resume(neuron, part, theta, state, backend=backend, in_place=in_place)
        found.append(out)
    fitted = dyn.per_channel(theta, len(shape), 1)
    record = dyn.NEURONS[neuron]
    expected, last = record.sequence(torch.cat(parts), fitted, **record.settings({}))
    assert torch.equal(torch.cat(found), expected * fitted.to(dtype))
    assert all(a == b if isinstance(a, int) else torch.equal(a, b) for a, b in zip(state, last, strict=True))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("neuron", ["multi_threshold", "hierarchical_multi_threshold"])
@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    timesteps=st.integers(1, 7),
    thresholds=st.integers(1, 6),
    signed=st.booleans(),
    ceiling=st.sampled_from([None, 1.0, 3.0, 15.0]),
    absolute=st.sampled_from([None, 0.75]),
    ties=st.booleans(),
    dtype=st.sampled_from(FLOATS),
    per_channel=st.booleans(),
)
def test_settings_of_multi_threshold_neurons_mean_the_same_everywhere(
    backend, neuron, seed, timesteps, thresholds, signed, ceiling, absolute, ties, dtype, per_channel
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x_seq = (torch.randn(timesteps, 4, 6, 5, generator=generator) * 2).to(dtype)
    theta = torch.rand(6, generator=generator) + 0.1 if per_channel else 0.3
    if ties:
        x_seq, theta = (x_seq * 4).round() / 8, (theta * 4).ceil() / 4 if isinstance(theta, Tensor) else 0.25
    options = {"thresholds": thresholds, "signed": signed, "ceiling": ceiling, "ceiling_absolute": absolute}
    expected = reference(neuron, x_seq, dyn.per_channel(theta, 3, 1), True, **options)
    assert torch.equal(run(neuron, x_seq, theta, backend=backend, **options), expected)


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    timesteps=st.integers(1, 8),
    shape=st.one_of(
        st.tuples(st.integers(1, 5), st.integers(1, 3000)),
        st.tuples(st.integers(1, 3), st.integers(1, 33), st.integers(1, 11), st.integers(1, 9)),
    ),
    layout=st.sampled_from(LAYOUTS),
    ties=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_the_sum_of_weighted_spikes_is_the_spikes_sum(backend, seed, timesteps, shape, layout, ties, dtype) -> None:
    if backend == "numba" and dtype == torch.float64:
        return
    generator = torch.Generator().manual_seed(seed)
    x_seq = torch.randn(2, *shape, generator=generator)
    theta = torch.rand(shape[1], generator=generator) / 2**timesteps + 0.01
    if ties:
        x_seq, theta = (x_seq * 8).round() / 8, torch.full_like(theta, 0.25)
    x_seq, theta = arrange(x_seq.to(dtype), layout), theta.to(dtype)
    total = dyn.shifted_threshold_total(x_seq, theta, timesteps, backend=backend)
    expected = torch.zeros_like(total)
    for spikes in reference("shifted_threshold", x_seq, dyn.per_channel(theta, len(shape), 1), True, timesteps):
        expected += spikes
    assert torch.equal(total, expected)


@pytest.mark.parametrize("in_place", [False, True])
def test_a_state_is_written_over_only_where_asked(in_place: bool) -> None:
    x_seq = torch.rand(4, 2, 3)
    _, state = dyn.resume("signed_if", x_seq, 1.0, None)
    before = [tensor.clone() for tensor in state]
    _, after = dyn.resume("signed_if", x_seq, 1.0, state, in_place=in_place)
    assert (after.v.data_ptr() == state.v.data_ptr()) is in_place
    assert all(torch.equal(a, b) for a, b in zip(state, before, strict=True)) is not in_place


def test_what_does_not_run_in_pieces_is_refused() -> None:
    with pytest.raises(ValueError, match="'srp' does not go on from a state"):
        dyn.resume("srp", torch.zeros(4, 2, 3), 1.0, None)
    with pytest.raises(ValueError, match=r"a state \(3,\) for steps \(2, 3\)"):
        dyn.resume("if", torch.zeros(4, 2, 3), 1.0, dyn.IFState(torch.zeros(3)))


@pytest.mark.slow
@pytest.mark.parametrize("neuron", PLAIN)
def test_inductor_gives_the_same_spikes(neuron: str) -> None:
    x_seq = torch.randn(5, 3, 8, 7)
    theta = torch.rand(8) + 0.2
    expected = reference(neuron, x_seq, dyn.per_channel(theta, 3, 1), True)
    assert torch.equal(run(neuron, x_seq, theta, backend="inductor"), expected)


INTERPRETED = """
import random, torch
from snnconv import dynamics as dyn

random.seed(0)
cases = 0
for case in range(40):
    g = torch.Generator().manual_seed(case)
    shape = random.choice([(3, 5), (2, 1500), (2, 7, 5, 3), (1, 33, 4)])
    x_seq = torch.randn(6, *shape, generator=g)
    theta = random.choice([0.3, torch.rand(shape[1], generator=g) + 0.1])
    if case % 3 == 0:
        x_seq = (x_seq * 4).round() / 8
        theta = (theta * 4).ceil() / 4 if isinstance(theta, torch.Tensor) else 0.25
    x_seq = x_seq.to(random.choice([torch.float32, torch.bfloat16]))
    if case % 4 == 1 and len(shape) == 4:
        x_seq = x_seq.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, (6, shape[0]))
    if case % 5 == 1:
        x_seq = x_seq[:1].expand(x_seq.shape)
    scaled = case % 2 == 0
    whole_codes = scaled and x_seq.dtype == torch.bfloat16  # the interpreter truncates to bfloat16
    left = {"ladder", "function_if"} | ({"hierarchical_multi_threshold"} if whole_codes else set())
    names = [name for name in dyn.NEURONS if name not in left]
    for neuron in names:
        options = dict(scaled=scaled, pre_timesteps=2 if neuron == "srp" else None)
        a, b = (dyn.scan(neuron, x_seq, theta, backend=name, **options) for name in ("triton", "eager"))
        assert torch.equal(a, b), (case, neuron)
        cases += 1
    for neuron, more in (("if", {"start": "zero"}), ("signed_if", {"eps_absolute": 0.3})):
        a, b = (dyn.scan(neuron, x_seq, theta, backend=name, scaled=scaled, **more) for name in ("triton", "eager"))
        assert torch.equal(a, b), (case, neuron, more)
        cases += 1
    more = dict(thresholds=3, signed=True, ceiling=5.0)
    for neuron in ("multi_threshold", "hierarchical_multi_threshold")[: 1 if whole_codes else 2]:
        a, b = (dyn.scan(neuron, x_seq, theta, backend=name, scaled=scaled, **more) for name in ("triton", "eager"))
        assert torch.equal(a, b), (case, neuron, more)
        cases += 1
    for neuron in (name for name in names if dyn.NEURONS[name].resumable):
        state = None
        whole = dyn.scan(neuron, x_seq, theta, backend="eager", scaled=scaled)
        parts = []
        for part in x_seq.split(4):
            out, state = dyn.resume(neuron, part, theta, state, backend="triton", scaled=scaled)
            parts.append(out)
        assert torch.equal(torch.cat(parts), whole), (case, neuron)
        cases += 1
    if x_seq.dtype == torch.float32:  # the interpreter truncates to bfloat16
        a, b = (dyn.shifted_threshold_total(x_seq, theta, 4, backend=n, scaled=scaled) for n in ("triton", "eager"))
        assert torch.equal(a, b), case
    cases += 1
    a, mask = dyn.srp_phase(x_seq[:2], theta, backend="triton", scaled=scaled)
    b, _ = dyn.srp_phase(x_seq[2:], theta, mask, backend="triton", scaled=scaled)
    whole = dyn.scan("srp", x_seq, theta, backend="eager", scaled=scaled, pre_timesteps=2)
    assert torch.equal(torch.cat([a, b]), whole), case
    cases += 1
print(cases, "equal")
"""


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs triton")
def test_triton_kernels_interpreted_on_the_cpu_give_the_same_spikes() -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", INTERPRETED], capture_output=True, text=True, check=False, env=environment
    )
    assert done.stdout.strip() == "610 equal", done.stderr[-3000:]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("neuron", PLAIN)
@pytest.mark.parametrize("dtype", FLOATS)
def test_triton_kernels_on_a_gpu_give_the_same_spikes(neuron: str, dtype: torch.dtype) -> None:
    x_seq = torch.randn(9, 4, 19, 23, 21, device="cuda").to(dtype)
    theta = torch.rand(19, device="cuda") + 0.2
    assert torch.equal(run(neuron, x_seq, theta, backend="triton"), run(neuron, x_seq, theta, backend="eager"))


def test_a_mask_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"mask has shape \(3,\) but a step has shape \(2, 3\)"):
        dyn.srp_phase(torch.zeros(4, 2, 3), 1.0, torch.ones(3, dtype=torch.bool))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("eps", [0.0, 0.125, 0.25])
def test_a_potential_at_the_edge_of_the_dead_zone_is_inside_it(backend: str, eps: float) -> None:
    x_seq = torch.randint(-6, 7, (8, 4, 200)) / 8
    signed, _ = dyn.signed_if_multistep(x_seq, 1.0, eps=eps)
    assert torch.equal(dyn.scan("signed_if", x_seq, 1.0, eps=eps, backend=backend), signed)
    srp, _ = dyn.srp_multistep(x_seq, 1.0, PRE, eps=eps)
    assert torch.equal(dyn.scan("srp", x_seq, 1.0, eps=eps, pre_timesteps=PRE, backend=backend), srp)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("neuron", PLAIN)
@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1, -2])
def test_channels_may_lie_on_any_axis(backend: str, neuron: str, axis: int) -> None:
    shape = (3, 5, 4, 7)
    x_seq = torch.randn(6, *shape)
    theta = torch.rand(shape[axis]) + 0.1
    expected = reference(neuron, x_seq, dyn.per_channel(theta, 4, axis), True)
    assert torch.equal(run(neuron, x_seq, theta, backend=backend, channel_axis=axis), expected)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("neuron", PLAIN)
@pytest.mark.parametrize("constant", [False, True])
def test_channels_last_stays_channels_last(backend: str, neuron: str, constant: bool) -> None:
    x_seq = arrange(torch.randn(4, 2, 8, 5, 3), "channels_last")
    x_seq = x_seq[:1].expand(x_seq.shape) if constant else x_seq
    spikes = run(neuron, x_seq, 0.5, backend=backend)
    assert spikes.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
    assert run(neuron, x_seq.contiguous(), 0.5, backend=backend).is_contiguous()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("neuron", PLAIN)
@pytest.mark.parametrize("out_dtype", FLOATS)
def test_output_dtype_and_buffer_are_the_callers(backend: str, neuron: str, out_dtype: torch.dtype) -> None:
    x_seq = torch.randn(5, 2, 6, 3)
    theta = torch.rand(6) + 0.2
    expected = reference(neuron, x_seq, dyn.per_channel(theta, 3, 1), False)
    spikes = run(neuron, x_seq, theta, backend=backend, scaled=False, dtype=out_dtype)
    assert spikes.dtype == out_dtype
    assert torch.equal(spikes, expected.to(out_dtype))
    for out in (
        torch.empty(5, 2, 6, 3, dtype=out_dtype),
        torch.empty(2, 5, 3, 6, dtype=out_dtype).permute(1, 0, 3, 2),
    ):
        assert run(neuron, x_seq, theta, backend=backend, scaled=False, out=out) is out
        assert torch.equal(out, expected.to(out_dtype))


@pytest.mark.parametrize("backend", BACKENDS)
def test_shifted_threshold_has_its_own_number_of_output_steps(backend: str) -> None:
    x_seq = torch.randn(1, 4, 30)
    spikes = dyn.scan("shifted_threshold", x_seq, 0.1, timesteps=4, backend=backend)
    assert torch.equal(spikes, reference("shifted_threshold", x_seq, 0.1, True, 4))
    assert spikes.shape == (4, 4, 30)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("neuron", ["if", "signed_if", "shifted_threshold"])
def test_one_step_and_an_empty_batch(backend: str, neuron: str) -> None:
    x_seq = torch.randn(1, 2, 3)
    assert torch.equal(run(neuron, x_seq, 0.5, backend=backend), reference(neuron, x_seq, 0.5, True))
    assert run(neuron, torch.randn(4, 0, 3), 0.5, backend=backend).shape == (4, 0, 3)


@pytest.mark.parametrize("neuron", PLAIN)
def test_float64_and_full_size_thresholds_run_eagerly(neuron: str) -> None:
    x_seq = torch.randn(5, 3, 4, dtype=torch.float64)
    theta = torch.rand(3, 4, dtype=torch.float64) + 0.1
    assert torch.equal(run(neuron, x_seq, theta), reference(neuron, x_seq, theta, True))
    with pytest.raises(ValueError, match="does not run this input"):
        run(neuron, x_seq, theta, backend="numba")


@pytest.mark.skipif(not HAS_NUMBA, reason="needs numba")
@pytest.mark.parametrize("neuron", PLAIN)
def test_large_inputs_use_several_threads_and_several_callers(neuron: str) -> None:
    x_seq = torch.randn(8, 5, 17, 31, 29)
    from snnconv.dynamics.kernels.numba_cpu.launch import MIN_NUMEL_PER_THREAD

    assert x_seq.numel() > 3 * MIN_NUMEL_PER_THREAD
    theta = torch.rand(17) + 0.2
    expected = reference(neuron, x_seq, dyn.per_channel(theta, 4, 1), True)
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            assert torch.equal(run(neuron, x_seq, theta, backend="numba"), expected)
    finally:
        torch.set_num_threads(threads)
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        results = pool.map(lambda _: run(neuron, x_seq, theta, backend="numba"), range(6))
        assert all(torch.equal(spikes, expected) for spikes in results)


@pytest.mark.skipif(not HAS_NUMBA, reason="needs numba")
def test_auto_takes_numba_only_for_large_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []
    for name in ("numba", "eager"):
        record = replace(backends.BACKENDS[name], run=lambda kernel, job, name=name: ran.append(name))
        monkeypatch.setitem(backends.BACKENDS, name, record)
    dyn.scan("if", torch.zeros(2, backends.NUMBA_MIN_NUMEL), 1.0)
    dyn.scan("if", torch.zeros(2, 1), 1.0)
    dyn.scan("if", torch.zeros(2, backends.NUMBA_MIN_NUMEL, dtype=torch.float16), 1.0)
    assert ran == ["numba", "eager", "eager"]


@pytest.mark.skipif(not HAS_NUMBA, reason="needs numba")
def test_auto_stands_for_one_backend_in_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(kernel: object, job: object) -> None:
        raise AssertionError("numba ran")

    monkeypatch.setitem(backends.BACKENDS, "numba", replace(backends.BACKENDS["numba"], run=refuse))
    x_seq = torch.ones(2, 1, backends.NUMBA_MIN_NUMEL)
    with backends.auto_is("eager"):
        spikes = dyn.scan("if", x_seq, 1.0)
        assert not backends.numba_runs("auto", x_seq.numel())
        assert backends.numba_runs("numba", x_seq.numel())
    assert torch.equal(spikes, x_seq)
    with pytest.raises(AssertionError, match="numba ran"):
        dyn.scan("if", x_seq, 1.0)


def test_auto_stands_for_no_unknown_backend() -> None:
    with pytest.raises(ValueError, match="unknown backend 'numbers'"), backends.auto_is("numbers"):
        pass


def test_asking_for_numba_without_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "available", lambda package: False)
    with pytest.raises(ModuleNotFoundError, match="pip install numba"):
        dyn.scan("if", torch.zeros(2, 3), 1.0, backend="numba")


def test_a_constant_input_is_not_copied() -> None:
    from snnconv.dynamics.kernels.layout import dense_steps, flat

    x = torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    x_seq = x.expand(16, 2, 3, 4, 4)
    assert dense_steps(x_seq).data_ptr() == x.data_ptr()
    assert flat(x_seq).numel() == x.numel()


def test_the_result_carries_no_gradient() -> None:
    x_seq = torch.randn(3, 2, 2, requires_grad=True)
    assert not dyn.scan("if", x_seq, torch.ones(2, requires_grad=True)).requires_grad


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: dyn.scan("lif", x, 1.0), "unknown neuron 'lif'"),
        (lambda x: dyn.scan("if", x, 1.0, backend="cuda"), "unknown backend 'cuda'"),
        (lambda x: dyn.scan("srp", x, 1.0), "needs pre_timesteps"),
        (lambda x: dyn.scan("srp", x, 1.0, pre_timesteps=4), "leave steps for the second phase"),
        (lambda x: dyn.scan("if", x, 1.0, pre_timesteps=1), "for neuron 'srp' only"),
        (lambda x: dyn.scan("if", x, 1.0, leak=0.5), "neuron 'if' has no option 'leak'"),
        (lambda x: dyn.scan("if", x[:0], 1.0), "needs a time axis"),
        (lambda x: dyn.scan("if", x.long(), 1.0), "floating point"),
        (lambda x: dyn.scan("if", x, torch.ones(5)), "5 values but axis 1 has 3 channels"),
        (lambda x: dyn.scan("if", x, torch.ones(3), channel_axis=2), "channel axis 2 is outside"),
        (lambda x: dyn.scan("if", x, torch.ones(3, 2)), "does not broadcast"),
        (lambda x: dyn.scan("if", x, 1.0, out=x[:1]), "out has shape"),
        (lambda x: dyn.scan("if", x, 1.0, out=x.clone(), dtype=torch.bfloat16), "pass one of the two"),
        (lambda x: dyn.scan("signed_if", x, 1.0, eps=-1.0), "eps is -1.0"),
        (lambda x: dyn.scan("shifted_threshold", x, 1.0, timesteps=0), "timesteps is 0"),
        (lambda x: dyn.scan("multi_threshold", x, 1.0, thresholds=9), "thresholds is 9: a neuron has 1 to 8"),
        (lambda x: dyn.scan("hierarchical_multi_threshold", x, 1.0, ceiling=0.0), "a ceiling is positive"),
        (
            lambda x: dyn.scan("hierarchical_multi_threshold", x, 1.0, thresholds=8, dtype=torch.int8, scaled=False),
            "do not fit into",
        ),
    ],
)
def test_calls_that_make_no_sense_are_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(torch.randn(4, 2, 3))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_threshold_that_changes_in_place_is_seen(backend: str) -> None:
    x_seq = torch.rand(5, 2, 3, 40)
    theta = torch.rand(3) + 0.2
    first = dyn.scan("signed_if", x_seq, theta, backend=backend)
    theta.data[1] *= 0.5  # not counted as a change by autograd
    second = dyn.scan("signed_if", x_seq, theta, backend=backend)
    assert torch.equal(second, reference("signed_if", x_seq, theta.reshape(3, 1), True))
    assert not torch.equal(first, second)
    # the same tensor along another axis, for other steps, with another dead zone, in another dtype
    other = torch.rand(5, 2, 40, 3)
    last = dyn.scan("signed_if", other, theta, backend=backend, channel_axis=-1)
    assert torch.equal(last, reference("signed_if", other, theta, True))
    wide = dyn.scan("signed_if", x_seq, theta, backend=backend, eps=0.4)
    assert torch.equal(
        wide,
        dyn.signed_if_multistep(x_seq, theta.reshape(3, 1), eps=0.4)[0] * theta.reshape(3, 1),
    )
    half = x_seq.bfloat16()
    assert torch.equal(
        dyn.scan("signed_if", half, theta, backend=backend), reference("signed_if", half, theta.reshape(3, 1), True)
    )


_RUN = """
import torch, snnconv
from torch import nn
model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.SiLU(), nn.Linear(8, 2))
x = torch.rand(16, 4)
for steps in (3, 5):
    method = snnconv.methods.ShiftedThreshold(timesteps=steps)
    snn = snnconv.convert(model, method, x, cover="synapses", progress=False)
    snn.backend = "numba"
    snn(x)
    snn.run(x, synapses="steps")
"""


@pytest.mark.slow
@pytest.mark.skipif(not HAS_NUMBA, reason="needs numba")
def test_a_second_process_compiles_nothing_anew(tmp_path) -> None:
    def run() -> set[str]:
        done = subprocess.run(
            [sys.executable, "-c", _RUN],
            env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return {str(path) for path in tmp_path.rglob("*.nbc")}

    first = run()
    assert len(first) > 5, "every kernel is on disk"
    assert run() == first
