"""NIR files in other frameworks: what their importers make of them, spike by spike.

An importer's neurons may reset or start otherwise than the file's metadata say (the node itself says neither). So each
framework runs twice: as imported, and with the file's reset put into the imported neurons.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["FRAMEWORKS", "Framework", "Run", "version"]


class Run(NamedTuple):
    """What a network did.

    Attributes:
        output: its mean output ``[B, classes]``.
        spikes: unit spikes of each population of neurons ``[T, B, ...]``, in the file's order.
    """

    output: Tensor
    spikes: list[Tensor]


class Framework(NamedTuple):
    """How a framework reads a NIR file and runs it.

    Attributes:
        package: distribution whose version is recorded.
        load: ``load(path, batch_size) -> module``.
        correct: puts the soft reset and single spikes into the imported neurons.
        changes: what ``correct`` changes, in words.
        run: ``run(module, x, timesteps, neurons) -> Run``.
    """

    package: str
    load: Callable[[Path, int], nn.Module]
    correct: Callable[[nn.Module], None]
    changes: str
    run: Callable[[nn.Module, Tensor, int, list[str]], Run]


def version(package: str) -> str | None:
    """Installed version, or ``None``."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _graph(path: Path) -> Any:
    return import_module("nir").read(str(path))


def _watch(module: nn.Module, neurons: list[str]) -> dict[str, list[Tensor]]:
    """Record what the neurons' modules return; importers keep the nodes' names."""
    found: dict[str, list[Tensor]] = {}
    modules = dict(module.named_modules())
    for name in neurons:
        found[name] = []

        def note(_: nn.Module, __: Any, out: Any, name: str = name) -> None:
            found[name].append((out[0] if isinstance(out, tuple) else out).detach().clone())

        modules[name].register_forward_hook(note)
    return found


def _steps(
    module: nn.Module, x: Tensor, timesteps: int, neurons: list[str], with_state: bool
) -> tuple[Tensor, dict[str, list[Tensor]]]:
    spikes = _watch(module, neurons)
    outputs, state = [], None
    with torch.no_grad():
        for _ in range(timesteps):
            out = module(x, state) if with_state else module(x)
            if with_state:
                out, state = out
            outputs.append(out[0] if isinstance(out, tuple) else out)
    return torch.stack(outputs).mean(0), spikes


def _stepwise(with_state: bool) -> Callable[[nn.Module, Tensor, int, list[str]], Run]:
    def run(module: nn.Module, x: Tensor, timesteps: int, neurons: list[str]) -> Run:
        output, spikes = _steps(module, x, timesteps, neurons, with_state)
        return Run(output, [torch.stack(spikes[name]) for name in neurons])

    return run


# --- SpikingJelly ------------------------------------------------------------------------------------------


def _load_spikingjelly(path: Path, batch_size: int) -> nn.Module:
    exchange = import_module("spikingjelly.activation_based.nir_exchange")
    module: nn.Module = exchange.import_from_nir(_graph(path), dt=1.0)  # r = 1 / dt
    return module


def _correct_spikingjelly(module: nn.Module) -> None:
    node = import_module("spikingjelly.activation_based.neuron").IFNode
    for m in module.modules():
        if isinstance(m, node):
            m.v_reset = None
            m.set_reset_value("v", 0.0)


# --- snnTorch ----------------------------------------------------------------------------------------------


def _load_snntorch(path: Path, batch_size: int) -> nn.Module:
    module: nn.Module = import_module("snntorch.import_nir").import_from_nir(_graph(path))
    return module


def _correct_snntorch(module: nn.Module) -> None:
    for m in module.modules():
        if isinstance(m, import_module("snntorch").Leaky):
            m.beta = torch.tensor(1.0)
            m.init_hidden = True
            # without delay, what is left above the threshold is taken away before the next spike is decided
            m.reset_delay = True
        elif isinstance(m, nn.Flatten):
            m.start_dim = 1  # the file counts dimensions without the batch


# --- sinabs ------------------------------------------------------------------------------------------------


def _load_sinabs(path: Path, batch_size: int) -> nn.Module:
    module: nn.Module = import_module("sinabs.nir").from_nir(_graph(path), batch_size=batch_size)
    return module


def _correct_sinabs(module: nn.Module) -> None:
    activation, layers = import_module("sinabs.activation"), import_module("sinabs.layers")
    for m in module.modules():
        if isinstance(m, layers.IAFSqueeze):
            m.spike_fn, m.min_v_mem = activation.SingleSpike, None


def _run_sinabs(module: nn.Module, x: Tensor, timesteps: int, neurons: list[str]) -> Run:
    """Its layers take time folded into the batch, image by image."""
    spikes = _watch(module, neurons)
    with torch.no_grad():
        out = module(x.repeat_interleave(timesteps, 0))
    out = out[0] if isinstance(out, tuple) else out

    def unfold(value: Tensor) -> Tensor:
        return value.reshape(len(x), timesteps, *value.shape[1:]).transpose(0, 1)

    return Run(unfold(out).mean(0), [unfold(spikes[name][0]) for name in neurons])


# --- Norse -------------------------------------------------------------------------------------------------


def _load_norse(path: Path, batch_size: int) -> nn.Module:
    module: nn.Module = import_module("norse.torch.utils.import_nir").from_nir(_graph(path), dt=1.0)
    return module


def _correct_norse(module: nn.Module) -> None:
    iaf = import_module("norse.torch.functional.iaf")
    cell = import_module("norse.torch.module.iaf").IAFCell

    def soft(x: Tensor, state: Any, p: Any, dt: float = 1.0) -> tuple[Tensor, Any]:
        v = state.v + x
        z = (v >= p.v_th).to(v.dtype)
        return z, iaf.IAFFeedForwardState(v - z * p.v_th)

    for m in module.modules():
        if isinstance(m, cell):
            m.activation = soft


def _run_norse(module: nn.Module, x: Tensor, timesteps: int, neurons: list[str]) -> Run:
    """One image at a time: the imported Flatten counts its dimensions without the batch."""
    outputs, spikes = [], [[] for _ in neurons]
    watched = _watch(module, neurons)
    with torch.no_grad():
        for image in x:
            state, steps = None, []
            for _ in range(timesteps):
                out, state = module(image, state)
                steps.append(out)
            outputs.append(torch.stack(steps).mean(0))
            for found, name in zip(spikes, neurons, strict=True):
                found.append(torch.stack(watched[name]))
                watched[name].clear()
    return Run(torch.stack(outputs), [torch.stack(found, 1) for found in spikes])


FRAMEWORKS = {
    "SpikingJelly": Framework(
        "spikingjelly", _load_spikingjelly, _correct_spikingjelly, "reset by subtraction", _stepwise(True)
    ),
    "snnTorch": Framework(
        "snntorch",
        _load_snntorch,
        _correct_snntorch,
        "no leak (beta 1, not 0.9), reset_delay, hidden state, batched Flatten",
        _stepwise(False),
    ),
    "sinabs": Framework(
        "sinabs", _load_sinabs, _correct_sinabs, "one spike a step, no lower bound of the membrane", _run_sinabs
    ),
    "Norse": Framework("norse", _load_norse, _correct_norse, "reset by subtraction", _run_norse),
}
warnings.filterwarnings("ignore", category=FutureWarning, module="torch.jit")
