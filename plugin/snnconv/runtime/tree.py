"""Networks that do not trace: every call of their forward is watched, activations are replaced.

The forward runs as it is, on time folded into the batch, ``[T·B, ...]``. A call that the operator table knows
as a ReLU becomes a site, named by the module it happens in and its number there; a max-pooling or an
activation without spiking equivalent acts on what was accumulated, as in the graph executor.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

from snnconv.activations.base import TrainedActivation
from snnconv.dynamics.pooling import running_sum
from snnconv.graph.ops import ACTIVATIONS, op_kind
from snnconv.graph.sites import is_activation_module, relu_bounds
from snnconv.graph.source import ConversionError, Site
from snnconv.graph.store import Store
from snnconv.graph.trace import check_finite
from snnconv.runtime.batch import call
from snnconv.runtime.executor import NeuronFn, RunState
from snnconv.runtime.program import Program

__all__ = ["TreeProgram"]


class TreeProgram(Program):
    """Program of a network that cannot be traced.

    Args:
        model: the network (copied; evaluation mode).
        example: an input, to find the sites; not read where ``sites`` are given.
        coding, max_pool: as for the graph executor.
        sites: the sites, where they are known (a saved network).
    """

    def __init__(
        self,
        model: nn.Module,
        example: Any,
        coding: str = "rate",
        max_pool: str = "accumulated",
        sites: dict[str, Site] | None = None,
    ) -> None:
        self.model = copy.deepcopy(model).eval()
        for name, tensor in self.model.state_dict().items():
            check_finite(name, tensor)
        for path, module in list(self.model.named_modules()):
            if isinstance(module, TrainedActivation):
                parent, _, leaf = path.rpartition(".")
                site = module.site(path) if sites is None else sites.get(path)
                if site is not None:
                    setattr(self.model.get_submodule(parent), leaf, _Place(site))
        self.coding = coding
        self.max_pool = max_pool
        self.sites: dict[str, Site] = dict(sites or {})
        self.notes: list[str] = []
        self.analog: dict[str, str] = {}
        self.synapses: list[str] = []
        self.biases = Store()
        self._complete = sites is not None
        if sites is None:
            self.static(example, lambda site, z: self.sites[site].activation(z))
            self._complete = True

    def static(self, x: Any, neuron: NeuronFn) -> Any:
        with _Watch(self, neuron, 0, RunState()):
            return call(self.model, x)

    def steps(self, x: Any, timesteps: int, neuron: NeuronFn, state: RunState) -> Any:
        if self.coding == "sum":
            raise ConversionError(
                "this network does not trace, so its shifted-threshold spikes cannot be sent through the "
                "layers one step at a time; call snn(x), which sends each neuron's weighted sum (by "
                "linearity, the same values)"
            )

        def fold(v: Tensor) -> Tensor:
            return v.unsqueeze(0).expand(timesteps, *v.shape).flatten(0, 1)

        folded = tree_map_only(Tensor, fold, x)
        with _Watch(self, neuron, timesteps, state):
            out = call(self.model, folded)
        state.steps += timesteps
        return tree_map_only(Tensor, lambda v: v.reshape(timesteps, -1, *v.shape[1:]), out)

    def store(self) -> nn.Module:
        holder = nn.Module()
        holder.model = self.model
        holder.biases = self.biases
        return holder

    def trainable(self) -> list[Tensor]:
        return [p.requires_grad_(True) for p in self.model.parameters()]

    def shift(self, site: str, current: Tensor) -> None:
        self.biases[site] = self.biases[site] + current if site in self.biases else current

    def misplaced(self) -> list[str]:
        """Sites that the module tree has no place for, as sentences."""
        modules = dict(self.model.named_modules())
        found = []
        for name, site in self.sites.items():
            path = name.partition(":")[0]
            owner = modules.get(path)
            if owner is None and site.kind == "relu":
                owner = modules.get(path.rpartition(".")[0])
            if owner is None or (site.kind != "relu" and not isinstance(owner, _Place)):
                found.append(f"there is no place for site {name!r}")
        return found

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """Take over a state dictionary of the same architecture, dtypes included."""
        self.model.load_state_dict(weights, assign=True)


class _Place(nn.Module):
    """Stands for a trained activation: one call that the watch recognises."""

    def __init__(self, site: Site) -> None:
        super().__init__()
        self.site = site

    def forward(self, z: Tensor) -> Tensor:
        return torch.relu(z)


class _Watch(TorchFunctionMode):
    """Intercepts the calls of one forward pass."""

    def __init__(self, program: TreeProgram, neuron: NeuronFn, timesteps: int, state: RunState) -> None:
        super().__init__()
        self.program = program
        self.neuron = neuron
        self.timesteps = timesteps
        self.state = state
        self.stack: list[tuple[str, nn.Module]] = []
        self.counts: dict[str, int] = {}
        self.handles: list[Any] = []

    def __enter__(self) -> _Watch:
        for path, module in self.program.model.named_modules():
            self.handles.append(module.register_forward_pre_hook(lambda m, a, p=path: self.stack.append((p, m))))
            self.handles.append(module.register_forward_hook(lambda m, a, o: self._leave(m, o), always_call=True))
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for handle in self.handles:
            handle.remove()

    def _leave(self, module: nn.Module, out: Any) -> None:
        if self.stack and self.stack[-1][1] is module:
            self.stack.pop()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        method = getattr(torch.Tensor, name, None) is func
        if name in ("__get__", "__set__") or not args:
            return func(*args, **kwargs)
        target = name if method else func
        path, module = self.stack[-1] if self.stack else ("", self.program.model)
        found, cap = relu_bounds(target, method, args, kwargs)
        if found and isinstance(args[0], Tensor):
            if isinstance(module, _Place):
                site = module.site.with_(name=path)
            else:
                base = path if is_activation_module(type(module)) else f"{path}.{name.strip('_')}".lstrip(".")
                site = Site(base, cap=cap, axis=self._axis(args[0]))
            out = self._fire(site, args[0])
            in_place = name.endswith("_") or kwargs.get("inplace") is True
            return args[0].copy_(out) if in_place else out
        kind = op_kind(target, method, args, kwargs, self._varies)
        self._note(path, name, target, kind)
        accumulate = kind == "homogeneous" and self.program.max_pool == "accumulated"
        accumulate |= kind == "nonlinear" and (name.strip("_") in ACTIVATIONS or name.strip("_") in ("mul", "matmul"))
        if self.timesteps and accumulate and isinstance(args[0], Tensor) and self._varies(args[0]):
            return self._accumulated(kind, path, name, func, args, kwargs)
        return func(*args, **kwargs)

    def _varies(self, value: Any) -> bool:
        return isinstance(value, Tensor) and not isinstance(value, nn.Parameter) and not self._is_weight(value)

    def _is_weight(self, value: Tensor) -> bool:
        if not hasattr(self, "_weights"):
            self._weights = {t.data_ptr() for t in self.program.model.state_dict().values()}
        return value.data_ptr() in self._weights and value.data_ptr() != 0

    def _note(self, path: str, name: str, target: Any, kind: str) -> None:
        if self.timesteps:
            return
        bare = name.strip("_")
        if kind == "nonlinear" and bare in ACTIVATIONS:
            self.program.analog.setdefault(path or bare, bare)
        elif bare in ("conv1d", "conv2d", "conv3d", "linear") and path not in self.program.synapses:
            self.program.synapses.append(path)

    @staticmethod
    def _axis(x: Tensor) -> int:
        return 1 if x.dim() in (2, 4, 5) else -1 if x.dim() == 3 else 1

    def _fire(self, site: Site, x: Tensor) -> Tensor:
        number = self.counts.get(site.name, 0)
        self.counts[site.name] = number + 1
        name = site.name if number == 0 else f"{site.name}:{number + 1}"
        if name not in self.program.sites:
            if self.program._complete:
                raise ConversionError(
                    f"{name}: the network came to an activation that it did not come to on the calibration "
                    "data, so it has no threshold; convert with calibration data (the first batch) that "
                    "takes this path too"
                )
            self.program.sites[name] = site.with_(name=name)
        bias = self.program.biases.get(name)
        if bias is not None:
            shape = [1] * x.dim()
            shape[self.program.sites[name].axis] = -1
            x = x + bias.to(x).reshape(shape)
        if not self.timesteps:
            return self.neuron(name, x)
        if x.shape[0] % self.timesteps:
            raise ConversionError(
                f"{name}: its input's first dimension ({x.shape[0]}) is no multiple of the time steps "
                f"({self.timesteps}); the network mixes the batch dimension with others"
            )
        return self.neuron(name, x.reshape(self.timesteps, -1, *x.shape[1:])).flatten(0, 1)

    def _accumulated(self, kind: str, path: str, name: str, func: Any, args: Any, kwargs: Any) -> Any:
        number = self.counts.get(f"{path}/{name}", 0)
        self.counts[f"{path}/{name}"] = number + 1
        key = f"{path}/{name}/{number}"
        mean = kind == "nonlinear"
        start, steps = self.state.steps, self.timesteps
        before, previous = self.state.accumulated.get(key, ({}, None))
        totals: dict[int, Tensor] = {}

        def clock(seq: Tensor) -> Tensor:
            return torch.arange(start + 1, start + 1 + steps, dtype=seq.dtype, device=seq.device).reshape(
                -1, *[1] * (seq.dim() - 1)
            )

        def running(v: Any) -> Any:
            if not self._varies(v) or not v.is_floating_point() or v.dim() == 0 or v.shape[0] % steps:
                return v
            index = len(totals)
            seq = running_sum(v.reshape(steps, -1, *v.shape[1:]), before.get(index))
            totals[index] = seq[-1]
            return (seq / clock(seq) if mean else seq).flatten(0, 1)

        out = func(*tree_map_only(Tensor, running, tuple(args)), **tree_map_only(Tensor, running, kwargs))
        last: list[Tensor] = []

        def difference(v: Tensor) -> Tensor:
            seq = v.reshape(steps, -1, *v.shape[1:])
            seq = seq * clock(seq) if mean else seq
            first = seq[:1] if previous is None else seq[:1] - previous[len(last)]
            last.append(seq[-1])
            return torch.cat([first, seq[1:] - seq[:-1]]).flatten(0, 1)

        result = tree_map_only(Tensor, difference, out)
        self.state.accumulated[key] = (totals, last)
        return result
