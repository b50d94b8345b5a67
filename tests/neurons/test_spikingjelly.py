"""The nodes run the equations of `snnconv.dynamics` and behave as SpikingJelly's own nodes do."""

from __future__ import annotations

import copy
import io
import subprocess
import sys
import warnings

import pytest
import torch
from spikingjelly.activation_based import ann2snn, base, functional, layer, monitor, neuron, surrogate
from spikingjelly.activation_based.ann2snn.recipes import RateCodingRecipe
from torch import Tensor, nn

import snnconv
from snnconv import dynamics as dyn
from snnconv import methods
from snnconv.neurons import (
    ChannelIFNode,
    ShiftedThresholdIFNode,
    SignedIFNode,
    SRPIFNode,
    register,
    registration,
)

TIMESTEPS = 6
PRE = 2
BITS = 3


def make(kind: str, threshold: float | Tensor = 0.7, **kwargs) -> base.MemoryModule:
    if kind == "channel_if":
        return ChannelIFNode(threshold, **kwargs)
    if kind == "signed_if":
        return SignedIFNode(threshold, **kwargs)
    if kind == "srp":
        return SRPIFNode(threshold, pre_timesteps=PRE, **kwargs)
    return ShiftedThresholdIFNode(threshold, timesteps=BITS, **kwargs)


def reference(kind: str, x_seq: Tensor, theta: float | Tensor) -> Tensor:
    if kind == "channel_if":
        return dyn.if_multistep(x_seq, theta)[0]
    if kind == "signed_if":
        return dyn.signed_if_multistep(x_seq, theta)[0]
    if kind == "srp":
        return dyn.srp_multistep(x_seq, theta, PRE)[0]
    return dyn.shifted_threshold_multistep(x_seq, theta, BITS)[0]


KINDS = ["channel_if", "signed_if", "srp", "shifted_threshold"]
every_node = pytest.mark.parametrize("kind", KINDS)
every_stepwise_node = pytest.mark.parametrize("kind", KINDS[:3])
THETA = torch.tensor([0.4, 0.8, 1.2])


# --- the equation ------------------------------------------------------------------------------------------


@every_node
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("threshold", [0.7, THETA], ids=["scalar", "per channel"])
def test_multistep_output_is_the_equation(kind: str, dtype: torch.dtype, threshold: float | Tensor) -> None:
    x_seq = torch.randn(TIMESTEPS, 2, 3, 4, 4).to(dtype)
    node = make(kind, threshold, step_mode="m", scaled=False)
    spikes = node(x_seq)
    assert spikes.dtype == dtype
    assert node.v.dtype == torch.float32
    assert torch.equal(spikes, reference(kind, x_seq, dyn.per_channel(threshold, 4, 1)))


@every_stepwise_node
def test_single_step_mode_equals_multistep_mode(kind: str) -> None:
    x_seq = torch.randn(TIMESTEPS, 2, 3, 4)
    node = make(kind, THETA, step_mode="m")
    whole = node(x_seq)
    stepper = make(kind, THETA)
    assert torch.equal(torch.stack([stepper(x) for x in x_seq]), whole)
    for (name, a), (_, b) in zip(node.named_memories(), stepper.named_memories(), strict=True):
        assert torch.equal(a, b) if isinstance(a, Tensor) else a == b, name


def test_shifted_threshold_single_step_mode_lags_by_its_latency() -> None:
    x_seq = torch.randn(BITS, 2, 3, 4) * 2
    node = ShiftedThresholdIFNode(THETA, timesteps=BITS)
    assert node.latency == BITS
    outputs = torch.stack([node(x) for x in [*x_seq, *torch.zeros_like(x_seq)]])
    assert not outputs[: node.latency].any()
    functional.set_step_mode(node, "m")
    assert node.latency == 0
    assert torch.equal(outputs[BITS:], node(x_seq))


def test_latency_is_the_length_of_phase_one() -> None:
    assert ChannelIFNode().latency == SignedIFNode().latency == 0
    node = SRPIFNode(pre_timesteps=4)
    assert node.latency == 4
    assert "latency=4" in repr(node)
    assert "latency=3" in repr(ShiftedThresholdIFNode(timesteps=3))


@pytest.mark.parametrize("axis", [1, 2, -1])
@every_node
def test_channels_may_lie_on_any_axis(kind: str, axis: int) -> None:
    x_seq = torch.randn(TIMESTEPS, 2, 3, 3, 3)
    node = make(kind, THETA, step_mode="m", channel_axis=axis, scaled=False)
    assert torch.equal(node(x_seq), reference(kind, x_seq, dyn.per_channel(THETA, 4, axis)))


@every_stepwise_node
@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_scaled_output_is_theta_times_the_spikes(kind: str, step_mode: str) -> None:
    x_seq = torch.randn(TIMESTEPS, 2, 3)
    unit, scaled = make(kind, THETA, step_mode=step_mode), make(kind, THETA, step_mode=step_mode, scaled=True)
    for x in [x_seq] if step_mode == "m" else x_seq:
        assert torch.equal(scaled(x), unit(x) * THETA)


@pytest.mark.parametrize("threshold", [0.25, torch.tensor([0.25, 0.5])])
def test_shifted_threshold_emits_the_quantised_activation(threshold: float | Tensor) -> None:
    z = torch.arange(-8, 24).reshape(1, 16, 2) / 8
    node = ShiftedThresholdIFNode(threshold, timesteps=BITS, step_mode="m")
    levels = (z[0] / threshold + 0.5).floor().clamp(0, 2**BITS - 1)
    assert torch.equal(node(z).sum(0), levels * threshold)


# --- SpikingJelly's conventions ----------------------------------------------------------------------------


@every_node
def test_reset_starts_afresh(kind: str) -> None:
    node = make(kind, step_mode="m")
    x_seq = torch.randn(TIMESTEPS, 2, 3)
    first = node(x_seq)
    functional.reset_net(node)
    assert torch.equal(node(x_seq), first)
    node.reset()
    assert node.v is None
    assert node(torch.randn(TIMESTEPS, 5, 3)).shape[1:] == (5, 3)


@every_node
def test_another_batch_size_starts_afresh(kind: str) -> None:
    node, fresh = make(kind), make(kind)
    node(torch.randn(4, 3))
    x = torch.randn(2, 3)
    assert torch.equal(node(x), fresh(x))
    assert torch.equal(node.v, fresh.v)


@every_node
def test_the_threshold_may_be_changed_before_the_first_step(kind: str) -> None:
    node = make(kind, 1.0, step_mode="m")
    node.v_threshold = 0.5
    x_seq = torch.randn(TIMESTEPS, 2, 3)
    assert torch.equal(node(x_seq), make(kind, 0.5, step_mode="m")(x_seq))


@every_node
def test_v_seq_holds_the_potential_after_every_step(kind: str) -> None:
    x_seq = torch.randn(BITS, 2, 3)
    node = make(kind, step_mode="m", store_v_seq=True)
    plain = make(kind, step_mode="m")
    assert torch.equal(node(x_seq), plain(x_seq))
    assert node.v_seq.shape == x_seq.shape
    assert torch.equal(node.v_seq[-1], plain.v)
    if kind != "shifted_threshold":
        stepper = make(kind, store_v_seq=True)
        for x in x_seq:
            stepper(x)
        assert torch.equal(stepper.v_seq, node.v_seq)
    node.reset()
    assert node.v_seq is None


@every_node
def test_monitors_record_spikes_and_potentials(kind: str) -> None:
    net = nn.Sequential(layer.Linear(4, 3), make(kind))
    with (
        monitor.OutputMonitor(net, instance=base.MemoryModule) as spikes,
        monitor.AttributeMonitor("v", False, net, instance=type(net[1])) as potentials,
        torch.no_grad(),
    ):
        outputs = [net(torch.randn(2, 4)) for _ in range(3)]
    assert all(torch.equal(a, b) for a, b in zip(spikes["1"], outputs, strict=True))
    assert [v.shape for v in potentials["1"]] == [(2, 3)] * 3


@every_node
@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_functional_forward_leaves_the_node_alone(kind: str, step_mode: str) -> None:
    node = make(kind, THETA, step_mode=step_mode)
    x = torch.randn(TIMESTEPS, 2, 3) if step_mode == "m" else torch.randn(2, 3)
    forward = base.to_functional_forward(node)
    states = tuple(base.extract_memories(node))
    (first,), states = forward((x,), states)
    (second,), _ = forward((x,), states)
    assert node.v is None
    assert torch.equal(node(x), first)
    assert torch.equal(node(x), second)


@every_node
def test_set_step_mode_reaches_the_nodes(kind: str) -> None:
    net = nn.Sequential(layer.Conv2d(1, 3, 3), make(kind, THETA), layer.Flatten())
    functional.set_step_mode(net, "m")
    assert net(torch.randn(TIMESTEPS, 2, 1, 5, 5)).shape[1:] == (2, 27)


@every_node
@pytest.mark.parametrize("threshold", [0.7, THETA], ids=["scalar", "per channel"])
def test_copies_and_saved_nodes_run_the_same(kind: str, threshold: float | Tensor) -> None:
    node = make(kind, threshold, step_mode="m")
    x_seq = torch.randn(TIMESTEPS, 2, 3)
    node(x_seq)
    file = io.BytesIO()
    torch.save(node, file)
    file.seek(0)
    copies = [copy.deepcopy(node), torch.load(file, weights_only=False)]
    expected = node(x_seq)
    for other in copies:
        assert torch.equal(other(x_seq), expected)
        assert repr(other) == repr(node)


@every_node
def test_per_channel_thresholds_are_in_the_state_dict(kind: str) -> None:
    assert not make(kind, 0.7).state_dict()
    node = make(kind, torch.ones(3))
    node.load_state_dict({"v_threshold": THETA})
    x_seq = torch.randn(TIMESTEPS, 2, 3)
    functional.set_step_mode(node, "m")
    assert torch.equal(node(x_seq), make(kind, THETA, step_mode="m")(x_seq))


@every_node
def test_thresholds_and_state_move_with_the_module(kind: str) -> None:
    node = make(kind, THETA)
    node(torch.randn(2, 3))
    node.to(torch.float64)
    assert node.v_threshold.dtype == node.v.dtype == torch.float64
    assert node(torch.randn(2, 3, dtype=torch.float64)).dtype == torch.float64
    node.to("meta")
    assert node.v_threshold.is_meta
    assert node(torch.randn(2, 3, device="meta", dtype=torch.float64)).is_meta


@every_node
def test_detach_cuts_the_history(kind: str) -> None:
    node = make(kind)
    node(torch.randn(2, 3, requires_grad=True))
    functional.detach_net(node)
    assert not node.v.requires_grad


# --- gradients ---------------------------------------------------------------------------------------------


@every_node
@pytest.mark.parametrize("detach_reset", [False, True])
@pytest.mark.parametrize("gradient", [surrogate.Sigmoid(), surrogate.ATan()], ids=["sigmoid", "atan"])
def test_surrogate_gradients_reach_input_and_threshold(kind: str, detach_reset: bool, gradient) -> None:
    theta = nn.Parameter(THETA.clone())
    x_seq = torch.randn(TIMESTEPS, 4, 3, requires_grad=True)
    node = make(kind, theta, step_mode="m", detach_reset=detach_reset, surrogate_function=gradient, scaled=True)
    assert [name for name, _ in node.named_parameters()] == ["v_threshold"]
    output = node(x_seq)
    with torch.no_grad():
        assert torch.equal(output, make(kind, THETA, step_mode="m", scaled=True)(x_seq))
    output.sum().backward()
    for gradient_of in (x_seq.grad, theta.grad):
        assert gradient_of is not None
        assert torch.isfinite(gradient_of).all()
        assert gradient_of.abs().sum() > 0


@every_stepwise_node
def test_detach_reset_changes_the_gradient_only(kind: str) -> None:
    gradients, outputs = [], []
    for detach_reset in (False, True):
        x_seq = torch.linspace(-1, 1, TIMESTEPS * 3).reshape(TIMESTEPS, 1, 3).requires_grad_()
        outputs.append(make(kind, step_mode="m", detach_reset=detach_reset)(x_seq))
        outputs[-1].sum().backward()
        assert x_seq.grad is not None
        gradients.append(x_seq.grad)
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(gradients[0], gradients[1])


def test_a_negative_spike_has_a_surrogate_gradient() -> None:
    x_seq = torch.tensor([[0.75], [-0.75]], requires_grad=True)
    spikes = SignedIFNode(step_mode="m", detach_reset=True)(x_seq)
    assert spikes.flatten().tolist() == [1, -1]
    (gradient,) = torch.autograd.grad(spikes[1].sum(), x_seq)
    # At the second step v - theta = -1.5 and v + eps*theta = -0.499; both spikes rise with the input.
    v = torch.tensor([-1.5, -0.499], requires_grad=True)
    surrogate.Sigmoid()(v).sum().backward()
    assert v.grad is not None
    torch.testing.assert_close(gradient[1], v.grad.sum().reshape(1))


@every_node
def test_a_small_network_trains(kind: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(layer.Linear(4, 8), make(kind), layer.Linear(8, 1))
    functional.set_step_mode(net, "m")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    x_seq, target = torch.rand(1, 16, 4).expand(TIMESTEPS, 16, 4), torch.rand(16, 1)
    losses = []
    for _ in range(20):
        functional.reset_net(net)
        loss = (net(x_seq).mean(0) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


# --- conversion with SpikingJelly's own converter ----------------------------------------------------------


@pytest.mark.parametrize("step_mode", ["s", "m"])
@pytest.mark.parametrize(
    "factory",
    [lambda scale: SignedIFNode(), lambda scale: ChannelIFNode(), lambda scale: SRPIFNode(pre_timesteps=32)],
    ids=["signed_if", "channel_if", "srp"],
)
def test_rate_coding_recipe_takes_the_nodes(factory, step_mode: str) -> None:
    torch.manual_seed(0)
    ann = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Conv2d(4, 4, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16, 5),
    ).eval()
    images = torch.rand(8, 1, 8, 8)
    recipe = RateCodingRecipe([images], mode="max", neuron_factory=factory)
    snn = ann2snn.Converter(recipe=recipe).convert(copy.deepcopy(ann))
    nodes = [module for module in snn.modules() if isinstance(module, base.MemoryModule)]
    assert len(nodes) == 2
    latency, steps = max(node.latency for node in nodes), 64
    functional.set_step_mode(snn, step_mode)
    with torch.no_grad():
        if step_mode == "m":
            outputs = snn(images.expand(latency + steps, *images.shape))
        else:
            outputs = torch.stack([snn(images) for _ in range(latency + steps)])
        expected = ann(images)
    error = (outputs[latency:].mean(0) - expected).norm() / expected.norm()
    assert error < 0.05


# --- registration ------------------------------------------------------------------------------------------


NEURON_NAMES = [entry.name for entry in registration.ENTRIES if entry.module == neuron.__name__]


@pytest.fixture
def unregistered():
    for name in NEURON_NAMES:
        vars(neuron).pop(name, None)
    yield neuron
    for name in NEURON_NAMES:
        vars(neuron).pop(name, None)


def test_register_is_idempotent(unregistered) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        register()
        register()
    assert unregistered.SignedIFNode is SignedIFNode
    assert unregistered.ShiftedThresholdIFNode is ShiftedThresholdIFNode


def test_register_keeps_a_name_that_is_taken(unregistered) -> None:
    theirs = type("SignedIFNode", (), {})
    unregistered.SignedIFNode = theirs
    with pytest.warns(UserWarning, match="already has its own SignedIFNode"):
        register()
    assert unregistered.SignedIFNode is theirs
    assert unregistered.SRPIFNode is SRPIFNode


def test_register_extends_a_public_name_list(unregistered, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unregistered, "__all__", ["IFNode"], raising=False)
    register()
    register()
    assert unregistered.__all__ == ["IFNode", *NEURON_NAMES]


def test_importing_the_nodes_does_not_import_the_converter_or_numba() -> None:
    code = (
        "import sys, snnconv.neurons, snnconv.dynamics; "
        "lazy = {'spikingjelly.activation_based.ann2snn', 'numba', 'snntorch'}; "
        "print(sorted(lazy & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=_environment())
    assert result.stdout.strip() == "[]", result.stderr


def _environment() -> dict[str, str]:
    import os

    import snnconv

    root = os.path.dirname(os.path.dirname(snnconv.__file__))
    return {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}


# --- errors ------------------------------------------------------------------------------------------------


@every_node
def test_a_hard_reset_is_refused(kind: str) -> None:
    with pytest.raises(ValueError, match="need the soft reset: pass v_reset=None"):
        make(kind, v_reset=0.0)


@every_node
@pytest.mark.parametrize("threshold", [0.0, -1.0, float("nan"), torch.tensor([1.0, 0.0])])
def test_a_threshold_that_is_not_positive_is_refused(kind: str, threshold: float | Tensor) -> None:
    with pytest.raises(ValueError, match=r"v_threshold.* must be positive and finite"):
        make(kind, threshold)


@every_node
def test_a_wrong_number_of_channels_is_refused(kind: str) -> None:
    with pytest.raises(ValueError, match=r"on an input \(2, 4\): v_threshold has 3 values but axis 1 has 4"):
        make(kind, THETA)(torch.randn(2, 4))
    with pytest.raises(ValueError, match=r"shape \(3, 1\): pass a float or one value per channel"):
        make(kind, THETA[:, None])


def test_parameters_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="pre_timesteps is -1"):
        SRPIFNode(pre_timesteps=-1)
    with pytest.raises(ValueError, match="timesteps is 0"):
        ShiftedThresholdIFNode(timesteps=0)
    with pytest.raises(ValueError, match=r"eps is -0\.1"):
        SignedIFNode(eps=-0.1)


@pytest.mark.parametrize(
    "method",
    [methods.IF(8), methods.SignedIF(8), methods.SRP(8, 4), methods.ShiftedThreshold(4)],
    ids=lambda m: m.name,
)
def test_a_monitor_sees_the_same_steps_one_by_one_in_single_step_mode(method):
    """After ``functional.set_step_mode(network, "s")``, too, a network says what it said, watched or not."""
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    x = torch.randn(8, 6)
    snn = snnconv.convert(model, method, x, progress=False)
    wanted = snn(x)
    seen = {}
    for mode in ("m", "s", "m"):
        functional.set_step_mode(snn, mode)
        torch.testing.assert_close(snn(x), wanted)
        watch = monitor.OutputMonitor(snn, type(snn.neurons["1"]))
        assert torch.equal(snn(x), wanted)
        *_, (_, streamed) = snn.stream(x)
        torch.testing.assert_close(streamed, wanted)
        watch.clear_recorded_data()
        snn(x)
        steps = {width: [r for r in watch.records if r.shape[-1] == width] for width in (16, 8)}
        watch.remove_hooks()
        whole = [torch.stack(r) if mode == "s" else torch.cat(r) for r in steps.values()]
        assert all(torch.equal(a, b) for a, b in zip(whole, seen.setdefault("first", whole), strict=True))
        assert whole[0].shape == (method.latency, 8, 16)
