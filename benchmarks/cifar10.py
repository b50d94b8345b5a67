"""``python -m benchmarks.cifar10``: CIFAR-10 with a ResNet-20, every training-free method.

``SNNCONV_DATA`` names a folder with CIFAR-10 and the weights ``resnet20_cifar10.safetensors``. Calibration
uses at most 1,024 training images without their labels.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from snnbench.networks.models import ResNet20, resnet20_cifar10, with_conv_shortcuts

from . import main
from .classification import Entry, Task
from .data import DataError, cifar10, find

BATCH = 100
TIMESTEPS = (1, 2, 3, 4, 5, 8, 16, 32, 64)


def entries(model: ResNet20, baseline_images: int | None) -> list[Entry]:
    """The rows of the table."""
    from snnconv import methods

    rows = [
        Entry("shifted threshold", tuple(methods.ShiftedThreshold(timesteps=t) for t in (2, 3, 4, 5))),
        Entry(
            "shifted threshold, reconstructed",
            tuple(methods.ShiftedThreshold(timesteps=t, correction="reconstruct") for t in (2, 3, 4, 5)),
        ),
        Entry(
            "signed IF, reconstructed",
            tuple(methods.SignedIF(timesteps=t, correction="reconstruct") for t in (4, 8)),
        ),
        Entry("differential multi-threshold", tuple(methods.MultiThreshold(timesteps=t) for t in (1, 2, 4, 8))),
        Entry(
            "hierarchical multi-threshold",
            tuple(methods.HierarchicalMultiThreshold(timesteps=t) for t in (1, 2, 4, 8)),
        ),
        Entry("signed IF", tuple(methods.SignedIF(timesteps=t) for t in (4, 8, 16, 32))),
        Entry("IF", tuple(methods.IF(timesteps=t) for t in (8, 16, 32, 64))),
        Entry("SRP, τ = T/2", tuple(methods.SRP(timesteps=t, pre_timesteps=t) for t in (4, 8))),
        Entry(
            "LTB, delayed readout",
            tuple(methods.LocalThresholdBalancing(timesteps=t, delay="auto") for t in (16, 32, 64)),
        ),
    ]
    # SpikingJelly refuses the zero-padding shortcut, so it gets the same network with convolution shortcuts
    equal = with_conv_shortcuts(model)
    for label, recipe in main.SPIKINGJELLY.items():
        rows.append(
            Entry(
                label,
                recipe=recipe,
                timesteps=(4, 8, 16, 32, 64),
                model=equal,
                architecture="ResNet-20, convolution shortcuts",
                batches=None if baseline_images is None else max(1, baseline_images // BATCH),
            )
        )
    return rows


def run(arguments: list[str] | None = None) -> int:
    parser = main.parser(__doc__ or "", "cifar10")
    parser.add_argument("--limit", type=int, metavar="N", help="N test images drawn with the seed (default: all)")
    parser.add_argument(
        "--baseline-limit",
        type=int,
        default=1000,
        metavar="N",
        help="SpikingJelly's rows, 64 steps each, on the first N of those images (default 1000; 0: all)",
    )
    parser.add_argument("--calibration", type=int, default=1024, metavar="N", help="training images, at most 1024")
    parser.add_argument("--weights", type=Path, help="safetensors file (default: the one in SNNCONV_DATA)")
    parser.add_argument("--download", action="store_true", help="fetch the CIFAR-10 originals with torchvision")
    options = parser.parse_args(arguments)
    if not 1 <= options.calibration <= 1024:
        raise DataError(f"--calibration is between 1 and 1024, got {options.calibration}")
    if options.limit is not None and options.limit < 1:
        raise DataError(f"--limit is at least 1, got {options.limit}")
    if options.baseline_limit < 0:
        raise DataError(f"--baseline-limit is at least 0, got {options.baseline_limit}")

    model = resnet20_cifar10(options.weights or find("resnet20_cifar10.safetensors"))
    return max([_measure(model, run) for run in main.each_seed(options)])


def _measure(model: ResNet20, options: argparse.Namespace) -> int:
    """The rows with one seed; the exit status."""
    train = cifar10("train", options.download).shuffled(options.seed).first(options.calibration)
    test = cifar10("test", options.download).shuffled(options.seed).first(options.limit)
    job = Task(
        name="classification",
        dataset="CIFAR-10",
        architecture="ResNet-20",
        model=model,
        calibration=[x for x, _ in train.batches(BATCH)],
        test=list(test.batches(BATCH)),
        seed=options.seed,
        folder=options.out,
    )
    rows = main.chosen(entries(model, options.baseline_limit or None), options.methods, options.timesteps)
    return main.measure(job, rows, TIMESTEPS, options)


if __name__ == "__main__":
    main.exit_with(run, main.RESUMES)
