"""snnTorch: its neurons say what the reference says, behave as its own do, and make the same networks."""

from __future__ import annotations

import copy
import importlib
import io
import sys
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

import snnconv
from snnconv import methods
from snnconv.dynamics import (
    IFState,
    broadcast_channels,
    if_step,
    shifted_threshold_step,
    signed_if_step,
    srp_step,
)
from snnconv.neurons import spikingjelly

snntorch = pytest.importorskip("snntorch")

from snntorch import functional, utils  # noqa: E402

from snnconv.neurons.snntorch import IF, SRPIF, ShiftedThresholdIF, SignedIF, node_class  # noqa: E402

OPTIONS: dict[str, dict] = {
    "if": {},
    "signed_if": {},
    "srp": {"pre_timesteps": 3},
    "shifted_threshold": {"timesteps": 3},
}
STEPS: dict[str, Callable] = {
    "if": if_step,
    "signed_if": signed_if_step,
    "srp": lambda x, state, theta, **kw: srp_step(x, state, theta, 3, **kw),
    "shifted_threshold": lambda x, state, theta, **kw: shifted_threshold_step(x, state, theta, 3, **kw),
}
METHODS = [methods.IF(5), methods.SignedIF(5), methods.SRP(3, 2), methods.ShiftedThreshold(3)]


@pytest.fixture(autouse=True)
def _no_instances_left() -> Iterator[None]:
    torch.manual_seed(0)
    before = list(snntorch.SpikingNeuron.instances)
    yield
    snntorch.SpikingNeuron.instances[:] = before


@pytest.mark.parametrize("kind", list(OPTIONS))
class TestEquations:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
    @pytest.mark.parametrize(
        ("shape", "channels", "axis"),
        [((3, 5), None, 1), ((3, 5), 5, 1), ((2, 3, 5, 7), 3, 1), ((2, 4, 6), 6, -1), ((1, 1), 1, 1), ((0, 3), 3, 1)],
    )
    def test_every_step_is_the_reference(
        self, kind: str, dtype: torch.dtype, shape: tuple[int, ...], channels: int | None, axis: int
    ) -> None:
        theta: float | Tensor = 0.7 if channels is None else torch.rand(channels) + 0.3
        neuron = node_class(kind)(theta, channel_axis=axis, scaled=False, **OPTIONS[kind])
        wide = broadcast_channels(torch.as_tensor(theta), len(shape), axis)
        mem, state = neuron.reset_mem(), None
        for _ in range(9):
            x = torch.randn(shape).to(dtype)
            spk, mem = neuron(x, mem)
            expected, state = STEPS[kind](x, state, wide)
            assert spk.dtype == dtype
            assert torch.equal(spk, expected)
            assert torch.equal(mem, state.v_fire if kind == "shifted_threshold" else state.v)

    def test_spikes_of_both_frameworks_are_equal(self, kind: str) -> None:
        theta = torch.rand(4) + 0.2
        ours = node_class(kind)(theta, init_hidden=True, scaled=True, **OPTIONS[kind])
        theirs = spikingjelly.node_class(kind)(theta, step_mode="s", scaled=True, **OPTIONS[kind])
        for _ in range(10):
            x = torch.randn(2, 4, 3)
            assert torch.equal(ours(x), theirs(x))

    def test_a_whole_sequence_is_the_multi_step_node(self, kind: str) -> None:
        theta = torch.rand(4) + 0.2
        ours = node_class(kind)(theta, init_hidden=True, scaled=True, **OPTIONS[kind])
        theirs = spikingjelly.node_class(kind)(theta, step_mode="m", scaled=True, **OPTIONS[kind])
        x_seq = torch.randn(7, 2, 4, 3)
        assert torch.equal(ours.run(x_seq), theirs(x_seq))
        ours.reset(), theirs.reset()
        assert torch.equal(ours.run(x_seq[:1]), theirs(x_seq[:1]))

    def test_gradients_are_the_reference_with_snntorchs_surrogate(self, kind: str) -> None:
        from snnconv.dynamics.threshold import heaviside

        atan = snntorch.surrogate.atan(alpha=2.0)

        def surrogate(u: Tensor) -> Tensor:
            return heaviside(u) + (atan(u) - atan(u).detach())

        x_seq = torch.randn(6, 2, 4)
        first, second = x_seq.clone().requires_grad_(), x_seq.clone().requires_grad_()
        theta = torch.full((4,), 0.6)
        neuron = node_class(kind)(theta, spike_grad=atan, init_hidden=True, scaled=False, **OPTIONS[kind])
        state, spikes = None, []
        for x in second:
            spike, state = STEPS[kind](x, state, theta, surrogate=surrogate, detach_reset=True)
            spikes.append(spike)
        weights = torch.randn(6, 2, 4)
        (torch.stack([neuron(x) for x in first]) * weights).sum().backward()
        (torch.stack(spikes) * weights).sum().backward()
        assert first.grad is not None
        assert float(first.grad.abs().sum()) > 0
        assert torch.equal(first.grad, second.grad)  # type: ignore[arg-type]

    def test_no_gradient_where_the_surrogate_is_disabled(self, kind: str) -> None:
        neuron = node_class(kind)(0.5, surrogate_disable=True, init_hidden=True, **OPTIONS[kind])
        x = torch.randn(3, 4, requires_grad=True)
        assert not any(neuron(x).requires_grad for _ in range(2)) or kind == "signed_if"


@pytest.mark.parametrize("kind", list(OPTIONS))
class TestState:
    def make(self, kind: str, **options: object) -> nn.Module:
        return node_class(kind)(0.5, **{**OPTIONS[kind], **options})  # type: ignore[arg-type]

    def play(self, neuron: nn.Module, x_seq: Tensor) -> Tensor:
        return torch.stack([neuron(x) for x in x_seq])

    def test_is_a_spiking_neuron_of_snntorch(self, kind: str) -> None:
        neuron = self.make(kind)
        assert isinstance(neuron, snntorch.SpikingNeuron)
        assert neuron in snntorch.SpikingNeuron.instances
        assert neuron.latency == {"srp": 3, "shifted_threshold": 3}.get(kind, 0)

    def test_hidden_state_equals_the_explicit_one(self, kind: str) -> None:
        x_seq = torch.randn(8, 2, 3)
        hidden = self.play(self.make(kind, init_hidden=True), x_seq)
        neuron = self.make(kind)
        mem, spikes = neuron.reset_mem(), []
        for x in x_seq:
            spk, mem = neuron(x, mem)
            assert mem.shape == x.shape
            spikes.append(spk)
        assert torch.equal(hidden, torch.stack(spikes))

    def test_output_adds_the_membrane(self, kind: str) -> None:
        out = self.make(kind, init_hidden=True, output=True)(torch.randn(2, 3))
        assert isinstance(out, tuple)
        assert len(out) == 2

    def test_hidden_state_refuses_an_explicit_one(self, kind: str) -> None:
        with pytest.raises(TypeError, match="init_hidden=True"):
            self.make(kind, init_hidden=True)(torch.randn(2, 3), torch.zeros(2, 3))

    @pytest.mark.parametrize("how", ["reset_mem", "utils", "zeros", "shape"])
    def test_every_reset_starts_afresh(self, kind: str, how: str) -> None:
        x_seq = torch.randn(8, 2, 3)
        neuron = self.make(kind, init_hidden=True)
        first = self.play(neuron, x_seq)
        assert not torch.equal(self.play(neuron, x_seq), first)  # it goes on where it was
        if how == "reset_mem":
            neuron.reset_mem()
        elif how == "utils":
            utils.reset(nn.Sequential(nn.Identity(), neuron))
        elif how == "zeros":
            neuron.mem = torch.zeros_like(neuron.mem)
        else:
            neuron(torch.randn(5, 3))
        assert torch.equal(self.play(neuron, x_seq), first)

    def test_copies_are_independent_and_are_reset_too(self, kind: str) -> None:
        x_seq = torch.randn(8, 2, 3)
        neuron = self.make(kind, init_hidden=True)
        whole = self.play(neuron, x_seq)
        neuron.reset_mem()
        self.play(neuron, x_seq[:4])
        twin = copy.deepcopy(neuron)
        assert torch.equal(self.play(twin, x_seq[4:]), whole[4:])
        assert torch.equal(self.play(neuron, x_seq[4:]), whole[4:])
        utils.reset(nn.Sequential(twin))
        assert torch.equal(self.play(twin, x_seq), whole)

    def test_state_dict_holds_the_threshold_and_no_state(self, kind: str) -> None:
        neuron = node_class(kind)(torch.tensor([0.25, 0.5, 1.0]), **OPTIONS[kind])
        neuron(torch.randn(2, 3))
        state = neuron.state_dict()
        assert set(state) == set(snntorch.Leaky(0.9).state_dict()) - {"beta"}
        other = node_class(kind)(torch.ones(3), **OPTIONS[kind])
        other.load_state_dict(state)
        assert torch.equal(other.threshold, torch.tensor([0.25, 0.5, 1.0]))

    def test_saves_and_loads_whole(self, kind: str) -> None:
        x_seq = torch.randn(6, 2, 3)
        neuron = self.make(kind, init_hidden=True)
        file = io.BytesIO()
        torch.save(neuron, file)
        file.seek(0)
        again = torch.load(file, weights_only=False)
        assert torch.equal(self.play(again, x_seq), self.play(neuron, x_seq))

    def test_moves_with_its_state(self, kind: str) -> None:
        neuron = self.make(kind, init_hidden=True)
        neuron(torch.randn(2, 3))
        neuron.to(torch.float64)
        assert neuron.mem.dtype == neuron.threshold.dtype == torch.float64
        assert neuron(torch.randn(2, 3, dtype=torch.float64)).dtype == torch.float64
        assert neuron.to("meta").mem.device.type == "meta"

    def test_compiles(self, kind: str) -> None:
        x_seq = torch.randn(7, 2, 3)
        eager = self.play(self.make(kind, init_hidden=True), x_seq)
        compiled = torch.compile(self.make(kind, init_hidden=True), backend="eager")
        assert torch.equal(self.play(compiled, x_seq), eager)  # type: ignore[arg-type]

    def test_threshold_learns(self, kind: str) -> None:
        neuron = node_class(kind)(0.5, learn_threshold=True, init_hidden=True, scaled=True, **OPTIONS[kind])
        assert isinstance(neuron.threshold, nn.Parameter)
        sum(neuron(torch.rand(4, 3) + 0.3).sum() for _ in range(6)).backward()  # type: ignore[union-attr]
        assert neuron.threshold.grad is not None
        assert float(neuron.threshold.grad.abs()) > 0

    @pytest.mark.parametrize("threshold", [0.0, -1.0, float("nan"), torch.tensor([1.0, 0.0])])
    def test_a_threshold_that_is_not_positive_is_refused(self, kind: str, threshold: float | Tensor) -> None:
        with pytest.raises(ValueError, match=r"threshold.*must be positive and finite"):
            node_class(kind)(threshold, **OPTIONS[kind])

    def test_wrong_number_of_channels_is_named(self, kind: str) -> None:
        with pytest.raises(ValueError, match=r"\(2, 5\).*3 values but axis 1 has 5"):
            node_class(kind)(torch.ones(3), **OPTIONS[kind])(torch.randn(2, 5))


def test_graded_spikes_are_snntorchs() -> None:
    neuron = IF(0.5, init_hidden=True, graded_spikes_factor=3.0)
    assert torch.equal(neuron(torch.ones(1, 2)), torch.full((1, 2), 3.0))


@pytest.mark.parametrize("kind", ["if", "signed_if"])
def test_trains_in_snntorchs_loop(kind: str) -> None:
    last = node_class(kind)(1.0, init_hidden=True, output=True)
    net = nn.Sequential(nn.Linear(4, 16), node_class(kind)(1.0, init_hidden=True), nn.Linear(16, 2), last)
    x = torch.randn(64, 4)
    y = (x[:, 0] > 0).long()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    loss_fn = functional.ce_rate_loss()
    losses = []
    for _ in range(30):
        utils.reset(net)
        spikes = torch.stack([net(x)[0] for _ in range(8)])
        loss = loss_fn(spikes, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_runs_in_snntorchs_own_backprop() -> None:
    from snntorch import backprop

    net = nn.Sequential(nn.Linear(4, 8), IF(init_hidden=True), nn.Linear(8, 2), IF(init_hidden=True, output=True))
    data = [(torch.randn(8, 4), torch.randint(0, 2, (8,)))]
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    before = net[0].weight.detach().clone()
    backprop.BPTT(net, data, optimizer, functional.ce_rate_loss(), num_steps=4, time_var=False)
    assert not torch.equal(net[0].weight, before)


# --- converted networks ------------------------------------------------------------------------------------


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3), nn.ReLU(),
        nn.Flatten(), nn.Linear(32, 5),
    ).eval()  # fmt: skip


def spikes_of(snn: snnconv.SpikingNetwork, x: Tensor) -> dict[str, Tensor]:
    """Every site's outputs, fired by the neurons themselves, step by step."""
    found: dict[str, list[Tensor]] = {}
    handles = [snn.neurons[name].register_forward_hook(lambda *_: None) for name in snn.neurons]
    snn.run(x, observe=lambda site, out: found.setdefault(site, []).append(out))
    for handle in handles:
        handle.remove()
    return {name: torch.cat(parts) for name, parts in found.items()}


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
class TestConvert:
    def both(self, method: methods.Method) -> tuple[snnconv.SpikingNetwork, snnconv.SpikingNetwork, Tensor]:
        net, x = network(), torch.rand(16, 3, 8, 8)
        one, two = (snnconv.convert(net, method, x, framework=f, progress=False) for f in ("spikingjelly", "snntorch"))
        return one, two, x

    def test_frameworks_agree_spike_for_spike(self, method: methods.Method) -> None:
        one, two, x = self.both(method)
        assert all(type(two.neurons[name]) is node_class(method.neuron) for name in two.neurons)
        a, b = spikes_of(one, x), spikes_of(two, x)
        assert list(a) == list(b) == ["2", "5"]
        assert all(torch.equal(a[name], b[name]) for name in a)
        assert torch.equal(one(x), two(x))
        for (t, p), (u, q) in zip(one.stream(x), two.stream(x), strict=True):
            assert t == u
            assert torch.equal(p, q)

    def test_saved_networks_stay_in_their_framework(self, method: methods.Method, tmp_path) -> None:
        _, snn, x = self.both(method)
        snnconv.save(snn, tmp_path / "net.safetensors")
        again = snnconv.load(tmp_path / "net.safetensors")
        assert again.framework == "snntorch"
        assert type(again.neurons["2"]) is node_class(method.neuron)
        assert torch.equal(again(x), snn(x))

    def test_costs_and_audit_are_the_same(self, method: methods.Method) -> None:
        one, two, x = self.both(method)
        assert snnconv.profile(network(), one, x[:4]).sops == snnconv.profile(network(), two, x[:4]).sops
        snnconv.audit(two, x[:4]).raise_if_failed()

    def test_neurons_of_converted_networks_can_be_freed(self, method: methods.Method) -> None:
        before = len(snntorch.SpikingNeuron.instances)
        _, snn, _ = self.both(method)
        copy.deepcopy(snn)
        assert len(snntorch.SpikingNeuron.instances) == before


def test_registration_fills_the_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    from snnconv import snntorch as ours

    for name in ("IF", "SignedIF", "SRPIF", "ShiftedThresholdIF", "convert"):
        monkeypatch.delattr(snntorch, name, raising=False)
    ours.register()
    ours.register()
    assert (snntorch.IF, snntorch.SignedIF, snntorch.SRPIF) == (IF, SignedIF, SRPIF)
    assert snntorch.ShiftedThresholdIF is ShiftedThresholdIF
    snn = snntorch.convert(network(), methods.IF(4), torch.rand(8, 3, 8, 8), progress=False)
    assert snn.framework == "snntorch"


def test_a_taken_name_stays_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from snnconv import snntorch as ours

    monkeypatch.setattr(snntorch, "SignedIF", "theirs", raising=False)
    with pytest.warns(UserWarning, match="already has its own SignedIF"):
        ours.register()
    assert snntorch.SignedIF == "theirs"


def test_hooks_see_every_step() -> None:
    x = torch.rand(8, 3, 8, 8)
    for method in METHODS:
        snn = snnconv.convert(network(), method, x, framework="snntorch", progress=False)
        seen: list[Tensor] = []
        snn.neurons["2"].register_forward_hook(lambda module, given, out, seen=seen: seen.append(out))
        snn(x)
        assert len(seen) == method.latency


def test_a_missing_snntorch_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "snntorch", None)
    monkeypatch.delitem(sys.modules, "snnconv.neurons.snntorch")
    monkeypatch.delitem(sys.modules, "snnconv.neurons._snntorch")
    monkeypatch.delitem(sys.modules, "snnconv.snntorch", raising=False)
    with pytest.raises(ImportError, match="snntorch is not installed: pip install"):
        importlib.import_module("snnconv.snntorch")
    with pytest.raises(ImportError, match=r'snntorch is not installed: pip install "snnconv-plugin\[snntorch\]"'):
        snnconv.convert(network(), methods.IF(4), torch.rand(8, 3, 8, 8), framework="snntorch", progress=False)


def test_an_if_step_from_an_explicit_potential() -> None:
    spk, mem = IF(1.0)(torch.tensor([[0.25]]), torch.tensor([[0.8]]))
    expected, state = if_step(torch.tensor([[0.25]]), IFState(torch.tensor([[0.8]])), 1.0)
    assert torch.equal(spk, expected)
    assert torch.equal(mem, state.v)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_every_layer_of_a_resnet_spikes_alike_on_real_pictures(resnet20, data_folder, method: methods.Method) -> None:
    from benchmarks.data import cifar10

    calibration = [x for x, _ in cifar10("train").shuffled(0).first(128).batches(64)]
    one, two = (
        snnconv.convert(resnet20, method, calibration, framework=f, progress=False)
        for f in ("spikingjelly", "snntorch")
    )
    for x, _ in cifar10("test").shuffled(0).first(200).batches(50):
        a, b = spikes_of(one, x), spikes_of(two, x)
        assert list(a) == list(b)
        assert len(a) == 19
        assert all(torch.equal(a[name], b[name]) for name in a), [k for k in a if not torch.equal(a[k], b[k])]
        assert all(spikes.any() for spikes in a.values())
