"""to_sinabs(): the same spikes in sinabs' own classes."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import snnconv
from snnconv import ConversionError, methods

pytest.importorskip("sinabs")
T = 16


def chain() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 12, 3), nn.ReLU(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(12 * 9, 16), nn.ReLU(), nn.Linear(16, 5),
    )  # fmt: skip


def pictures(count: int) -> Tensor:
    return torch.randint(0, 16, (count, 3, 16, 16), generator=torch.Generator().manual_seed(count)) / 16


def converted(model: nn.Module, method: methods.Method | None = None) -> snnconv.SpikingNetwork:
    """Weights and thresholds on a grid that sums in float32 do not leave: sinabs' spikes are float32."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        parameter.data = torch.randint(-24, 32, parameter.shape) / 128
    method = method or methods.IF(T, per_channel=False, correction="none")
    snn = snnconv.convert(model.eval(), method, pictures(16), progress=False)
    for name in snn.thresholds:
        snn.thresholds[name] = 2.0 ** torch.round(torch.log2(snn.thresholds[name]))
    return snn


@pytest.mark.parametrize("start", ["half", "zero"])
def test_spike_for_spike_over_all_layers(start: str) -> None:
    snn = converted(chain(), methods.IF(T, per_channel=False, start=start, correction="none"))
    theirs, x = snnconv.to_sinabs(snn), pictures(6)
    sent: dict[str, Tensor] = {}
    for name, module in theirs.named_children():
        if type(module).__name__ == "Population":
            module.register_forward_hook(lambda m, args, out, name=name: sent.__setitem__(name, out))
    ours: dict[str, Tensor] = {}
    snn.run(x, observe=lambda site, out: ours.__setitem__(site, out))
    assert all(0.02 < float((spikes != 0).float().mean()) < 0.98 for spikes in ours.values())
    for _ in range(2):  # a second call starts afresh
        out = theirs(x.repeat_interleave(T, 0)).unflatten(0, (6, T))
        assert list(sent) == list(ours)
        for site, spikes in ours.items():
            got = sent[site].unflatten(0, (6, T)).movedim(1, 0)
            assert torch.equal(got, spikes / snn.thresholds[site]), site
    torch.testing.assert_close(out.mean(1), snn(x))


def sent_and_fired(
    snn: snnconv.SpikingNetwork, theirs: nn.Module, x: Tensor
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Unit spikes ``[T, B, ...]`` of sinabs' populations and of ours, by site."""
    sent: dict[str, Tensor] = {}
    for name, module in theirs.named_children():
        if type(module).__name__ == "Population":
            module.register_forward_hook(lambda m, args, out, name=name: sent.__setitem__(name, out))
    ours: dict[str, Tensor] = {}
    snn.run(x, observe=lambda site, out: ours.__setitem__(site, (out != 0).to(out)))
    theirs(x.repeat_interleave(T, 0))
    return {k: v.unflatten(0, (len(x), T)).movedim(1, 0) for k, v in sent.items()}, ours


@pytest.mark.parametrize("bits", [4, 8])
def test_integer_weights_run_alike_in_sinabs_and_here(bits: int) -> None:
    torch.manual_seed(1)
    method = methods.IF(T, per_channel=False, correction="none")
    snn = snnconv.convert(chain().eval(), method, pictures(16), progress=False)
    whole, theirs = snnconv.integer_weights(snn, bits), snnconv.to_sinabs(snn, weight_bits=bits)
    most = 2 ** (bits - 1) - 1
    weights = [m.weight for m in theirs if hasattr(m, "weight")]
    assert len(weights) == 4
    for weight in weights[:-1]:
        assert torch.equal(weight, weight.round())
        assert float(weight.abs().max()) == most
    scale = weights[-1].abs().max() / most  # the readout keeps its units, by a power of two
    assert float((weights[-1] / 2.0 ** torch.ceil(torch.log2(scale)) % 1).abs().max()) == 0
    assert all(float(whole.thresholds[name]) % 1 == 0 for name in whole.thresholds)
    sent, ours = sent_and_fired(whole, theirs, pictures(6))
    assert list(sent) == list(ours)
    assert all(0.01 < float(v.mean()) < 0.99 for v in ours.values())
    for site, spikes in ours.items():
        assert torch.equal(sent[site], spikes), site


def test_integer_weights_answer_as_the_network_to_the_weights_resolution() -> None:
    torch.manual_seed(1)
    model, x = chain().eval(), pictures(64)
    snn = snnconv.convert(model, methods.IF(64, per_channel=False), x, progress=False)
    want = snn(x)

    def off(bits: int) -> float:
        return float((snnconv.integer_weights(snn, bits)(x) - want).norm() / want.norm())

    assert off(12) < off(8) < off(4)
    assert off(8) < 0.1
    assert torch.equal(snn(x), want), "the network itself is not changed"


def test_rate_norm_networks_spike_alike() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), snnconv.activations.RateNorm(), nn.Linear(16, 4))
    x = torch.rand(32, 8)
    model.train()(x)
    snn = snnconv.convert(model.eval(), methods.RateNorm(T), x, progress=False)
    sent, ours = sent_and_fired(snn, snnconv.to_sinabs(snn), x)
    for site, spikes in ours.items():
        assert float((sent[site] == spikes).float().mean()) > 0.999, site


def test_what_integers_cannot_say_is_refused() -> None:
    snn = converted(chain())
    with pytest.raises(ValueError, match="bits is 1: a weight has 2 to 16"):
        snnconv.integer_weights(snn, 1)
    with pytest.raises(ConversionError, match="a chip has no signed_if neurons"):
        snnconv.integer_weights(converted(chain(), methods.SignedIF(T, per_channel=False)))
    snn.program.source.tensors["2.weight"] *= 0
    with pytest.raises(ConversionError, match="2: all weights are 0"):
        snnconv.integer_weights(snn)


def test_children_are_sinabs_own_and_named() -> None:
    from sinabs.layers import IAFSqueeze, SumPool2d

    theirs = snnconv.to_sinabs(converted(chain()), timesteps=4)
    kinds = [type(m) for m in theirs]
    assert sum(issubclass(kind, IAFSqueeze) for kind in kinds) == 3
    assert kinds.count(SumPool2d) == 1
    assert [name for name, _ in theirs.named_children()] == ["0", "1", "2", "3", "4", "5", "6", "7", "8"]


def test_what_a_chain_has_no_place_for_is_named() -> None:
    with pytest.raises(ConversionError, match="no signed_if neurons"):
        snnconv.to_sinabs(converted(chain(), methods.SignedIF(T, per_channel=False)))
    with pytest.raises(ConversionError, match=r"has 8 thresholds.*per_channel=False"):
        snnconv.to_sinabs(converted(chain(), methods.IF(T)))
    with pytest.raises(ConversionError, match=r"max_pool2d has no place.*AvgPool2d"):
        snnconv.to_sinabs(converted(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 2, 3))))

    class Shortcut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.a(x))
            return F.relu(self.b(x) + x)

    with pytest.raises(ConversionError, match="shortcuts and branches have no place"):
        snnconv.to_sinabs(converted(Shortcut()))


@pytest.mark.parametrize("bits", [None, 8])
def test_a_network_that_ends_in_neurons_gives_what_its_spikes_are_worth(bits: int | None) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, stride=4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5), nn.ReLU())
    snn, x = converted(model), pictures(6)
    theirs = snnconv.to_sinabs(snn, weight_bits=bits)
    ours = snn if bits is None else snnconv.integer_weights(snn, bits)
    out = theirs(x.repeat_interleave(T, 0)).unflatten(0, (6, T)).mean(1)
    assert float(ours(x).max()) > 0
    torch.testing.assert_close(out, ours(x))


POOLED = {
    "currents": (nn.Conv2d(3, 8, 3, padding=1), nn.AvgPool2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(128, 5)),
    "windows that overlap": (nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AvgPool2d(3, 2), nn.Flatten(), nn.Linear(288, 5)),
    "input": (nn.AvgPool2d(2), nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(72, 5)),
    "outputs": (nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 5, 3), nn.AvgPool2d(12), nn.Flatten()),
}


@pytest.mark.parametrize("what", POOLED)
@pytest.mark.parametrize("bits", [None, 8])
def test_averages_of_anything_are_sums_and_weights(what: str, bits: int | None) -> None:
    torch.manual_seed(2)
    model = nn.Sequential(*copy.deepcopy(POOLED[what])).double().eval()
    x = pictures(12).double()
    snn = snnconv.convert(model, methods.IF(T, per_channel=False, correction="none"), x, progress=False)
    theirs = snnconv.to_sinabs(snn, weight_bits=bits)
    ours = snn if bits is None else snnconv.integer_weights(snn, bits)
    out = theirs(x.repeat_interleave(T, 0)).unflatten(0, (12, T)).mean(1)
    assert float(ours.rates(x)[next(iter(ours.thresholds))].max()) > 0
    torch.testing.assert_close(out, ours(x), rtol=1e-6, atol=1e-6)
    if bits is not None:
        assert all(bool((p == p.round()).all()) for p in next(iter(theirs.parameters())))


def test_each_layer_starts_as_it_is_set_and_reads_its_own_threshold() -> None:
    torch.manual_seed(3)
    method, x = methods.IF(T, per_channel=False, correction="none"), pictures(8)
    snn = snnconv.convert(chain().eval(), method, x, overrides={"1": {"start": "zero"}}, progress=False)
    theirs = dict(snnconv.to_sinabs(snn).named_children())
    for name in ("1", "3", "7"):
        theirs[name](torch.zeros(T, 4))
        theta = float(snn.thresholds[name])
        assert float(theirs[name].v_mem.max()) == pytest.approx(0 if name == "1" else theta / 2), name


def test_what_else_a_chain_is_not_says_what_to_do() -> None:
    curved = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sigmoid(), nn.Flatten(), nn.Linear(784, 5))
    with pytest.raises(ConversionError, match=r"1: sinabs has no function_if neurons; they follow \w+ there.*nn\.ReLU"):
        snnconv.to_sinabs(converted(curved))

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 3)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.b(F.relu(self.a(x + y)))

    method = methods.IF(T, per_channel=False)
    snn = snnconv.convert(Two().eval(), method, (pictures(4), pictures(4)), progress=False)
    for export in (snnconv.to_sinabs, snnconv.fits):
        with pytest.raises(ConversionError, match="for networks of one input, and this one takes x, y"):
            export(snn)


def test_what_would_not_be_the_same_network_is_refused() -> None:
    twice = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AvgPool2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(196, 5))
    with pytest.raises(ConversionError, match="3 reads 1: in a chain for sinabs neurons read a layer with weights"):
        snnconv.to_sinabs(converted(twice))
    turned = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(2), nn.Unflatten(2, (7, 28)), nn.Conv2d(4, 2, 3))
    with pytest.raises(ConversionError, match=r"a view of \[4, 14, 14\] as \[4, 196\]"):
        snnconv.to_sinabs(converted(turned))
    snn = converted(chain())
    snn.neurons["3"] = type("Mine", (type(snn.neurons["3"]),), {})(1.0)
    with pytest.raises(ConversionError, match="3: Mine is not the neuron that 'if' puts there"):
        snnconv.to_sinabs(snn)


def test_steps_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="timesteps is a whole number from 1, got 0"):
        snnconv.to_sinabs(converted(chain()), 0)
