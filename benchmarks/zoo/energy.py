"""What a covered network costs beside its source: energy in four classes, and what its layers read."""

from __future__ import annotations

import warnings
from collections import Counter
from typing import Any

import snnconv
from benchmarks.zoo.exact import converted
from benchmarks.zoo.networks import NETWORKS


def measured(name: str, timesteps: int) -> dict[str, Any]:
    """Energy of one network of `benchmarks.zoo.networks`, for an input of noise.

    Returns:
        ``ann`` and ``snn`` (joules), ``ratio``, ``classes`` (of operations: share of the energy), ``reads`` (layers
        with weights by what they read).
    """
    model, x = NETWORKS[name].build()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        snn = converted(model, x, timesteps)
        costs = snnconv.profile(model, snn, x)
    assert costs.classes is not None
    assert costs.snn_energy is not None
    return {
        "name": name,
        "T": timesteps,
        "ann": costs.ann_energy,
        "snn": costs.snn_energy,
        "ratio": costs.energy_ratio,
        "classes": {kind: joules / costs.snn_energy for kind, (_, joules) in costs.classes.items()},
        "reads": dict(Counter(layer.reads for layer in costs.layers)),
    }


def table_of(lines: list[dict[str, Any]]) -> str:
    """A row a network and T."""
    kinds = list(lines[0]["classes"])
    rows = [
        f"| network | T | energy, SNN / ANN | {' | '.join(kinds)} |",
        f"| --- | --- | --- |{' --- |' * len(kinds)}",
    ]
    for line in lines:
        shares = " | ".join(f"{100 * line['classes'][kind]:.0f} %" for kind in kinds)
        rows.append(f"| {line['name']} | {line['T']} | {line['ratio']:.2f} | {shares} |")
    return "\n".join(rows)
