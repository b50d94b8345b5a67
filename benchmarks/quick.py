"""``python -m benchmarks.quick``: scikit-learn's digits, every method in one table.

Trains a small network on real images that come with scikit-learn, so it needs no data and no network.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from torch import nn

from snnbench import results
from snnbench.networks.digits import NETWORKS, DigitsNetwork
from snnbench.results import Record

from . import main
from .classification import Entry, Task, accuracy
from .data import DataError
from .digits import Digits, load_digits, train_network

TIMESTEPS = (1, 2, 4, 8, 16, 32)
EPOCHS = 25


def entries(network: DigitsNetwork, rate_norm: nn.Module | None, training: Record | None = None) -> list[Entry]:
    """The rows of the table; ``training`` is that of ``rate_norm``, the network trained with rate norm layers."""
    from snnconv import methods

    if network.trained is not None:  # activations that bring thresholds of their own, for methods that take them
        return [
            Entry("IF", tuple(methods.IF(timesteps=t, thresholds="trained") for t in network.trained)),
            Entry("signed IF", tuple(methods.SignedIF(timesteps=t, thresholds="trained") for t in network.trained)),
            Entry(
                "SRP, τ = 4",
                tuple(methods.SRP(timesteps=t, pre_timesteps=4, thresholds="trained") for t in network.trained),
            ),
            *_shifted_as_trained(network),
        ]
    rows = [
        Entry("IF", tuple(methods.IF(timesteps=t) for t in TIMESTEPS)),
        Entry("signed IF", tuple(methods.SignedIF(timesteps=t) for t in TIMESTEPS)),
        # as many steps in phase 1 as in phase 2, so T counts both
        Entry("SRP, τ = T/2", tuple(methods.SRP(timesteps=t // 2, pre_timesteps=t // 2) for t in TIMESTEPS[1:])),
        # T steps carry 2^T − 1 levels: 255 at T = 8 leave nothing to gain
        Entry("shifted threshold", tuple(methods.ShiftedThreshold(timesteps=t) for t in (1, 2, 4, 8))),
        Entry(
            "shifted threshold, reconstructed",
            tuple(methods.ShiftedThreshold(timesteps=t, correction="reconstruct") for t in (1, 2, 4)),
        ),
        Entry(
            "shifted threshold, largest activation",
            tuple(methods.ShiftedThreshold(timesteps=t, thresholds="max") for t in (1, 2, 4, 8)),
        ),
        Entry("differential multi-threshold", tuple(methods.MultiThreshold(timesteps=t) for t in (1, 2, 4, 8))),
        Entry(
            "hierarchical multi-threshold",
            tuple(methods.HierarchicalMultiThreshold(timesteps=t) for t in (1, 2, 4, 8)),
        ),
        Entry(
            "signed IF, uncorrected",
            tuple(methods.SignedIF(timesteps=t, correction="none") for t in TIMESTEPS),
        ),
        Entry(
            "signed IF, largest activation",
            tuple(methods.SignedIF(timesteps=t, thresholds="max") for t in TIMESTEPS),
        ),
        Entry("IF, largest activation", tuple(methods.IF(timesteps=t, thresholds="max") for t in TIMESTEPS)),
        Entry("IF, uncorrected", tuple(methods.IF(timesteps=t, correction="none") for t in TIMESTEPS)),
        Entry(
            "LTB, delayed readout",
            tuple(methods.LocalThresholdBalancing(timesteps=t, delay="auto") for t in TIMESTEPS),
        ),
        Entry("LTB", tuple(methods.LocalThresholdBalancing(timesteps=t, delay=0) for t in TIMESTEPS)),
    ]
    if not network.relu:  # of our methods those whose neurons take other functions; SpikingJelly's recipes take none
        return [row for row in rows if isinstance(row.methods[0], methods.SignedIF | methods.ShiftedThreshold)]
    if rate_norm is not None:
        rows.append(
            Entry(
                "rate norm, trained",
                tuple(methods.RateNorm(timesteps=t) for t in TIMESTEPS),
                model=rate_norm,
                architecture=f"{network.architecture}, rate norm",
                training=training,
            )
        )
    for label, recipe in main.SPIKINGJELLY.items():
        rows.append(Entry(label, recipe=recipe, timesteps=TIMESTEPS))
    return rows


def _shifted_as_trained(network: DigitsNetwork) -> Iterator[Entry]:
    """Shifted threshold at T with 2^T − 1 levels as trained: no other T has as many."""
    from snnconv import methods

    if network.levels is not None and (steps := (network.levels + 1).bit_length() - 1):
        method = methods.ShiftedThreshold(timesteps=steps, thresholds="trained")
        if 2**steps - 1 == network.levels:
            yield Entry("shifted threshold", (method,))


def task(
    digits: Digits,
    model: nn.Module,
    seed: int,
    folder: Path,
    training: Record | None = None,
    architecture: str = "digits CNN",
) -> Task:
    calibration = digits.x_train[:1000]
    return Task(
        name="classification",
        dataset="digits",
        architecture=architecture,
        model=model,
        calibration=calibration.split(100),
        test=list(zip(digits.x_test.split(150), digits.y_test.split(150), strict=True)),
        seed=seed,
        training=training,
        folder=folder,
    )


def _train(digits: Digits, make: Callable[[], nn.Module], seed: int) -> tuple[nn.Module, Record]:
    start = time.perf_counter()
    model = train_network(digits, make, epochs=EPOCHS, seed=seed)
    return model, {"epochs": EPOCHS, "seconds": time.perf_counter() - start}


def run(arguments: list[str] | None = None) -> int:
    parser = main.parser(__doc__ or "", "digits")
    parser.add_argument(
        "--network", default="cnn", metavar="NAME", help=f"the network: {', '.join(NETWORKS)} (default cnn)"
    )
    options = parser.parse_args(arguments)
    if options.network not in NETWORKS:
        raise DataError(f"--network {options.network}: there is no such network; there are {', '.join(NETWORKS)}")
    return max([_measure(run) for run in main.each_seed(options)])


def _measure(options: argparse.Namespace) -> int:
    """Every row with one seed; the exit status."""
    network = NETWORKS[options.network]
    folder = options.out if options.network == "cnn" else options.out / results.slug(network.architecture)
    results.check_out(folder / "results.json")
    digits = load_digits(options.seed)
    model, training = _train(digits, network.make, options.seed)
    rate_norm, rate_norm_training = None, None
    if network.rate_norm is not None:
        rate_norm, rate_norm_training = _train(digits, network.rate_norm, options.seed)
    job = task(digits, model, options.seed, folder, training, network.architecture)
    told = [f"{network.architecture} {accuracy(model, job.test):.1f} %"]
    if rate_norm is not None:
        told.append(f"with rate norm {accuracy(rate_norm, job.test):.1f} %")
    print(f"trained in {training['seconds']:.0f} s: {', '.join(told)} on {len(digits.y_test)} test images")
    rows = main.chosen(entries(network, rate_norm, rate_norm_training), options.methods, options.timesteps)
    return main.measure(job, rows, TIMESTEPS, options)


if __name__ == "__main__":
    main.exit_with(run, main.RESUMES)
