"""The contract of convert() and of the network it gives."""

import copy
import dataclasses

import pytest
import torch
from torch import nn

import snnconv
from snnconv import ConversionError, activations, methods
from snnconv.conversion import calibration
from snnconv.conversion.bias import BiasCorrection


def network(activation=nn.ReLU):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        activation(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 12, 3, padding=1),
        activation(),
        nn.Flatten(),
        nn.Linear(12 * 16, 10),
    ).eval()


IMAGES = torch.rand(48, 3, 8, 8, generator=torch.Generator().manual_seed(1))
EVERY = [
    methods.IF(8),
    methods.SignedIF(8),
    methods.SRP(8, 4),
    methods.ShiftedThreshold(4),
    methods.LocalThresholdBalancing(16),
]


def convert(method, model=None, data=IMAGES, **options):
    return snnconv.convert(model or network(), method, calibration=data, progress=False, **options)


@pytest.mark.parametrize("method", EVERY, ids=lambda m: m.name)
class TestEveryMethod:
    def test_readout_is_like_the_models(self, method):
        model = network()
        y, expected = convert(method, model)(IMAGES), model(IMAGES)
        assert y.shape == expected.shape
        assert torch.nn.functional.cosine_similarity(y, expected).mean() > 0.9

    def test_calls_do_not_depend_on_each_other(self, method):
        snn = convert(method)
        first = snn(IMAGES[:3])
        snn(IMAGES[3:7])
        assert torch.equal(snn(IMAGES[:3]), first)

    def test_stream_ends_at_the_readout(self, method):
        snn = convert(method)
        steps = list(snn.stream(IMAGES[:3]))
        assert [t for t, _ in steps] == list(range(1, snn.timesteps + 1))
        torch.testing.assert_close(steps[-1][1], snn(IMAGES[:3]), rtol=1e-4, atol=1e-5)

    def test_the_model_is_not_changed(self, method):
        model = network().train()
        before = copy.deepcopy(model.state_dict())
        convert(method, model)
        assert model.training
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())

    def test_batches_do_not_mix(self, method):
        snn = convert(method)
        whole = snn(IMAGES)
        snn.memory_budget = 1
        torch.testing.assert_close(snn(IMAGES), whole, rtol=1e-4, atol=1e-5)

    def test_empty_batch(self, method):
        assert convert(method)(IMAGES[:0]).shape == (0, 10)

    def test_same_seed_same_network(self, method):
        assert torch.equal(convert(method)(IMAGES), convert(method)(IMAGES))

    def test_report_lists_every_site(self, method):
        report = convert(method).report
        assert [s.name for s in report.spiking] == ["2", "5"]
        assert "nothing stays analog" in str(report)

    def test_deepcopy(self, method):
        snn = convert(method)
        twin = copy.deepcopy(snn)
        assert torch.equal(twin(IMAGES[:2]), snn(IMAGES[:2]))
        assert twin.weights is not snn.weights

    def test_float64(self, method):
        snn = convert(method, network().double(), IMAGES.double())
        assert snn(IMAGES.double()).dtype == torch.float64


@pytest.mark.parametrize(
    "data",
    [
        IMAGES,
        list(IMAGES.split(16)),
        [(IMAGES[:24], torch.zeros(24)), (IMAGES[24:], torch.zeros(24))],
        [{"image": IMAGES[:24], "label": torch.zeros(24)}, {"image": IMAGES[24:]}],
        torch.utils.data.DataLoader(torch.utils.data.TensorDataset(IMAGES), batch_size=16),
    ],
    ids=["tensor", "list", "pairs", "dicts", "loader"],
)
def test_calibration_in_any_form_gives_the_same_network(data):
    torch.testing.assert_close(convert(methods.IF(4), data=data)(IMAGES), convert(methods.IF(4))(IMAGES))


def test_a_generator_is_read_once():
    batches = (b for b in IMAGES.split(16))
    torch.testing.assert_close(convert(methods.IF(4), data=batches)(IMAGES), convert(methods.IF(4))(IMAGES))


@pytest.mark.parametrize("thresholds", ["mse", "max", "99.9%", "ltb"])
@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("correction", ["none", "bias"])
def test_thresholds_times_corrections(thresholds, per_channel, correction):
    method = methods.SignedIF(16, thresholds=thresholds, per_channel=per_channel, correction=correction)
    snn = convert(method)
    theta = snn.thresholds["5"]
    assert theta.numel() == (12 if per_channel else 1)
    model = network()
    agree = (snn(IMAGES).argmax(1) == model(IMAGES).argmax(1)).float().mean()
    assert agree > 0.7


def test_bias_correction_lowers_the_error():
    model = network()
    errors = [
        snnconv.compare(model, convert(methods.IF(4, correction=c), model), IMAGES).output_error
        for c in ("none", "bias")
    ]
    assert errors[1] < errors[0]


def test_bias_correction_makes_no_spikes_of_zeros_behind_another_relu(monkeypatch):
    """There a current of half a level is a spike of every silent neuron, which LayerNorm makes large."""
    kept, run = {}, BiasCorrection.run
    monkeypatch.setattr(BiasCorrection, "run", lambda self, *given: (run(self, *given), kept.update(self.current)))
    torch.manual_seed(23)
    model = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.ReLU(), nn.LayerNorm(8), nn.Linear(8, 3)).double()
    with torch.no_grad():
        model[0].bias -= 0.5  # few are active
        x = torch.rand(48, 12).double()
        errors = []
        for correction in ("none", "bias"):
            snn = snnconv.convert(model, methods.ShiftedThreshold(10, correction=correction), x, progress=False)
            errors.append(snnconv.compare(model, snn, x).output_error)
    assert errors[1] < 2 * errors[0]
    assert kept["1"].flatten()[4] == 0
    assert (kept["1"] != 0).any()  # the other channels keep theirs


def test_reconstruction_lowers_the_error():
    model = network()
    errors = [
        snnconv.compare(model, convert(methods.ShiftedThreshold(2, correction=c), model), IMAGES).output_error
        for c in ("none", "reconstruct")
    ]
    assert errors[1] < errors[0]


@pytest.mark.parametrize("levels", [3, 7, 15])
def test_trained_thresholds_need_no_calibration_and_are_lossless(levels):
    model = network(lambda: activations.QuantReLU(levels, 1.5))
    timesteps = levels.bit_length()
    snn = snnconv.convert(model, methods.ShiftedThreshold(timesteps, thresholds="trained"))
    torch.testing.assert_close(snn(IMAGES), model(IMAGES), rtol=1e-4, atol=1e-5)
    comparison = snnconv.compare(model, snn, IMAGES)
    assert all(row.error < 1e-5 for row in comparison.rows)


@pytest.mark.parametrize(
    "method",
    [
        methods.RateNorm(256),
        methods.SignedIF(256, thresholds="trained"),
        methods.SRP(256, 4, thresholds="trained"),
    ],
    ids=lambda m: m.name,
)
def test_rate_norm_network(method):
    model = network(activations.RateNorm).train()
    model(IMAGES)
    model.eval()
    snn = snnconv.convert(model, method)
    torch.testing.assert_close(snn(IMAGES), model(IMAGES), rtol=0.1, atol=0.05)


def test_the_delay_leaves_out_the_first_steps():
    snn = convert(methods.IF(8, delay=3))
    late = snn.run(IMAGES[:2].contiguous(memory_format=torch.channels_last))[3:].mean(0)
    torch.testing.assert_close(snn(IMAGES[:2]), late)
    assert snn.delay == snn.report.delay == 3


def elements(model, depths, x):
    """Mean over ``x`` of each element behind the first so many modules."""
    with torch.no_grad():
        return [model[:depth](x).mean(0) for depth in depths]


class TestEstimatedDelay:
    """D = ⌊Σ mean_c(θ_c − v₀) / max_i ȳ_i⌋ (arXiv 2409.03368, eq. 19), from v₀ = θ/2."""

    # a few bright images among dark ones: thresholds far above the means
    UNEQUAL = IMAGES * torch.exp(2 * torch.randn(48, 1, 1, 1, generator=torch.Generator().manual_seed(2)))

    def test_it_is_the_papers(self):
        model = network()
        snn = convert(methods.LocalThresholdBalancing(64, max_batches=400), model, self.UNEQUAL)
        means = elements(model, [4, 6], self.UNEQUAL)  # a max-pooling stands before its neuron
        terms = [
            float(theta.mean()) / 2 / float(mean.max())
            for theta, mean in zip(snn.thresholds.values(), means, strict=True)
        ]
        assert snn.delay == int(sum(terms))
        by_channel = sum(
            float(theta.mean()) / 2 / float(mean.mean((1, 2)).max())
            for theta, mean in zip(snn.thresholds.values(), means, strict=True)
        )
        assert by_channel > sum(terms) + 1  # the mean of the largest channel would say more

    def test_many_batches_give_what_one_gives(self):
        method = methods.IF(64, thresholds="max", correction="none", delay="auto")
        whole, parts = convert(method, data=self.UNEQUAL), convert(method, data=list(self.UNEQUAL.split(7)))
        assert whole.delay == parts.delay > 1

    def test_inputs_of_two_sizes(self):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
        ).eval()
        large = torch.rand(2, 3, 12, 12)
        snn = convert(methods.IF(64, thresholds="max", correction="none", delay="auto"), model, [IMAGES, large])
        (theta,) = snn.thresholds.values()
        mean = elements(model, [2], IMAGES)[0]  # the size that most inputs have
        assert snn.delay == int(float(theta.mean()) / 2 / float(mean.max()))

    def test_rate_norm_counts_in_unit_spikes(self):
        model = network(activations.RateNorm).train()
        model(IMAGES)
        model.eval()
        snn = convert(methods.RateNorm(64, delay="auto"), model)
        means = elements(model, [4, 6], IMAGES)
        assert snn.delay == int(sum(1 / 2 / float(mean.max()) for mean in means))


def test_balancing_takes_as_many_samples_and_batches_as_asked():
    method = methods.LocalThresholdBalancing(8, calibration_samples=1500, max_batches=50, tolerance=0)
    snn = convert(method, data=torch.rand(2000, 3, 8, 8))
    assert snn.report.calibration_samples == 1500
    assert "threshold balancing used 50 batches" in snn.report.notes
    assert methods.Method.from_dict(method.to_dict()) == method
    assert convert(methods.IF(2, correction="none"), data=torch.rand(2000, 3, 8, 8)).report.calibration_samples == 1024


class Broken(nn.Module):
    def forward(self, x):
        return torch.relu(x).reshape(3, 7)


def with_nan():
    model = network()
    with torch.no_grad():
        model[4].weight[0, 0, 0, 0] = float("nan")
    return model


def with_infinity():
    model = network()
    with torch.no_grad():
        model[1].running_mean[0] = float("inf")
    return model


@pytest.mark.parametrize(
    ("model", "method", "data", "sentence"),
    [
        (with_nan, methods.IF(4), IMAGES, r"weight '4\.weight' has 1 NaN"),
        (with_infinity, methods.IF(4), IMAGES, r"1\.running_mean"),
        (network, methods.IF(4), None, "come from data"),
        (network, methods.IF(4), [], "calibration is empty"),
        (network, methods.IF(4), IMAGES[:0], "calibration is empty"),
        (network, methods.IF(4), torch.full((2, 3, 8, 8), float("nan")), "calibration batch 0 has NaN"),
        (network, methods.IF(4), IMAGES.double(), "torch.float64, the network's weights are torch.float32"),
        (network, methods.IF(4), (IMAGES * 255).byte(), "torch.uint8"),
        (network, methods.IF(4), torch.rand(4, 5, 8, 8), "fails on calibration data of shape"),
        (network, methods.IF(4), ["text"], "a batch is a str"),
        (network, methods.IF(4), [{"label": 3}], "without an input tensor"),
        (lambda: nn.Sequential(nn.Linear(3, 3), nn.GELU()), methods.IF(4), torch.rand(4, 3), "neurons for, .*GELU"),
        (network, methods.IF(4, thresholds="trained"), IMAGES, "needs an activations.RateNorm or QuantReLU"),
        (network, methods.RateNorm(4), IMAGES, "needs an activations.RateNorm"),
        (Broken, methods.IF(4), torch.rand(4, 3), "fails on calibration data"),
    ],
)
def test_bad_input_names_the_culprit(model, method, data, sentence):
    with pytest.raises(ConversionError, match=sentence):
        snnconv.convert(model(), method, calibration=data, progress=False)


def test_wrong_types():
    with pytest.raises(TypeError, match=r"model must be an nn\.Module"):
        snnconv.convert(3, methods.IF(4))
    with pytest.raises(TypeError, match=r"methods\.IF\(timesteps=\.\.\.\), not the class"):
        snnconv.convert(network(), methods.IF)
    with pytest.raises(ConversionError, match="framework must be one of"):
        snnconv.convert(network(), methods.IF(4), IMAGES, framework="brian")
    with pytest.raises(ConversionError, match="already converted"):
        snnconv.convert(convert(methods.IF(4)), methods.IF(4), IMAGES)


def test_wrong_input_to_the_converted_network():
    snn = convert(methods.IF(4))
    for bad, sentence in [
        (torch.rand(3, 8, 8), "wrong input shape"),
        (torch.rand(2, 4, 8, 8), "dimension 1 must be 3"),
        (torch.rand(2, 3, 8, 8).double(), "wrong input dtype"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), "wrong input dtype"),
        (torch.rand(2, 3, 8, 8, device="meta"), "input is on meta, the network on cpu"),
        ("text", "takes a tensor"),
    ]:
        with pytest.raises(ConversionError, match=sentence):
            snn(bad)


def test_strict_refuses_what_would_stay_analog():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.SiLU(), nn.Linear(8, 2))
    data = torch.randn(32, 4)
    snn = snnconv.convert(model, methods.IF(64), data, progress=False)
    assert [(a.name, a.operator) for a in snn.report.analog] == [("3", "silu")]
    assert "running mean" in str(snn.report)
    torch.testing.assert_close(snn(data), model(data), atol=0.05, rtol=0.1)
    with pytest.raises(ConversionError, match=r"3 \(silu\)"):
        snnconv.convert(model, methods.IF(64), data, strict=True, progress=False)


def test_progress_is_reported():
    seen = set()
    snnconv.convert(
        network(), methods.IF(4), IMAGES, progress=lambda what, done, total: seen.add((what, done == total))
    )
    assert ("bias correction", True) in seen
    assert ("thresholds: histogram", True) in seen


def test_monitors_and_reset_work_on_the_neurons():
    from spikingjelly.activation_based import functional, monitor

    snn = convert(methods.SignedIF(4))
    watch = monitor.OutputMonitor(snn, snnconv.neurons.SignedIFNode)
    snn(IMAGES[:2])
    assert len(watch.records) == 2
    assert watch.records[0].shape[:2] == (4, 2)
    functional.reset_net(snn)


def test_streams_and_calls_do_not_disturb_each_other():
    snn = convert(methods.SignedIF(4))
    alone = [y for _, y in snn.stream(IMAGES[:2])]
    one, other = snn.stream(IMAGES[:2]), snn.stream(IMAGES[2:5])
    together = []
    for (_, y), _ in zip(one, other, strict=True):
        snn(IMAGES[:1])
        assert torch.is_grad_enabled()
        together.append(y)
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


@pytest.mark.parametrize(
    "method", [methods.SignedIF(8), methods.ShiftedThreshold(4), methods.SRP(4, 4)], ids=lambda m: m.name
)
def test_bfloat16(method):
    snn = convert(method)
    full = snn(IMAGES)
    low = snn.bfloat16()(IMAGES.bfloat16())
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), full, atol=0.2, rtol=0.2)


def test_rounding_ties_that_folding_flips_are_no_disagreement() -> None:
    """A deep quantised network: BatchNorm folded in float32 moves values across the border of two levels."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for i in range(5):
        conv = nn.Conv2d(3 if i == 0 else 16, 16, 3, padding=1, bias=False)
        layers += [conv, nn.BatchNorm2d(16), activations.QuantReLU(levels=255, clip=2.0)]
    model = nn.Sequential(*layers)
    x = torch.randn(8, 3, 48, 48)
    with torch.no_grad():
        for _ in range(20):
            model.train()(x)
    snn = snnconv.convert(
        model.eval(), methods.ShiftedThreshold(8, thresholds="trained", correction="none"), x, progress=False
    )
    assert snn.report.path == "graph"


def test_balanced_thresholds_of_large_networks_take_small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4)).eval()
    x = torch.randn(64, 8)
    method = methods.LocalThresholdBalancing(8)
    whole = snnconv.convert(model, method, x, progress=False)
    seen: list[int] = []
    original = calibration.balanced_thresholds

    def noted(ann: object, parts: list[torch.Tensor], *arguments: object, **options: object) -> object:
        seen.extend(len(part) for part in parts)
        return original(ann, parts, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(calibration, "BALANCING_VALUES", 32 * 10)
    monkeypatch.setattr(calibration, "balanced_thresholds", noted)
    small = snnconv.convert(model, method, x, progress=False)
    assert seen == [10] * 6 + [4]
    a, b = whole.thresholds["1"], small.thresholds["1"]
    assert float((a - b).abs().mean()) < 0.1 * float(a.mean())


@pytest.mark.parametrize("method", [methods.SignedIF(4), methods.IF(8), methods.SRP(4, 4)], ids=lambda m: m.name)
def test_reconstruction_lowers_the_error_of_rate_methods(method: methods.Method) -> None:
    model = network()
    errors = []
    for correction in ("bias", "reconstruct"):
        snn = convert(dataclasses.replace(method, correction=correction), model)
        errors.append(snnconv.compare(model, snn, IMAGES).output_error)
    assert errors[1] < errors[0]
