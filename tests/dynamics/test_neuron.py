"""A neuron's record is all there is to know of it: what runs, reads or refuses a neuron does so by the record."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import snnconv
from snnconv import dynamics, methods
from snnconv.dynamics import neuron
from snnconv.dynamics.integrate_fire import IF, IFState
from snnconv.dynamics.kernels import backends
from snnconv.neurons.frameworks import FRAMEWORKS, neuron_class

X = torch.randn(12, 3, 10, 10, generator=torch.Generator().manual_seed(1))
METHODS = [methods.IF(6), methods.SignedIF(6), methods.SRP(6, pre_timesteps=3), methods.ShiftedThreshold(4)]


class Turning:
    """A function with one extremum that takes values of both signs."""

    extrema, signed, linear = (-0.5,), True, False

    def __call__(self, z: Tensor, axis: int = 1) -> Tensor:
        return z * (z + 1)


OPTIONS: dict[str, dict[str, Any]] = {
    "srp": {"pre_timesteps": 2},
    "shifted_threshold": {"timesteps": 4},
    "ladder": {"timesteps": 4, "function": Turning(), "signed": True},
    "function_if": {"function": Turning(), "signed": True},
}


@pytest.fixture(autouse=True)
def _only_here() -> Iterator[None]:
    tables = (neuron.NEURONS, methods.METHODS)
    before = [dict(table) for table in tables]
    yield
    for table, content in zip(tables, before, strict=True):
        table.clear()
        table.update(content)  # type: ignore[arg-type]


def twin(name: str) -> neuron.Neuron:
    """The same record under another name, which no kernel is registered for."""
    return neuron.register(replace(neuron.get(name), name=f"{name}_twin"), replace=True)


def method_of_twin(method: methods.Method) -> methods.Method:
    """The method with the twin of its neuron."""
    fields = {"name": f"{method.name}_twin", "neuron": twin(method.neuron).name}
    cls = methods.register(dataclass(frozen=True)(type(type(method).__name__, (type(method),), fields)))
    return methods.Method.from_dict({**method.to_dict(), "name": cls.name})


def network() -> nn.Module:
    torch.manual_seed(0)
    first = [nn.Conv2d(3, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 6, 3), nn.ReLU()]
    return nn.Sequential(*first, nn.Flatten(), nn.Linear(24, 4)).eval()


def converted(method: methods.Method, framework: str = "spikingjelly") -> snnconv.SpikingNetwork:
    if framework == "snntorch":
        pytest.importorskip("snntorch")
    return snnconv.convert(network(), method, X, framework=framework, progress=False)


# --- the equation stands in for every kernel ---------------------------------------------------------------


@pytest.mark.parametrize("name", list(neuron.NEURONS))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("per_channel", [True, False])
def test_without_a_kernel_the_equation_gives_the_kernels_spikes(
    name: str, dtype: torch.dtype, scaled: bool, per_channel: bool
) -> None:
    x_seq = (torch.randn(5, 2, 7, 9) * 4).round().div(8).to(dtype)  # coarse: potentials meet their thresholds
    theta: float | Tensor = (torch.rand(7) * 4).ceil() / 4 if per_channel else 0.25
    same = twin(name).name
    how = {"scaled": scaled, **OPTIONS.get(name, {})}
    assert torch.equal(dynamics.scan(same, x_seq, theta, **how), dynamics.scan(name, x_seq, theta, **how))
    assert torch.equal(
        dynamics.scan(same, x_seq, theta, dtype=torch.float32, **how),
        dynamics.scan(name, x_seq, theta, dtype=torch.float32, **how),
    )
    record = neuron.get(name)
    if record.resumable:
        states: list[Any] = [None, None]
        for part in x_seq.split(2):
            a, states[0] = dynamics.resume(same, part, theta, states[0], **how)
            b, states[1] = dynamics.resume(name, part, theta, states[1], **how)
            assert torch.equal(a, b)
        assert all(a == b if isinstance(a, int) else torch.equal(a, b) for a, b in zip(*states, strict=True))
    if record.pre_phase is not None:
        (a, first), (b, second) = (dynamics.two_phases(n, x_seq, theta, scaled=scaled) for n in (same, name))
        assert torch.equal(a, b)
        assert torch.equal(first, second)
        a, b = (dynamics.two_phases(n, x_seq, theta, first, scaled=scaled)[0] for n in (same, name))
        assert torch.equal(a, b)
    if record.coding == "sum":
        a, b = (dynamics.total(n, x_seq, theta, **how) for n in (same, name))
        assert torch.equal(a, b)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_a_network_of_the_record_alone_is_the_same_network(method: methods.Method, framework: str) -> None:
    plain, own = converted(method, framework), converted(method_of_twin(method), framework)
    assert {type(own.neurons[name]).__name__.removesuffix("Node") for name in own.neurons} == {
        "".join(word.capitalize() for word in f"{method.neuron}_twin".split("_"))
    }
    x = X[:3]
    expected = plain(x)
    assert torch.equal(own(x), expected)
    assert all(torch.equal(a, b) for a, b in zip(own.rates(x).values(), plain.rates(x).values(), strict=True))
    streams = zip(own.stream(x), plain.stream(x), strict=True)
    assert all(torch.equal(a, b) for (_, a), (_, b) in streams)
    if method.coding == "rate":
        assert torch.equal(own.early_exit(x, margin=0.1).output, plain.early_exit(x, margin=0.1).output)
    assert bool(snnconv.audit(own, x))
    own.memory_budget = plain.memory_budget = 1
    assert torch.equal(own(x), plain(x))
    for site in own.neurons:  # watched: the modules fire by themselves
        own.neurons[site].register_forward_hook(lambda *_: None)
    torch.testing.assert_close(own(x), expected)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("name", list(neuron.NEURONS))
def test_a_module_made_from_the_record_behaves_as_the_written_one(name: str, framework: str) -> None:
    if framework == "snntorch":
        pytest.importorskip("snntorch")
    options, theta = OPTIONS.get(name, {}), torch.rand(4) + 0.2
    how = {"step_mode": "m"} if framework == "spikingjelly" else {"init_hidden": True}
    written, made = (neuron_class(n, framework)(theta, **options, **how) for n in (name, twin(name).name))
    x_seq = torch.randn(6, 2, 4, 3)
    for _ in range(2):  # and goes on alike
        assert torch.equal(written.run(x_seq), made.run(x_seq))
        assert list(written.get_states()) == list(made.get_states())
    assert written.latency == made.latency
    assert repr(written).partition("(")[2] == repr(made).partition("(")[2]


# --- following -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(neuron.NEURONS))
def test_following_a_neuron_gives_its_spikes_and_ends_where_it_ends(name: str) -> None:
    record, options = neuron.get(name), neuron.get(name).settings(OPTIONS.get(name, {}))
    x_seq, theta = torch.randn(5, 2, 3), torch.tensor([0.3, 0.5, 0.7])
    spikes, potentials = neuron.follow(record, x_seq, theta, **options)
    expected, last = record.sequence(x_seq, theta, **options)
    assert torch.equal(spikes, expected)
    assert potentials.shape == spikes.shape
    assert torch.equal(potentials[-1], getattr(last, record.membrane))


# --- spikes of several sizes -------------------------------------------------------------------------------


def two_sizes(x: Tensor, state: Any, v_threshold: Any, *, surrogate: Any = None, detach_reset: bool = False) -> Any:
    """A spike of theta, or of half of it where that is all there is."""
    v = state.v + x.to(state.v.dtype)
    spike = (v >= v_threshold).to(v.dtype) + 0.5 * ((v < v_threshold) & (v >= v_threshold * 0.5)).to(v.dtype)
    return spike.to(x.dtype), IFState(v - spike * v_threshold)


def graded(sizes: tuple[float, ...] | None) -> snnconv.SpikingNetwork:
    fields = {"amplitudes": None if sizes is None else lambda: sizes}
    plain = replace(IF, name="two_sizes", step=two_sizes, multistep=None, options=(), nir="", **fields)
    neuron.register(plain, replace=True)
    cls = type("TwoSizes", (methods.IF,), {"name": "two_sizes", "neuron": "two_sizes"})
    return converted(methods.register(dataclass(frozen=True)(cls), replace=True)(4))


def test_the_audit_knows_the_sizes_that_the_record_states() -> None:
    assert bool(snnconv.audit(graded((1.0, 0.5)), X[:2]))
    found = snnconv.audit(graded(None), X[:2])
    assert not found
    assert "neither 0 nor a spike" in str(found)


def test_8_bit_layers_refuse_spikes_of_several_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snnconv.runtime.precision.supported", lambda: "")
    snn = graded((1.0, 0.5))
    with pytest.raises(snnconv.ConversionError, match="spikes of one size; those of 'two_sizes' neurons have several"):
        snn.precision = "int8"


# --- tables --------------------------------------------------------------------------------------------------


def test_every_known_neuron_has_a_kernel_on_every_compiled_backend() -> None:
    for name in neuron.NEURONS:
        assert [b for b in ("eager", "numba", "triton") if backends.has_kernel(name, backends.BACKENDS[b], "scan")] == [
            "eager", "numba", "triton",
        ]  # fmt: skip


def test_a_neuron_of_one_phase_and_of_the_other_coding_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="neuron 'if' has one phase; 'srp'"):
        dynamics.two_phases("if", X, 1.0)
    with pytest.raises(ValueError, match="neuron 'if' is rate coded; 'shifted_threshold'"):
        dynamics.total("if", X, 1.0)
