"""Inputs that are no numbers: their outputs are none either.

A spike is the answer to a comparison, and a comparison with NaN has one: behind the first neurons nothing is left of a
NaN, and an input of nothing but NaN would be classified. So what was wrong with the input is kept beside the run.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from snnconv.dynamics.captured import captured
from snnconv.graph.error import ConversionError
from snnconv.runtime.batch import entries, whole_names
from snnconv.runtime.readout import Held

__all__ = ["NonFinite"]


class NonFinite:
    """The samples of an input that hold NaN or infinite values.

    Of several inputs, any counts; in those behind the first, −∞ does not: masks of attention hold it.

    >>> marked = NonFinite(torch.tensor([[1.0, 2.0], [float("nan"), 0.0]])).mark(torch.zeros(2, 3))
    >>> marked.isnan().any(1)
    tensor([False,  True])
    """

    def __init__(self, x: Any) -> None:
        self.samples: Tensor | None = None
        whole = whole_names(x) if not isinstance(x, Tensor) else set()
        for number, (name, value) in enumerate(entries(x).items()):
            if not value.is_floating_point() or (number == 0 and _certain(value)):
                continue
            wrong = ~torch.isfinite(value) if number == 0 else torch.isnan(value) | (value == math.inf)
            if name not in whole and value.dim() > 1:
                wrong = wrong.flatten(1).any(1)
            elif name in whole:
                wrong = wrong.any().reshape(1)
            self.samples = wrong if self.samples is None else self.samples | wrong
        if self.samples is not None and _known(self.samples) and not bool(self.samples.any()):
            self.samples = None

    def behind(self, before: NonFinite | None) -> NonFinite:
        """The same, where the membranes go on from an input of ``before``: what held NaN once does so until a reset."""
        if before is not None and before.samples is not None:
            self.samples = before.samples if self.samples is None else self.samples | before.samples
        return self

    def mark(self, out: Any, dim: int = 0) -> Any:
        """Outputs with NaN for those samples.

        Args:
            out: a tensor, or a tree of them and of `Held` outputs; of these, constants stay as they are.
            dim: the dimension of the batch; a tensor that does not have it, or another number of samples, belongs to
                all of them.

        Raises:
            ConversionError: an output of whole numbers or truth values, which has no NaN.
        """
        if self.samples is None:
            return out
        samples = self.samples

        def marked(value: Tensor) -> Tensor:
            if not value.is_floating_point():
                if not _known(samples) or bool(samples.any()):
                    raise ConversionError(
                        f"{int(samples.sum())} of the inputs hold NaN or infinite values, and an output of "
                        f"{str(value.dtype).removeprefix('torch.')} cannot say so: check the data"
                    )
                return value
            here = samples
            if value.dim() <= dim or value.shape[dim] != samples.shape[0]:
                here = samples.any().reshape(())
            else:
                here = samples.reshape(-1, *[1] * (value.dim() - dim - 1))
            return value.masked_fill(here, math.nan)

        def leaf(value: Any) -> Any:
            if isinstance(value, Held):
                return value if value.constant else value.map(marked)
            return marked(value) if isinstance(value, Tensor) else value

        return tree_map(leaf, out)


def _known(value: Tensor) -> bool:
    """Whether a value may be looked at: on the CPU, where nothing waits for it, and while no graph is recorded."""
    if value.device.type != "cpu" or captured():
        return False
    return type(value) in (Tensor, torch.nn.Parameter)


def _certain(value: Tensor) -> bool:
    """Whether one look tells that all is finite: a sum is, if nothing overflows."""
    if not _known(value):
        return False
    exact = value.dtype if value.dtype.itemsize >= 4 else torch.float32
    return math.isfinite(float(value.detach().sum(dtype=exact)))
