"""A ReLU may stand anywhere, not only behind a layer with weights: defaults convert all of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import snnconv
from snnconv import methods
from snnconv.graph.capture.fx import source_graph
from snnconv.graph.fold import shift_bias
from snnconv.runtime.program import GraphProgram

relu = F.relu


class Net(nn.Module):
    """A function of four linear layers and a matrix."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function
        self.a, self.b, self.c, self.d = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(8, 3), nn.Linear(16, 3)
        self.adjacency = nn.Parameter(torch.rand(5, 5) / 5)
        self.e = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def both_signs(m: Net, x: Tensor) -> Tensor:
    h = m.a(x)
    return m.d(torch.cat([relu(h), relu(-h)], 1))


def written_out(m: Net, x: Tensor) -> Tensor:
    return torch.addmm(m.c.bias, relu(torch.addmm(m.a.bias, x, m.a.weight.t())), m.c.weight.t())


VECTORS, TOKENS, IMAGES = (64, 6), (32, 5, 6), (24, 1, 6, 6)
PLACES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "behind a concatenation": (lambda: Net(lambda m, x: m.d(relu(torch.cat([m.a(x), m.b(x)], 1)))), VECTORS),
    "behind a flattening": (
        lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.ReLU(), nn.Linear(64, 3)),
        IMAGES,
    ),
    "behind a mean over tokens": (lambda: Net(lambda m, x: m.c(relu(m.a(x).mean(1)))), TOKENS),
    "behind a global pooling": (
        lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.ReLU(), nn.Flatten(), nn.Linear(4, 3)),
        IMAGES,
    ),
    "behind a scaling": (lambda: Net(lambda m, x: m.c(relu(m.a(x) * 0.5))), VECTORS),
    "behind a difference": (lambda: Net(lambda m, x: m.c(relu(1 - m.a(x)))), VECTORS),
    "behind a layer added to itself": (lambda: Net(lambda m, x: m.c(relu((h := m.a(x)) + h))), VECTORS),
    "behind a ReLU": (lambda: Net(lambda m, x: m.c(relu(relu(m.a(x))))), VECTORS),
    "behind a ReLU's opposite": (lambda: Net(lambda m, x: m.c(relu(1 - relu(m.a(x))))), VECTORS),
    "twice, on both signs": (lambda: Net(both_signs), VECTORS),
    "on the input": (lambda: Net(lambda m, x: m.c(relu(m.a(relu(x))))), VECTORS),
    "behind a product with a matrix": (lambda: Net(lambda m, x: m.c(relu(m.adjacency @ m.a(x)))), TOKENS),
    "behind a largest of two": (lambda: Net(lambda m, x: m.e(relu(m.a(x).view(-1, 4, 2).max(-1)[0]))), VECTORS),
    "behind addmm": (lambda: Net(written_out), VECTORS),
    "behind GroupNorm on sequences": (
        lambda: nn.Sequential(nn.Conv1d(5, 8, 3), nn.GroupNorm(2, 8), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3)),
        TOKENS,
    ),
    "behind LayerNorm on vectors": (
        lambda: nn.Sequential(nn.Linear(6, 16), nn.LayerNorm(16), nn.ReLU(), nn.Linear(16, 3)),
        VECTORS,
    ),
    "behind LayerNorm on tokens": (
        lambda: nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 3)),
        TOKENS,
    ),
    "behind a sum of two layers": (lambda: Net(lambda m, x: m.c(relu(m.a(x) + m.b(x)))), VECTORS),
    "behind a convolution in three dimensions": (
        lambda: nn.Sequential(nn.Unflatten(1, (1, 2)), nn.Conv3d(1, 4, (1, 3, 3)), nn.ReLU(), nn.Flatten(),
                              nn.Linear(32, 3)),
        (16, 2, 4, 4),
    ),
}  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("method", "bound"),
    [(methods.ShiftedThreshold(timesteps=6), 0.05), (methods.SignedIF(timesteps=64), 0.1)],
    ids=["sums", "rates"],
)
def test_default_conversion_is_right_wherever_the_relu_stands(place: str, method: methods.Method, bound: float) -> None:
    torch.manual_seed(0)
    make, shape = PLACES[place]
    model, x = make().eval(), torch.randn(shape)
    snn = snnconv.convert(model, method, calibration=x, progress=False)
    got, want = snn(x), model(x).detach()
    assert got.shape == want.shape
    assert float((got - want).norm() / want.norm()) < bound


@pytest.mark.parametrize("place", PLACES)
def test_a_current_is_added_to_the_input_of_its_site(place: str) -> None:
    torch.manual_seed(0)
    make, shape = PLACES[place]
    x, seen, currents = torch.randn(shape), {}, {}
    source = source_graph(make().eval())
    program = GraphProgram(source)

    def record(site: str, z: Tensor) -> Tensor:
        seen[site] = z
        return source.sites[site].activation(z)

    program.static(x, record)
    before = dict(seen)
    last = list(before)[-1]  # a current at an earlier site changes what later ones read
    axis = source.sites[last].axis
    sizes = [1] * before[last].dim()
    sizes[axis] = before[last].shape[axis]
    currents[last] = torch.randn(sizes)
    program.shift(last, currents[last])
    program.static(x, record)
    torch.testing.assert_close(seen[last], before[last] + currents[last], rtol=1e-4, atol=1e-5)


class Uneven(nn.Module):
    """A convolution of one channel, or a linear layer of as many features as there are tokens, in a wider sum."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return relu(x.contiguous() + self.layer(x))


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(3, 1, 1, bias=False), (2, 3, 4, 4)),
        (nn.Conv2d(3, 1, 1), (2, 3, 4, 4)),
        (nn.Linear(4, 4), (2, 4, 4)),
        (nn.Conv1d(4, 4, 1), (2, 4, 4)),
    ],
    ids=["one channel", "one channel with a bias", "linear", "convolution"],
)
@pytest.mark.parametrize("axis", [1, -1])
def test_a_current_never_goes_into_the_bias_of_other_channels(layer: nn.Module, shape: tuple[int, ...], axis: int):
    torch.manual_seed(0)
    source, x = source_graph(Uneven(layer)), torch.randn(shape)
    sizes = [1] * x.dim()
    sizes[axis] = x.shape[axis]
    current = torch.randn(sizes)
    shift_bias(source, source.site_nodes()[0], current)
    got = GraphProgram(source).static(x, lambda site, z: z)
    torch.testing.assert_close(got, x + layer(x) + current)


def test_one_number_for_all_channels_goes_into_a_layer_without_bias() -> None:
    layer, x = nn.Conv2d(3, 4, 3, bias=False), torch.randn(2, 3, 6, 6)
    source = source_graph(nn.Sequential(layer, nn.ReLU()))
    shift_bias(source, source.site_nodes()[0], torch.tensor(0.5))
    got = GraphProgram(source).static(x, lambda site, z: z)
    torch.testing.assert_close(got, layer(x) + 0.5)
