"""From a seed to a network and its inputs."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tests.random_networks import images, tokens
from tests.random_networks.draw import Draw, Unfit
from tests.random_networks.network import Network, OfOne, OfTwo
from tests.random_networks.relus import both_signs, other_activation, relu, shared_relu

SAMPLES = 24
CONTAINERS = (
    "tuple", "list", "dict", "nested", "named tuple", "dataclass", "with a constant", "with its class",
    "with a comparison",
)  # fmt: skip


@dataclass(frozen=True)
class Drawn:
    """A network in evaluation mode and inputs for it, to calibrate and to try."""

    seed: int
    network: Network
    inputs: tuple[Tensor, ...]

    @property
    def calibration(self) -> Any:
        return self.inputs if len(self.inputs) > 1 else self.inputs[0]


def drawn(seed: int) -> Drawn:
    """The network of a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        source = random.Random(seed)
        while True:
            try:
                return _drawn(seed, source)
            except Unfit:  # an ending that does not fit; the next is drawn from where this one ended
                continue


def _drawn(seed: int, source: random.Random) -> Drawn:
    shape, layout = source.choice(INPUTS)
    inputs, layouts = [torch.randn(SAMPLES, *shape)], [layout]
    if source.random() < 0.2:
        other = source.choice([(shape, layout), ((5,), "vector")])
        inputs.append(torch.randn(SAMPLES, *other[0]))
        layouts.append(other[1])
    d = Draw(source, inputs, layouts)
    h = d.chosen(FIRST[d.layouts[0]], 0)
    at = d.random.randrange(3)
    for number in range(d.random.randint(3, 8)):
        if number == at and d.arity == 2:
            h = joined(d, h, 1)
        h = d.chosen(OPERATORS[d.layouts[h]], h)
    if d.chance(0.12):
        h = untraceable(d, h)
    h = relu(d, h)
    outputs, form = [head(d, h)], "tensor"
    if d.chance(0.35):
        form = d.one_of(*CONTAINERS)
        if d.chance(0.5):
            outputs.append(head(d, h))
    kind = OfOne if d.arity == 1 else OfTwo
    return Drawn(seed, kind(d.steps, outputs, form).used().eval(), tuple(inputs))


def head(d: Draw, h: int) -> int:
    """A readout: dense, or of a vector."""
    if d.layouts[h] == "image":
        if d.chance(0.25):
            return images.same_convolution(d, h)
        h = images.to_vector(d, h)
    elif d.layouts[h] == "tokens" and d.chance(0.6):
        h = tokens.to_vector(d, h)
    return d.add("linear to 3", nn.Linear(d.channels(h), 3), h)


def path(d: Draw, h: int) -> int:
    """A few steps that keep the shape."""
    same = images.same_convolution if d.layouts[h] == "image" else tokens.same_linear
    norm = images.norm if d.layouts[h] == "image" else tokens.norm
    for _ in range(d.random.randint(1, 3)):
        h = d.chosen([(3, same), (2, relu), (1, norm), (0.3, other_activation)], h)
    return h


def residual(d: Draw, h: int) -> int:
    g = path(d, h)
    table: dict[str, Callable[..., Tensor]] = {
        "add": lambda m, g, h: g + h,
        "add in place": lambda m, g, h: _added(g, h),
        "difference": lambda m, g, h: g - h,
        "add scaled": lambda m, g, h: h + 0.3 * g,
        "add by torch": lambda m, g, h: torch.add(g, h),
    }
    in_place = g != h and d.steps[g - d.arity].label.startswith(("conv", "linear"))
    label = d.one_of(*[name for name in table if name != "add in place" or in_place])
    return d.add(label, table[label], g, h)


def _added(g: Tensor, h: Tensor) -> Tensor:
    g += h
    return g


def concatenated(d: Draw, h: int) -> int:
    """Values of different kinds side by side: currents, spikes, inputs that were read before."""
    axis, g = d.axis(h), path(d, h)
    if d.chance(0.3):
        return d.add("mean of a stack", lambda m, g, h: torch.stack([g, h]).mean(0), g, h)
    if d.chance(0.2):
        return d.add("largest of two", lambda m, g, h: torch.maximum(g, h), g, h)
    return d.add("cat", lambda m, g, h: torch.cat([g, h], axis), g, h)


def halves(d: Draw, h: int) -> int:
    """The channels in two halves, of which one goes its own way."""
    axis, channels = d.axis(h), d.channels(h)
    if channels % 2:
        raise Unfit("an odd number of channels")
    made: Callable[[int], nn.Module] = nn.Linear
    if d.layouts[h] == "image":
        convolution = images.CONVOLUTION[d.values[h].dim() - 2]
        layer = convolution(channels // 2, channels // 2, 1)
    else:
        layer = made(channels // 2, channels // 2)  # type: ignore[call-arg]

    def split(m: Any, h: Tensor) -> Tensor:
        a, b = h.chunk(2, axis)
        return torch.cat([torch.relu(m.layer(a)), b], axis)

    return d.add("halves", split, h, layer=layer)


def twice(d: Draw, h: int) -> int:
    """One layer and one ReLU called twice."""
    same = images.same_convolution if d.layouts[h] == "image" else tokens.same_linear
    a = same(d, h)
    layer = d.steps[-1].module
    b = d.add("add its ReLU", lambda m, a, h: m.relu(a) + h, a, h, relu=nn.ReLU())
    return d.add("the same layer again", layer, b)


def joined(d: Draw, h: int, y: int) -> int:
    """The second input: added, concatenated, or as a gate a channel."""
    if d.shape(h) == d.shape(y) and d.chance(0.7):
        return d.add("add an input", lambda m, h, y: h + y, h, y)
    while d.layouts[y] != "vector":
        y = images.to_vector(d, y) if d.layouts[y] == "image" else tokens.to_vector(d, y)
    layer = nn.Linear(d.channels(y), d.channels(h))
    if d.layouts[h] == "image":
        places = [1] * (d.values[h].dim() - 2)
        return d.add(
            "add an input a channel",
            lambda m, h, y: h + m.layer(y).reshape(*y.shape[:1], -1, *places),
            h,
            y,
            layer=layer,
        )
    if d.layouts[h] == "tokens":
        return d.add(
            "times an input a channel", lambda m, h, y: h * torch.relu(m.layer(y)).unsqueeze(1), h, y, layer=layer
        )
    return d.add("cat of an input", lambda m, h, y: torch.cat([h, y], 1), h, y)


def untraceable(d: Draw, h: int) -> int:
    """Python that torch.fx cannot follow: loops over values and shapes, decisions by them."""

    def by_rows(m: Any, h: Tensor) -> Tensor:
        return torch.stack([m.relu(m.layer(row)) for row in h.unbind(1)], 1)

    def by_count(m: Any, h: Tensor) -> Tensor:
        total = torch.zeros_like(h[..., 0])
        for i in range(h.shape[-1]):
            total = total + h[..., i] * (i + 1) / h.shape[-1]
        return total.unsqueeze(-1)

    def by_length(m: Any, h: Tensor) -> Tensor:
        for _ in range(len(h.shape)):
            h = torch.relu(h) - 0.1 * h
        return h if bool(m.flag) else -h

    def by_iteration(m: Any, h: Tensor) -> Tensor:
        first, *others = (part.mean(-1, keepdim=True) for part in h.unbind(-1))
        return torch.cat([first, *others], -1)

    def by_finiteness(m: Any, h: Tensor) -> Tensor:
        if not torch.isfinite(h).all():
            raise ValueError("not finite")
        return m.relu(h - 0.1)

    if d.layouts[h] == "image":
        choices = {"loop over places": by_count, "loop over its shape": by_length, "check of values": by_finiteness}
    else:
        choices = {"loop over its shape": by_length, "check of values": by_finiteness}
        if d.layouts[h] == "tokens":
            choices |= {"loop over tokens": by_rows, "iteration over values": by_iteration}
    label = d.one_of(*choices)
    layer = nn.Linear(d.channels(h), d.channels(h))
    return d.add(label, choices[label], h, layer=layer, relu=nn.ReLU(), flag=torch.tensor(True))


INPUTS = [
    ((2, 10), "image"), ((1, 7), "image"), ((3, 6, 6), "image"), ((1, 8, 8), "image"), ((2, 5, 7), "image"),
    ((3, 6, 6), "image"), ((1, 4, 5, 4), "image"), ((5, 6), "tokens"), ((4, 8), "tokens"), ((3, 4), "tokens"),
    ((6,), "vector"), ((12,), "vector"),
]  # fmt: skip

ANY = [(3, residual), (1.5, concatenated), (0.7, halves), (0.7, twice), (0.5, both_signs), (0.5, shared_relu),
       (1, other_activation)]  # fmt: skip

OPERATORS: dict[str, list[tuple[float, Callable[[Draw, int], int]]]] = {
    "image": [*ANY, (5, images.convolution), (1.5, images.transposed_convolution), (3, images.norm), (5, relu),
              (2.5, images.pool), (1.5, images.pad), (1.5, images.view), (2, images.scaling), (0.7, images.resize),
              (0.7, images.gate), (0.7, images.to_tokens), (0.5, images.to_vector)],
    "tokens": [*ANY, (4, tokens.linear), (3, tokens.norm), (5, relu), (1.5, tokens.scaling), (1, tokens.places),
               (0.7, tokens.class_token), (1.2, tokens.attention), (1.5, tokens.mixing), (1.5, tokens.view),
               (0.6, tokens.to_vector), (0.6, tokens.to_image), (0.7, tokens.gate)],
    "vector": [*ANY, (4, tokens.linear), (3, tokens.norm), (5, relu), (1.5, tokens.scaling), (0.7, tokens.to_image),
               (0.7, tokens.to_tokens), (0.7, tokens.gate)],
}  # fmt: skip

FIRST: dict[str, list[tuple[float, Callable[[Draw, int], int]]]] = {
    "image": [(6, images.convolution), (1, relu), (0.5, images.norm), (0.5, images.pool), (0.5, images.pad)],
    "tokens": [(6, tokens.linear), (1, relu), (0.7, tokens.norm), (0.5, tokens.mixing)],
    "vector": [(6, tokens.linear), (1, relu), (0.7, tokens.norm)],
}
