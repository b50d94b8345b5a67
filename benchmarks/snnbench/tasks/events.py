"""Classification of recordings, a frame a step, on mmengine's runner: preprocessor and classifier."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from snnbench.data import event_datasets
from snnbench.registry import MODELS
from snnbench.tasks.classification import ImageClassifier

__all__ = ["EventClassifier", "EventPreprocessor"]
__all__ += ["event_datasets"]


@MODELS.register_module()
class EventPreprocessor(BaseDataPreprocessor):
    """Recordings ``[T, C, H, W]`` of one length to float batches ``[B, T, C, H, W]``.

    Args:
        gain: what an event is worth, so that a mean frame has values of about 1.

    Raises:
        ValueError: recordings of several lengths or sizes.

    >>> data = {"inputs": [torch.ones(5, 2, 4, 4)], "data_samples": [torch.tensor(2)]}
    >>> EventPreprocessor(gain=4.0)(data)["inputs"].shape
    torch.Size([1, 5, 2, 4, 4])
    """

    def __init__(self, gain: float = 4.0, non_blocking: bool = False) -> None:
        super().__init__(non_blocking)
        self.gain = gain

    def forward(self, data: Any, training: bool = False) -> dict[str, Any]:
        data = dict(self.cast_data(data))
        inputs = data["inputs"]
        if not isinstance(inputs, Tensor):
            sizes = sorted({tuple(recording.shape) for recording in inputs})
            if len(sizes) > 1:
                raise ValueError(f"recordings of several sizes in one batch ({sizes[:3]}): cut them to one length")
            inputs = torch.stack(list(inputs))
        labels = data.get("data_samples")
        if labels is not None:
            labels = torch.as_tensor(labels) if isinstance(labels, Tensor) else torch.stack(list(labels))
        return data | {"inputs": inputs.float() * self.gain, "data_samples": labels}


@MODELS.register_module()
class EventClassifier(ImageClassifier):
    """`ImageClassifier` for recordings ``[B, T, C, H, W]``: the network's answer is that to the mean frame.

    Converted with ``bench.input = "sequence"``, the network reads the recordings frame by frame, and neurons go on
    from one to the next.

    Args:
        network, data_preprocessor, settings: as for `ImageClassifier`, with an `EventPreprocessor`.

    >>> model = EventClassifier(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(8, 3)))
    >>> model(torch.zeros(5, 20, 2, 2, 2)).shape
    torch.Size([5, 3])
    """

    def __init__(self, network: Any, data_preprocessor: Any = None, **settings: Any) -> None:
        preprocessor = {"type": "EventPreprocessor"} if data_preprocessor is None else data_preprocessor
        super().__init__(network, preprocessor, **settings)

    def of_recordings(self, recordings: Tensor) -> Tensor:
        """Logits ``[B, classes]`` of recordings ``[B, T, C, H, W]``; a converted network takes this place."""
        return super()._run(recordings.mean(1), training=False)

    def _run(self, inputs: Tensor, training: bool) -> Tensor:
        return super()._run(inputs.mean(1), training) if training else self.of_recordings(inputs)
