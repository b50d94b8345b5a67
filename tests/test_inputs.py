"""Networks of several inputs, and what their data may look like."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import snnconv
from snnconv import ConversionError, SpikingNetwork, methods
from snnconv.inputs import Reader, input_batches
from snnconv.runtime.batch import Batch, Whole
from snnconv.runtime.signature import Signature
from snnconv.sequence import Continued

torch.manual_seed(0)
A, B = torch.randn(24, 6), torch.randn(24, 4)


class Two(nn.Module):
    """Two branches, joined."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(4, 8), nn.Linear(16, 3)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.c(torch.cat([F.relu(self.a(x)), F.relu(self.b(y))], 1))


class Pair(Two):
    """One argument that holds both."""

    def forward(self, pair: tuple[Tensor, Tensor]) -> Tensor:  # type: ignore[override]
        return Two.forward(self, *pair)


class Masked(nn.Module):
    """Optional arguments: one per sample or per channel, one that is a number, a label."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.c = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor, mask: Tensor | None = None, scale: float = 1.0, labels: Any = None) -> Any:
        h = F.relu(self.a(x))
        h = h if mask is None else h * mask
        out = self.c(h) * scale
        return out if labels is None else F.cross_entropy(out, labels)


class Untraced(Two):
    """Its Python code looks at values."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        if float(x.sum()) == 12345.0:
            raise ValueError
        return super().forward(x, y)


def fine(model: nn.Module, data: Any, **options: Any) -> SpikingNetwork:
    method = methods.ShiftedThreshold(8, thresholds="max", correction="none")
    return snnconv.convert(model.eval(), method, data, progress=False, **options)


def error(got: Tensor, wanted: Tensor) -> float:
    assert got.shape == wanted.shape
    return float((got - wanted).norm().detach() / wanted.norm().detach())


CALIBRATIONS = {
    "pairs": [(A[:12], B[:12]), (A[12:], B[12:])],
    "lists": [[A, B]],
    "the tensors": (A, B),
    "a loader": DataLoader(TensorDataset(A, B), 8),
    "dictionaries": [{"x": A, "y": B}],
    "one dictionary": {"y": B, "x": A},
    "labels behind": [(A, B, torch.zeros(24))],
    "labels beside": [((A, B), torch.zeros(24))],
    "labels beside dictionaries": [({"x": A, "y": B}, torch.zeros(24))],
    "labels in dictionaries": [{"x": A, "y": B, "label": torch.zeros(24)}],
}


@pytest.mark.parametrize("data", CALIBRATIONS.values(), ids=CALIBRATIONS)
def test_calibration_of_two_inputs(data: Any) -> None:
    model = Two()
    snn = fine(model, data)
    assert snn.report is not None
    assert snn.report.calibration_samples == 24
    assert torch.equal(snn(A, B), fine(model, [(A, B)])(A, B))
    assert error(snn(A, B), model(A, B)) < 0.02


def test_every_way_to_call_gives_the_same() -> None:
    snn = fine(Two(), (A, B))
    wanted = snn(A, B)
    for got in (snn(A, y=B), snn(x=A, y=B), snn(y=B, x=A), snn((A, B)), snn([A, B]), snn({"y": B, "x": A})):
        assert torch.equal(got, wanted)


@pytest.mark.parametrize("model", [Two(), Pair(), Untraced()], ids=lambda m: type(m).__name__)
def test_both_paths_take_several_inputs(model: nn.Module) -> None:
    pair = isinstance(model, Pair)
    snn = fine(model, [((A, B), torch.zeros(24))])
    assert snn.report is not None
    assert snn.report.path == ("module tree" if type(model) is Untraced else "graph")
    given: Any = ((A, B),) if pair else (A, B)
    assert error(snn(*given), model(*given)) < 0.02


def test_whatever_takes_an_input_takes_several() -> None:
    model = Two().eval()
    snn = snnconv.convert(model, methods.SignedIF(16, correction="none"), (A, B), progress=False)
    wanted = snn(A, B)
    *_, (_, streamed) = snn.stream(A, y=B)
    torch.testing.assert_close(streamed, wanted)
    torch.testing.assert_close(snn.readout.final(snn.run((A, B))), wanted)
    torch.testing.assert_close(snn.readout.final(snn.run({"x": A, "y": B}, "steps")), wanted)
    assert {name: tuple(v.shape) for name, v in snn.rates(A, B).items()} == dict.fromkeys(snn.neurons, (24, 8))
    assert snn.early_exit(A, B, margin=1e9).output.shape == wanted.shape
    torch.testing.assert_close(snn.early_exit(A, y=B, margin=1e9).output, wanted)
    torch.testing.assert_close(Continued(snn)(A, B), wanted)
    assert snnconv.compare(model, snn, (A, B)).samples == 24
    assert snnconv.compare(model, snn, [((A, B), torch.zeros(24))], limit=10).samples == 10
    profile = snnconv.profile(model, snn, {"x": A, "y": B})
    assert (profile.ann_macs, profile.sops) == (6 * 8 + 4 * 8 + 16 * 3, 3 * profile.spikes)
    assert snnconv.audit(snn, (A, B))


def test_an_untraced_network_of_several_inputs_is_measured() -> None:
    model = Untraced().eval()
    snn = snnconv.convert(model, methods.SignedIF(8), (A, B), progress=False)
    assert snnconv.profile(model, snn, (A, B)).ann_macs == 6 * 8 + 4 * 8 + 16 * 3
    assert snnconv.audit(snn, (A, B))
    assert snnconv.compare(model, snn, (A, B)).samples == 24


def test_every_correction_and_statistic_takes_several_inputs() -> None:
    model = Two().eval()
    for method in (
        methods.SignedIF(8, correction="bias"),
        methods.ShiftedThreshold(4, correction="reconstruct"),
        methods.LocalThresholdBalancing(16),
    ):
        snn = snnconv.convert(model, method, (A, B), progress=False)
        assert error(snn(A, B), model(A, B)) < 0.3


def test_a_prepared_network_of_several_inputs_is_lossless() -> None:
    qann = snnconv.prepare(Two(), snnconv.activations.QuantReLU(levels=7), (A, B), progress=False).eval()
    snn = snnconv.convert(qann, methods.ShiftedThreshold(3, thresholds="trained"), progress=False)
    torch.testing.assert_close(snn(A, B), qann(A, B))


def test_layers_of_a_network_of_several_inputs_are_fine_tuned() -> None:
    model = Two().eval()
    snn = snnconv.convert(model, methods.SignedIF(2, correction="none"), (A, B), progress=False)
    labels = model(A, B).argmax(1)
    tuned, report = snnconv.finetune_layerwise(model, snn, [((A, B), labels)], epochs=2, progress=False)
    assert report.measure == "accuracy"
    assert len(report.layers) == 2
    assert tuned(A, B).shape == (24, 3)


def test_a_batch_is_cut_alike_in_every_input_and_within_the_budget() -> None:
    snn = snnconv.convert(Two().eval(), methods.SignedIF(8), (A, B), progress=False)
    wanted = snn(A, B)
    snn.memory_budget = 5 * (snn.input_spec["constant_bytes"] + 8 * snn.input_spec["step_bytes"])
    parts = snn.slices((A, B))
    assert [len(part) for part in parts] == [5, 5, 5, 5, 4]
    assert all(torch.equal(part.values["y"], B[5 * i : 5 * i + 5]) for i, part in enumerate(parts))
    torch.testing.assert_close(snn(A, B), wanted)


def test_what_has_no_batch_dimension_is_passed_whole() -> None:
    model, gate = Masked().eval(), torch.rand(8)
    for method in (methods.ShiftedThreshold(8, thresholds="max", correction="none"), methods.IF(64, correction="none")):
        snn = snnconv.convert(model, method, {"x": A, "mask": gate}, progress=False)
        assert [entry["batch"] for entry in snn.input_spec["inputs"]] == [True, False]
        wanted = model(A, gate)
        assert error(snn(A, gate), wanted) < 0.1
        whole = snn(A, mask=gate)
        snn.memory_budget = 1
        torch.testing.assert_close(snn(A, mask=gate), whole)
        *_, (_, streamed) = snn.stream(A, gate)
        torch.testing.assert_close(streamed, whole)


def test_a_mask_of_the_calibration_s_batch_size_is_told_from_a_batch_by_the_others() -> None:
    gate = torch.rand(8)
    data = [{"x": A[:8], "mask": gate}, {"x": A[8:], "mask": gate}]
    snn = fine(Masked(), data)
    assert [entry["batch"] for entry in snn.input_spec["inputs"]] == [True, False]


def test_a_mask_for_each_sample_goes_over_time_with_it() -> None:
    model, mask = Masked().eval(), (torch.rand(24, 8) < 0.5).float()
    for method in (methods.ShiftedThreshold(8, thresholds="max", correction="none"), methods.IF(64, correction="none")):
        snn = snnconv.convert(model, method, {"x": A, "mask": mask}, progress=False)
        assert error(snn(A, mask=mask), model(A, mask)) < 0.1
        flipped = snn(A.flip(0), mask=mask.flip(0)).flip(0)
        torch.testing.assert_close(flipped, snn(A, mask))


def test_plain_values_of_calibration_are_those_of_every_call() -> None:
    model = Masked().eval()
    snn = fine(model, {"x": A, "scale": 2.0})
    assert error(snn(A), model(A, scale=2.0)) < 0.02
    assert torch.equal(snn(A, scale=2.0), snn(A))
    with pytest.raises(ConversionError, match=r"converted with scale=2.0 and cannot run with 3.0"):
        snn(A, scale=3.0)


def test_a_label_with_a_default_is_no_input_unless_asked_for() -> None:
    labels = torch.zeros(24, dtype=torch.long)
    snn = fine(Masked(), [{"x": A, "labels": labels}])
    assert [entry["name"] for entry in snn.input_spec["inputs"]] == ["x"]
    assert snn(A).shape == (24, 3)


def test_calibration_inputs_says_which_entries_go_where() -> None:
    model, mask = Masked().eval(), torch.rand(24, 8)
    wanted = fine(model, {"x": A, "mask": mask})(A, mask)
    labels = torch.zeros(24)
    loader = DataLoader(TensorDataset(A, mask, labels), 24)
    for take in (2, ("x", "mask"), lambda batch: batch[:2], lambda batch: {"mask": batch[1], "x": batch[0]}):
        assert torch.equal(fine(model, loader, calibration_inputs=take)(A, mask), wanted)
    swapped = fine(model, [(mask, A)], calibration_inputs=("mask", "x"))
    assert torch.equal(swapped(A, mask), wanted)


def test_a_function_can_read_any_batch() -> None:
    snn = fine(
        Two(), [{"deep": [A, {"b": B}]}], calibration_inputs=lambda batch: (batch["deep"][0], batch["deep"][1]["b"])
    )
    assert snn(A, B).shape == (24, 3)


def test_a_saved_network_knows_its_inputs(tmp_path: Path) -> None:
    gate = torch.rand(8)
    model = Masked().eval()
    snn = fine(model, {"x": A, "mask": gate, "scale": 2.0})
    snnconv.save(snn, tmp_path / "net")
    again = snnconv.load(tmp_path / "net")
    assert again.signature == snn.signature
    assert again.input_spec == snn.input_spec
    assert torch.equal(again(A, mask=gate), snn(A, mask=gate))
    tree = fine(Untraced(), (A, B))
    snnconv.save(tree, tmp_path / "tree")
    assert torch.equal(snnconv.load(tmp_path / "tree", Untraced())(A, y=B), tree(A, B))


def test_a_file_of_before_names_one_input() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    snn = fine(model, A)
    for key in ("inputs", "parameters", "constants"):
        del snn.input_spec[key]
    old = SpikingNetwork(snn.program, snn.method, snn.thresholds, input_spec=snn.input_spec)
    assert torch.equal(old(A), snn(A))
    assert torch.equal(old(input=A), snn(A))
    with pytest.raises(ConversionError, match="dimension 1 must be 6"):
        old(B)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda snn: snn(A), "input 'y' is missing: this network takes x, y"),
        (lambda snn: snn(A, B, B), r"takes 2 inputs \(x, y\), got 3"),
        (lambda snn: snn(A, z=B), "'y' is missing"),
        (lambda snn: snn(A, B, z=B), "no input 'z'; it takes x, y"),
        (lambda snn: snn(A, B, y=B), "'y' is given twice"),
        (lambda snn: snn(A, B[:3]), r"batches of several sizes \(x 24, y 3\)"),
        (lambda snn: snn(A, B.double()), "wrong input dtype torch.float64 of 'y'"),
        (lambda snn: snn(A, B[:, :, None]), r"wrong input shape \(24, 4, 1\) of 'y'"),
        (lambda snn: snn(A, A), "of 'y': dimension 1 must be 4"),
        (lambda snn: snn("text", B), "hold the tensors y; this network was converted for x, y"),
        (lambda snn: snn.run(A), "'y' is missing"),
        (lambda snn: list(snn.stream(A)), "'y' is missing"),
        (lambda snn: snnconv.audit(snn, A), "'y' is missing"),
    ],
)
def test_a_call_that_does_not_fit_says_why(call: Any, message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        call(fine(Two(), (A, B)))


def test_an_argument_that_calibration_did_not_have_says_how_to_convert() -> None:
    snn = fine(Masked(), A)
    with pytest.raises(ConversionError, match=r"converted without 'mask'.*calibration=.*'x'.*'mask'"):
        snn(A, mask=torch.ones(24, 8))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([A], "takes several inputs, x, y, and a batch is a Tensor"),
        (A, "takes several inputs, x, y"),
        ([(A,)], "a batch is a tuple of 1"),
        ([{"x": A, "z": B}], r"takes x, y; a batch is a dictionary with the keys \['x', 'z'\]"),
        ([(A, B * torch.nan)], "input 'y' has NaN"),
        ([(A, B.double())], "input 'y' is torch.float64"),
        ([(A, object())], "input 'y' is a object"),
        ([(A, B), (A, B[0])], "batch 1 has the shapes"),
        ([(A, B[:, :2])], "the network fails on calibration data Batch"),
        ([], "is empty"),
    ],
)
def test_calibration_that_does_not_fit_says_why(data: Any, message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        fine(Two(), data)


def test_calibration_inputs_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConversionError, match="names 'z', which is no argument"):
        fine(Two(), (A, B), calibration_inputs=("x", "z"))
    with pytest.raises(TypeError, match=r"write \('x',\)"):
        fine(Two(), (A, B), calibration_inputs="x")
    with pytest.raises(ValueError, match="calibration_inputs is 0"):
        fine(Two(), (A, B), calibration_inputs=0)
    with pytest.raises(ConversionError, match="a batch has no 'y'"):
        fine(Two(), [{"x": A}], calibration_inputs=("x", "y"))
    with pytest.raises(ConversionError, match="calibration_inputs gave a str"):
        fine(Two(), [(A, B)], calibration_inputs=lambda batch: "text")
    with pytest.raises(ConversionError, match="a batch has 3 inputs for it"):
        fine(Two(), [(A, B, B)], calibration_inputs=3)


def test_the_limit_counts_samples_and_keeps_what_is_whole() -> None:
    reader = Reader(Signature.of(Two()))
    batches = input_batches([(A, B), (A, B)], 30, batch_size=16, reader=reader)
    assert [len(b) for b in batches] == [16, 14]
    gate = torch.rand(8)
    (batch,) = input_batches([{"x": A, "mask": gate}], 3, reader=Reader(Signature.of(Masked())))
    assert len(batch) == 3
    assert torch.equal(batch.values["mask"].data, gate)


def test_batches_of_several_lengths_stay_apart() -> None:
    reader = Reader(Signature.of(Two()))
    batches = input_batches([(torch.zeros(2, 5, 6), B[:2]), (torch.zeros(3, 7, 6), B[:3])], reader=reader)
    assert [len(b) for b in batches] == [2, 3]


def test_a_batch_is_a_tree_of_tensors_with_whole_leaves() -> None:
    batch = Batch({"x": A, "pair": [B, Whole(torch.ones(3))], "scale": 2.0})
    assert [len(p) for p in batch.split([20, 4])] == [20, 4]
    assert batch[:2].values["pair"][0].shape == (2, 4)
    assert batch[:2].values["pair"][1].data.shape == (3,)
    assert copy.deepcopy(batch).values["scale"] == 2.0
