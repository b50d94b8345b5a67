"""Losses of trained activations: bit sparsity, rate inference, their coefficients."""

import math
import types

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import snnconv
from snnconv import methods
from snnconv.activations import (
    BitSparsity,
    Coefficient,
    Distillation,
    InferenceRate,
    QuantReLU,
    RateInferenceLoss,
    RateNorm,
    one_bits,
    rate_ks,
)

X = torch.randn(32, 6, generator=torch.Generator().manual_seed(0))


def network(activation):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), activation(), nn.Linear(16, 12), activation(), nn.Linear(12, 4))


@given(levels=st.integers(1, 31) | st.integers(200, 600), value=st.floats(-1, 2))
def test_one_bits_are_those_of_the_level(levels, value):
    layer = QuantReLU(levels, 1.0)
    z = torch.tensor([[value]])
    with one_bits(layer) as bits:
        y = layer(z)
    assert bits.total().item() == bin(round(y.item() * levels)).count("1")


@pytest.mark.parametrize("levels", [255, 300])
def test_rounding_in_bfloat16_adds_no_level(levels):
    layer = QuantReLU(levels, 1.0 / 3)
    with one_bits(layer) as bits:
        layer(torch.full((1, 2), 5.0, dtype=torch.bfloat16))
    assert bits.total().item() == 2 * levels.bit_count()


def test_one_bits_are_the_spikes_of_the_shifted_threshold_network():
    qann = snnconv.prepare(network(nn.ReLU), QuantReLU(15), X, progress=False)
    with one_bits(qann) as bits:
        qann(X)
    snn = snnconv.convert(qann, methods.ShiftedThreshold(4, thresholds="trained"))
    assert bits.total().item() == pytest.approx(snnconv.profile(qann, snn, X).spikes)
    assert list(bits.values) == ["1", "3"]


@pytest.mark.parametrize("levels", [3, 7, 15])
@pytest.mark.parametrize("per_channel", [False, True])
def test_gradients_of_the_surrogates_are_their_closed_forms(levels, per_channel):
    """By z, inside the clip: L/α for every value ("code"), (bits set)/(width·α) ("bits"); summed or averaged."""
    torch.manual_seed(0)
    alpha = torch.tensor([0.7, 1.3, 2.1]) if per_channel else torch.tensor(1.3)
    z = torch.randn(5, 3, 4)
    clip = alpha[:, None] if per_channel else alpha
    inside = (z > 0) & (z < clip)
    code = torch.clamp(torch.floor(z * levels / clip + 0.5), 0, levels)
    bits = torch.tensor([[[bin(int(k)).count("1") for k in row] for row in channel] for channel in code])
    width = len(bin(levels)) - 2
    for surrogate, slope in (("code", levels * inside / clip), ("bits", bits * inside / (width * clip))):
        for reduction, inputs in (("sum", 1), ("mean", 5)):
            layer, x = QuantReLU(levels, alpha), z.clone().requires_grad_()
            with one_bits(layer, surrogate, reduction) as found:
                layer(x)
            found.total().backward()
            assert found.total().item() == pytest.approx(float(bits.sum()) / inputs)
            torch.testing.assert_close(x.grad, slope / inputs)
            wanted = -(slope * z / clip).sum((0, 2) if per_channel else None) * layer.gradient_scale(z) / inputs
            torch.testing.assert_close(layer.clip.grad, wanted, rtol=1e-4, atol=1e-4)


def test_a_coefficient_for_the_authors_surrogate_is_worth_more():
    """The factor of the documentation: B·L over the mean part of the bits that are set in range."""
    torch.manual_seed(0)
    z, levels = torch.rand(8, 50), 15
    grads = []
    for term in (BitSparsity(1.0), BitSparsity(1.0, surrogate="code", reduction="sum")):
        layer, x = QuantReLU(levels, 1.0), z.clone().requires_grad_()
        with term.watch(layer) as found:
            layer(x)
        term(found).backward()
        grads.append(float(x.grad.mean()))
    part = sum(bin(int(k)).count("1") for k in torch.floor(z * levels + 0.5).flatten()) / (4 * z.numel())
    assert grads[1] / grads[0] == pytest.approx(8 * levels / part, rel=1e-4)
    with pytest.raises(ValueError, match=r"surrogate must be one of \('bits', 'code'\)"):
        BitSparsity(1.0, surrogate="ones")
    with pytest.raises(ValueError, match=r"reduction must be one of \('mean', 'sum'\)"):
        BitSparsity(1.0, reduction="none")


class Branches(nn.Module):
    """One activation read by two layers, and a last one read by none."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.wide, self.narrow = nn.Conv2d(1, 2, 1), nn.Conv2d(2, 6, 1), nn.Conv2d(2, 1, 1)
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()

    def forward(self, x):
        x = self.relu1(self.first(x))
        return self.relu2(self.wide(x) + self.narrow(x))


class TestBitsBySynapses:
    def test_the_sum_is_the_sops_of_the_shifted_threshold_network(self):
        torch.manual_seed(0)
        x = torch.rand(3, 1, 4, 5)
        qann = snnconv.prepare(Branches(), QuantReLU(15), x, progress=False)
        term = BitSparsity(0.5, weighting="synapses")
        with term.watch(qann) as found:
            qann(x)
        snn = snnconv.convert(qann, methods.ShiftedThreshold(4, thresholds="trained"))
        mean = 7 * 2 / (2 + 6)  # connections by neuron: 7 of the first two channels, none of the other six
        assert found.weights == pytest.approx({"relu1": 7 / mean, "relu2": 0})
        assert term.amount(found).item() * mean == pytest.approx(snnconv.profile(qann, snn, x).sops)
        assert term(found).item() == pytest.approx(0.5 * term.amount(found).item())
        assert not qann._forward_pre_hooks

    def test_the_gradient_is_weighted_too(self):
        first, second, x = QuantReLU(1, 1.0), QuantReLU(1, 1.0), torch.full((1, 1), 0.75, requires_grad=True)
        model = nn.Sequential(first, nn.Linear(1, 3, bias=False), second, nn.Linear(3, 1))
        nn.init.zeros_(model[1].weight)
        term = BitSparsity(1.0, weighting="synapses")
        with term.watch(model) as found:
            model(x)
        term(found).backward()
        torch.testing.assert_close(x.grad, torch.tensor([[2.0]]))  # 3 connections, 6 / 4 on the average

    def test_it_traces_once_a_network_and_shape(self, monkeypatch):
        from snnconv.metrics import synapses

        seen = []
        reach = synapses.synapses_per_spike
        monkeypatch.setattr(synapses, "synapses_per_spike", lambda m, x: seen.append((m, x.shape)) or reach(m, x))
        a, b = (snnconv.prepare(Branches(), QuantReLU(3), torch.rand(2, 1, 4, 4), progress=False) for _ in range(2))
        term = BitSparsity(1.0, weighting="synapses")
        for model, size in ((a, 4), (a, 4), (a, 6), (b, 6)):
            with term.watch(model):
                model(torch.rand(2, 1, size, size))
        assert seen == [(a, (1, 1, 4, 4)), (a, (1, 1, 6, 6)), (b, (1, 1, 6, 6))]

    def test_training_goes_on_as_before(self):
        model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), QuantReLU(3), nn.Dropout(0.5), nn.Linear(2, 2))
        with BitSparsity(1.0, weighting="synapses").watch(model), torch.autocast("cpu", torch.bfloat16):
            model(torch.rand(4, 2))
        assert all(m.training for m in model.modules())
        assert model[1].num_batches_tracked == 1

    def test_errors_say_what_to_do(self):
        with pytest.raises(ValueError, match=r"weighting must be one of \('neurons', 'synapses'\), got 'spikes'"):
            BitSparsity(1.0, weighting="spikes")
        model = network(lambda: QuantReLU(3))
        term = BitSparsity(1.0, weighting="synapses")
        with term.watch(model) as found:
            model(X)
            with pytest.raises(RuntimeError, match="leave the watch"):
                term(found)
        last = nn.Sequential(nn.Linear(2, 2), QuantReLU(3))
        with pytest.raises(ValueError, match="no spike of 1 reaches a layer"), term.watch(last):
            last(torch.rand(1, 2))

    def test_what_runs_in_training_only_counts_nothing(self):
        class Auxiliary(nn.Module):
            def __init__(self):
                super().__init__()
                self.first, self.relu, self.last = nn.Linear(2, 2), QuantReLU(3), nn.Linear(2, 2)
                self.aux = nn.Sequential(QuantReLU(3), nn.Linear(2, 2))

            def forward(self, x):
                x = self.first(x)
                return self.last(self.relu(x)) + (self.aux(x) if self.training else 0)

        model = Auxiliary()
        with BitSparsity(1.0, weighting="synapses").watch(model) as found:
            model(torch.rand(1, 2))
        assert found.weights == {"relu": 1, "aux.0": 0}


def test_surrogate_gradient_is_the_mean_over_bits_inside_the_clip():
    layer = QuantReLU(7, 3.5)
    z = torch.tensor([[-1.0, 0.1, 1.0, 1.5, 3.4, 5.0]], requires_grad=True)  # levels 0, 0, 2, 3, 7, 7
    with one_bits(layer) as bits:
        layer(z)
    bits.total().backward()
    expected = torch.tensor([[0, 0, 1, 2, 3, 0]]) / 3 / 3.5
    torch.testing.assert_close(z.grad, expected)


@pytest.mark.parametrize("clip", [3.5, torch.tensor([3.5, 2.0])])
@pytest.mark.parametrize("lsq_scale", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_surrogate_gradient_of_the_clip_is_that_of_z_over_clip(clip, lsq_scale, dtype):
    layer = QuantReLU(7, clip, lsq_scale=lsq_scale)
    z = 4 * torch.rand(5, 2, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
    with one_bits(layer) as bits:
        level = (layer(z).detach() / layer.clip.detach().reshape(-1, 1) * 7).round()
    alpha = layer.clip.detach().clone().requires_grad_()
    width = alpha.reshape(-1, 1) if alpha.dim() else alpha
    ones = level.to(torch.int64).apply_(int.bit_count)
    wanted = (ones * (z < width) * (z / width) / 3).sum() / len(z)
    wanted.backward()
    bits.total().backward()
    scale = layer.gradient_scale(z)
    assert scale == (pytest.approx((7**3 / (6 / alpha.numel())) ** 0.5) if lsq_scale else 1)
    torch.testing.assert_close(
        layer.clip.grad, alpha.grad * scale, rtol=1e-2 if dtype == torch.bfloat16 else 1e-5, atol=0
    )


def test_sparsity_leaves_fewer_spikes():
    def trained(coefficient):
        qann = snnconv.prepare(network(nn.ReLU), QuantReLU(15), X, progress=False)
        optimiser = torch.optim.Adam(qann.parameters(), 1e-2)
        term = BitSparsity(coefficient)
        for _ in range(60):
            with term.watch(qann) as found:
                logits = qann(X)
            loss = F.cross_entropy(logits, torch.arange(32) % 4) + term(found)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        return found.total().item()

    assert trained(0.05) < 0.7 * trained(0.0)


def test_k_is_the_ratio_of_the_norms():
    model = network(RateNorm).train()
    outputs = []
    for layer in (model[1], model[3]):
        layer.register_forward_hook(lambda m, i, o: outputs.append(o))
    with rate_ks(model) as ks:
        model(X)
    expected = [y.sum() / (y.square().sum() + 1e-5) for y in outputs]
    torch.testing.assert_close(ks.mean(), sum(expected) / 2)
    assert ks.mean() > 1


def test_k_of_a_scaled_layer_is_that_of_the_plain_one():
    plain, scaled = RateNorm().train(), RateNorm(scaled=True).train()
    with rate_ks(plain) as one, rate_ks(scaled) as other:
        plain(X), scaled(X)
    torch.testing.assert_close(one.mean(), other.mean(), rtol=1e-4, atol=1e-5)


def test_rate_inference_loss():
    reference, logits = torch.randn(5, 4), torch.randn(5, 4, requires_grad=True)
    cosine = sum(
        float(a @ b) / math.sqrt(float(a @ a) * float(b @ b)) for a, b in zip(reference, logits.detach(), strict=True)
    )
    loss = RateInferenceLoss(weight=0.2)(reference, logits, torch.tensor(7.0))
    assert loss.item() == pytest.approx(1 - cosine / 5 + 1.4, abs=1e-5)


def test_lower_scales_mean_a_lower_k():
    values = []
    for p in (4.0, 0.0, -1.0):
        model = network(RateNorm).eval()
        for layer in (model[1], model[3]):
            layer.running_max.fill_(3.0)
            layer.p.data.fill_(p)
        with rate_ks(model) as ks:
            model(X)
        values.append(ks.mean().item())
    assert values == sorted(values, reverse=True)


def test_a_layer_called_twice_counts_twice():
    layer = QuantReLU(1, 1.0)
    with one_bits(layer) as bits:
        layer(torch.ones(1, 3))
        layer(torch.ones(1, 5))
    assert bits.total() == 8
    assert list(bits.values) == ["", ":2"]


def test_hooks_are_taken_away():
    layer = QuantReLU(1)
    with pytest.raises(RuntimeError, match="stop"), one_bits(layer):
        raise RuntimeError("stop")
    assert not layer._forward_hooks


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("constant", [2, 2, 2, 2]), ("linear", [0, 1, 2, 2]), ("cosine", [0, 1, 2, 2])],
)
def test_coefficients_over_training(schedule, expected):
    coefficient = Coefficient(2.0, schedule, span=0.5)
    assert [coefficient(p) for p in (0, 0.25, 0.5, 1)] == pytest.approx(expected)
    assert schedule != "cosine" or coefficient(0.05) < 0.1


def test_regularizers_weigh_by_the_schedule():
    model = network(RateNorm).train()
    term = InferenceRate(0.5, "linear")
    with term.watch(model) as found:
        model(X)
    torch.testing.assert_close(term(found, 0.5), 0.25 * found.mean())


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Coefficient(-1.0), "at least 0"),
        (lambda: Coefficient(1.0, "steps"), "schedule must be one of"),
        (lambda: Coefficient(1.0, span=0.0), "span must be in"),
        (lambda: RateInferenceLoss(-0.1), "weight must be at least 0"),
        (lambda: RateInferenceLoss(0.1, "l1"), r"distance must be one of \('cosine', 'mse'\)"),
        (lambda: one_bits(nn.ReLU()).__enter__(), "no QuantReLU: make one with snnconv.prepare"),
        (lambda: rate_ks(nn.ReLU()).__enter__(), "no RateNorm"),
    ],
)
def test_bad_arguments(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


class TestDistillation:
    def test_equals_the_definition(self):
        torch.manual_seed(0)
        teacher, model = network(nn.ReLU), network(lambda: QuantReLU(3, 1.0))
        term = Distillation(teacher, coefficient=0.5, temperature=3.0)
        with term.watch(model) as found:
            logits = model(X)
        p, q = (teacher(X) / 3).softmax(1), (logits / 3).softmax(1)
        divergence = (p * (p.log() - q.log())).sum(1).mean()
        torch.testing.assert_close(term(found), 0.5 * 9 * divergence)
        torch.testing.assert_close(term(found).detach() * 2, term.amount(found).detach())

    def test_the_gradient_reaches_the_model_alone(self):
        teacher, model = network(nn.ReLU), network(nn.ReLU)
        with torch.no_grad():
            model[0].weight += 0.1
        term = Distillation(teacher)
        assert list(term.parameters()) == []
        with term.watch(model) as found:
            model(X)
        term(found).backward()
        assert model[0].weight.grad.abs().sum() > 0
        assert all(p.grad is None for p in teacher.parameters())

    def test_the_hook_is_gone_afterwards(self):
        model = network(nn.ReLU)
        with Distillation(network(nn.ReLU)).watch(model):
            pass
        assert not model._forward_hooks

    def test_objects_with_logits(self):
        class Out(nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = network(nn.ReLU)

            def forward(self, x):
                return types.SimpleNamespace(logits=self.inner(x))

        term, model = Distillation(Out()), Out()
        with term.watch(model) as found:
            model(X)
        assert term(found).item() == pytest.approx(0, abs=1e-5)

    def test_other_classes_are_refused(self):
        term = Distillation(nn.Linear(6, 3))
        model = network(nn.ReLU)
        with term.watch(model), pytest.raises(ValueError, match=r"the teacher gives \(32, 3\)"):
            model(X)

    def test_bad_temperature(self):
        with pytest.raises(ValueError, match="temperature must be above 0"):
            Distillation(nn.Linear(6, 3), temperature=0)
