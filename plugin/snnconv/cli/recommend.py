"""``snnconv recommend``: the method that meets a budget."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from snnconv.cli.inputs import check_out

__all__ = ["recommend"]

SHOWN = (
    "weights", "classes", "pretrained", "calibration", "calibration_images", "size", "resize", "crop", "mean", "std",
    "transform",
)  # fmt: skip
"""Options that a convert command repeats where they are not the default."""


def recommend(
    inputs: Any,
    *,
    budget: Annotated[
        str, typer.Option(help="T=8, energy=0.3 (of the ANN's) or drop=1.0 (points below it), or several with commas.")
    ],
    test: Annotated[Path | None, typer.Option(help="Inputs for the closing test; a part of --data by default.")] = None,
    limit: Annotated[int, typer.Option(min=50, help="Inputs of --data, and of --test, to use at most.")] = 2048,
    seed: Annotated[int, typer.Option(help="Decides which inputs calibrate, choose and test.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Save the recommended network, as net.snn.safetensors.")] = None,
) -> None:
    """Try the methods on a network and its data; print the Pareto front and the method that meets a budget."""
    import snnconv

    if out is not None:
        check_out(out)

    def read(path: Path, most: int) -> Any:
        data = inputs.read(path)
        x, y = data.tensors(most)
        if y is None:
            return x
        with torch.no_grad():
            scores = inputs.network(x[:1])
        if isinstance(scores, torch.Tensor) and scores.dim() == 2:
            data.check_classes(scores.shape[1])
        return x, y

    found = snnconv.recommend(
        inputs.network,
        read(inputs.data, limit),
        budget,
        calibration=None if inputs.calibration is None else read(inputs.calibration, inputs.calibration_images),
        test=None if test is None else read(test, limit),
        seed=seed,
    )
    typer.echo(str(found))
    if found.best is None or found.network is None:
        raise typer.Exit(1)
    typer.echo(f"\n{_convert_command(inputs, found.best.method)}")
    if out is not None:
        snnconv.save(found.network, out)
        typer.echo(f"wrote {out}")
    if not found.holds:
        raise typer.Exit(1)


def _convert_command(inputs: Any, method: Any) -> str:
    """The command that converts by ``method`` what this one was given."""
    words = ["snnconv", "convert", inputs.model, "--data", str(inputs.data), "--method", method.name.replace("_", "-")]
    for field in dataclasses.fields(method):
        value = getattr(method, field.name)
        if value != field.default:
            words += [f"--{field.name.replace('_', '-')}", str(value)]
    for field in dataclasses.fields(inputs):
        value = getattr(inputs, field.name)
        if field.name in SHOWN and value != field.default:
            option = f"--{field.name.replace('_', '-')}"
            words += [option] if value is True else [option, str(value)]
    return shlex.join([*words, "--out", "net.snn.safetensors"])
