"""``snnconv recommend``: the method that meets a budget."""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from snnconv.cli.given import Given
from snnconv.cli.inputs import check_out
from snnconv.cli.outcome import Outcome

__all__ = ["recommend"]


class Latency(StrEnum):
    """Whose steps a budget's T bounds: an enumeration, since older versions of typer take no `Literal`."""

    layer = "layer"
    network = "network"
    pipelined = "pipelined"


def recommend(
    inputs: Given,
    *,
    budget: Annotated[
        str, typer.Option(help="T=8, energy=0.3 (of the ANN's) or drop=1.0 (points below it), or several with commas.")
    ],
    test: Annotated[Path | None, typer.Option(help="Inputs for the closing test; a part of --data by default.")] = None,
    latency: Annotated[
        Latency,
        typer.Option(help="Which steps count: a layer's, the network's (layers step together), or a pipeline's."),
    ] = Latency.layer,
    limit: Annotated[int, typer.Option(min=50, help="Inputs of --data, and of --test, to use at most.")] = 2048,
    seed: Annotated[int, typer.Option(help="Decides which inputs calibrate, choose and test.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Save the recommended network, as net.snn.safetensors.")] = None,
) -> Outcome:
    """Try the methods on a network and its data; print the Pareto front and the method that meets a budget.

    Examples:
        snnconv recommend torchvision:resnet18 --pretrained --data val/ --budget T=8
        snnconv recommend net.py:make --weights net.pth --data val.npz --budget drop=1.0 --out net.snn.safetensors
        snnconv recommend net.py:make --weights net.pth --data val.npz --budget T=8 --latency network
    """
    import snnconv

    if out is not None:
        check_out(out)

    def read(path: Path, most: int) -> Any:
        data = inputs.read(path)
        inputs.check_classes(data)
        x, y = data.tensors(most)
        return x if y is None else (x, y)

    found = snnconv.recommend(
        inputs.network,
        read(inputs.data, limit),
        budget,
        calibration=None if inputs.calibration is None else read(inputs.calibration, inputs.calibration_images),
        test=None if test is None else read(test, limit),
        latency=latency.value,
        seed=seed,
    )
    plain = {"budget": budget, "verdict": found.verdict, "holds": found.holds, **_figures(found)}
    if found.best is None or found.network is None:
        return Outcome(found, plain, plain["trials"], status=1)
    if out is not None:
        snnconv.save(found.network, out)
    return Outcome(
        found,
        plain,
        plain["trials"],
        wrote=[] if out is None else [out],
        then=[inputs.again("convert", "--out", "net.snn.safetensors", method=found.best.method)],
        status=0 if found.holds else 1,
    )


def _figures(found: Any) -> dict[str, Any]:
    """The figures of a recommendation as plain values."""
    from snnconv.selection.recommendation import describe

    best, kept = found.best, set(map(id, found.front))
    trials = [
        {
            "method": describe(trial.method),
            "steps": trial.latency,
            "bits": trial.method.bits_per_step,
            "network_steps": trial.network_latency,
            "energy_ratio": trial.energy_ratio,
            "score": None if math.isnan(trial.score) else trial.score,
            "below_ann": None if math.isnan(trial.drop) else trial.drop,
            "error": None if math.isnan(trial.drop_error) else trial.drop_error,
            "inputs": trial.samples,
            "front": id(trial) in kept,
            "recommended": trial is best,
            "given_up": trial.stopped,
        }
        for trial in found.trials
    ]
    tested = {"samples": found.test_samples, "ann": found.test_ann, "score": found.test, "drop": found.test_drop[0]}
    return {"score": found.score, "ann": found.ann, "trials": trials, "test": tested}
