"""Layer-wise fine-tuning of a spiking network on its own rates (Fast-SNN)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from snnconv.graph.source import ConversionError
from snnconv.inputs import Reader, input_batches, placement
from snnconv.network import SpikingNetwork
from snnconv.progress import ProgressFn, bars
from snnconv.report import table
from snnconv.runtime.batch import same_shapes
from snnconv.runtime.program import GraphProgram
from snnconv.runtime.readout import join_batches
from snnconv.training.layers import Layer, layers
from snnconv.training.tuning import FinishedLayers, LayerResult, Tuning

__all__ = ["FinetuneReport", "LayerResult", "finetune_layerwise"]


@dataclass(frozen=True)
class FinetuneReport:
    """Every layer in order; prints as a table.

    Attributes:
        measure: what decides: ``accuracy`` on the data's labels (percent), ``agreement`` with the source network's
            predictions (percent), or ``output error`` (relative, with a minus sign).
        layers: one :class:`LayerResult` a layer with weights.
    """

    measure: str
    layers: tuple[LayerResult, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def __str__(self) -> str:
        def change(values: tuple[float, float], digits: int) -> str:
            return f"{values[0]:.{digits}f} → {values[1]:.{digits}f}"

        rows = [(r.name, change(r.error, 4), change(r.score, 2), "yes" if r.kept else "no") for r in self.layers]
        return table(("layer", "relative error", self.measure, "kept"), rows)


def finetune_layerwise(
    ann: nn.Module,
    snn: SpikingNetwork,
    loader: Any,
    *,
    epochs: int = 1,
    learning_rate: float = 1e-3,
    batch_size: int = 64,
    samples: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    seed: int = 0,
    progress: bool | ProgressFn | None = None,
) -> tuple[SpikingNetwork, FinetuneReport]:
    """Fine-tune a converted network layer after layer on its own rates (Hu et al., arXiv 2305.19868, Fast-SNN).

    For each hidden layer in order: its input are the rates that the spiking network itself has there; its forward value
    is the rate φ that its neurons really fire at; its gradient is that of the quantised activation (straight-through);
    it minimises ‖φ − a‖², a the source network's activation. Thresholds stay. The best epoch by the
    accuracy on ``loader`` is kept, and of epochs that are equal in it the one with the least ‖φ − a‖; where none is
    better than the weights before, these stay. Without labels, the agreement with the source network's predictions
    decides, or for outputs that are no class scores, the output error.

    Args:
        ann: the network that ``snn`` was converted from.
        snn: a converted network of a rate method; it is not changed.
        loader: training data: ``(input, label)`` pairs or dictionaries for labels, tensors without. It is held in
            memory.
        epochs: passes over the data a layer.
        learning_rate: of Adam, relative to the root mean square of each tensor; falls to 0 as half a cosine wave.
        batch_size: samples a step.
        samples: use the first so many only.
        checkpoint: a folder; finished layers are stored there, and a run with the same arguments goes on behind them.
        seed: of the order of the samples.
        progress: ``False`` for no progress bars, or a function ``(what, done, total)``.

    Returns:
        The new network, and what became of each layer.

    Raises:
        ConversionError: shifted-threshold IF (lossless already), a network that does not trace, two networks that do
            not belong together, unusable data, a checkpoint of another run.

    >>> import snnconv
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> x = torch.randn(64, 4)
    >>> snn = snnconv.convert(model, snnconv.methods.SignedIF(timesteps=3), calibration=x)
    >>> tuned, report = finetune_layerwise(model, snn, [(x, model(x).argmax(1))], progress=False)
    >>> [layer.name for layer in report.layers]
    ['1']
    """
    _check(ann, snn)
    if epochs < 1 or batch_size < 1 or not learning_rate > 0:
        raise ValueError("epochs and batch_size must be at least 1, learning_rate above 0")
    inputs, labels = _data(loader, samples, Reader(snn.signature), *placement(snn))
    work = Tuning(ann, snn, inputs, labels, batch_size)
    settings = {"epochs": epochs, "learning_rate": learning_rate, "batch_size": batch_size, "seed": seed}
    store = None if checkpoint is None else FinishedLayers(Path(checkpoint), work, ann, snn, settings)
    done = [] if store is None else store.restore()
    cut = layers(work.program.source)
    score = work.score() if len(done) < len(cut) else 0.0
    with bars(progress) as tell:
        for number, layer in enumerate(cut):
            if number < len(done):
                continue
            result = _tune(work, layer, number, score, settings, tell)
            done.append(result)
            score = result.score[1] if result.kept else score
            if store is not None:
                store.write(done)
            tell("layer-wise fine-tuning", number + 1, len(cut))
    return work.snn, FinetuneReport(work.measure, tuple(done))


def _tune(
    work: Tuning, layer: Layer, number: int, score: float, settings: dict[str, Any], tell: ProgressFn
) -> LayerResult:
    """Train one layer, and keep its best epoch, or what it was."""

    def weights() -> list[Tensor]:
        return [work.program.source.tensors[name].detach().clone() for name in layer.tensors]

    start = score, -work.error(layer)
    best, kept = start, weights()
    epochs: list[tuple[float, float]] = []

    def epoch_done() -> None:
        nonlocal best, kept
        epochs.append((work.score(), -work.error(layer)))
        if epochs[-1] > best:
            best, kept = epochs[-1], weights()

    work.tune(layer, number, settings, tell, epoch_done)
    for name, value in zip(layer.tensors, kept, strict=True):
        work.program.source.tensors[name].copy_(value)
    improved = best > start
    after = best if improved else max(epochs)
    return LayerResult(layer.name, layer.tensors, (-start[1], -after[1]), (score, after[0]), improved)


def _check(ann: Any, snn: Any) -> None:
    if not isinstance(snn, SpikingNetwork):
        raise TypeError(f"snn must be a network that snnconv.convert made, got {type(snn).__name__}")
    if not isinstance(ann, nn.Module):
        raise TypeError(f"ann must be the nn.Module that snn was converted from, got {type(ann).__name__}")
    if snn.method.coding == "sum":
        raise ConversionError(
            "shifted-threshold IF says exactly what its quantised source network says: there is nothing to fine-tune"
        )
    if not isinstance(snn.program, GraphProgram):
        raise ConversionError("layer-wise fine-tuning needs a network that traces; this one was converted call by call")


def _data(
    loader: Any, limit: int | None, reader: Reader, device: torch.device | None, dtype: torch.dtype | None
) -> tuple[Any, Tensor | None]:
    """Inputs ``[N, ...]`` and, where every batch has them, class labels ``[N]``."""
    labels: list[Tensor | None] = []

    def inputs_alone() -> Iterator[Any]:
        for batch in loader:
            given, rest = reader.divide(batch)
            labels.append(reader.labels(rest))
            yield given

    whole = isinstance(loader, (Tensor, Mapping)) or not isinstance(loader, Iterable)
    batches = input_batches(
        loader if whole else inputs_alone(), limit, device, dtype, name="the data", reader=Reader(reader.signature)
    )
    if not same_shapes(batches):
        raise ConversionError("the data has inputs of several sizes; give inputs of one size")
    inputs = join_batches(batches)
    known = [v for v in labels if v is not None]
    if not known or len(known) < len(labels):
        return inputs, None
    joined = torch.cat(known)[: len(inputs)].to(inputs.device)
    return inputs, joined if len(joined) == len(inputs) else None
