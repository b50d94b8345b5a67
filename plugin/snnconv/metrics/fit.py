"""Optimal fit curve: the error of every layer's rate against the number of steps, and its bound."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from snnconv.graph.source import ConversionError, Site, broadcast
from snnconv.inputs import Progress, network_batches
from snnconv.methods.base import Method
from snnconv.metrics.comparing import reference_program
from snnconv.network import SpikingNetwork
from snnconv.report import table

__all__ = ["FitCurve", "LayerFit", "fit_curve"]


@dataclass(frozen=True)
class LayerFit:
    """One layer.

    Attributes:
        name: its site.
        k: K = Σ θ·y / Σ y², y its activation and θ its threshold in the units of y.
        errors: number of steps T → ‖y − φ(T)‖² / ‖y‖², measured.
        bounds: number of steps T → K/(2T), of neurons that start at 0 K/T, predicted.
    """

    name: str
    k: float
    errors: dict[int, float]
    bounds: dict[int, float]


@dataclass(frozen=True)
class FitCurve:
    """Every layer in order; prints as a table.

    Attributes:
        layers: one :class:`LayerFit` a site.
        timesteps: where they were measured.
        samples: inputs they were measured on.
    """

    layers: tuple[LayerFit, ...]
    timesteps: tuple[int, ...]
    samples: int

    @property
    def mean_k(self) -> float:
        """K̄, the mean over the layers."""
        return sum(layer.k for layer in self.layers) / len(self.layers)

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary a layer and number of steps: ``layer``, ``timesteps``, ``error``, ``bound``."""
        return [
            {"layer": layer.name, "timesteps": t, "error": layer.errors[t], "bound": layer.bounds[t]}
            for layer in self.layers
            for t in self.timesteps
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def __str__(self) -> str:
        rows = [
            (layer.name, f"{layer.k:.2f}", *(f"{layer.errors[t]:.4f} ({layer.bounds[t]:.4f})" for t in self.timesteps))
            for layer in self.layers
        ]
        return table(("layer", "K", *(f"T={t} (bound)" for t in self.timesteps)), rows)


def fit_curve(
    model: nn.Module,
    snn: SpikingNetwork,
    loader: Any,
    timesteps: Iterable[int] | None = None,
    limit: int | None = 256,
    progress: Progress | None = None,
) -> FitCurve:
    r"""Relative error ‖y − φ(T)‖² / ‖y‖² of every layer's rate against T, measured and bounded.

    An IF neuron with soft reset that starts at θ/2 and gets a constant current has |y − φ(T)| ≤ min(y, θ/2T), so
    (y − φ)² ≤ y·θ/2T, and summed over a layer

    .. math:: \|y - \varphi(T)\|^2 / \|y\|^2 \le K / 2T,\qquad K = \textstyle\sum \theta y / \sum y^2

    (θ = 1 where y is normalised). It is a quarter of the bound of Ding et al. (IJCAI 2021, arXiv 2105.11654), 2Ω/T with
    Ω = K; from 0, |y − φ(T)| ≤ min(y, θ/T) gives K/T. The measured rates are those of the network on its own spikes: a
    layer far above its bound suffers from the layers before it.

    Args:
        model: the source network.
        snn: the network converted from it by a rate method; one run serves every T.
        loader: a tensor, a list of tensors, or a loader.
        timesteps: values of T; by default the powers of two up to ``snn.timesteps``, and that itself.
        limit: inputs to use at most.
        progress: called with a title, the number of inputs done, and their total.

    Raises:
        ConversionError: shifted-threshold IF, whose steps are bits; networks that do not belong together.
        ValueError: a T outside 1 … ``snn.timesteps``.

    >>> import snnconv
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> method = snnconv.methods.IF(timesteps=8, thresholds="max", correction="none")
    >>> snn = snnconv.convert(model, method, calibration=torch.randn(64, 4))
    >>> (layer,) = fit_curve(model, snn, torch.randn(16, 4)).layers
    >>> list(layer.errors)
    [1, 2, 4, 8]
    """
    if snn.method.coding == "sum":
        raise ConversionError("the steps of shifted-threshold IF are bits of one number, so they have no fit curve")
    if snn.method.coding == "differential":
        raise ConversionError(
            "the bound of the fit curve is that of a rate of equal spikes, which multi-threshold neurons do not have; "
            "snnconv.compare shows the error of each layer"
        )
    last = snn.timesteps
    wanted = sorted({2**k for k in range(last.bit_length())} | {last}) if timesteps is None else sorted(set(timesteps))
    if not wanted or wanted[0] < 1 or wanted[-1] > last:
        raise ValueError(f"timesteps must be within 1 … {last}, got {wanted}")
    batches = network_batches(snn, loader, limit)
    reference = reference_program(model, snn, batches[0])
    sums: dict[str, dict[Any, float]] = defaultdict(lambda: defaultdict(float))
    for number, batch in enumerate(batches, start=1):
        activations: dict[str, Tensor] = {}

        def activate(site: str, z: Tensor, kept: dict[str, Tensor] = activations) -> Tensor:
            kept[site] = reference.sites[site].activation(z)
            return kept[site]

        def read(site: str, out: Tensor, kept: dict[str, Tensor] = activations) -> None:
            if out.shape[0] != last:  # the phase before the read-out
                return
            y = kept[site].double()
            theta = _theta(reference.sites[site], snn.thresholds[site], y)
            into = sums[site]
            into["theta y"] += float((theta * y).sum())
            into["y y"] += float(y.square().sum())
            total = out.double().cumsum(0)
            for t in wanted:
                into[t] += float((total[t - 1] / t - y).square().sum())

        with torch.no_grad():
            reference.static(batch, activate)
            snn.run(batch, observe=read)
        if progress:
            progress("fit curve", number, len(batches))
    return FitCurve(
        tuple(_layer(name, sums[name], wanted, _most(snn.method.at(name))) for name in snn.program.sites),
        tuple(wanted),
        sum(map(len, batches)),
    )


def _theta(site: Site, threshold: Tensor, y: Tensor) -> Tensor:
    """Size of a spike in the units of the activation, broadcast against it."""
    return y.new_ones(()) if site.function.unit else broadcast(threshold.to(y), y.dim(), site.axis)


def _most(method: Method) -> float:
    """Largest error of a constant current's rate, times T, in thresholds."""
    return 1.0 if method.neuron_options.get("start") == "zero" else 0.5


def _layer(name: str, found: dict[Any, float], timesteps: list[int], most: float) -> LayerFit:
    power = max(found["y y"], 1e-30)
    k = found["theta y"] / power
    return LayerFit(name, k, {t: found[t] / power for t in timesteps}, {t: k * most / t for t in timesteps})
