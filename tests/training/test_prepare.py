"""prepare(): a trainable copy with trained activations at the sites that conversion finds."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import snnconv
from snnconv import ConversionError, activations, methods
from snnconv.activations import QCFS, QuantReLU, RateNorm, TrainedActivation
from snnconv.training.prepare import calibrate

IMAGES = torch.rand(48, 3, 8, 8, generator=torch.Generator().manual_seed(1))


class Modules(nn.Module):
    """Every ReLU is a module that is called once."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(8)
        self.act1 = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(8, 12, 3, padding=1)
        self.act2 = nn.ReLU6()
        self.linear = nn.Linear(12 * 16, 10)

    def forward(self, x):
        x = self.pool(self.act1(self.bn1(self.conv1(x))))
        return self.linear(self.act2(self.conv2(x)).flatten(1))


class Functions(Modules):
    """One module called twice, functions, methods, dropout by the module's mode."""

    def forward(self, x):
        x = self.pool(self.act1(self.bn1(self.conv1(x))))
        y = F.dropout(self.act1(self.conv2(x)), 0.5, training=self.training)
        y = (y + 1).clamp(min=0) - torch.relu(y) + F.relu6(y) + y.relu()
        return self.linear(y.flatten(1))


class Overwriting(Modules):
    """Reads a value that an in-place ReLU has changed."""

    def forward(self, x):
        x = self.bn1(self.conv1(x))
        y = self.act1(x)
        x = self.conv2(self.pool(y + x))
        return self.linear(self.act2(x).flatten(1))


class Untraceable(Modules):
    def forward(self, x):
        if float(x.sum()) < 0:
            return x
        return super().forward(x)


def make(kind=Modules):
    torch.manual_seed(0)
    return kind()


def prepare(model, activation, data=IMAGES, **options):
    return snnconv.prepare(model, activation, data, progress=False, **options)


def trained(model):
    return {name: m for name, m in model.named_modules() if isinstance(m, TrainedActivation)}


def expected_sites(model):
    return list(snnconv.convert(model, methods.IF(2), IMAGES, progress=False).program.sites)


@pytest.mark.parametrize("kind", [Modules, Functions, Overwriting, Untraceable])
class TestEveryForm:
    def test_sites_are_those_of_the_conversion(self, kind):
        model = make(kind)
        names = [name.replace(":", "_") for name in expected_sites(model)]
        assert sorted(trained(prepare(model, QuantReLU(7)))) == sorted(names)

    def test_parameters_keep_their_names_and_values(self, kind):
        model = make(kind)
        state = prepare(model, QuantReLU(7)).state_dict()
        own = {k: v for k, v in state.items() if not k.endswith(".clip")}
        assert own.keys() == model.state_dict().keys()
        assert all(torch.equal(v, own[k]) for k, v in model.state_dict().items())

    def test_many_levels_are_the_source_network(self, kind):
        model = make(kind).eval()
        torch.testing.assert_close(prepare(model, QuantReLU(2**14))(IMAGES), model(IMAGES), rtol=1e-2, atol=2e-3)

    @pytest.mark.parametrize("per_channel", [False, True])
    def test_converts_without_calibration_and_without_loss(self, kind, per_channel):
        qann = prepare(make(kind), QuantReLU(7, per_channel=per_channel)).eval()
        data = IMAGES if kind is Untraceable else None
        method = methods.ShiftedThreshold(timesteps=3, thresholds="trained", correction="none")
        snn = snnconv.convert(qann, method, data, progress=False)
        torch.testing.assert_close(snn(IMAGES), qann(IMAGES), rtol=1e-5, atol=1e-5)
        assert all(row.error < 1e-6 for row in snnconv.compare(qann, snn, IMAGES).rows)

    def test_trains_and_evaluates(self, kind):
        qann = prepare(make(kind).train(), QuantReLU(7))
        assert qann.training
        mean = qann.bn1.running_mean.clone()
        loss = F.cross_entropy(qann(IMAGES), torch.arange(48) % 10)
        loss.backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in qann.parameters())
        assert not torch.equal(mean, qann.bn1.running_mean)
        qann.eval()
        assert torch.equal(qann(IMAGES), qann(IMAGES))

    @pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
    def test_copies_go_on_alike(self, kind, copied):
        qann = prepare(make(kind), QuantReLU(7, per_channel=True)).eval()
        twin = copied(qann)
        assert torch.equal(twin(IMAGES), qann(IMAGES))
        assert twin.train().training
        assert {m.training for m in twin.modules()} == {True}

    def test_the_model_is_not_changed(self, kind):
        model = make(kind).train()
        before = copy.deepcopy(model.state_dict())
        prepare(model, QuantReLU(7))
        assert model.training
        assert not trained(model)
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_the_class_stays_where_each_relu_is_a_module_of_its_own():
    assert type(prepare(make(), QuantReLU(7))) is Modules
    assert type(prepare(make(Untraceable), QuantReLU(7))) is Untraceable
    assert isinstance(prepare(make(Functions), QuantReLU(7)), torch.fx.GraphModule)


class Bounded(nn.Module):
    def forward(self, x):
        return x.masked_fill(x < 0, 0.0)


@pytest.mark.parametrize(
    "parts",
    [
        (nn.ReLU(), Bounded(), nn.Threshold(0.0, 0.0)),
        (nn.Hardtanh(0.0, 1.0), Bounded()),
        (nn.ReLU(), nn.Hardtanh(-0.5, 0.5), nn.Threshold(0.0, 0.0)),
        (Bounded(), nn.ReLU6()),
        (nn.Hardtanh(), Bounded()),
    ],
    ids=lambda parts: "-".join(type(m).__name__ for m in parts),
)
def test_what_several_modules_compute_together_is_replaced_whole(parts):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), *parts, nn.Linear(8, 3)).eval().double()
    x = torch.randn(32, 6, dtype=torch.float64)
    quantised = snnconv.prepare(model, QuantReLU(levels=7), x, progress=False).eval()
    snn = snnconv.convert(quantised, methods.ShiftedThreshold(3, thresholds="trained"), x, progress=False)
    torch.testing.assert_close(snn(x), quantised(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "activation", [QuantReLU(levels=7), QCFS(levels=7), RateNorm()], ids=lambda a: type(a).__name__
)
def test_a_network_in_double_precision_stays_in_it(activation):
    model = nn.Sequential(nn.ReLU(), nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).double()
    prepared = snnconv.prepare(model, activation, torch.randn(32, 6).double(), progress=False)
    assert {v.dtype for v in prepared.state_dict().values() if v.is_floating_point()} == {torch.float64}
    assert activation.state_dict()[next(iter(activation.state_dict()))].dtype == torch.float32


def test_dropout_follows_the_mode_of_the_copy():
    qann = prepare(make(Functions), QuantReLU(7))
    assert not torch.equal(qann.train()(IMAGES), qann(IMAGES))
    assert torch.equal(qann.eval()(IMAGES), qann(IMAGES))


def test_autocast():
    qann = prepare(make(Functions), QuantReLU(7))
    with torch.autocast("cpu", torch.bfloat16):
        loss = qann(IMAGES).float().square().mean()
    loss.backward()
    assert all(m.clip.grad.dtype == torch.float32 for m in trained(qann).values())


def test_weights_load_into_a_copy_made_without_data():
    for per_channel in (False, True):
        qann = prepare(make(), QuantReLU(7, per_channel=per_channel)).eval()
        twin = snnconv.prepare(make(), QuantReLU(7, per_channel=per_channel)).eval()
        twin.load_state_dict(qann.state_dict())
        assert torch.equal(twin(IMAGES), qann(IMAGES))


class TestStart:
    def test_clips_are_those_of_least_squared_error(self):
        model = make().eval()
        qann = prepare(model, QuantReLU(3))
        with torch.no_grad():  # what the pooling behind the activation lets through
            z = model.pool(model.bn1(model.conv1(IMAGES)))
        clip = float(qann.act1.clip.detach())

        def error(alpha):
            return float((QuantReLU(3, alpha)(z) - z.clamp(min=0)).square().mean().detach())

        assert error(clip) <= 1.02 * min(error(float(z.max()) * k / 50) for k in range(5, 55))

    def test_one_clip_a_channel(self):
        qann = prepare(make(), QuantReLU(3, per_channel=True))
        assert [m.clip.shape for m in trained(qann).values()] == [(8,), (12,)]
        assert len(qann.act1.clip.unique()) > 1

    def test_a_cap_bounds_the_clip(self):
        model = make()
        with torch.no_grad():
            model.conv2.weight.mul_(200)
        assert float(prepare(model, QuantReLU(3)).act2.clip.detach()) <= 6
        assert float(prepare(model, RateNorm(scaled=True)).act2.running_max) == 6

    def test_without_data_the_clip_is_the_given_one(self):
        assert float(snnconv.prepare(make(), QuantReLU(3, clip=2.5)).act1.clip.detach()) == 2.5

    def test_rate_norm_starts_from_the_largest_input(self):
        model = make().eval()
        layer = prepare(model, RateNorm(scaled=True)).act1
        assert float(layer.running_max) == pytest.approx(float(model.bn1(model.conv1(IMAGES)).max().detach()), rel=1e-5)

    def test_rate_norm_takes_the_outputs_of_the_layers_before(self):
        qann = prepare(make(), RateNorm()).eval()
        seen = []
        qann.conv2.register_forward_hook(lambda m, i, o: seen.append(float(o.max().detach())))
        qann(IMAGES)
        assert float(qann.act2.running_max) == pytest.approx(min(seen[0], 6.0), rel=1e-4)

    def test_scaled_rate_norm_keeps_the_function(self):
        model = make().eval()
        qann = prepare(model, RateNorm(scale="abs", scaled=True)).eval()
        torch.testing.assert_close(qann(IMAGES), model(IMAGES), rtol=1e-4, atol=1e-4)

    def test_a_shared_scale_is_one_parameter_of_the_copy(self):
        p = nn.Parameter(torch.tensor(3.0))
        qann = prepare(make(), RateNorm(shared=p))
        scales = {id(m.p) for m in trained(qann).values()}
        assert len(scales) == 1
        assert id(p) not in scales

    def test_calibrate_sets_an_existing_network(self):
        qann = snnconv.prepare(make(), QuantReLU(3))
        calibrate(qann, IMAGES, progress=False)
        assert float(qann.act1.clip.detach()) == float(prepare(make(), QuantReLU(3)).act1.clip.detach())


@pytest.mark.parametrize("method", [methods.RateNorm(256), methods.IF(256, thresholds="trained", correction="none")])
@pytest.mark.parametrize("scaled", [False, True])
def test_rate_norm_networks_convert(method, scaled, tmp_path):
    qann = prepare(make(), RateNorm(scaled=scaled)).eval()
    snn = snnconv.convert(qann, method, progress=False)
    torch.testing.assert_close(snn(IMAGES), qann(IMAGES), rtol=0.1, atol=0.03)
    assert bool(snnconv.audit(snn, IMAGES[:4]))
    snnconv.save(snn, tmp_path / "net.safetensors")
    assert torch.equal(snnconv.load(tmp_path / "net.safetensors")(IMAGES), snn(IMAGES))


def test_qcfs_is_the_quantised_relu_without_lsq():
    qann = prepare(make(), QCFS(4))
    assert isinstance(qann.act1, QuantReLU)
    assert not qann.act1.lsq_scale


class Two(nn.Module):
    """Does something else in training, around a functional ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x):
        x = F.relu(self.linear(x))
        return x + torch.ones(()) if self.training else self.linear(x)


class Loose(nn.Module):
    """Does not trace, and calls its ReLU as a function."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Linear(4, 4))

    def forward(self, x):
        return F.relu(self.block(x)) if float(x.sum()) > -1e9 else x


def with_nan():
    model = make()
    with torch.no_grad():
        model.conv2.weight[0, 0, 0, 0] = float("nan")
    return model


@pytest.mark.parametrize(
    ("model", "activation", "data", "error", "sentence"),
    [
        (make, QuantReLU, IMAGES, TypeError, r"give an instance, activations\.QuantReLU\(\.\.\.\), not the class"),
        (make, nn.ReLU(), IMAGES, TypeError, "activation must be"),
        (lambda: "net", QuantReLU(3), None, TypeError, r"must be an nn\.Module"),
        (with_nan, QuantReLU(3), IMAGES, ConversionError, r"weight 'conv2\.weight' has 1 NaN"),
        (lambda: nn.Sequential(nn.Linear(4, 4), nn.GELU()), QuantReLU(3), None, ConversionError, "no ReLU.*GELU"),
        (make, QuantReLU(3), [], ConversionError, "calibration is empty"),
        (make, QuantReLU(3), IMAGES.double(), ConversionError, "torch.float64"),
        (make, QuantReLU(3, clip=torch.ones(5)), None, ValueError, "act1: 5 clips for 8 channels"),
        (Two, QuantReLU(3), None, ConversionError, "another way in training than in evaluation"),
        (Loose, QuantReLU(3), torch.rand(8, 4), ConversionError, "relu: a ReLU that is called as a function"),
        (Loose, QuantReLU(3), None, ConversionError, "give calibration data"),
        (lambda: prepare(make(), QuantReLU(3)), QuantReLU(3), None, ConversionError, "trained one already"),
    ],
)
def test_bad_input_names_the_culprit(model, activation, data, error, sentence):
    with pytest.raises(error, match=sentence):
        snnconv.prepare(model(), activation, data, progress=False)


def test_calibrate_needs_a_trained_activation():
    with pytest.raises(ConversionError, match="no trained activation"):
        calibrate(make(), IMAGES, progress=False)


def gradients(rank, store, folder):
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    model = nn.parallel.DistributedDataParallel(prepare(make(Functions), activations.QuantReLU(3)))
    model(IMAGES[rank::2]).square().mean().backward()
    torch.save([p.grad for p in model.parameters()], f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_ranks_share_gradients(tmp_path):
    torch.multiprocessing.spawn(gradients, (str(tmp_path / "store"), str(tmp_path)), nprocs=2, join=True)
    one, other = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


class Called(nn.Module):
    """Calls a function of the name of a module that it has, too, and does not trace."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.relu, self.head = nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(len(x.shape) - 1):
            x = torch.relu(self.first(x))
        return self.head(x)


def test_a_function_is_not_taken_for_the_module_of_its_name() -> None:
    with pytest.raises(ConversionError, match=r"functional\.relu: a ReLU that is called as a function"):
        snnconv.prepare(Called(), QuantReLU(levels=3), torch.randn(8, 4), progress=False)


class Aliases(nn.Module):
    """One ReLU under two names; iterates over rows, which does not trace."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.one = nn.Linear(4, 8), nn.Linear(8, 2), nn.ReLU()
        self.other = self.one

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.other(self.second(torch.stack([self.one(self.first(row)) for row in x.unbind(1)], 1)))


def test_a_module_of_two_names_is_replaced_under_both() -> None:
    x = torch.randn(8, 3, 4)
    qann = snnconv.prepare(Aliases(), QuantReLU(levels=3), x, progress=False).eval()
    assert isinstance(qann.one, QuantReLU)
    assert qann.other is qann.one


class Masked(nn.Module):
    """Its second ReLU is a product with a mask, and a loop over a size keeps it from tracing."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.relu = nn.Linear(4, 3), nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h, total = self.relu(self.first(x)), torch.zeros(())
        for i in range(h.shape[-1]):
            total = total + h[..., i] - 0.5
        return total * (total > 0)


def test_a_relu_that_only_an_exported_graph_shows_is_named() -> None:
    with pytest.raises(ConversionError, match=r"relu.*: a ReLU that is called as a function"):
        snnconv.prepare(Masked(), QuantReLU(levels=3), torch.randn(8, 4), progress=False)
