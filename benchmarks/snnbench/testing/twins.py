"""The quantised networks of as many levels as the spiking ones, tested beside them by the same harness."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from torch import Tensor

from snnbench.testing.model_parts import Part
from snnbench.testing.readouts import Reading, Variant, Window
from snnconv import quantised_twin
from snnconv.files.refusal import first_line
from snnconv.graph.source import ConversionError

__all__ = ["NO_TWIN", "Agreement", "Twin", "of", "same_answer"]

FLOAT, INT8 = 32, 8
NO_TWIN = "no quantised network stands beside it"


@dataclass
class Twin:
    """A quantised network where a converted one is read: it gives its one answer, whatever steps are asked for."""

    network: Any
    timesteps: int

    def readouts(self, x: Any, windows: Sequence[Window]) -> list[Any]:
        """Its output, once a window."""
        found = self.network(x)
        return [found for _ in windows]


def of(
    variant: Variant,
    parts: Sequence[Part],
    inputs: dict[str, list[Tensor]],
    convert: Callable[[Part, Any, list[Tensor]], Any],
) -> Iterator[Variant]:
    """The quantised networks of each readout of ``variant``, with float and with 8-bit weights.

    In rate coding a corrected bias makes up for what spikes do unevenly, which a quantised network does not: there it
    is made from the same conversion without correction. Where there is none, a note of ``variant`` says why.
    """
    plain = variant.networks
    method = variant.readings[-1].method
    try:
        if method is None:
            return
        if method.coding == "rate" and method.correction != "none":
            plain = {p.name: convert(p, replace(method, correction="none"), inputs[p.name]) for p in parts}
        for reading in [r for r in variant.readings if r.method is not None]:
            yield from _of_reading(variant, reading, plain, inputs)
    except (ConversionError, NotImplementedError, RuntimeError, ValueError) as error:
        variant.notes.append(f"{NO_TWIN}: {first_line(error)}")


def _of_reading(
    variant: Variant, reading: Reading, plain: dict[str, Any], inputs: dict[str, list[Tensor]]
) -> Iterator[Variant]:
    for bits in (FLOAT, INT8):
        twins = {}
        for name, network in plain.items():
            twins[name] = Twin(quantised_twin(network, bits == INT8, reading.method), reading.timesteps)
            with torch.no_grad():
                twins[name].network(inputs[name][0][:1])  # it runs, or this row has none
        yield Variant(
            f"{variant.label}, quantised ANN with {bits}-bit weights",
            variant.method,
            twins,
            variant.pre_timesteps,
            [Reading(reading.timesteps, (1, reading.timesteps))],
            twin_of=(variant.name, reading.window),
            weight_bits=bits,
            levels=max(level for twin in twins.values() for level in twin.network.levels.values()),
        )


class Agreement(BaseMetric):
    """Share of samples to which two networks gave the same answer; filled by :meth:`note`."""

    def process(self, data_batch: Any, data_samples: Any) -> None:
        """Nothing: see :meth:`note`."""

    def note(self, first: Sequence[Any], second: Sequence[Any]) -> None:
        """Compare the predictions of a batch, one sample with one."""
        self.results.extend(int(same_answer(a, b)) for a, b in zip(first, second, strict=True))

    def compute_metrics(self, results: list) -> dict[str, float]:
        return {"agreement": sum(results) / len(results)} if results else {}


def same_answer(first: Any, second: Any) -> bool:
    """Whether two predictions say the same: the same class, map of classes, boxes to 0.01 pixels, or return to 1e-9.

    >>> from mmengine.structures import BaseDataElement
    >>> a, b = BaseDataElement(pred_label=torch.tensor(3)), BaseDataElement(pred_label=torch.tensor(4))
    >>> same_answer(a, a), same_answer(a, b)
    (True, False)
    """
    for name, same in _SAME.items():
        if name in first and name in second:
            return bool(same(first.get(name), second.get(name)))
    return False


def _same_boxes(first: Any, second: Any) -> bool:
    return (
        len(first) == len(second)
        and bool((first.labels == second.labels).all())
        and bool(torch.allclose(first.bboxes, second.bboxes, rtol=0, atol=0.01))
    )


_SAME: dict[str, Callable[[Any, Any], Any]] = {
    "pred_label": lambda a, b: a == b,
    "pred_sem_seg": lambda a, b: (a.data == b.data).all(),
    "pred_instances": _same_boxes,
    "episode_return": lambda a, b: abs(a - b) <= 1e-9 * max(1.0, abs(a)),
}
"""Field of a prediction → whether two of them say the same."""
