"""Softmax and normalisations by ladders, counted: their comparisons, the spikes of their codes, what these cause."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from snnconv.dynamics.normalisation import NORMALISATIONS, reciprocal_codes
from snnconv.graph.arguments import arguments, operand
from snnconv.graph.encoders import TURNS
from snnconv.graph.ops import gives_codes, op_name, part_of_ladder
from snnconv.graph.source import SourceGraph
from snnconv.report import RowLadder
from snnconv.runtime.ladders import row_scaled, softmax_scale
from snnconv.runtime.values import Accumulated, Temporal

__all__ = ["LadderCost", "LadderCounter", "codes_behind", "not_codes", "row_ladders", "set_bits", "whole"]


@dataclass(frozen=True)
class LadderCost:
    """What a softmax or a normalisation by codes and ladders costs, per inference.

    Attributes:
        name: where: the module's path.
        kind: which: ``softmax``, ``layer_norm``, ``rms_norm``, ``group_norm``.
        timesteps: T, bits of a code.
        neurons: codes: one a component and one a row.
        spikes: their set bits; −1 counts as one.
        comparisons: with thresholds of ladders, and those that find the largest component of a row.
        additions: pairs of set bits in the squares of codes and in codes times the row's scalar; of a softmax an
            addition for each set bit of the scalar and each component that it scales.
        ann: evaluations in the source network, one a component.
    """

    name: str
    kind: str
    timesteps: int
    neurons: float
    spikes: float
    comparisons: float
    additions: float
    ann: float


def row_ladders(source: SourceGraph) -> list[RowLadder]:
    """The softmax and normalisations of a network that are had by ladders."""
    return [_described(node) for node in source.graph.nodes if part_of_ladder(node) in NORMALISATIONS]


def _described(node: fx.Node) -> RowLadder:
    name = str(node.meta.get("path") or node.name)
    return RowLadder(name, part_of_ladder(node), int(node.kwargs["timesteps"]))  # type: ignore[arg-type]


def set_bits(codes: Tensor, timesteps: int) -> Tensor:
    """Set bits of whole numbers of either sign, in double precision.

    >>> set_bits(torch.tensor([-3.0, 4.0, 0.0]), timesteps=3)
    tensor([2., 1., 0.], dtype=torch.float64)
    """
    size = codes.abs().round().long()
    places = torch.arange(timesteps, device=codes.device).reshape(-1, *[1] * codes.dim())
    found: Tensor = ((size >> places) & 1).sum(0).double()
    return found


def whole(value: Any, timesteps: int) -> Tensor:
    """What a value of a sum-coded run comes to ``[B, ...]``, all steps together."""
    if isinstance(value, Temporal | Accumulated):
        steps: Tensor = value.data.unflatten(0, (timesteps, -1))
        return steps[-1] if isinstance(value, Accumulated) else steps.cumsum(0)[-1]
    data = value if isinstance(value, Tensor) else value.data
    assert isinstance(data, Tensor)
    return data


def codes_behind(node: fx.Node) -> fx.Node | None:
    """The codes of a softmax that a node is, turned or not."""
    while op_name(node).strip("._") in TURNS and len(node.all_input_nodes) == 1:
        node = node.all_input_nodes[0]
    return node if gives_codes(node) else None


def not_codes(e: Tensor, timesteps: int) -> str | None:
    """Say how many values are no codes of a softmax, if any.

    >>> not_codes(torch.tensor([1 / 3, 0.5]), timesteps=2)
    '1 of 2 values are no whole number of 1/3 from 0 to 1'
    """
    levels = 2**timesteps - 1
    code = e.double() * levels
    rounding = 8 * torch.finfo(e.dtype).eps * levels
    wrong = ((code - code.round()).abs() > rounding) | (code < 0) | (code.round() > levels)
    return (
        f"{int(wrong.sum())} of {e.numel()} values are no whole number of 1/{levels} from 0 to 1"
        if wrong.any()
        else None
    )


class LadderCounter:
    """Counts the ladders of rows in the runs of a sum-coded network; an observer of its operators.

    Args:
        source: the network.
        timesteps: T of a run, the largest of all layers.
    """

    def __init__(self, source: SourceGraph, timesteps: int) -> None:
        self.timesteps = timesteps
        nodes = [node for node in source.graph.nodes if part_of_ladder(node)]
        self.rows = {n.name: n for n in nodes if part_of_ladder(n) in NORMALISATIONS}
        self.scaled = {n.name: n for n in nodes if n.target is row_scaled}
        self.wanted = {operand(n).name for n in self.rows.values()} | {n.args[1].name for n in self.scaled.values()}
        self.held: dict[str, Tensor] = {}
        self.found = {
            name: dict.fromkeys(("neurons", "spikes", "rows", "components", "additions"), 0.0) for name in self.rows
        }
        self.length = dict.fromkeys(self.rows, 1)

    def __bool__(self) -> bool:
        return bool(self.rows)

    def __call__(self, node: fx.Node, value: Any) -> None:
        if node.name in self.rows:
            self._row(node)
        elif node.name in self.scaled:
            self._scaled(node, whole(value, self.timesteps))
        if node.name in self.wanted:
            self.held[node.name] = whole(value, self.timesteps)

    def _row(self, node: fx.Node) -> None:
        kind, bits, found = part_of_ladder(node), int(node.kwargs["timesteps"]), self.found[node.name]  # type: ignore[arg-type]
        x = self.held[operand(node).name]
        codes, scalars = NORMALISATIONS[kind].codes(x, bits, **_how(kind, arguments(node), x))
        ones, of_row = set_bits(codes, bits), set_bits(scalars, bits)
        found["neurons"] += codes.numel() + scalars.numel()
        found["spikes"] += float(ones.sum() + of_row.sum())
        found["rows"] += scalars.numel()
        found["components"] += codes.numel()
        self.length[node.name] = codes.shape[-1]
        if kind != "softmax":  # codes times themselves, and times the row's scalar
            found["additions"] += float(ones.square().sum() + (ones * of_row).sum())

    def _scaled(self, node: fx.Node, y: Tensor) -> None:
        """An addition for every set bit of the scalar, at every component that it scales."""
        scale: Any = node.args[1]
        factor = self.held[scale.name]
        while scale.target is not softmax_scale:
            scale = scale.all_input_nodes[0]
        bits = int(scale.kwargs["timesteps"])
        ones = set_bits(reciprocal_codes(factor, bits), bits)
        self.found[operand(scale).name]["additions"] += float(ones.expand(y.shape).sum())

    def costs(self, samples: int) -> list[LadderCost]:
        """What was counted, per input."""
        costs = []
        for name, node in self.rows.items():
            found, known = self.found[name], _described(node)
            work = NORMALISATIONS[known.kind].work(self.length[name], known.timesteps)
            each = {key: value / samples for key, value in found.items()}
            costs.append(
                LadderCost(
                    known.name,
                    known.kind,
                    known.timesteps,
                    each["neurons"],
                    each["spikes"],
                    each["rows"] * work.comparisons,
                    each["additions"],
                    each["components"],
                )
            )
        return costs


def _how(kind: str, given: dict[str, Any], x: Tensor) -> dict[str, Any]:
    """What a normalisation's codes depend on besides its input and T."""
    if kind == "softmax":
        return {"dim": given["dim"]}
    eps = given.get("eps", 1e-5 if kind != "rms_norm" else None)
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    if kind == "group_norm":
        return {"eps": eps, "groups": given["num_groups"]}
    return {"eps": eps, "shape": list(x.shape[x.dim() - len(given["normalized_shape"]) :])}
