"""What :mod:`benchmarks.against` runs in each release: converts, loads and times, as told line by line.

It uses what both releases have: the public names of ``snnconv`` alone.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ANSWER = "answer: "
LONG_ENOUGH = 0.05
"""Seconds for which a call is repeated where it is shorter."""
FRAMEWORKS = ("spikingjelly", "snntorch")
METHODS: dict[str, tuple[str, dict[str, Any]]] = {  # the method, and what it needs
    "IF": ("IF", {"timesteps": 8}),
    "signed IF": ("SignedIF", {"timesteps": 8}),
    "SRP": ("SRP", {"timesteps": 8, "pre_timesteps": 4}),
    "shifted threshold": ("ShiftedThreshold", {"timesteps": 4}),
    "LTB": ("LocalThresholdBalancing", {"timesteps": 16}),
    "IF, largest activation": ("IF", {"timesteps": 16, "thresholds": "max"}),
    "rate norm": ("RateNorm", {"timesteps": 16}),
}


class Digits(nn.Module):
    """A small CNN with BatchNorm, a residual add, max and average pooling."""

    def __init__(self, activation: Callable[[], nn.Module] = nn.ReLU) -> None:
        super().__init__()
        self.act1, self.act2, self.act3 = activation(), activation(), activation()
        self.conv1, self.bn1 = nn.Conv2d(1, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24)
        self.conv2, self.bn2 = nn.Conv2d(24, 48, 3, padding=1, bias=False), nn.BatchNorm2d(48)
        self.conv3, self.bn3 = nn.Conv2d(48, 48, 3, padding=1, bias=False), nn.BatchNorm2d(48)
        self.linear = nn.Linear(192, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act1(self.bn1(self.conv1(x)))
        x = F.max_pool2d(self.act2(self.bn2(self.conv2(x))), 2)
        x = self.act3(x + self.bn3(self.conv3(x)))
        return self.linear(F.adaptive_avg_pool2d(x, 2).flatten(1))


def _conv(i: int, o: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(i, o, 3, stride, 1, bias=False)


class Block(nn.Module):
    def __init__(self, i: int, o: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(i, o, stride), nn.BatchNorm2d(o)
        self.conv2, self.bn2 = _conv(o, o), nn.BatchNorm2d(o)
        self.missing = o - i

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.missing:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.missing // 2, self.missing // 2))
        return F.relu(x + y)


class ResNet20(nn.Module):
    """He et al., with option A's shortcut; the keys of the published weights."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(3, 16), nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(*(Block(16, 16, 1) for _ in range(3)))
        self.layer2 = nn.Sequential(Block(16, 32, 2), Block(32, 32, 1), Block(32, 32, 1))
        self.layer3 = nn.Sequential(Block(32, 64, 2), Block(64, 64, 1), Block(64, 64, 1))
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))
        return self.linear(F.avg_pool2d(x, x.shape[3]).flatten(1))


def digits_rate_norm() -> nn.Module:
    from snnconv.activations import RateNorm

    return Digits(RateNorm)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "digits": Digits, "digits, rate norm": digits_rate_norm, "resnet20": ResNet20
}  # fmt: skip


def methods_of(network: str) -> list[str]:
    """The methods that convert a network: a rate norm network has one of its own."""
    return [name for name in METHODS if (name == "rate norm") == (network == "digits, rate norm")]


def prepare(folder: Path, images: int, wanted: list[str]) -> list[str]:
    """Weights and inputs of the networks that are wanted and can be had here, in ``folder``; their names."""
    from safetensors.torch import load_file, save_file

    from benchmarks.data import DataError, cifar10, find, normalise
    from snnconv.demo import load_digits, train

    digits = load_digits(0)
    names = [name for name in ("digits", "digits, rate norm") if name in wanted]
    for name in names:
        torch.manual_seed(0)
        model = train(NETWORKS[name](), digits, epochs=6)
        save_file(model.state_dict(), folder / f"{name}.safetensors")
        save_file({"calibration": digits.x_train[:512], "test": digits.x_test}, folder / f"{name}.inputs.safetensors")
    if "resnet20" not in wanted:
        return names
    try:
        save_file(load_file(find("resnet20_cifar10.safetensors")), folder / "resnet20.safetensors")
        sets = {
            "calibration": cifar10("train").shuffled(0).first(256),
            "test": cifar10("test").shuffled(0).first(images),
        }
        data = {name: normalise(chosen.images).contiguous() for name, chosen in sets.items()}
        save_file(data, folder / "resnet20.inputs.safetensors")
        names.append("resnet20")
    except DataError as error:
        print(f"ResNet-20 is left out: {error}", file=sys.stderr)
    return names


class Release:
    """The release on this process's path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.snn: Any = None
        self.batch: Any = None

    def _network(self, name: str) -> tuple[nn.Module, dict[str, Tensor]]:
        from safetensors.torch import load_file

        model = NETWORKS[name]()
        model.load_state_dict(load_file(self.folder / f"{name}.safetensors"))
        return model.eval(), load_file(self.folder / f"{name}.inputs.safetensors")

    def convert(self, network: str, framework: str, method: str, name: str) -> str:
        """Convert, save, and leave the outputs on the test inputs in a file."""
        import snnconv

        model, data = self._network(network)
        kind, settings = METHODS[method]
        torch.manual_seed(0)
        self.snn = snnconv.convert(
            model, getattr(snnconv.methods, kind)(**settings), data["calibration"], framework=framework, progress=False
        )
        self.batch = data["test"][:64]
        snnconv.save(self.snn, self.folder / f"{name}.snn.safetensors")
        return self._answer(self.snn, data["test"], name)

    def old_file(self, file: str, network: str) -> str:
        """The outputs of a saved network."""
        import snnconv

        _, data = self._network(network)
        return self._answer(snnconv.load(self.folder / file), data["test"], "old_file")

    def moved(self, file: str) -> dict[str, Any]:
        """What the conversions before and now found differently: ``thresholds``, ``biases``, ``weights``, ``delay``.

        Of tensors the share of values that differ and the largest difference, of the tensor's largest value; of the
        delay both.
        """
        import snnconv

        old, found = snnconv.load(self.folder / file), {}
        for kind, tensors in self._tensors(old).items():
            now = self._tensors(self.snn)[kind]
            if tensors.keys() != now.keys():
                raise ValueError(f"{kind} of other names: {sorted(tensors.keys() ^ now.keys())}")
            apart = [(now[name] - tensors[name]).abs().flatten() / tensors[name].abs().max() for name in tensors]
            every = torch.cat(apart) if apart else torch.zeros(1)
            if bool((every > 0).any()):
                found[kind] = {"share": float((every > 0).float().mean()), "largest": float(every.max())}
        if old.delay != self.snn.delay:
            found["delay"] = [old.delay, self.snn.delay]
        return found

    def with_parts_of(self, file: str, network: str) -> str:
        """The outputs of the network that was converted last, with the tensors and the delay of a saved one."""
        import snnconv

        _, data = self._network(network)
        old = snnconv.load(self.folder / file)
        for site, theta in old.thresholds.items():
            self.snn.thresholds[site] = theta
        self.snn.weights.load_state_dict(old.weights.state_dict())
        self.snn.delay, self.snn.readout = old.delay, old.readout
        return self._answer(self.snn, data["test"], "with_parts_of")

    @staticmethod
    def _tensors(snn: Any) -> dict[str, dict[str, Tensor]]:
        """Thresholds, biases and weights by name."""
        state = {name: value for name, value in snn.weights.state_dict().items() if value.is_floating_point()}
        return {
            "thresholds": dict(snn.thresholds),
            "biases": {name: value for name, value in state.items() if value.dim() < 2},
            "weights": {name: value for name, value in state.items() if value.dim() > 1},
        }

    def _answer(self, snn: Any, x: Tensor, name: str) -> str:
        torch.save(torch.cat([snn(part) for part in x.split(100)]), self.folder / f"{name}.pt")
        return f"{name}.pt"

    def time(self) -> float:
        """Seconds of a call on 64 inputs: of calls for `LONG_ENOUGH` the shortest, which nothing else interrupted."""
        shortest, end = float("inf"), time.perf_counter() + LONG_ENOUGH
        while True:
            start = time.perf_counter()
            self.snn(self.batch)
            now = time.perf_counter()
            shortest = min(shortest, now - start)
            if now >= end:
                return shortest

    def time_load(self, name: str) -> float:
        """Seconds in which this release reads the file that it wrote of ``name``: the shortest of four times."""
        import snnconv

        seconds = []
        for _ in range(4):
            start = time.perf_counter()
            snnconv.load(self.folder / f"{name}.snn.safetensors")
            seconds.append(time.perf_counter() - start)
        return min(seconds)


def main() -> None:
    release = Release(Path(sys.argv[1]))
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"value": getattr(release, request.pop("what"))(**request)}
        except Exception as error:  # told to whoever asked
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(ANSWER + json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
