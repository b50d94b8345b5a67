"""The steps of layer-wise fine-tuning, see :mod:`snnconv.training.finetune`."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from snnconv.activations.quant import straight_through
from snnconv.files.atomic import writable, write_whole
from snnconv.files.fingerprint import config_hash, digest
from snnconv.files.refusal import UntrustedFileError, refused_as
from snnconv.files.seal import UNSEALED, is_sealed, sealed
from snnconv.files.untrusted import read_json, read_safetensors
from snnconv.graph.source import ConversionError, broadcast
from snnconv.metrics.comparing import reference_program
from snnconv.network import SpikingNetwork
from snnconv.progress import ProgressFn
from snnconv.runtime.batch import entries
from snnconv.runtime.program import GraphProgram
from snnconv.runtime.run import RunState
from snnconv.runtime.values import channels_last
from snnconv.training.layers import Layer

__all__ = ["FinishedLayers", "LayerResult", "Tuning"]

FILE = "finetune.safetensors"
ERROR_SAMPLES = 1024
ADAM_EPS = 1e-3  # of gradients of a relative error: a layer that is right already is left almost as it is


@dataclass(frozen=True)
class LayerResult:
    """What became of one layer.

    Attributes:
        name: its site.
        tensors: the weights and biases that were tuned.
        error: ‖rate − activation‖² / ‖activation‖² before and after the best epoch.
        score: the measure before and after it.
        kept: whether the new weights stayed.
    """

    name: str
    tensors: tuple[str, ...]
    error: tuple[float, float]
    score: tuple[float, float]
    kept: bool


class _Reached(Exception):
    """A pass has come to the site that it was for."""


class Tuning:
    """The network that is tuned, and the data.

    Args:
        ann, snn: as for :func:`finetune_layerwise`; ``snn`` is copied.
        inputs, labels: the training data.
        batch_size: samples a step.
    """

    def __init__(
        self, ann: nn.Module, snn: SpikingNetwork, inputs: Any, labels: Tensor | None, batch_size: int
    ) -> None:
        self.snn = copy.deepcopy(snn)
        assert isinstance(self.snn.program, GraphProgram)
        self.program: GraphProgram = self.snn.program
        self.reference = reference_program(ann, self.snn, inputs[:2])
        self.inputs, self.batch_size = inputs, batch_size
        with torch.no_grad():
            outputs = [self._answer(x) for x in inputs.split(batch_size)]
        self.outputs = torch.cat(outputs) if all(isinstance(y, Tensor) for y in outputs) else None
        if self.outputs is None:
            raise ConversionError("layer-wise fine-tuning needs a network with one tensor as output")
        classes = self.outputs.dim() == 2 and self.outputs.shape[1] > 1
        self.labels = labels if classes else None
        self.measure = "accuracy" if self.labels is not None else "agreement" if classes else "output error"
        if self.labels is None and classes:
            self.labels = self.outputs.argmax(1)

    def _answer(self, x: Any) -> Any:
        return self.reference.static(x, lambda site, z: self.reference.sites[site].activation(z))

    def score(self) -> float:
        """The measure on all data; more is better."""
        correct, error = 0, 0.0
        assert self.outputs is not None
        for start in range(0, len(self.inputs), self.batch_size):
            part = slice(start, start + self.batch_size)
            y = self.snn(self.inputs[part])
            if self.labels is not None:
                correct += int((y.argmax(1) == self.labels[part]).sum())
            else:
                error += float((y - self.outputs[part]).double().square().sum())
        if self.labels is not None:
            return 100 * correct / len(self.inputs)
        return -math.sqrt(error / max(float(self.outputs.double().square().sum()), 1e-30))

    def error(self, layer: Layer) -> float:
        """‖φ − a‖² / ‖a‖² of a layer."""
        with torch.no_grad():
            parts = [self._terms(layer, x) for x in self.inputs[:ERROR_SAMPLES].split(self.batch_size)]
        return sum(float(wrong) for wrong, _ in parts) / max(sum(float(power) for _, power in parts), 1e-12)

    def tune(
        self, layer: Layer, number: int, settings: dict[str, Any], tell: ProgressFn, epoch_done: Callable[[], None]
    ) -> None:
        """Train one layer; ``epoch_done`` is called after each epoch."""
        weights = [self.program.source.tensors[name].requires_grad_(True) for name in layer.tensors]
        groups = [
            {"params": [w], "lr": float(w.detach().square().mean().sqrt().clamp(min=1e-3)) * settings["learning_rate"]}
            for w in weights
        ]
        optimiser = torch.optim.Adam(groups, betas=(0.9, 0.99), eps=ADAM_EPS)
        per_epoch = math.ceil(len(self.inputs) / self.batch_size)
        total = settings["epochs"] * per_epoch
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda s: 0.5 * (1 + math.cos(math.pi * s / total)))
        generator = torch.Generator().manual_seed(settings["seed"] + 1000 * number)
        step = 0
        try:
            for _ in range(settings["epochs"]):
                for index in torch.randperm(len(self.inputs), generator=generator).split(self.batch_size):
                    wrong, power = self._terms(layer, self.inputs[index.to(self.inputs.device)])
                    optimiser.zero_grad()
                    (wrong / power.clamp(min=1e-12)).backward()
                    optimiser.step()
                    schedule.step()
                    step += 1
                    tell(f"fine-tuning {layer.name}", step, total)
                with torch.no_grad():
                    epoch_done()
        finally:
            for weight in weights:
                weight.requires_grad_(False)
                weight.grad = None

    def _terms(self, layer: Layer, x: Any) -> tuple[Tensor, Tensor]:
        """‖φ − a‖² on inputs ``[B, ...]``, with the quantised activation's gradient; and ‖a‖²."""
        x = channels_last(x)
        with torch.no_grad():
            wanted = self._activation(layer, x)
            spikes = self._spikes(layer, x)
            rate = self._rate(self._fire(layer, x, spikes))
        rates = {name: self._rate(seq) for name, seq in spikes.items()}
        site = self.program.sites[layer.name]
        theta = self.snn.thresholds[layer.name]
        z = layer.program.static(x, lambda name, z: z if name == layer.name else rates[name])
        y = straight_through(z, broadcast(theta, z.dim(), site.axis), self.snn.method.levels)
        if site.function.unit:
            y = y / broadcast(theta, z.dim(), site.axis)
        y = y + (rate - y).detach()
        return (y - wanted).square().sum(), wanted.square().sum()

    def _rate(self, seq: Tensor) -> Tensor:
        rate: Tensor = self.snn.readout.of_site(seq[self.snn.method.pre_timesteps_ :])
        return rate

    def _activation(self, layer: Layer, x: Any) -> Tensor:
        """The source network's activation."""
        found: list[Tensor] = []

        def look(name: str, z: Tensor) -> Tensor:
            y = self.reference.sites[name].activation(z)
            if name == layer.name:
                found.append(y)
                raise _Reached
            return y

        with suppress(_Reached):
            self.reference.static(x, look)
        return found[0]

    def _spikes(self, layer: Layer, x: Any) -> dict[str, Tensor]:
        """Outputs ``[T, B, ...]`` of the sites that the layer reads."""
        found: dict[str, Tensor] = {}

        def fire(name: str, x_seq: Tensor) -> Tensor:
            if name == layer.name:
                raise _Reached
            out = self.snn.fire_all(name, x_seq)
            if name in layer.inputs:
                found[name] = out
            return out

        self.snn.reset()
        with suppress(_Reached):  # both phases of a two-phase method in one sequence
            self.program.steps(x, self.snn.method.latency, fire, RunState())
        self.snn.reset()
        return found

    def _fire(self, layer: Layer, x: Any, spikes: dict[str, Tensor]) -> Tensor:
        """The layer's own outputs ``[T, B, ...]`` for these spikes."""

        def fire(name: str, x_seq: Tensor) -> Tensor:
            return self.snn.fire_all(name, x_seq) if name == layer.name else spikes[name]

        out: Tensor = layer.program.steps(x, self.snn.method.latency, fire, RunState())
        self.snn.reset()
        return out


class FinishedLayers:
    """The finished layers of a run, in one file that is replaced as a whole."""

    def __init__(
        self, folder: Path, work: Tuning, ann: nn.Module, snn: SpikingNetwork, settings: dict[str, Any]
    ) -> None:
        self.path = folder / FILE
        writable(self.path, make_folder=True)
        self.tensors = work.program.source.tensors
        decides = {
            **settings, "ann": digest(ann), "snn": digest(snn), "method": snn.method.to_dict(),
            "data": _described(work.inputs), "measure": work.measure,
        }  # fmt: skip
        self.key = config_hash(decides)

    def restore(self) -> list[LayerResult]:
        """Take over the weights of the layers that are done."""
        if not self.path.is_file():
            return []
        with refused_as(ConversionError):
            tensors, metadata = read_safetensors(self.path)
            if not is_sealed(self.path.read_bytes(), metadata.get("digest", "")):
                raise UntrustedFileError(f"{self.path}: damaged: it is not what its digest says; delete it")
        if metadata.get("key") != self.key:
            raise ConversionError(
                f"{self.path} belongs to a run with other networks, data or settings; delete it, or give another folder"
            )
        with refused_as(ConversionError):
            layers = self._layers(read_json(metadata.get("layers", ""), f"{self.path}: layers"), tensors)
        with torch.no_grad():
            for name, value in tensors.items():
                self.tensors[name].copy_(value)
        return layers

    def _layers(self, found: Any, tensors: dict[str, Tensor]) -> list[LayerResult]:
        """The layers of a file, whose tensors are those of the network."""
        try:
            layers = [
                LayerResult(v["name"], tuple(v["tensors"]), tuple(v["error"]), tuple(v["score"]), v["kept"])
                for v in found
            ]
            names = {name for layer in layers for name in layer.tensors}
        except (KeyError, TypeError) as error:
            raise ConversionError(f"{self.path}: its list of layers is damaged; delete it") from error
        own = {name: value.shape for name, value in self.tensors.items() if name in names}
        if names != tensors.keys() or own != {name: value.shape for name, value in tensors.items()}:
            raise ConversionError(f"{self.path}: its tensors are not those of the layers that it lists; delete it")
        return layers

    def write(self, layers: list[LayerResult]) -> None:
        """Write the layers that are done, with their tensors, whole or not at all."""
        from safetensors.torch import save

        names = [name for layer in layers for name in layer.tensors]
        tensors = {name: self.tensors[name].detach().cpu().contiguous().clone() for name in names}
        layers_ = json.dumps([asdict(layer) for layer in layers])
        self.path.parent.mkdir(parents=True, exist_ok=True)
        metadata = {"key": self.key, "layers": layers_, "digest": UNSEALED.decode()}
        write_whole(self.path, sealed(save(tensors, metadata)))


def _described(inputs: Any) -> list[Any]:
    """Shapes and sums of the data, by which a checkpoint knows it."""
    return [v for x in entries(inputs).values() for v in (list(x.shape), float(x.double().sum()))]
