"""``python -m benchmarks.events``: event frames through a converted network, accuracy against time.

Pictures become recordings of an event camera by a simulated saccade (:mod:`snnbench.data.events`). A small frame
network is trained on accumulated events (the mean frame of a recording) and converted to signed integrate-and-fire
neurons, which read the recordings frame by frame. Reported: accuracy after each frame beside the frame network's, and
what early exit over time costs and saves.

``--data digits`` (scikit-learn's, offline, minutes) or ``cifar10`` (``SNNCONV_DATA`` names the folder).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import snnconv
from snnbench import results
from snnbench.data.events import digit_recordings, saccade
from snnbench.networks.events import FrameNetwork
from snnbench.results.provenance import provenance
from snnconv import methods

from .main import exit_with

OUT = Path("benchmarks/exchange")
GAIN = 4.0
"""What an event is worth, so that a mean frame has values of about 1."""
MARGINS = (2.0, 4.0, 8.0, 12.0)


def digits(steps: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Recordings ``[T, N, 2, 16, 16]`` and labels, for training and for testing."""
    return (*digit_recordings("train", steps), *digit_recordings("test", steps))


def cifar10(steps: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The same of 5,000 and 1,000 pictures of CIFAR-10, 32 pixels wide."""
    from snnbench.config import load_config
    from snnbench.registry import DATASETS

    config = load_config("configs/classification/cifar10/vgg_strided.py")

    def recorded(loader: Any, count: int, seed: int) -> tuple[Tensor, Tensor]:
        data = DATASETS.build({**loader.dataset, "pipeline": []})
        batch = data.batch(torch.linspace(0, len(data) - 1, count).long().tolist())
        return saccade(batch["inputs"].float() / 255, steps, seed=seed), batch["data_samples"]

    return (*recorded(config.train_dataloader, 5000, 1), *recorded(config.test_dataloader, 1000, 2))


DATA = {"digits": digits, "cifar10": cifar10}


def trained(frames: Tensor, labels: Tensor, epochs: int) -> nn.Module:
    """The frame network, trained on accumulated events ``[N, 2, H, W]``."""
    torch.manual_seed(0)
    model = FrameNetwork(frames.shape[-1])
    optimiser = torch.optim.Adam(model.parameters(), 2e-3, weight_decay=1e-4)
    batches = -(-len(frames) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=epochs * batches)
    for _ in range(epochs):
        for rows in torch.randperm(len(frames)).split(64):
            optimiser.zero_grad()
            F.cross_entropy(model(frames[rows]), labels[rows], label_smoothing=0.1).backward()
            optimiser.step()
            schedule.step()
    return model.eval()


def measured(data: str, steps: int, epochs: int) -> dict[str, Any]:
    """The record of one data set."""
    train, labels, test, wanted = DATA[data](steps)
    train, test = train * GAIN, test * GAIN
    model = trained(train.mean(0), labels, epochs)
    calibration = train[:, :256]  # single frames: thresholds for the strongest moment, so that no neuron lags behind
    rows = {}
    for method in (methods.SignedIF(steps), methods.IF(steps)):
        snn = snnconv.convert(model, method, calibration, input="sequence", progress=False)
        found = snnconv.evaluate(snn, (test.transpose(0, 1), wanted), model=model)
        exits = []
        for margin in MARGINS:
            left = snn.early_exit(test, margin=margin, every=2, at_least=4)
            right = 100 * float((left.output.argmax(1) == wanted).float().mean())
            exits.append({"margin": margin, "accuracy": right, "steps": left.average_steps})
        rows[method.name] = {"ann": found.ann, "curve": found.curve, "early_exit": exits}
    events = float((test > 0).float().sum()) / test.shape[1]
    return {"data": data, "steps": steps, "samples": len(wanted), "events": events, "rows": rows, **provenance(0)}


def drawn(record: dict[str, Any], path: Path) -> None:
    """Accuracy against time."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 3.6), layout="constrained")
    for name, row in record["rows"].items():
        steps = [int(t) for t in row["curve"]]
        (line,) = axes.plot(steps, list(row["curve"].values()), label=f"{name}, frame by frame")
        axes.plot(
            [e["steps"] for e in row["early_exit"]], [e["accuracy"] for e in row["early_exit"]], "o--",
            color=line.get_color(), label=f"{name}, early exit",
        )  # fmt: skip
    axes.axhline(next(iter(record["rows"].values()))["ann"], color="0.4", linestyle=":", label="frame network, whole")
    axes.set_xlabel("frames seen")
    axes.set_ylabel("top-1 accuracy (%)")
    axes.legend(frameon=False, loc="upper left", fontsize="small")
    figure.savefig(path, dpi=130)


def run(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=sorted(DATA), default="digits")
    parser.add_argument("--steps", type=int, default=32, help="frames a recording")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--out", type=Path, help=f"the record; {OUT}/events_DATA.json by default")
    parser.add_argument("--plot", type=Path, help="a picture of accuracy against time")
    options = parser.parse_args(arguments)
    out = options.out or OUT / f"events_{options.data}.json"
    results.check_out(out)
    record = measured(options.data, options.steps, options.epochs)
    results.write_whole(out, (json.dumps(record, indent=1) + "\n").encode())
    for name, row in record["rows"].items():
        curve = {int(t): v for t, v in row["curve"].items()}
        shown = ", ".join(f"{t}: {curve[t]:.1f}" for t in (8, 16, 32, 48, options.steps) if t in curve)
        print(f"{name}: frame network {row['ann']:.2f}; after frame {shown}")
        for e in row["early_exit"]:
            print(f"  margin {e['margin']}: {e['accuracy']:.2f} % after {e['steps']:.1f} frames")
    if options.plot is not None:
        drawn(record, options.plot)
    return 0


if __name__ == "__main__":
    exit_with(run)
