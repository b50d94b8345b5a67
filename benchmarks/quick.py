"""``python -m benchmarks.quick``: scikit-learn's digits, every method in one table.

Trains a small CNN on real images that come with scikit-learn, so it needs no data and no network.
"""

from __future__ import annotations

import time
from pathlib import Path

from torch import nn

from snnbench import results
from snnbench.networks.models import Activation, DigitsCNN
from snnbench.results import Record

from . import main
from .classification import Entry, Task, accuracy
from .digits import Digits, load_digits, train_digits

TIMESTEPS = (1, 2, 4, 8, 16, 32)
EPOCHS = 25


def entries(rate_norm: DigitsCNN, training: Record | None = None) -> list[Entry]:
    """The rows of the table; ``training`` is that of ``rate_norm``."""
    from snnconv import methods

    rows = [
        Entry("IF", tuple(methods.IF(timesteps=t) for t in TIMESTEPS)),
        Entry("signed IF", tuple(methods.SignedIF(timesteps=t) for t in TIMESTEPS)),
        # as many steps in phase 1 as in phase 2, so T counts both
        Entry("SRP, τ = T/2", tuple(methods.SRP(timesteps=t // 2, pre_timesteps=t // 2) for t in TIMESTEPS[1:])),
        # T steps carry 2^T − 1 levels: 255 at T = 8 leave nothing to gain
        Entry("shifted threshold", tuple(methods.ShiftedThreshold(timesteps=t) for t in (1, 2, 4, 8))),
        Entry(
            "LTB, delayed readout",
            tuple(methods.LocalThresholdBalancing(timesteps=t, delay="auto") for t in TIMESTEPS),
        ),
        Entry(
            "rate norm, trained",
            tuple(methods.RateNorm(timesteps=t) for t in TIMESTEPS),
            model=rate_norm,
            architecture="digits CNN, rate norm",
            training=training,
        ),
    ]
    for label, recipe in main.SPIKINGJELLY.items():
        rows.append(Entry(label, recipe=recipe, timesteps=TIMESTEPS))
    return rows


def task(digits: Digits, model: DigitsCNN, seed: int, folder: Path, training: Record | None = None) -> Task:
    calibration = digits.x_train[:1000]
    return Task(
        name="classification",
        dataset="digits",
        architecture="digits CNN",
        model=model,
        calibration=calibration.split(100),
        test=list(zip(digits.x_test.split(150), digits.y_test.split(150), strict=True)),
        seed=seed,
        training=training,
        folder=folder,
    )


def _train(digits: Digits, activation: Activation, seed: int) -> tuple[DigitsCNN, Record]:
    start = time.perf_counter()
    model = train_digits(digits, activation, epochs=EPOCHS, seed=seed)
    return model, {"epochs": EPOCHS, "seconds": time.perf_counter() - start}


def run(arguments: list[str] | None = None) -> int:
    from snnconv.activations import RateNorm

    parser = main.parser(__doc__ or "", "digits")
    options = parser.parse_args(arguments)
    results.check_out(options.out / "results.json")
    digits = load_digits(options.seed)
    model, training = _train(digits, nn.ReLU, options.seed)
    rate_norm, rate_norm_training = _train(digits, RateNorm, options.seed)
    job = task(digits, model, options.seed, options.out, training)
    seconds = training["seconds"] + rate_norm_training["seconds"]
    print(
        f"trained in {seconds:.0f} s: ReLU {accuracy(model, job.test):.1f} %, "
        f"rate norm {accuracy(rate_norm, job.test):.1f} % on {len(digits.y_test)} test images"
    )
    rows = main.chosen(entries(rate_norm, rate_norm_training), options.methods, options.timesteps)
    return main.measure(job, rows, TIMESTEPS, options)


if __name__ == "__main__":
    main.exit_with(run)
