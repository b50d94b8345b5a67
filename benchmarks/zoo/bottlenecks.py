"""EfficientNet-Lite0 with its real weights, whose linear bottlenecks spike or stay analog: accuracy, energy, reads.

Between its blocks it has no activation. ``cover="activations"`` leaves these values analog; ``cover="synapses"`` puts
encoders there, so that no layer behind the first reads a current.
"""

from __future__ import annotations

import warnings
from collections import Counter
from typing import Any

import torch
from torch import Tensor

import snnconv
from snnconv.progress import ProgressFn

CALIBRATION = 128
"""Pictures that calibrate; those behind them are tested."""
BATCH = 25
PROFILED = 8


def pictures(first: int, count: int) -> tuple[Tensor, Tensor]:
    """Normalised pictures of ``imagenet_samples.zip`` (``SNNCONV_DATA``) and their classes, from the ``first`` on.

    Raises:
        DataRootError: they are not there.
    """
    from snnbench.data.image_datasets import ImageFolder
    from snnbench.data.roots import resolve
    from snnbench.weights.pretrained import PretrainedTransform

    transform = PretrainedTransform("wheel", "efficientnet_lite0")
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (transform.mean, transform.std))
    samples: Any = ImageFolder(
        resolve("dataset:imagenet_samples/val"), pipeline=[transform], indices=list(range(first, first + count))
    )
    found = [samples[i] for i in range(len(samples))]
    images = torch.stack([(sample["inputs"].float() / 255 - mean) / std for sample in found])
    return images, torch.tensor([int(sample["data_samples"]) for sample in found])


def compared(
    model: torch.nn.Module,
    calibration: Tensor,
    images: Tensor,
    labels: Tensor,
    timesteps: int,
    progress: ProgressFn = lambda what, done, total: None,
) -> list[dict[str, Any]]:
    """A network beside itself converted with either cover.

    Returns:
        a line for the source and for each cover: ``accuracy`` (percent), ``pictures``; of a converted one ``energy``
        (SNN / ANN) and ``reads`` (layers with weights by what they read).
    """

    def accuracy(name: str, network: Any) -> float:
        correct = 0
        with torch.no_grad():
            for start in range(0, len(images), BATCH):
                x = images[start : start + BATCH]
                correct += int((network(x).argmax(1) == labels[start : start + BATCH]).sum())
                progress(name, start + len(x), len(images))
        return 100 * correct / len(images)

    lines: list[dict[str, Any]] = [
        {"cover": "source", "accuracy": accuracy("source", model.eval()), "pictures": len(images)}
    ]
    for cover in ("activations", "synapses"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            method = snnconv.methods.ShiftedThreshold(timesteps)
            snn = snnconv.convert(model, method, calibration.split(32), cover=cover, progress=False)
            costs = snnconv.profile(model, snn, images[:PROFILED])
        lines.append(
            {
                "cover": cover,
                "T": timesteps,
                "accuracy": accuracy(cover, snn),
                "pictures": len(images),
                "energy": costs.energy_ratio,
                "reads": dict(Counter(layer.reads for layer in costs.layers)),
            }
        )
    return lines


def lite0(count: int, timesteps: int, progress: ProgressFn = lambda what, done, total: None) -> list[dict[str, Any]]:
    """`compared` for EfficientNet-Lite0 on ``count`` pictures.

    Raises:
        RuntimeError: its packages are not installed.
    """
    from snnbench.weights.wheels import wheel_model

    model = wheel_model("efficientnet_lite0")
    calibration, _ = pictures(0, CALIBRATION)
    return compared(model, calibration, *pictures(CALIBRATION, count), timesteps, progress)
