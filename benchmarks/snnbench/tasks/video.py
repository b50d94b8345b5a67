"""Video classification on mmengine's runner: preprocessor, classifier, metric, the transform of pretrained weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor

from snnbench.data import clip_datasets
from snnbench.data.image_datasets import SKIPPED
from snnbench.registry import METRICS, MODELS, TRANSFORMS
from snnbench.tasks.classification import ImageClassifier, ImagePreprocessor, TopK
from snnbench.weights.pretrained import torchvision_weights

__all__ = ["ClipFlip", "ClipPreprocessor", "ClipRandomCrop", "ClipTopK", "PretrainedClip", "VideoClassifier"]
__all__ += ["clip_datasets"]

NAMED = 20


@MODELS.register_module()
class ClipPreprocessor(ImagePreprocessor):
    """uint8 clips to normalised float batches: ``[B, C, T, H, W]``, or ``[B·K, ...]`` of K clips a video.

    Args:
        mean, std, channels_last: as for `ImagePreprocessor`.

    >>> data = {"inputs": [torch.zeros(2, 3, 4, 8, 8, dtype=torch.uint8)], "data_samples": [torch.tensor(2)]}
    >>> ClipPreprocessor(mean=[0.5] * 3, std=[0.2] * 3)(data)["inputs"].shape
    torch.Size([2, 3, 4, 8, 8])
    """

    item_dim = 4
    memory_format = torch.channels_last_3d

    def forward(self, data: Any, training: bool = False) -> dict[str, Any]:
        data = {key: value for key, value in data.items() if key != "path"}
        if not isinstance(data["inputs"], Tensor) and data["inputs"][0].dim() == self.item_dim + 1:
            data["inputs"] = torch.cat([clips if clips.dim() == 5 else clips[None] for clips in data["inputs"]])
        return super().forward(data, training)


@MODELS.register_module()
class VideoClassifier(ImageClassifier):
    """`ImageClassifier` for clips ``[B, C, T, H, W]``; a video's scores are the mean over its K clips.

    Args:
        network, data_preprocessor, settings: as for `ImageClassifier`, with a `ClipPreprocessor`.

    >>> model = VideoClassifier(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(24, 2)))
    >>> labels = torch.tensor([1, 0])
    >>> len(model(torch.zeros(6, 3, 2, 2, 2), labels, mode="predict"))
    2
    """

    def __init__(self, network: Any, data_preprocessor: Any = None, **settings: Any) -> None:
        preprocessor = {"type": "ClipPreprocessor"} if data_preprocessor is None else data_preprocessor
        super().__init__(network, preprocessor, **settings)

    @staticmethod
    def to_samples(logits: Tensor, labels: Tensor | None = None) -> list[BaseDataElement]:
        """Predictions, one a video."""
        videos = len(logits) if labels is None else len(labels)
        scores = logits.detach().float().softmax(1).reshape(videos, -1, logits.shape[1]).mean(1)
        return ImageClassifier.to_samples(scores.clamp(min=1e-30).log(), labels)


@METRICS.register_module()
class ClipTopK(TopK):
    """`TopK` over videos; those that could not be decoded are counted as ``skipped`` and named.

    Attributes:
        notes: after the evaluation, a sentence that names them, for the result file.
    """

    notes: list[str]

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        before = len(self.results)
        super().process(data_batch, data_samples)
        for place, path in enumerate(data_batch.get("path", ()), start=before):
            if self.results[place] == SKIPPED:
                self.results[place] = path

    def compute_metrics(self, results: list) -> dict[str, float]:
        broken = sorted(entry for entry in results if isinstance(entry, str))
        more = f" and {len(broken) - NAMED} more" if len(broken) > NAMED else ""
        self.notes = (
            [f"{len(broken)} videos could not be decoded and do not count: {', '.join(broken[:NAMED])}{more}"]
            if broken
            else []
        )
        return super().compute_metrics([SKIPPED if isinstance(entry, str) else entry for entry in results])


@TRANSFORMS.register_module()
class PretrainedClip:
    """A clip resized and cropped as the weights of torchvision's video network ask for; uint8 ``[T, 3, H, W]``.

    Args:
        name: of the network.
        weights: entry of torchvision's weights enum.

    Raises:
        ValueError: an unknown network or entry.

    >>> PretrainedClip("r3d_18")(torch.zeros(4, 3, 240, 320, dtype=torch.uint8)).shape
    torch.Size([4, 3, 112, 112])
    """

    def __init__(self, name: str, weights: str = "DEFAULT") -> None:
        preset = torchvision_weights(name, weights).transforms()
        self.resize, self.size = list(preset.resize_size), list(preset.crop_size)
        self.interpolation = preset.interpolation
        self.mean, self.std = tuple(preset.mean), tuple(preset.std)

    def __call__(self, clip: Tensor) -> Tensor:
        from torchvision.transforms import functional

        clip = functional.resize(clip, self.resize, interpolation=self.interpolation, antialias=False)
        cropped: Tensor = functional.center_crop(clip, self.size)
        return cropped


@TRANSFORMS.register_module()
class ClipRandomCrop:
    """A clip ``[T, C, H, W]`` resized, then cropped at one random place for all frames.

    Args:
        resize: height and width.
        size: of the crop.

    >>> ClipRandomCrop((16, 20), (8, 8))(torch.zeros(2, 3, 10, 10, dtype=torch.uint8)).shape
    torch.Size([2, 3, 8, 8])
    """

    def __init__(self, resize: Sequence[int], size: Sequence[int]) -> None:
        self.resize, self.size = list(resize), list(size)

    def __call__(self, clip: Tensor) -> Tensor:
        from torchvision.transforms import functional

        clip = functional.resize(clip, self.resize, antialias=False)
        room = [have - want for have, want in zip(clip.shape[-2:], self.size, strict=True)]
        top, left = (int(torch.randint(0, free + 1, ())) for free in room)
        return clip[..., top : top + self.size[0], left : left + self.size[1]]


@TRANSFORMS.register_module()
class ClipFlip:
    """A clip ``[T, C, H, W]`` mirrored left to right, half of the time.

    >>> ClipFlip()(torch.zeros(2, 3, 4, 4)).shape
    torch.Size([2, 3, 4, 4])
    """

    def __call__(self, clip: Tensor) -> Tensor:
        return clip.flip(-1) if bool(torch.rand(()) < 0.5) else clip
