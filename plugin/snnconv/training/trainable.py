"""A converted network as a module that trains on: its own spikes forward, surrogate gradients backward."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from snnconv.activations.quant import quantised
from snnconv.dynamics.shifted import SHIFTED_THRESHOLD
from snnconv.dynamics.threshold import heaviside, threshold_like
from snnconv.graph.source import ConversionError
from snnconv.graph.store import Store
from snnconv.network import SpikingNetwork
from snnconv.runtime.program import GraphProgram
from snnconv.runtime.run import RunState
from snnconv.runtime.tree import TreeProgram
from snnconv.runtime.values import channels_last

__all__ = ["Trainable", "trainable"]

LEAST = 0.05
"""Part of its first value below which a threshold does not fall."""

Surrogate = Callable[[Tensor], Tensor]


def trainable(
    snn: SpikingNetwork, *, thresholds: bool = True, surrogate: Surrogate | None = None, detach_reset: bool = True
) -> Trainable:
    r"""A copy of a converted network that trains: weights, biases and thresholds are its parameters.

    Forward it says exactly what ``snn`` says. Backward, the spike of a rate neuron, H(v − θ), has the derivative of the
    framework's surrogate function g in units of the threshold,

    .. math:: \partial s/\partial v = g'\big((v - \theta)/\theta\big)/\theta,

    so that layers of any scale learn (surrogate gradients: Neftci et al., IEEE Signal Processing Magazine 2019, arXiv
    1901.09948), through all steps. The bits of a shifted-threshold neuron sum up to a quantised activation, whose
    gradient passes straight through where 0 < z < λ, with the threshold's as of
    :class:`~snnconv.activations.QuantReLU`.

    Args:
        snn: the network; it is not changed.
        thresholds: train them, too. They do not fall below a twentieth of what they are at first.
        surrogate: a surrogate function of SpikingJelly (``surrogate.ATan()``) or snnTorch (``fast_sigmoid()``); by
            default that of the neurons, a sigmoid in SpikingJelly and an arctangent in snnTorch.
        detach_reset: keep the reset of rate neurons out of the gradient.

    Raises:
        TypeError: something that :func:`snnconv.convert` did not make.
        ConversionError: ``precision="int8"``, or a neuron without a surrogate function, by name.

    >>> import snnconv
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> snn = snnconv.convert(model, snnconv.methods.SignedIF(timesteps=4), calibration=torch.randn(64, 4))
    >>> net, x = snnconv.trainable(snn), torch.randn(16, 4)
    >>> bool(torch.equal(net(x), snn(x))), len(list(net.parameters()))
    (True, 5)
    >>> net(x).square().mean().backward()  # ... a step of an optimiser
    >>> trained = net.to_snn()
    """
    if not isinstance(snn, SpikingNetwork):
        raise TypeError(f"trainable takes a network that snnconv.convert made, got {type(snn).__name__}")
    if snn.precision != "float32":
        raise ConversionError("8-bit layers have no gradient: set snn.precision = 'float32' first")
    for name in snn.neurons:
        node = snn.neurons[name]
        if snn.method.scan_arguments(node) is None:
            raise ConversionError(
                f"{name}: a {type(node).__name__} stands here, whose equation is not known, so it cannot be trained; "
                "train the network that was converted, with the neurons it was given"
            )
    return Trainable(snn, thresholds, surrogate, detach_reset)


class Trainable(nn.Module):
    """What :func:`snnconv.trainable` gives: takes what the network takes, returns its readout.

    It saves and loads like any module (``state_dict``); :meth:`to_snn` gives the network back.
    """

    def __init__(self, snn: SpikingNetwork, thresholds: bool, surrogate: Surrogate | None, detach_reset: bool) -> None:
        super().__init__()
        network = copy.deepcopy(snn)
        network.reset()
        least: dict[str, Any] = {}
        for name in network.neurons:
            node = network.neurons[name]
            if network.method.record is not SHIFTED_THRESHOLD:
                _set_surrogate(node, surrogate, detach_reset)
            if thresholds:
                least[name] = _learn_threshold(node)
        _learn_weights(network)
        self.network = network
        self.least = Store(least)
        self.train()

    # ------------------------------------------------------------------ parameters

    def threshold_parameters(self) -> list[nn.Parameter]:
        """The thresholds, where they are trained: one tensor a site."""
        return [p for name, p in self._trained() if name.startswith("neurons.")]

    def weight_parameters(self) -> list[nn.Parameter]:
        """Everything else: an optimiser may want another learning rate for the thresholds.

        >>> import snnconv
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> net = trainable(snnconv.convert(model, snnconv.methods.IF(timesteps=4), calibration=torch.randn(64, 4)))
        >>> groups = [{"params": net.weight_parameters()}, {"params": net.threshold_parameters(), "lr": 1e-3}]
        >>> optimiser = torch.optim.Adam(groups, lr=1e-2)
        """
        return [p for name, p in self._trained() if not name.startswith("neurons.")]

    def _trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        return ((name, p) for name, p in self.network.named_parameters() if p.requires_grad)

    def train(self, mode: bool = True) -> Trainable:
        """In training mode a forward pass first puts thresholds back that an optimiser brought below their bound."""
        super().train(mode)
        self.network.eval()  # BatchNorm is folded; in a module tree its statistics stay
        return self

    # ------------------------------------------------------------------ running

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Readout after all steps, from a fresh state.

        Raises:
            ConversionError: inputs that the network does not take.
        """
        network = self.network
        x = channels_last(network.given(*inputs, **named))
        if self.training:
            self._bound()
        network.reset()
        try:
            if network.method.coding == "sum":
                return network.program.static(x, self._summed)
            state = RunState()
            if network.method.pre_timesteps_:
                network.program.steps(x, network.method.pre_timesteps_, self._spikes, state)
                state.restart()
            return network.readout.final(network.program.steps(x, network.timesteps, self._spikes, state))
        finally:
            network.reset()

    def _spikes(self, site: str, x_seq: Tensor) -> Tensor:
        out: Tensor = self.network.neurons[site].run(x_seq)
        return out

    def _summed(self, site: str, z: Tensor) -> Tensor:
        """Sum of a neuron's weighted spikes; of bits, with the gradient of the quantised activation that they are."""
        network = self.network
        if network.method.record is not SHIFTED_THRESHOLD:
            return self._spikes(site, z.unsqueeze(0)).sum(0)
        theta = network.method.at(site).threshold(network.neurons[site])
        with torch.no_grad():
            bits = network.neurons[site].run(z.unsqueeze(0)).sum(0)
        place = network.program.sites[site]
        soft = quantised(place.function, z, theta, network.method.at(site).levels, place.axis)
        out: Tensor = bits + (soft - soft.detach())
        return out

    @torch.no_grad()
    def _bound(self) -> None:
        for theta, least in zip(self.threshold_parameters(), self.least.values(), strict=True):
            theta.clamp_(min=least)

    # ------------------------------------------------------------------ back

    def to_snn(self) -> SpikingNetwork:
        """The trained network as a converted one: fast, for inference, to be saved by :func:`snnconv.save`.

        Its report keeps what was converted; errors of layers, measured before training, are gone.
        """
        self._bound()
        network = self.network
        program = copy.deepcopy(network.program)
        thresholds = {}
        with torch.no_grad():
            for name in network.neurons:
                thresholds[name] = network.method.at(name).threshold(network.neurons[name]).detach().clone()
            if isinstance(program, GraphProgram):
                for name, value in program.source.tensors.items():
                    program.source.tensors[name] = value.detach().clone()
            elif isinstance(program, TreeProgram):
                for name, value in program.biases.items():
                    program.biases[name] = value.detach().clone()
        report = copy.deepcopy(network.report)
        if report is not None:
            for i, site in enumerate(report.spiking):
                theta = thresholds[site.name]
                report.spiking[i] = replace(
                    site, threshold_min=float(theta.min()), threshold_mean=float(theta.mean()),
                    threshold_max=float(theta.max()), error=None,
                )  # fmt: skip
            if TRAINED not in report.notes:
                report.notes.append(TRAINED)
        made = SpikingNetwork(
            program, network.method, thresholds, network.framework, report, network.delay, network.input_spec
        )
        made.memory_budget, made.backend = network.memory_budget, network.backend
        return made


TRAINED = "trained on as a spiking network (snnconv.trainable)"


class _Relative:
    """H(u) with the derivative of a surrogate function at u/θ: it sees potentials in units of the threshold."""

    def __init__(self, node: Any, soft: Surrogate) -> None:
        self.node = node
        self.soft = soft

    def __call__(self, u: Tensor) -> Tensor:
        soft = self.soft(u / threshold_like(self.node.threshold_for(u), u))
        return heaviside(u) + (soft - soft.detach())


def _set_surrogate(node: Any, surrogate: Surrogate | None, detach_reset: bool) -> None:
    name = "spike_grad" if hasattr(node, "spike_grad") else "surrogate_function"
    soft = surrogate if surrogate is not None else getattr(node, name)
    if surrogate is None and getattr(node, "own_gradient", False):
        soft = _arctangent  # snnTorch's is a function inside a function, which does not pickle
    delattr(node, name)  # SpikingJelly's is a module, which only a module may replace
    setattr(node, name, _Relative(node, soft))
    node.own_gradient = False
    node.detach_reset = detach_reset


def _arctangent(u: Tensor) -> Tensor:
    """snnTorch's default surrogate."""
    import snntorch

    out: Tensor = snntorch.surrogate.atan()(u)
    return out


def _learn_threshold(node: Any) -> Tensor:
    """Make a neuron's threshold a parameter; returns its bound."""
    name = "threshold" if "threshold" in node._buffers else "v_threshold"
    theta = torch.as_tensor(getattr(node, name)).detach().clone()
    delattr(node, name)
    setattr(node, name, nn.Parameter(theta))
    return LEAST * theta


def _learn_weights(network: SpikingNetwork) -> None:
    """Make weights, biases and other numbers of a network parameters; what is infinite is a mask."""
    program = network.program
    if isinstance(program, GraphProgram):
        tensors = program.source.tensors
        for name, value in tensors.items():
            if value.is_floating_point() and value.dim() and bool(torch.isfinite(value).all()):
                tensors[name] = nn.Parameter(value.detach().clone())
    elif isinstance(program, TreeProgram):
        for name, value in program.biases.items():
            program.biases[name] = nn.Parameter(value.detach().clone())
    for parameter in network.weights.parameters():
        if parameter.is_floating_point():
            parameter.requires_grad_(True)
