"""What is measured: the source network, snnconv's methods and backends, SpikingJelly's modes, snnTorch."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import snnconv
from snnbench.baselines.spikingjelly import SpikingJellyRecipe, quiet
from snnbench.baselines.spikingjelly import convert as recipe
from snnbench.networks.models import PadShortcut, with_conv_shortcuts
from snnconv import methods
from snnconv.dynamics.kernels import processor

from .networks import folded

Run = Callable[[Tensor], Any]


class Unavailable(Exception):
    """An engine that does not run here; says why."""


@dataclass(frozen=True)
class Engine:
    """One row: ``prepare(model, calibration, T)`` gives what is called with a batch.

    Attributes:
        steps: time steps that it runs for T steps that are read out.
        sums: its time does not grow with T; the unit is one pass.
    """

    prepare: Callable[[nn.Module, Tensor, int], Run]
    steps: Callable[[int], int] = lambda timesteps: timesteps
    sums: bool = False
    dtype: torch.dtype = torch.float32


def _ann(dtype: torch.dtype) -> Callable[[nn.Module, Tensor, int], Run]:
    def prepare(model: nn.Module, calibration: Tensor, timesteps: int) -> Run:
        _check_dtype(dtype, calibration.device)
        return _channels_last(folded(model).to(dtype))

    return prepare


def _check_dtype(dtype: torch.dtype, device: torch.device) -> None:
    if dtype == torch.bfloat16 and not processor.native_bfloat16(device.type):
        raise Unavailable(f"{device.type} does not compute in bfloat16 here")


def _channels_last(network: nn.Module) -> Run:
    def run(x: Tensor) -> Any:
        with torch.inference_mode():
            return network(x.contiguous(memory_format=torch.channels_last))

    return run


def _snnconv(
    method: Callable[[int], methods.Method],
    backend: str = "auto",
    dtype: torch.dtype = torch.float32,
    precision: str = "float32",
    cover: str = "activations",
) -> Callable[[nn.Module, Tensor, int], Run]:
    def prepare(model: nn.Module, calibration: Tensor, timesteps: int) -> Run:
        _check_dtype(dtype, calibration.device)
        if backend in ("numba", "triton") and not _has(backend):
            raise Unavailable(f"{backend} is not installed")
        try:
            snn = snnconv.convert(model, method(timesteps), calibration, cover=cover, progress=False).to(dtype)
        except snnconv.ConversionError as error:  # such as neurons without functions, and a network of GELUs
            raise Unavailable(str(error)) from error
        snn.backend = backend
        try:
            snn.precision = precision
        except (RuntimeError, snnconv.ConversionError) as error:
            raise Unavailable(str(error)) from error
        return snn

    return prepare


def _spikingjelly(multi: bool) -> Callable[[nn.Module, Tensor, int], Run]:
    def prepare(model: nn.Module, calibration: Tensor, timesteps: int) -> Run:
        from spikingjelly.activation_based import functional, neuron

        if any(isinstance(m, PadShortcut) for m in model.modules()):
            model = with_conv_shortcuts(model)
        _check_relus(model)
        snn = recipe(model, SpikingJellyRecipe("rate"), [calibration]).to(memory_format=torch.channels_last)
        if multi:
            for name, module in list(snn.named_modules()):
                if isinstance(module, neuron.BaseNode):
                    module.step_mode = "m"
                    if calibration.is_cuda and _has("cupy"):
                        module.backend = "cupy"
                    snn.set_submodule(name, _Folded(module, timesteps))

        def run(x: Tensor) -> Any:
            with torch.inference_mode(), quiet():
                functional.reset_net(snn)
                x = x.contiguous(memory_format=torch.channels_last)
                if multi:
                    return snn(x.repeat(timesteps, 1, 1, 1)).unflatten(0, (timesteps, -1)).sum(0)
                return sum(snn(x) for _ in range(timesteps))

        return run

    return prepare


class _Folded(nn.Module):
    """A multi-step node on time folded into the batch."""

    def __init__(self, node: nn.Module, timesteps: int) -> None:
        super().__init__()
        self.node = node
        self.timesteps = timesteps

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.node(x.unflatten(0, (self.timesteps, -1)))
        return out.flatten(0, 1)


def _check_relus(model: nn.Module) -> None:
    if not any(isinstance(module, nn.ReLU) for module in model.modules()):
        raise Unavailable("the network has no nn.ReLU that a neuron could stand for")


def _snntorch(model: nn.Module, calibration: Tensor, timesteps: int) -> Run:
    if not _has("snntorch"):
        raise Unavailable("snntorch is not installed")
    import snntorch
    from snntorch import utils

    _check_relus(model)
    network = copy.deepcopy(folded(model))
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.ReLU):
            neuron = snntorch.Leaky(beta=1.0, threshold=1.0, init_hidden=True, reset_mechanism="subtract")
            network.set_submodule(name, neuron)
    network.to(calibration.device)

    def run(x: Tensor) -> Any:
        with torch.inference_mode():
            utils.reset(network)
            x = x.contiguous(memory_format=torch.channels_last)
            return sum(network(x) for _ in range(timesteps))

    return run


def _has(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _rows(
    backend: str = "auto", dtype: torch.dtype = torch.float32, precision: str = "float32", label: str = ""
) -> dict[str, Engine]:
    plain: dict[str, Any] = dict(thresholds="max", correction="none")
    how = (backend, dtype, precision)
    return {
        f"snnconv IF{label}": Engine(_snnconv(lambda t: methods.IF(t, **plain), *how), dtype=dtype),
        f"snnconv signed IF{label}": Engine(_snnconv(lambda t: methods.SignedIF(t, **plain), *how), dtype=dtype),
        f"snnconv SRP{label}": Engine(
            _snnconv(lambda t: methods.SRP(t, pre_timesteps=min(4, t), **plain), *how),
            steps=lambda t: t + min(4, t),
            dtype=dtype,
        ),
        f"snnconv shifted threshold{label}": Engine(
            _snnconv(lambda t: methods.ShiftedThreshold(t, **plain), *how), sums=True, dtype=dtype
        ),
    }


ENGINES: dict[str, Engine] = {
    "ANN": Engine(_ann(torch.float32), sums=True),
    "ANN, bfloat16": Engine(_ann(torch.bfloat16), sums=True, dtype=torch.bfloat16),
    **_rows(),
    "snnconv shifted threshold, every layer": Engine(
        _snnconv(lambda t: methods.ShiftedThreshold(t, thresholds="max", correction="none"), cover="synapses"),
        sums=True,
    ),
    **_rows("eager", label=", eager"),
    **_rows(precision="int8", label=", int8"),
    **_rows(dtype=torch.bfloat16, label=", bfloat16"),
    "SpikingJelly, step by step": Engine(_spikingjelly(False)),
    "SpikingJelly, multi-step": Engine(_spikingjelly(True)),
    "snnTorch Leaky, step by step": Engine(_snntorch),
}
"""Rows by name; the first is the unit."""
MOST_BITS = 8
"""Steps up to which shifted-threshold IF is used."""
