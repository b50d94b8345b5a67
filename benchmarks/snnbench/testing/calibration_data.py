"""What a conversion sees of a data set: preprocessed inputs, spread evenly over it."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from mmengine.dataset import pseudo_collate
from mmengine.dist import get_rank, get_world_size
from mmengine.registry import DATASETS
from torch import Tensor, nn

from snnbench.data.image_datasets import SKIPPED

__all__ = ["CalibrationData"]


class CalibrationData:
    """Preprocessed inputs of ``images`` samples of a data set, spread evenly over it; this rank's share of them.

    Args:
        dataset: a data set, or its config; built with ``pipeline`` in place of its own where one is given.
        images: how many samples, over all ranks.
        batch_size: samples a batch.
        pipeline: the test pipeline, so that calibration sees what testing sees.
        share: each rank takes its share, or all of them.

    Raises:
        ValueError: an empty data set, or fewer images than ranks.
    """

    def __init__(
        self, dataset: Any, images: int = 64, batch_size: int = 8, pipeline: Any = None, share: bool = True
    ) -> None:
        if isinstance(dataset, dict):
            dataset = copy.deepcopy(dataset)
            while "pipeline" not in dataset:  # a wrapper that repeats, or one that joins: its first data set calibrates
                inner = dataset.get("dataset") or next(iter(dataset.get("datasets") or []), None)
                if not isinstance(inner, dict):
                    break
                dataset = inner
            if pipeline is not None:
                dataset["pipeline"] = copy.deepcopy(pipeline)
            if "filter_cfg" in dataset:
                dataset.pop("filter_cfg")  # images without objects calibrate as well
            dataset = DATASETS.build(dataset)
        ranks, rank = (get_world_size(), get_rank()) if share else (1, 0)
        count = min(images, len(dataset))
        if count < ranks:
            raise ValueError(
                f"calibration needs at least one image for each of {ranks} ranks: the data set has {len(dataset)}, "
                f"calibration.images is {images}"
            )
        picked = torch.linspace(0, len(dataset) - 1, count).round().long().tolist()
        # interleaved, as a distributed sampler does it: the k-th batches of all ranks make the k-th batch of one
        self.samples = [_readable(dataset, i) for i in picked[rank::ranks]]
        self.batch_size = max(1, batch_size // ranks)

    def batches(self, model: nn.Module) -> Iterable[dict[str, Any]]:
        """Batches as ``model`` takes them: ``inputs`` ``[B, ...]`` and ``data_samples``."""
        for start in range(0, len(self.samples), self.batch_size):
            data = pseudo_collate(self.samples[start : start + self.batch_size])
            yield model.data_preprocessor(data, False)  # type: ignore[operator]


def _readable(dataset: Any, index: int) -> Any:
    """The sample at ``index``, or the next one that could be decoded."""
    for place in range(index, index + len(dataset)):
        sample = dataset[place % len(dataset)]
        label = sample.get("data_samples") if isinstance(sample, dict) else None
        if not (isinstance(label, Tensor) and label.dim() == 0 and int(label) == SKIPPED):
            return sample
    raise ValueError("calibration: not one sample of the data set can be decoded")
