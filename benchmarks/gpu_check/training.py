"""Part 5: a minute of fine-tuning in bfloat16, and what the converted network then gives with two steps."""

from __future__ import annotations

import math
import time
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import snnconv
from benchmarks.data import find, normalise
from snnbench.networks.models import resnet20_cifar10
from snnconv import activations, methods

from .record import Case, Failed, Setting
from .sources import pictures

__all__ = ["cases"]

LEVELS, STEPS = 3, 2
SECONDS = 50.0
"""Of training; the part's limit leaves room for the rest."""
BATCH = 256
RATE = 0.02
MOST_STEPS_SMALL = 2


def cases(setting: Setting) -> list[Case]:
    """The one run."""
    return [Case(f"ResNet-20, {LEVELS} levels, T = {STEPS}", partial(_train, setting))]


def _train(setting: Setting) -> dict[str, Any]:
    train, test = pictures("train"), pictures("test")
    if train is None or test is None:
        raise Failed("it needs CIFAR-10 and resnet20_cifar10.safetensors: SNNCONV_DATA names their folder")
    kind = setting.device.kind
    if setting.small:
        train, test = train.first(64), test.first(32)
    ann = resnet20_cifar10(find("resnet20_cifar10.safetensors")).to(kind)
    images, labels = train.images.to(kind), train.labels.to(kind)
    qann = snnconv.prepare(
        ann, activations.QuantReLU(levels=LEVELS, per_channel=True), normalise(images[:1024]), progress=False
    )
    qann = qann.to(memory_format=torch.channels_last).train()
    optimiser = torch.optim.SGD(qann.parameters(), lr=RATE, momentum=0.9, weight_decay=1e-4, nesterov=True)
    steps, start, last = 0, time.perf_counter(), math.nan
    while (passed := (time.perf_counter() - start) / SECONDS) < 1 and (not setting.small or steps < MOST_STEPS_SMALL):
        for group in optimiser.param_groups:
            group["lr"] = RATE * 0.5 * (1 + math.cos(math.pi * passed))
        at = torch.randint(len(images), (min(BATCH, len(images)),), device=kind)
        x = augmented(normalise(images[at])).contiguous(memory_format=torch.channels_last)
        with torch.no_grad(), torch.autocast(kind, torch.bfloat16):
            taught = ann(x)
        with torch.autocast(kind, torch.bfloat16):
            found = qann(x)
        loss = F.cross_entropy(found.float(), labels[at]) + distance(found, taught)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        steps += 1
        if steps % 20 == 0 or setting.small:
            last = float(loss.detach())  # waits for the device
            if not math.isfinite(last):
                raise Failed(f"the loss is {last} after {steps} steps")
    seconds = time.perf_counter() - start
    qann.eval()
    method = methods.ShiftedThreshold(STEPS, thresholds="trained", correction="none")
    snn = snnconv.convert(qann, method, progress=False)
    snn.memory_budget = 2**30
    return {
        "steps": steps,
        "images_a_second": steps * min(BATCH, len(images)) / seconds,
        "loss": last,
        "train_images": len(train),
        "test_images": len(test),
        "ann": accuracy(ann, test.images, test.labels, kind),
        "quantised": accuracy(qann, test.images, test.labels, kind),
        f"spiking_T_{STEPS}": accuracy(snn, test.images, test.labels, kind),
    }


def augmented(x: Tensor) -> Tensor:
    """Each picture mirrored or not, the batch moved by up to four pixels."""
    mirrored = torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5
    x = torch.where(mirrored, x.flip(3), x)
    down, right = (int(v) for v in torch.randint(0, 9, (2,)))
    return F.pad(x, (4, 4, 4, 4))[:, :, down : down + x.shape[2], right : right + x.shape[3]]


def distance(found: Tensor, taught: Tensor, temperature: float = 4.0) -> Tensor:
    """Of the softened classes of a network from its teacher's."""
    softened = F.log_softmax(found.float() / temperature, 1)
    return F.kl_div(softened, F.softmax(taught.float() / temperature, 1), reduction="batchmean") * temperature**2


@torch.no_grad()
def accuracy(network: nn.Module, images: Tensor, labels: Tensor, kind: str) -> float:
    """Percent of the pictures."""
    right = 0
    for start in range(0, len(images), 500):
        x = normalise(images[start : start + 500].to(kind))
        right += int((network(x).argmax(1).cpu() == labels[start : start + 500]).sum())
    return 100 * right / len(images)
