"""Trained activations: exact forward, straight-through and LSQ gradients, and their sites."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import snnconv
from snnconv.activations import QCFS, QuantReLU, QuantSigned, RateNorm
from snnconv.activations.quant import CHUNK


@given(levels=st.integers(1, 15), numerator=st.integers(-64, 192), clip=st.sampled_from([0.5, 1.0, 4.0]))
def test_quant_relu_forward(levels, numerator, clip):
    z = clip * numerator / 64
    expected = min(max(int((z * levels / clip + 0.5) // 1), 0), levels) * clip / levels
    assert QuantReLU(levels, clip)(torch.tensor([z])).item() == pytest.approx(expected, abs=1e-6)


def test_quant_relu_passes_gradient_inside_the_clip_only():
    z = torch.tensor([-1.0, 0.3, 0.9, 1.5], requires_grad=True)
    QuantReLU(3, 1.0)(z).sum().backward()
    assert z.grad.tolist() == [0.0, 1.0, 1.0, 0.0]


def test_quant_relu_clip_gradient_is_lsqs():
    layer = QuantReLU(2, 1.0)
    z = torch.tensor([[-1.0, 0.3, 0.9, 1.5]])
    layer(z).sum().backward()
    closed_form = 0 + (0.5 - 0.3) + (1.0 - 0.9) + 1
    scale = 2**2 / (4 * 2) ** 0.5
    assert layer.clip.grad.item() == pytest.approx(closed_form * scale, rel=1e-5)


@pytest.mark.parametrize("levels", [1, 3, 15])
@pytest.mark.parametrize("batch", [1, 64])
def test_step_size_learns_as_lsqs(levels, batch):
    """LSQ as published: the step size is the parameter, its gradient scaled by 1/√(N·L), N without the batch."""
    z = torch.rand(batch, 3, 5, 5, dtype=torch.float64) * 2 - 0.3
    weight = torch.randn_like(z) / batch  # the loss is a mean over inputs
    layer = QuantReLU(levels, 1.3, channels=3).double()
    (layer(z) * weight).sum().backward()
    with torch.no_grad():
        layer.clip -= 0.01 * layer.clip.grad
    step = torch.full((3, 1, 1), 1.3 / levels, dtype=torch.float32).double()
    ratio = z / step
    slope = torch.where(ratio <= 0, 0.0, torch.where(ratio >= levels, levels, (ratio + 0.5).floor() - ratio))
    gradient = (slope * weight).sum((0, 2, 3)) / (25 * levels) ** 0.5
    torch.testing.assert_close(layer.clip.detach() / levels, step.flatten() - 0.01 * gradient, rtol=1e-6, atol=1e-9)


def test_quant_relu_per_channel_clips():
    layer = QuantReLU(1, torch.tensor([1.0, 2.0]))
    assert layer(torch.tensor([[0.9, 0.9], [3.0, 3.0]])).tolist() == [[1.0, 0.0], [1.0, 2.0]]


def lsq(z, out, clip):
    """Gradients by the closed form, element by element: of the sum of outputs for z, and for the clip."""
    inside = (z > 0) & (z < clip)
    slope = torch.where(inside, (out - z) / clip, (z > clip).to(z))
    return inside.to(z), slope


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("lsq_scale", [False, True])
def test_gradients_are_the_closed_form(dtype, layout, per_channel, lsq_scale):
    clip = torch.tensor([0.7, 1.3, 2.1]) if per_channel else torch.tensor(1.3)
    layer = QuantReLU(5, clip, lsq_scale=lsq_scale)
    z = torch.randn(2 + 2 * CHUNK // 768, 3, 16, 16).to(dtype).contiguous(memory_format=layout).requires_grad_()
    weight = torch.randn(z.shape).to(dtype)
    out = layer(z)
    out.backward(weight)
    wide = torch.promote_types(dtype, torch.float32)
    alpha = clip.to(wide).reshape(-1, 1, 1) if per_channel else clip.to(wide)
    inside, slope = lsq(z.detach().to(wide), out.detach().to(wide), alpha)
    expected = (slope * weight).double().sum((0, 2, 3) if per_channel else None)
    if lsq_scale:
        expected = expected * 5**2 / (z[0].numel() / clip.numel() * 5) ** 0.5
    assert out.dtype == dtype
    assert out.stride() == z.stride()
    assert torch.equal(z.grad, (inside * weight).to(dtype))
    torch.testing.assert_close(layer.clip.grad.double(), expected, rtol=1e-3, atol=5e-2)


def test_clip_gradient_above_the_clip_is_that_of_finite_differences():
    z = torch.tensor([2.0, 3.0, -1.0], dtype=torch.float64)
    layer = QuantReLU(4, 1.5, lsq_scale=False)
    layer(z).sum().backward()
    step = 1e-3
    finite = (QuantReLU(4, 1.5 + step)(z) - QuantReLU(4, 1.5 - step)(z)).sum() / (2 * step)
    assert layer.clip.grad.item() == pytest.approx(finite.item(), rel=1e-3)


def test_low_precision_input_is_quantised_in_full_precision():
    z = torch.linspace(0, 2, 64).to(torch.bfloat16)
    layer = QuantReLU(7, 1.7)
    assert torch.equal(layer(z), layer(z.float()).to(torch.bfloat16))


def test_empty_batch():
    assert QuantReLU(3)(torch.zeros(0, 4)).shape == (0, 4)


@given(levels=st.integers(1, 8), numerator=st.integers(-64, 192))
def test_qcfs_forward(levels, numerator):
    z = torch.tensor([2.0 * numerator / 64])
    expected = 2.0 * torch.clamp(torch.floor(z * levels / 2.0 + 0.5) / levels, 0, 1)
    torch.testing.assert_close(QCFS(levels, 2.0)(z), expected)


class Floor(torch.autograd.Function):
    """Rounds down; the gradient passes."""

    @staticmethod
    def forward(ctx, x):
        return x.floor()

    @staticmethod
    def backward(ctx, grad):
        return grad


class Clip(torch.autograd.Function):
    """Clips to [0, 1]; the gradient passes there, ends included."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp(0, 1)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * ((x >= 0) & (x <= 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("levels", [1, 4, 8])
@pytest.mark.parametrize("per_channel", [False, True])
def test_qcfs_gradients_are_those_of_rounding_then_clipping(dtype, levels, per_channel):
    torch.manual_seed(0)
    clip = torch.tensor([0.7, 1.3, 2.1]) if per_channel else torch.tensor(1.3)
    z, weight = torch.randn(16, 3, 40, dtype=dtype), torch.randn(16, 3, 40, dtype=dtype)
    layer, x = QCFS(levels, clip), z.clone().requires_grad_()
    layer(x).backward(weight)
    scale, seen = clip.to(dtype).requires_grad_(), z.clone().requires_grad_()
    size = scale[:, None] if per_channel else scale
    (Clip.apply(Floor.apply(seen / size * levels + 0.5) / levels) * size).backward(weight)
    torch.testing.assert_close(x.grad, seen.grad)
    torch.testing.assert_close(layer.clip.grad, scale.grad.float(), rtol=1e-4, atol=1e-3)


def test_qcfs_and_lsq_differ_in_half_a_step_beyond_the_ends():
    """L = 2, λ = 1: a step is 1/2, so that QCFS passes where −1/4 < z < 5/4."""
    z = torch.tensor([-0.3, -0.2, 0.3, 0.9, 1.2, 1.3])
    found = {}
    for gradient in ("qcfs", "lsq"):
        for value in z:
            layer, x = QCFS(2, 1.0, gradient=gradient), value.reshape(1, 1).requires_grad_()
            layer(x).sum().backward()
            found.setdefault(gradient, []).append((x.grad.item(), layer.clip.grad.item()))
    assert [g for g, _ in found["qcfs"]] == [0, 1, 1, 1, 1, 0]
    assert [g for g, _ in found["lsq"]] == [0, 0, 1, 1, 0, 0]
    assert [g for _, g in found["qcfs"]] == pytest.approx([0, 0.2, 0.2, 0.1, -0.2, 1], abs=1e-6)
    assert [g for _, g in found["lsq"]] == pytest.approx([0, 0, 0.2, 0.1, 1, 1], abs=1e-6)
    assert (QCFS(2).gradient, QuantReLU(2).gradient) == ("qcfs", "lsq")


def test_qcfs_does_not_scale_the_gradient_of_the_clip():
    layer, lsq_layer = QCFS(2, 1.0), QuantReLU(2, 1.0)
    z = torch.tensor([[-1.0, 0.3, 0.9, 1.5]])
    layer(z).sum().backward()
    lsq_layer(z).sum().backward()
    assert layer.clip.grad.item() == pytest.approx(1.3, rel=1e-5)
    assert lsq_layer.clip.grad.item() == pytest.approx(1.3 * 4 / 8**0.5, rel=1e-5)


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("scale", ["sigmoid", "abs"])
def test_rate_norm_gradients_are_those_of_finite_differences(scaled, scale):
    layer = RateNorm(scale=scale, scaled=scaled).double().eval()
    layer.running_max.fill_(2.0)
    with torch.no_grad():
        layer.p.fill_(0.6)
    z = torch.tensor([-1.0, 0.25, 0.7, 3.0], dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(layer, (z,))
    p = layer.p
    torch.autograd.gradcheck(lambda value: torch.func.functional_call(layer, {"p": value}, (z,)), (p,))


def test_scaled_rate_norm_is_theta_times_the_plain_one():
    plain, scaled = RateNorm().eval(), RateNorm(scaled=True).eval()
    for layer in (plain, scaled):
        layer.running_max.fill_(2.0)
    z = torch.randn(50)
    torch.testing.assert_close(scaled(z), plain.theta * plain(z))


def test_rate_norm_running_maximum_moves_in_training_only():
    layer = RateNorm(momentum=0.5)
    layer.train()(torch.tensor([2.0]))
    assert layer.running_max == 2
    layer(torch.tensor([4.0]))
    assert layer.running_max == 3
    layer.eval()(torch.tensor([100.0]))
    assert layer.running_max == 3


def test_rate_norm_forward_and_gradient_of_p():
    layer = RateNorm(scale="abs").double()
    layer.train()(torch.tensor([2.0], dtype=torch.float64))
    layer.eval()
    with torch.no_grad():
        layer.p.fill_(0.5)
    z = torch.tensor([-1.0, 0.25, 0.5, 3.0], dtype=torch.float64)
    assert layer(z).tolist() == [0.0, 0.25, 0.5, 1.0]

    def loss(p):
        return (z / (p.abs() * 2)).clamp(0, 1).sum()

    layer(z).sum().backward()
    step = 1e-6
    finite = (loss(layer.p + step) - loss(layer.p - step)) / (2 * step)
    assert layer.p.grad.item() == pytest.approx(finite.item(), rel=1e-3)


def test_shared_p_is_one_parameter():
    p = nn.Parameter(torch.tensor(0.0))
    network = nn.Sequential(RateNorm(shared=p), RateNorm(shared=p))
    assert len(list(network.parameters())) == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: QuantReLU(0),
        lambda: QuantReLU(3, -1.0),
        lambda: QuantReLU(3, gradient="ste"),
        lambda: RateNorm(momentum=0),
        lambda: RateNorm(scale="tanh"),
    ],
)
def test_bad_arguments(make):
    with pytest.raises(ValueError, match="must be"):
        make()


def test_rate_norm_without_data_has_no_threshold():
    with pytest.raises(ValueError, match="has seen no data"):
        RateNorm().site("act")


@pytest.mark.slow
@pytest.mark.parametrize("gradient", ["lsq", "qcfs"])
@pytest.mark.parametrize("clip", [1.0, torch.tensor([0.5, 1.0, 1.5])], ids=["scalar", "channels"])
def test_quant_relu_compiles_to_the_same_values_and_gradients(clip, gradient) -> None:
    torch.manual_seed(0)
    plain = QuantReLU(3, clip=clip, gradient=gradient)
    compiled = torch.compile(copy.deepcopy(plain), fullgraph=True)
    x = torch.randn(4, 3, 5, 5)
    results = []
    for module in (plain, compiled):
        z = x.clone().requires_grad_()
        y = module(z)
        y.square().sum().backward()
        results.append((y.detach(), z.grad, next(module.parameters()).grad))
    for a, b in zip(*results, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_quantised_values_of_both_signs_convert_to_signed_bits_exactly() -> None:
    torch.manual_seed(0)
    quantiser = QuantSigned(levels=15, clip=torch.tensor([1.0, 0.5, 2.0, 1.5, 0.7, 1.1]))
    model = nn.Sequential(nn.Linear(4, 6), quantiser, nn.Linear(6, 3)).eval()
    x = torch.randn(64, 4)
    assert quantiser(model[0](x)).min() < 0
    snn = snnconv.convert(model, snnconv.methods.ShiftedThreshold(4, thresholds="trained", correction="none"), x)
    assert snn.neurons["1"].signed
    torch.testing.assert_close(snn(x), model(x), rtol=1e-5, atol=1e-5)
    quantiser(torch.full((2, 6), -9.0)).sum().backward()
    assert (quantiser.clip.grad < 0).all()
