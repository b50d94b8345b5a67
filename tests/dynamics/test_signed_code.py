"""Values of both signs and functions at the neuron: their spikes say what the quantiser says."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from snnconv import dynamics, methods
from snnconv.activations.quant import quantised
from snnconv.dynamics import ladder_thresholds, neuron
from snnconv.graph.activation import ReLU


class Plain:
    """A function at the neuron, as a user states one."""

    linear = False

    def __init__(self, f: Callable[[Tensor], Tensor], extrema: tuple[float, ...], signed: bool) -> None:
        self.f, self.extrema, self.signed = f, extrema, signed

    def __call__(self, z: Tensor, axis: int = 1) -> Tensor:
        return self.f(z)


class PReLU:
    """A slope below zero for each channel."""

    extrema, signed, linear = (0.0,), True, False

    def __init__(self, slope: Tensor) -> None:
        self.slope = slope

    def __call__(self, z: Tensor, axis: int = 1) -> Tensor:
        shape = [1] * z.dim()
        shape[axis] = -1
        return torch.where(z < 0, self.slope.to(z).reshape(shape) * z, z)


FUNCTIONS = {
    "silu": Plain(F.silu, (-1.2784645427610738,), True),
    "gelu": Plain(F.gelu, (-0.7517915246935645,), True),
    "gelu tanh": Plain(lambda z: F.gelu(z, approximate="tanh"), (-0.7524614220710162,), True),
    "hardswish": Plain(F.hardswish, (-1.5,), True),
    "hardsigmoid": Plain(F.hardsigmoid, (), False),
    "sigmoid": Plain(torch.sigmoid, (), False),
    "tanh": Plain(torch.tanh, (), True),
    "elu": Plain(F.elu, (), True),
    "selu": Plain(F.selu, (), True),
    "mish": Plain(F.mish, (-1.1924312145154024,), True),
    "softplus": Plain(F.softplus, (), False),
    "leaky": Plain(lambda z: F.leaky_relu(z, 0.1), (), True),
    "clamp": Plain(lambda z: z.clamp(-0.7, 1.3), (), True),
    "square": Plain(torch.square, (0.0,), False),
    "falling": Plain(lambda z: -z, (), True),
    "wave": Plain(lambda z: z.clamp(-4, 4).sin(), (-math.pi / 2, math.pi / 2), True),
}


def steps(count: int, channels: int, bits: int) -> Tensor:
    """Least significant bits, one a channel, so that values of a few units fill the code."""
    return (torch.rand(channels, generator=torch.Generator().manual_seed(count)) + 0.2) * 4 / 2**bits


def code(z: Tensor, q: Tensor, bits: int, signed: bool) -> Tensor:
    levels = 2**bits - 1
    return torch.floor(z.double() / q.double() + 0.5).clamp(-levels if signed else 0, levels)


def both(function: object, z: Tensor, q: float | Tensor, bits: int, **how: object) -> tuple[Tensor, Tensor]:
    """Spikes of the ladder and of the function evaluated."""
    how |= {"timesteps": bits, "function": function, "signed": function.signed}  # type: ignore[attr-defined]
    a, b = (dynamics.scan(name, z.unsqueeze(0), q, **how) for name in ("ladder", "shifted_threshold"))
    return a, b


# --- values of both signs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [1, 2, 3, 5, 8])
def test_signed_bits_sum_to_the_rounded_value(bits: int) -> None:
    q = torch.tensor([0.25, 0.5, 1.0])  # powers of two: exact
    z = torch.linspace(-2.5, 2.5, 4001)[:, None] * q * 2 ** (bits - 1)
    spikes = dynamics.scan("shifted_threshold", z.unsqueeze(0), q, timesteps=bits, signed=True)
    assert torch.equal(spikes.sum(0).double(), code(z, q, bits, True) * q)
    assert set(
        dynamics.scan("shifted_threshold", z[None], q, timesteps=bits, signed=True, scaled=False).unique().tolist()
    ) == {-1.0, 0.0, 1.0}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_above_zero_signed_bits_are_the_unsigned_ones(dtype: torch.dtype) -> None:
    x_seq = torch.rand(3, 4, 6, 50).to(dtype)
    q = torch.rand(6) * 0.3 + 0.05
    plain = dynamics.scan("shifted_threshold", x_seq, q, timesteps=4)
    assert torch.equal(dynamics.scan("shifted_threshold", x_seq, q, timesteps=4, signed=True), plain)


def test_signed_if_of_both_signs_rounds_the_mean() -> None:
    z = torch.linspace(-1.4, 1.4, 401)[None]
    spikes = dynamics.scan("signed_if", z.expand(16, 1, 401), 1.0, signed=True, scaled=False)
    inside = z.abs() < 1
    assert (spikes.mean(0) - z)[inside].abs().max() < 0.5 / 16 + 1e-3 + 1e-6
    assert torch.equal(spikes.mean(0)[~inside], z[~inside].sign())


# --- functions -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("name", FUNCTIONS)
def test_ladder_and_function_give_equal_spikes(name: str, bits: int) -> None:
    _equal_at_random(FUNCTIONS[name], bits, 10_000, torch.float32)


@pytest.mark.slow
@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("name", FUNCTIONS)
def test_ladder_and_function_give_equal_spikes_a_million_times(name: str, bits: int) -> None:
    _equal_at_random(FUNCTIONS[name], bits, 1_000_000, torch.float32)
    _equal_at_random(FUNCTIONS[name], bits, 1_000_000, torch.float64)


def _equal_at_random(function: object, bits: int, count: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(bits)
    z = torch.randn(count // 8, 8, generator=generator, dtype=dtype) * 3
    q = steps(count, 8, bits).to(dtype)
    a, b = both(function, z, q, bits)
    assert torch.equal(a, b)
    expected = code(function(z.double()), q, bits, function.signed) * q.double()  # type: ignore[operator, attr-defined]
    places = function(z.double()) / q.double() + 0.5  # type: ignore[operator]
    border = (places - places.round()).abs() < 1e-5 * 2**bits
    assert ((a.double().sum(0) - expected).abs() < 1e-6 * 2**bits)[~border].all()


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("name", FUNCTIONS)
def test_ladder_and_function_are_equal_at_every_border_and_beside_it(name: str, bits: int) -> None:
    function, q = FUNCTIONS[name], steps(5, 3, bits)
    z = borders(function, q, bits)
    a, b = both(function, z, q, bits)
    assert torch.equal(a, b)


def borders(function: Plain, q: Tensor, bits: int) -> Tensor:
    """Every threshold of a ladder and its two neighbours, ``[n, C]``."""
    found = ladder_thresholds(function, q.unsqueeze(0), bits, function.signed, q.dtype, 2)
    at = (found.values * found.direction.unsqueeze(-1))[0].flatten(1).nan_to_num(0.0, 0.0, 0.0)
    ends = torch.full_like(at, torch.inf)
    return torch.cat([at, torch.nextafter(at, ends), torch.nextafter(at, -ends)], 1).T.contiguous()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_in_float64_they_differ_at_most_where_f_itself_is_rounded(name: str) -> None:
    function, q = FUNCTIONS[name], steps(5, 3, 6).double()
    z = borders(function, q, 6)
    a, b = both(function, z, q, 6)
    differ = (a != b).any(0)
    places = function(z) / q + 0.5
    assert ((places - places.round()).abs()[differ] < 1e-12).all()


def test_a_ladder_of_one_extremum_has_as_many_thresholds_as_stated() -> None:
    for bits in (1, 4, 8):
        found = ladder_thresholds(FUNCTIONS["silu"], 0.1, bits, True, torch.float32, 2)
        assert found.values.numel() == 2 * (2 ** (bits + 1) - 2)


def test_parameters_of_a_function_run_along_the_channels() -> None:
    function = PReLU(torch.tensor([0.25, -0.5, 0.0, 2.0]))
    for shape, axis in (((40, 4, 3, 3), 1), ((40, 3, 4), -1), ((4, 300), 0)):
        z = torch.randn(*shape) * 2
        for q in (0.2, torch.rand(4) * 0.2 + 0.05):
            a, b = both(function, z, q, 4, channel_axis=axis)
            assert torch.equal(a, b)
            fitted = q if isinstance(q, float) else dynamics.per_channel(q, z.dim(), axis)
            y = function(z.double(), axis % z.dim())
            assert ((a.sum(0) - y.clamp(-15 * fitted, 15 * fitted)).abs() <= torch.as_tensor(fitted) * 0.5001).all()


def test_a_user_states_the_extrema_or_is_refused_for_the_ladder() -> None:
    wrong = Plain(F.silu, (), True)
    with pytest.raises(ValueError, match=r"both rises and falls .* take realisation='function'"):
        dynamics.scan("ladder", torch.zeros(1, 2, 3), 0.1, timesteps=3, function=wrong, signed=True)
    near = Plain(F.silu, (-1.278,), True)  # not where it turns
    with pytest.raises(ValueError, match="states no extremum"):
        dynamics.scan("ladder", torch.zeros(1, 2, 3), 0.1, timesteps=3, function=near, signed=True)
    spikes = dynamics.scan("shifted_threshold", torch.ones(1, 2, 3), 0.1, timesteps=3, function=wrong, signed=True)
    assert spikes.sum() > 0
    with pytest.raises(ValueError, match="function must be an activation"):
        dynamics.scan("ladder", torch.zeros(1, 2, 3), 0.1, timesteps=3, function=F.silu)


def test_too_many_thresholds_are_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snnconv.limits.LADDER", 1000)
    with pytest.raises(ValueError, match=r"has 1020 thresholds, more than snnconv\.limits\.LADDER = 1000"):
        ladder_thresholds(Plain(F.silu, (-1.2784645427610738,), True), 0.3, 8, True, torch.float32, 2)


def test_a_ladder_found_again_is_the_one_that_was_kept() -> None:
    function, q = Plain(torch.tanh, (), True), torch.rand(3) + 0.1
    first = ladder_thresholds(function, q, 4, True, torch.float32, 2)
    assert ladder_thresholds(function, q.clone(), 4, True, torch.float32, 2) is first
    q[0] += 0.1
    assert ladder_thresholds(function, q, 4, True, torch.float32, 2) is not first


# --- one step after the other --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ladder", "shifted_threshold"])
def test_a_pipeline_sends_the_window_before_and_nothing_before_that(name: str) -> None:
    record = neuron.get(name)
    how = record.settings({"timesteps": 3, "function": FUNCTIONS["sigmoid"], "signed": False})  # f(0) is not 0
    x_seq, q = torch.randn(3, 2, 5), 0.14
    expected, _ = record.sequence(x_seq, q, **how)
    state, found = None, []
    for x in [*x_seq, *torch.zeros(3, 2, 5)]:
        spike, state = record.step(x, state, q, surrogate=None, detach_reset=False, **how)
        found.append(spike)
    assert not torch.stack(found[:3]).any()
    assert torch.equal(torch.stack(found[3:]), expected)


@pytest.mark.parametrize("name", ["silu", "sigmoid", "tanh", "square"])
def test_spikes_on_the_sum_follow_the_function_of_the_mean(name: str) -> None:
    function, z = FUNCTIONS[name], torch.linspace(-2, 2, 401)[None]
    spikes = dynamics.scan("function_if", z.expand(32, 1, 401), 1.0, function=function, signed=function.signed)
    wanted = function(z.double()).clamp(-1, 1)
    assert (spikes.mean(0) - wanted).abs().max() < 0.5 / 32 + 1e-3
    assert function.signed or spikes.cumsum(0).min() >= 0


def test_where_nothing_is_taken_back_no_spike_is_negative() -> None:
    x_seq = torch.randn(16, 2, 50) * 2
    function = FUNCTIONS["sigmoid"]
    assert dynamics.scan("function_if", x_seq, 0.3, function=function).min() < 0
    assert dynamics.scan("function_if", x_seq, 0.3, function=function, takes_back=False).min() == 0


# --- who stands where ----------------------------------------------------------------------------------------


class Identity(Plain):
    linear, name, unit = True, "identity", False

    def __init__(self) -> None:
        super().__init__(lambda z: z, (), True)


def test_methods_put_the_neuron_there_that_has_the_function() -> None:
    silu, sigmoid = FUNCTIONS["silu"], FUNCTIONS["sigmoid"]
    silu.name, sigmoid.name = "silu", "sigmoid"  # type: ignore[attr-defined]
    sums = methods.ShiftedThreshold(4)
    assert [sums.neuron_at(f)[0].name for f in (ReLU(), Identity(), silu)] == [
        "shifted_threshold", "shifted_threshold", "ladder",
    ]  # fmt: skip
    assert sums.neuron_at(Identity())[1] == {"timesteps": 4, "signed": True}
    evaluated = methods.ShiftedThreshold(4, realisation="function").neuron_at(silu)
    assert evaluated[0].name == "shifted_threshold"
    assert evaluated[1] == {"timesteps": 4, "function": silu, "signed": True}
    rates = methods.SignedIF(8)
    assert [rates.neuron_at(f)[0].name for f in (ReLU(), Identity(), silu)] == [
        "signed_if", "signed_if", "function_if",
    ]  # fmt: skip
    assert methods.IF(8).neuron_at(sigmoid)[1]["takes_back"] is False


@pytest.mark.parametrize(
    ("method", "function", "message"),
    [
        (methods.IF(8), Identity(), "methods.IF has no neuron for identity: neuron 'if' knows no values below 0; "),
        (methods.IF(8), FUNCTIONS["silu"], "neuron 'if' knows no values below 0, and the function has some"),
        (methods.SRP(8, 4), FUNCTIONS["sigmoid"], "neuron 'srp' computes clips from 0 alone"),
        (methods.SignedIF(8, realisation="ladder"), FUNCTIONS["silu"], "has no 'ladder' of a function; it has"),
    ],
)  # fmt: skip
def test_a_method_that_has_no_neuron_for_a_function_says_why(
    method: methods.Method, function: Plain, message: str
) -> None:
    function.name = getattr(function, "name", "f")  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=message):
        method.neuron_at(function)  # type: ignore[arg-type]


def test_the_work_of_a_neuron_is_counted() -> None:
    silu = FUNCTIONS["silu"]
    extra = {
        name: neuron.get(name).extra(4, **neuron.get(name).settings(given))
        for name, given in {
            "if": {},
            "ladder": {"timesteps": 4, "function": silu, "signed": True},
            "shifted_threshold": {"timesteps": 4, "function": silu, "signed": True},
            "function_if": {"function": silu, "signed": True},
        }.items()
    }
    assert extra["if"] == (0, 0)
    assert extra["ladder"] == (4 + 1 + 1, 0)  # one a bit, the sign, the side of the extremum
    assert extra["shifted_threshold"] == (0, 1)
    assert extra["function_if"] == (0, 4)


# --- the quantiser of a site ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["silu", "sigmoid", "tanh"])
def test_the_quantiser_of_a_site_is_the_sum_of_its_bits(name: str) -> None:
    function = FUNCTIONS[name]
    function.unit = False  # type: ignore[attr-defined]
    z, theta = torch.randn(200, 6, dtype=torch.float64) * 2, torch.rand(6, dtype=torch.float64) + 0.5
    said = dynamics.total("ladder", z[None], theta / 15, timesteps=4, function=function, signed=function.signed)
    torch.testing.assert_close(quantised(function, z, theta, 15), said, rtol=1e-12, atol=1e-12)  # type: ignore[arg-type]


def test_the_gradient_passes_through_the_rounding_and_through_f() -> None:
    function = FUNCTIONS["silu"]
    function.unit = False  # type: ignore[attr-defined]
    z = (torch.randn(5, 3, dtype=torch.float64) / 2).requires_grad_()
    quantised(function, z, torch.tensor(10.0), 15).sum().backward()  # type: ignore[arg-type]
    wanted = torch.autograd.grad(F.silu(z).sum(), z)[0]
    torch.testing.assert_close(z.grad, wanted)
    low = torch.full((4, 1), -9.0).requires_grad_()
    theta = torch.tensor([2.0]).requires_grad_()
    out = quantised(Identity(), low, theta, 3)  # type: ignore[arg-type]
    out.sum().backward()
    assert torch.equal(out, torch.full((4, 1), -2.0))
    assert float(theta.grad) == -4.0
    assert not low.grad.any()
