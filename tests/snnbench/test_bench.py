"""The harness: parts of a model, conversion before testing, one pass for all networks, interruption, several ranks."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("mmseg", reason="needs the bench extra")
pytest.importorskip("mmdet", reason="needs the bench extra")

import snnconv
from snnbench import results
from snnbench import train as training
from snnbench.config import BenchError, load_config
from snnbench.results.answers import word_of
from snnbench.results.kinds import KINDS, bootstrap_error
from snnbench.run import _chosen, run_config, run_seeds
from snnbench.testing.calibration_data import CalibrationData
from snnbench.testing.convert_hook import ConvertHook
from snnbench.testing.model_parts import Part, find_parts, replaced
from snnbench.testing.readouts import default_window, more_windows, readouts
from snnbench.testing.resume import PartialState
from snnbench.testing.test_loop import SNNTestLoop
from snnconv import methods
from snnconv.files.untrusted import load_weights
from snnconv.runtime import int8
from tests.snnbench.fixtures import write_bccd, write_camvid

ROOT = Path(__file__).parents[2]
CAMVID = ROOT / "configs/segmentation/camvid/fcn_r18.py"
BCCD = ROOT / "configs/detection/bccd/retinanet_r18.py"
TINY = {
    "model.backbone.base_channels": 8,
    "model.backbone.stem_channels": 8,
    "model.decode_head.in_channels": (8, 16, 32, 64),
    "model.decode_head.channels": 8,
    "scale": (64, 48),
    "train_cfg.max_iters": 3,
    "train_cfg.val_interval": 100,
    "train_dataloader.batch_size": 2,
    "train_dataloader.num_workers": 0,
    "train_dataloader.persistent_workers": False,
    "test_dataloader.num_workers": 0,
    "test_dataloader.persistent_workers": False,
    "val_dataloader.num_workers": 0,
    "val_dataloader.persistent_workers": False,
    "bench.calibration.images": 2,
    "bench.profile_images": 1,
    "channels_last": False,  # on maps of a pixel torch's backward crashes on processors
}
TINY_DETECTOR = {
    key: value for key, value in TINY.items() if not key.startswith(("model.decode", "model.backbone.stem"))
} | {"model.neck.in_channels": [16, 32, 64]}
ROWS = [
    {"label": "signed IF", "type": "SignedIF", "timesteps": [4, 8]},
    {"label": "max", "type": "IF", "timesteps": [2, 4], "thresholds": "max", "correction": "none", "windows": "all"},
]

ONE = [{"label": "shifted", "type": "ShiftedThreshold", "timesteps": [3]}]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data"
    write_camvid(folder / "camvid")
    write_bccd(folder / "bccd")
    monkeypatch.setenv("SNNCONV_DATA", str(folder))
    monkeypatch.setenv("SNNCONV_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(ROOT)
    return tmp_path


def run(config: Path, folder: Path, options: dict, **arguments: object) -> list[dict]:
    files = run_config(config, out=folder / "out", work_dir=folder / "work", options=options, **arguments)  # type: ignore[arg-type]
    return [results.read(path) for path in files]


def answered(config: Path, folder: Path, options: dict) -> tuple[dict, results.Answers]:
    """A result of one row, and the answers beside it."""
    options = {**options, "bench.methods": ROWS[:1]}
    (path,) = run_config(config, out=folder / "out", work_dir=folder / "work", options=options)
    record = results.read(path)
    kept = results.read_answers(path, record)
    assert kept is not None
    return record, kept


def figures(record: dict) -> list[tuple]:
    """What a run measured, without the seconds and the memory it took."""
    return [(p["timesteps"], tuple(p["window"]), p["metrics"], p["sops"]) for p in record["points"]]


# --- parts -------------------------------------------------------------------------------------------------


class TestParts:
    def model(self, config: Path, options: dict) -> nn.Module:
        from mmengine.registry import MODELS, init_default_scope

        loaded = load_config(config, options)
        init_default_scope(loaded.default_scope)
        torch.manual_seed(0)
        return MODELS.build(loaded.model).eval()

    @pytest.mark.parametrize(("config", "options"), [(CAMVID, TINY), (BCCD, TINY_DETECTOR)], ids=["camvid", "bccd"])
    def test_a_part_replaced_by_itself_changes_nothing(self, data: Path, config: Path, options: dict) -> None:
        loaded = load_config(config, options)
        model = self.model(config, options)
        (part,) = find_parts(model)
        calibration = CalibrationData(
            loaded.train_dataloader.dataset, 2, pipeline=loaded.test_dataloader.dataset.pipeline
        )
        (batch,) = calibration.batches(model)
        calls = []

        def same(inputs: torch.Tensor) -> object:
            calls.append(inputs.shape)
            return original(inputs)

        original = part.module.forward
        with torch.no_grad():
            before = [str(s.to_dict()) for s in model(**batch, mode="predict")]
            shadow = type(part.module)(part.module.backbone, part.module.neck, _Copy(part.module.head))
            original = shadow.forward
            with replaced({part: same}):
                inside = [str(s.to_dict()) for s in model(**batch, mode="predict")]
            after = [str(s.to_dict()) for s in model(**batch, mode="predict")]
        assert len(calls) == 1
        assert before == inside == after
        assert "forward" not in vars(part.module.head)
        assert "extract_feat" not in vars(model)

    def test_every_activation_of_the_dense_part_is_a_site(self, data: Path) -> None:
        model = self.model(BCCD, TINY_DETECTOR)
        (part,) = find_parts(model)
        x = torch.randn(2, 3, 48, 64)
        snn = snnconv.convert(part.module, methods.ShiftedThreshold(timesteps=8), calibration=x, progress=False)
        # ResNet-18 has 17 ReLUs, the FPN none, the head two branches of two layers on each of three levels
        assert len(snn.report.spiking) == 17 + 2 * 2 * 3
        assert snn.report.analog == []
        with torch.no_grad():
            for a, b in zip(
                torch.utils._pytree.tree_leaves(part.module(x)), torch.utils._pytree.tree_leaves(snn(x)), strict=True
            ):
                assert a.shape == b.shape
                assert (a - b).norm() < 0.2 * a.norm() + 1e-3

    def test_backbone_scope_converts_the_backbone_alone(self, data: Path) -> None:
        (part,) = find_parts(self.model(CAMVID, TINY), "backbone")
        assert (part.name, type(part.module).__name__) == ("backbone", "ResNetV1c")

    def test_a_model_without_parts_is_named(self) -> None:
        with pytest.raises(ValueError, match="Linear has neither a network nor a backbone"):
            find_parts(nn.Linear(1, 1))

    def test_a_cascade_of_heads_asks_for_the_backbone_scope(self) -> None:
        model = nn.Module()
        model.backbone = nn.Identity()
        model.decode_head = nn.ModuleList([nn.Identity()])
        with pytest.raises(ValueError, match="scope='backbone'"):
            find_parts(model)

    def test_parts_of_a_two_stage_detector(self) -> None:
        model = nn.Module()
        model.backbone, model.rpn_head, model.roi_head = nn.Identity(), nn.Identity(), nn.Module()
        model.roi_head.bbox_head = nn.ModuleList([nn.ReLU(), nn.ReLU()])
        assert [(p.name, p.once) for p in find_parts(model)] == [("dense", True), ("roi.0", False), ("roi.1", False)]


class _Copy(nn.Module):
    """The head under another object, so that replacing the model's own head leaves it alone."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        import copy

        self.head = copy.deepcopy(head)

    def forward(self, features: object) -> object:
        return self.head(features)


# --- readouts ----------------------------------------------------------------------------------------------


class TestReadouts:
    @pytest.fixture
    def snn(self) -> snnconv.network.SpikingNetwork:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3))
        return snnconv.convert(model, methods.IF(8, delay=2), calibration=torch.randn(64, 6), progress=False)

    def test_windows_are_means_of_the_steps_of_one_run(self, snn) -> None:
        x = torch.randn(5, 6)
        seq = snn.run(x)
        for window, got in zip([(1, 8), (2, 3), (8, 8)], readouts(snn, x, [(1, 8), (2, 3), (8, 8)]), strict=True):
            assert torch.allclose(got, seq[window[0] - 1 : window[1]].mean(0))

    def test_the_networks_own_window_is_its_own_readout(self, snn) -> None:
        x = torch.randn(5, 6)
        assert default_window(snn) == (3, 8)
        assert torch.equal(readouts(snn, x, [(3, 8)])[0], snn(x))

    def test_windows_of_shifted_threshold_spikes_are_refused(self) -> None:
        model = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3))
        snn = snnconv.convert(model, methods.ShiftedThreshold(4), calibration=torch.randn(64, 6), progress=False)
        with pytest.raises(ValueError, match="bits of one number"):
            readouts(snn, torch.randn(2, 6), [(1, 2)])

    def test_grid_holds_every_window_once(self) -> None:
        assert len(more_windows("all", 5, [])) == 15
        assert (1, 5) not in more_windows("all", 5, [(1, 5)])

    def test_a_window_outside_the_run_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"window \(3, 9\) is not within 1 … 8"):
            more_windows([(3, 9)], 8, [])


# --- runs --------------------------------------------------------------------------------------------------


@pytest.mark.slow
class TestSegmentation:
    def test_trains_converts_and_writes_valid_results(self, data: Path) -> None:
        signed, grid = run(CAMVID, data, {**TINY, "bench.methods": ROWS})
        assert (data / "work" / "weights.safetensors").exists()
        assert signed["task"] == "segmentation"
        assert signed["samples"] == 2
        assert signed["training"]["iterations"] == 3
        assert [p["timesteps"] for p in signed["points"]] == [4, 8]
        assert signed["sites"]["spiking"] == 3 + 16 + 1
        assert all(p["sops"] > 0 and p["energy_ratio"] > 0 for p in signed["points"])
        # thresholds that do not depend on T: one run gives T = 2, T = 4 and every further window of T = 4
        windows = [(p["timesteps"], tuple(p["window"])) for p in grid["points"]]
        assert (2, (1, 2)) in windows
        every = {(a, b) for b in range(1, 5) for a in range(1, b + 1)}
        assert {w for t, w in windows if t == 4} == every - {(1, 2)}
        assert not list((data / "work").glob("partial*"))

    def test_the_quantised_network_is_tested_beside_every_row_and_shifted_threshold_answers_as_it_does(
        self, data: Path
    ) -> None:
        rows = [{"label": "shifted", "type": "ShiftedThreshold", "timesteps": [4]}, ROWS[0]]
        shifted, signed = run(CAMVID, data, {**TINY, "bench.methods": rows})
        twin = shifted["points"][0]["twin"]
        assert (twin["levels"], twin["agreement"]) == (15, 1.0)
        assert twin["metrics"] == shifted["points"][0]["metrics"]
        assert twin["energies"]["45nm"] == shifted["ann"]["energies"]["45nm"]
        assert [point["twin"]["levels"] for point in signed["points"]] == [4, 8]
        assert all(0 <= point["twin"]["agreement"] <= 1 for point in signed["points"])

    def test_a_twin_added_to_a_stored_point_is_the_one_that_was_measured_with_it(self, data: Path) -> None:
        (path,) = run_config(CAMVID, out=data / "out", work_dir=data / "work", options={**TINY, "bench.methods": ONE})
        whole = results.read(path)
        bare = {**whole, "points": [{**point, "twin": None} for point in whole["points"]]}
        path.write_text(json.dumps(bare))
        again = run_config(
            CAMVID, out=data / "out", work_dir=data / "work", options={**TINY, "bench.methods": ONE}, twins=True
        )
        assert again == [path]
        assert results.read(path)["points"] == whole["points"]

    def test_twins_without_stored_rows_are_refused_before_any_training(self, data: Path) -> None:
        with pytest.raises(BenchError, match="holds none of these rows"):
            run(CAMVID, data, {**TINY, "bench.methods": ROWS[:1]}, twins=True)
        assert not (data / "work").exists()

    def test_the_areas_of_each_picture_are_kept_and_give_the_metric_and_its_error(self, data: Path) -> None:
        record, kept = answered(CAMVID, data, TINY)
        assert kept.kind == "areas"
        for point in record["points"]:
            arrays = kept.networks[word_of(point)]
            whole = KINDS["areas"].score(arrays, kept.truth, np.ones((1, 2)))[0]
            assert whole == pytest.approx(point["metrics"]["mIoU"], abs=0.006)
            assert point["errors"]["mIoU"] == pytest.approx(bootstrap_error("areas", arrays, kept.truth, 2))

    def test_no_answers_are_kept_where_none_are_wanted(self, data: Path) -> None:
        (record,) = run(CAMVID, data, {**TINY, "bench.methods": ROWS[:1]}, answers=False)
        assert "answers" not in record
        assert not list((data / "out").rglob("*.npz"))

    def test_every_seed_is_trained_and_measured_in_a_folder_of_its_own(self, data: Path) -> None:
        given = {"out": data / "out", "work_dir": data / "work", "options": {**TINY, "bench.methods": ROWS[:1]}}
        first, second = run_seeds(CAMVID, [3, 1], **given)
        assert [results.read(path)["seed"] for path in (first, second)] == [3, 1]
        assert (second.parent, second.name) == (first.parent / "seed-1", first.name)
        weights = [data / "work" / own / "weights.safetensors" for own in ("", "seed-1")]
        assert weights[0].read_bytes() != weights[1].read_bytes(), "each seed is trained anew"
        before = [path.read_bytes() for path in (*weights, first)]
        run_seeds(CAMVID, [3, 1], resume=True, **given)
        assert [path.read_bytes() for path in (*weights, first)] == before, "what is done is not done again"

    def test_averaged_weights_are_what_is_kept(self, data: Path) -> None:
        from mmengine.runner.checkpoint import _load_checkpoint
        from safetensors.torch import load_file

        config = load_config(
            CAMVID, {**TINY, "custom_hooks": [dict(type="EMAHook", momentum=0.3, update_buffers=True)]}
        )
        config.work_dir = str(data / "work")
        training.train(config)
        found = load_file(data / "work" / "weights.safetensors")
        (last,) = (data / "work").glob("iter_3.pth")
        checkpoint = _load_checkpoint(str(last), map_location="cpu")
        averaged, trained = checkpoint["state_dict"], checkpoint["ema_state_dict"]
        assert all(torch.equal(found[name], value) for name, value in averaged.items())
        assert not all(torch.equal(found[name], trained[f"module.{name}"]) for name in averaged)

    def test_the_seconds_of_an_interrupted_training_count(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from mmengine.hooks import CheckpointHook
        from mmengine.runner.checkpoint import _load_checkpoint

        from snnbench.weights.card import read_card

        def interrupted(*_: object) -> None:
            raise KeyboardInterrupt

        config = load_config(CAMVID, TINY)
        config.work_dir = str(data / "work")
        with monkeypatch.context() as patch:
            patch.setattr(CheckpointHook, "after_train", interrupted)
            with pytest.raises(KeyboardInterrupt):
                training.train(config)
        (path,) = (data / "work").glob("iter_3.pth")
        checkpoint = _load_checkpoint(str(path), map_location="cpu")
        assert checkpoint["seconds"] > 0
        torch.save({**checkpoint, "seconds": 7000.0}, path)  # as if it had taken that long
        card = read_card(training.train(config))
        assert card is not None
        assert 7000 < float(card.training["seconds"]) < 8000

    def test_the_source_networks_figure_is_mmsegs_own(self, data: Path) -> None:
        (record,) = run(CAMVID, data, {**TINY, "bench.methods": ROWS[:1]})
        from mmengine.runner import Runner

        config = load_config(CAMVID, TINY)
        config.work_dir = str(data / "own")
        for name in ("train_cfg", "train_dataloader", "optim_wrapper", "param_scheduler"):
            config.pop(name)
        for name in ("val_cfg", "val_dataloader", "val_evaluator"):
            config.pop(name)
        runner = Runner.from_cfg(config)
        load_weights(runner.model, data / "work" / "weights.safetensors")
        runner._has_loaded = True
        assert record["ann"]["metrics"]["mIoU"] == pytest.approx(runner.test()["mIoU"])

    def test_many_steps_come_close_to_the_source_network(self, data: Path) -> None:
        rows = [{"label": "shifted", "type": "ShiftedThreshold", "timesteps": [10], "correction": "none"}]
        (record,) = run(CAMVID, data, {**TINY, "bench.methods": rows})
        (point,) = record["points"]
        assert point["metrics"]["aAcc"] == pytest.approx(record["ann"]["metrics"]["aAcc"], abs=2.0)

    def test_limit_tests_a_part(self, data: Path) -> None:
        (record,) = run(CAMVID, data, {**TINY, "bench.methods": ROWS[:1]}, limit=1)
        assert record["samples"] == 1

    def test_an_interrupted_pass_resumes_to_the_same_figures(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        options = {**TINY, "bench.methods": ROWS}
        config = load_config(CAMVID, options)
        config.work_dir = str(data / "work")
        training.train(config)
        tested: list[int] = []
        original = SNNTestLoop.run_iter

        def counted(self: SNNTestLoop, idx: int, *arguments: object) -> None:
            if len(tested) == 1 and idx == 1 and not stopped:
                stopped.append(True)
                raise KeyboardInterrupt
            tested.append(idx)
            original(self, idx, *arguments)

        stopped: list[bool] = []
        monkeypatch.setattr(SNNTestLoop, "run_iter", counted)
        with pytest.raises(KeyboardInterrupt):
            run(CAMVID, data, options)
        assert tested == [0]
        resumed = run(CAMVID, data, options, resume=True)
        assert tested == [0, 1]
        whole = run(CAMVID, data / "whole", {**options, "bench.weights": str(data / "work" / "weights.safetensors")})
        assert [figures(r) for r in resumed] == [figures(r) for r in whole]

    def test_rows_that_are_complete_are_not_measured_again(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (first,) = run(CAMVID, data, {**TINY, "bench.methods": ROWS[:1]})
        monkeypatch.setattr(SNNTestLoop, "run", None)  # calling it fails
        (again,) = run(CAMVID, data, {**TINY, "bench.methods": ROWS[:1]}, resume=True)
        assert again == first

    def test_a_run_that_ends_between_its_last_result_and_its_state_leaves_none_after_the_next(
        self, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        options = {**TINY, "bench.methods": ROWS[:1]}
        with monkeypatch.context() as ends:
            ends.setattr(PartialState, "delete", lambda self: None)
            (first,) = run(CAMVID, data, options)
        (state,) = (data / "work").glob("partial*")
        other = PartialState(data / "work" / "partial-0of1.pt", "a run with other settings")
        assert state == other.path
        assert run(CAMVID, data, options, resume=True) == [first]
        assert not state.exists()
        other.save(1, {}, {})
        run(CAMVID, data, options, resume=True)
        assert state.exists()  # that run is not finished

    def test_a_run_that_ends_between_two_results_measures_nothing_again(
        self, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        options = {**TINY, "bench.methods": [ROWS[0], {**ROWS[0], "label": "second"}]}
        with monkeypatch.context() as ends:
            ends.setattr(PartialState, "delete", lambda self: None)
            whole = run(CAMVID, data, options)
        (second,) = (data / "out").rglob("second.json")
        second.unlink()
        monkeypatch.setattr(SNNTestLoop, "run_iter", None)  # calling it fails
        assert [figures(r) for r in run(CAMVID, data, options, resume=True)] == [figures(r) for r in whole]
        assert not list((data / "work").glob("partial*"))

    def test_pictures_show_annotation_source_and_networks(self, data: Path) -> None:
        run(CAMVID, data, {**TINY, "bench.methods": ROWS[:1]}, draw=1)
        from PIL import Image

        (picture,) = (data / "work" / "pictures").glob("*.png")
        with Image.open(picture) as image:
            assert image.width > image.height > 100

    def test_a_row_that_does_not_convert_is_named_and_the_others_go_on(self, data: Path, caplog) -> None:
        rows = [{"label": "trained", "type": "SignedIF", "timesteps": [4], "thresholds": "trained"}, *ROWS[:1]]
        (record,) = run(CAMVID, data, {**TINY, "bench.methods": rows})
        assert record["label"] == "signed IF"

    def test_a_run_in_which_nothing_converts_is_an_error(self, data: Path) -> None:
        rows = [{"label": "trained", "type": "SignedIF", "timesteps": [4], "thresholds": "trained"}]
        with pytest.raises(BenchError, match="no row was converted: trained: "):
            run(CAMVID, data, {**TINY, "bench.methods": rows})

    def test_without_counting_the_figures_are_null_and_a_note_says_why(self, data: Path) -> None:
        (record,) = run(CAMVID, data, {**TINY, "bench.methods": ROWS[:1], "bench.profile_images": 0})
        assert all(p["sops"] is None for p in record["points"])
        assert any("not counted" in note for note in record["notes"])

    @pytest.mark.skipif(bool(int8.supported()), reason=f"8-bit layers: {int8.supported()}")
    def test_a_row_in_8_bits_says_so(self, data: Path) -> None:
        rows = [{"label": "int8", "type": "SignedIF", "timesteps": [2, 4], "precision": "int8"}]
        (record,) = run(CAMVID, data, {**TINY, "bench.methods": rows})
        assert len(record["points"]) == 2
        assert any(note.startswith("precision int8, float32: ") for note in record["notes"])

    def test_a_row_may_differ_layer_by_layer(self, data: Path) -> None:
        rows = [
            {"label": "mixed", "type": "ShiftedThreshold", "timesteps": [4], "budget": 3.0},
            {"label": "by hand", "type": "ShiftedThreshold", "timesteps": [3], "overrides": {"*": {"timesteps": 5}}},
        ]
        mixed, by_hand = run(CAMVID, data, {**TINY, "bench.methods": rows})
        assert len({change["timesteps"] for change in mixed["method"]["fields"]["layers"].values()}) > 1
        assert [point["timesteps"] for point in by_hand["points"]] == [5]


@pytest.mark.slow
class TestDetection:
    def test_boxes_of_the_spiking_network_go_through_mmdets_metric(self, data: Path) -> None:
        (record,) = run(BCCD, data, {**TINY_DETECTOR, "bench.methods": ROWS[:1]})
        assert record["metric"] == "mAP"
        assert set(record["points"][0]["metrics"]) >= {"mAP", "AP50"}
        assert 0 <= record["points"][0]["metrics"]["mAP"] <= 100
        assert record["points"][0]["twin"]["levels"] == 4

    def test_the_detections_of_each_picture_give_the_metric_and_its_error(self, data: Path) -> None:
        record, kept = answered(BCCD, data, TINY_DETECTOR)
        assert kept.kind == "detections, area"
        every = np.ones((1, record["samples"]))
        for point in record["points"]:
            whole = KINDS[kept.kind].score(kept.networks[word_of(point)], kept.truth, every)[0]
            assert whole == pytest.approx(point["metrics"]["mAP"], abs=1e-3)
            assert point["errors"]["mAP"] >= 0


# --- several ranks -----------------------------------------------------------------------------------------

_SHARES = """
import sys, torch, torch.distributed as dist, snnconv
from snnconv import methods
from torch import nn
dist.init_process_group("gloo")
torch.manual_seed(0)
layers = [nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.ReLU(), nn.Flatten()]
model = nn.Sequential(*layers, nn.Linear(8 * 16, 4)).eval()
x = torch.randn(65, 3, 8, 8)  # one rank has an input, and a batch, more
size = dist.get_world_size()
out = {}
rows = dict(signed=methods.SignedIF(8), ltb=methods.LocalThresholdBalancing(16))
rows["if"] = methods.IF(8, delay="auto")
rows["reconstruct"] = methods.ShiftedThreshold(3, correction="reconstruct")
for name, method in rows.items():
    inputs = x[:63] if name == "ltb" else x  # updates from batch to batch: those of one process
    batches = list(inputs[dist.get_rank() :: size].split(16 // size))
    snn = snnconv.convert(model, method, calibration=batches, progress=False, distributed=True)
    every = [None] * size
    dist.all_gather_object(every, snn(x[:4]).tolist())
    assert all(one == every[0] for one in every), name
    assert snn.report.calibration_samples == len(inputs)
    out[name] = {"theta": [v.tolist() for v in snn.thresholds.values()], "y": snn(x[:4]).tolist(), "delay": snn.delay}
if dist.get_rank() == 0:
    import json; json.dump(out, open(sys.argv[1], "w"))
dist.destroy_process_group()
"""


_KILLED = """
import os, signal, time
from snnconv.cli.app import app
from snnbench.testing.resume import PartialState

save = PartialState.save

def save_and_die(self, *arguments):
    save(self, *arguments)
    size, dies = int(os.environ["WORLD_SIZE"]), os.environ.get("DIES", os.environ["RANK"])
    states = [self.path.with_name(f"partial-{rank}of{size}.pt") for rank in range(size)]
    while not all(state.exists() for state in states):
        time.sleep(0.01)
    if dies == os.environ["RANK"]:
        print("killed at", time.time(), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

PartialState.save = save_and_die
app()
"""
"""The command line; the rank DIES, or every one, ends unasked as soon as all of them have stored their state."""


def torchrun(ranks: int, *arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=900)


@pytest.mark.slow
class TestRanks:
    def test_shares_calibrate_as_one(self, tmp_path: Path) -> None:
        script = tmp_path / "shares.py"
        script.write_text(_SHARES)
        found = []
        for ranks in (1, 2, 4):
            done = torchrun(ranks, str(script), str(tmp_path / f"{ranks}.json"))
            assert done.returncode == 0, done.stderr
            found.append(json.loads((tmp_path / f"{ranks}.json").read_text()))
        one = found[0]
        for several in found[1:]:
            for name in ("signed", "ltb", "if"):
                assert one[name]["delay"] == several[name]["delay"]
                for a, b in zip(one[name]["theta"], several[name]["theta"], strict=True):
                    assert torch.tensor(a) == pytest.approx(torch.tensor(b), rel=1e-4)
            # a spike may tip over where a bias differs in its last bits
            difference = torch.tensor(one["signed"]["y"]) - torch.tensor(several["signed"]["y"])
            assert difference.abs().mean() < 0.05

    @pytest.mark.parametrize("ranks", [2, 4])
    def test_ranks_give_the_figures_of_one(self, data: Path, ranks: int) -> None:
        shutil.rmtree(data / "data" / "camvid")
        write_camvid(data / "data" / "camvid", train=8, test=7)  # the last shards are shorter
        row = {**ROWS[0], "correction": "none"}
        options = {**TINY, "bench.methods": [row], "bench.calibration.images": 6}  # as many as no rank has
        (one,) = run(CAMVID, data, options)
        arguments = ["-m", "snnconv.cli.app", "bench", str(CAMVID), "--launcher", "pytorch"]
        arguments += ["--work-dir", str(data / "work"), "--out", str(data / "two")]
        for key, value in options.items():
            arguments += ["--cfg-options", f"{key}={value!r}"]
        done = torchrun(ranks, *arguments)
        assert done.returncode == 0, done.stderr[-3000:]
        (two,) = results.read_all(data / "two").values()
        assert two["machine"].get("ranks") == ranks
        assert [p["metrics"] for p in two["points"]] == [p["metrics"] for p in one["points"]]
        assert two["ann"]["metrics"] == one["ann"]["metrics"]

    @pytest.mark.parametrize(("ranks", "dies"), [(2, None), (4, "2")], ids=["both of two", "one of four"])
    def test_a_killed_run_resumes_to_the_same_result_file(
        self, ranks: int, dies: str | None, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shutil.rmtree(data / "data" / "camvid")
        write_camvid(data / "data" / "camvid", train=8, test=23)  # the last shard is shorter
        if dies is not None:
            monkeypatch.setenv("DIES", dies)
        row = {**ROWS[0], "correction": "none", "timesteps": [8, 48]}
        options = {**TINY, "bench.methods": [row], "bench.calibration.images": 8}
        (whole,) = run(CAMVID, data, options)
        arguments = ["-m", "snnconv.cli.app", "bench", str(CAMVID), "--launcher", "pytorch"]
        arguments += ["--work-dir", str(data / "work"), "--out", str(data / "two")]
        for key, value in options.items():
            arguments += ["--cfg-options", f"{key}={value!r}"]
        states = [data / "work" / f"partial-{rank}of{ranks}.pt" for rank in range(ranks)]
        killed = data / "killed.py"
        killed.write_text(_KILLED)
        ended = torchrun(ranks, str(killed), *arguments[2:])
        assert ended.returncode != 0
        if dies is not None:  # torchrun ends the others, and names the one that was first
            seconds = time.time() - float(re.findall(r"killed at ([\d.]+)", ended.stdout + ended.stderr)[0])
            print(f"the others ended {seconds:.1f} s after it")
            assert seconds < 60
            assert re.search(rf"Root Cause.*rank\s*: {dies} ", ended.stderr, re.DOTALL)
        assert all(state.exists() for state in states)
        assert not list((data / "two").rglob("*.json"))
        done = torchrun(ranks, *arguments, "--resume")
        assert done.returncode == 0, done.stderr[-3000:]
        assert "no state of this run is stored" not in done.stdout + done.stderr
        (resumed,) = results.read_all(data / "two").values()
        assert [p["metrics"] for p in resumed["points"]] == [p["metrics"] for p in whole["points"]]
        # thresholds of two shares differ in their last bits, and so a spike in a million
        assert [p["sops"] for p in resumed["points"]] == pytest.approx([p["sops"] for p in whole["points"]], rel=1e-4)
        assert resumed["ann"]["metrics"] == whole["ann"]["metrics"]
        assert not any(state.exists() for state in states)

    def test_distributed_without_a_process_group_is_refused(self) -> None:
        model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
        with pytest.raises(RuntimeError, match=r"needs torch\.distributed"):
            snnconv.convert(model, methods.IF(2), calibration=torch.randn(4, 2), distributed=True)


# --- errors ------------------------------------------------------------------------------------------------


class TestErrors:
    def test_a_config_that_is_not_there(self) -> None:
        with pytest.raises(BenchError, match="there is no config"):
            run_config("nowhere.py", out="out")

    def test_a_config_without_a_bench_key(self, tmp_path: Path) -> None:
        (tmp_path / "c.py").write_text("model = dict()\n")
        with pytest.raises(BenchError, match="has no bench"):
            load_config(tmp_path / "c.py")

    def test_an_unknown_launcher(self) -> None:
        with pytest.raises(BenchError, match="launcher is one of none, pytorch, slurm, mpi"):
            run_config(CAMVID, out="out", launcher="ssh")

    @pytest.mark.parametrize(("launcher", "how"), [("pytorch", "torchrun"), ("slurm", "srun"), ("mpi", "mpirun")])
    def test_a_launcher_that_did_not_start_the_process(self, data: Path, launcher: str, how: str) -> None:
        if torch.cuda.is_available():
            pytest.skip("with an accelerator, mmengine itself reads the launcher's variables")
        with pytest.raises(BenchError, match=f"start the command with {how}"):
            run_config(CAMVID, out=data / "out", work_dir=data / "work", launcher=launcher)

    def test_a_whole_label_is_that_row_alone(self) -> None:
        rows = [{"label": "signed IF", "type": "SignedIF"}, {"type": "IF"}, {"label": "IF, fine-tuned", "type": "IF"}]
        assert _chosen(rows, ["if"]) == rows[1:2]
        assert _chosen(rows, ["sign", "IF fine-tuned"]) == [rows[0], rows[2]]
        assert _chosen(rows, ["tuned", ""]) == rows[2:]
        assert _chosen(rows, [""]) == rows

    def test_methods_that_match_no_row(self, data: Path) -> None:
        with pytest.raises(BenchError, match="--methods quantum matches none of: shifted threshold"):
            run_config(CAMVID, out=data / "out", work_dir=data / "work", methods=["quantum"])

    def test_weights_that_are_not_there(self, data: Path) -> None:
        with pytest.raises(BenchError, match=r"bench\.weights: there is no file nowhere.pth"):
            run_config(CAMVID, out=data / "out", work_dir=data / "work", options={"bench.weights": "nowhere.pth"})

    def test_data_that_is_not_there(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from snnbench.data.roots import DataRootError

        monkeypatch.setenv("SNNCONV_DATA", str(data))
        with pytest.raises(DataRootError, match="camvid"):
            load_config(CAMVID)

    def test_an_unknown_method_lists_the_known_ones(self) -> None:
        with pytest.raises(ValueError, match=r"unknown type 'Magic'; known: .*SignedIF"):
            ConvertHook([{"type": "Magic", "timesteps": 4}], {})

    def test_a_row_may_have_normalisations_by_ladders(self) -> None:
        row = {"type": "ShiftedThreshold", "timesteps": 4, "cover": "synapses", "normalisation": "ladder"}
        model = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 2))
        convert = ConvertHook([row], {})._again(row)
        snn = convert(Part("dense", model, model), methods.ShiftedThreshold(4), [torch.randn(8, 4)])
        assert [one.kind for one in snn.report.normalisations] == ["layer_norm"]

    def test_a_row_without_timesteps(self) -> None:
        with pytest.raises(ValueError, match="needs timesteps"):
            ConvertHook([{"type": "SignedIF"}], {})

    @pytest.mark.parametrize("wrapper", ["ConcatDataset", "RepeatDataset"])
    def test_calibration_looks_into_wrapped_data_sets(self, data: Path, wrapper: str) -> None:
        config = load_config(CAMVID, TINY)
        inner = config.train_dataloader.dataset.to_dict()
        wrapped = {"type": wrapper, **({"datasets": [inner]} if wrapper == "ConcatDataset" else {"dataset": inner})}
        found = CalibrationData(wrapped, 2, pipeline=config.test_dataloader.dataset.pipeline)
        assert len(found.samples) == 2

    @pytest.mark.parametrize("images", [4, 5, 6, 7, 9])
    def test_ranks_share_every_image(self, images: int, monkeypatch: pytest.MonkeyPatch) -> None:
        data = [{"inputs": i} for i in range(20)]
        one = CalibrationData(data, images=images).samples
        monkeypatch.setattr("snnbench.testing.calibration_data.get_world_size", lambda: 4)
        shares = []
        for rank in range(4):
            monkeypatch.setattr("snnbench.testing.calibration_data.get_rank", lambda rank=rank: rank)
            shares.append(CalibrationData(data, images=images).samples)
        assert sorted(sample["inputs"] for share in shares for sample in share) == [s["inputs"] for s in one]
        assert len(one) == images
        assert max(map(len, shares)) - min(map(len, shares)) <= 1

    def test_fewer_images_than_ranks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("snnbench.testing.calibration_data.get_world_size", lambda: 4)
        with pytest.raises(ValueError, match="at least one image for each of 4 ranks"):
            CalibrationData([1, 2], images=3)


class TestLastCheckpoint:
    @pytest.mark.parametrize(
        ("note", "reason"),
        [
            ("", r"last_checkpoint names 'nothing', which is no file"),
            ("gone.pth", r"last_checkpoint names 'gone\.pth', which is no file"),
            ("half.pth", r"half\.pth is damaged or truncated .*last_checkpoint"),
        ],
    )
    def test_one_that_cannot_be_gone_on_from_is_refused_before_the_training(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, note: str, reason: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        torch.save({"state_dict": {"a": torch.zeros(100)}}, "half.pth")
        Path("half.pth").write_bytes(Path("half.pth").read_bytes()[:500])
        Path("last_checkpoint").write_text(note)
        with pytest.raises(BenchError, match=reason):
            training._check_last(tmp_path)

    def test_a_whole_one_is_gone_on_from(self, tmp_path: Path) -> None:
        torch.save({"state_dict": {"a": torch.zeros(100)}}, tmp_path / "whole.pth")
        training._check_last(tmp_path)
        (tmp_path / "last_checkpoint").write_text(str(tmp_path / "whole.pth"))
        training._check_last(tmp_path)


@pytest.mark.slow
def test_results_that_cannot_be_written_are_found_before_the_training(data: Path) -> None:
    (data / "out").touch()
    with pytest.raises(results.ResultError, match="cannot be written"):
        run(CAMVID, data, {**TINY, "bench.methods": ROWS[:1]})
    assert not (data / "work").exists()


class TestPartialState:
    def test_goes_back_to_a_batch_that_another_rank_has_stored(self, tmp_path: Path) -> None:
        state = PartialState(tmp_path / "s.pt", "run")
        state.save(1, {"a": [[1]]}, {"a": 1.0})
        state.save(2, {"a": [[1, 2]]}, {"a": 2.0})
        assert state.done() == 2
        assert state.load(1) == ({"a": [[1]]}, {"a": 1.0})

    @pytest.mark.parametrize("content", [b"", b"no torch file", b"PK\x03\x04 cut off"])
    def test_a_damaged_file_means_to_begin_again(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "s.pt").write_bytes(content)
        assert PartialState(tmp_path / "s.pt", "run").done() == 0

    def test_arrays_of_objects_are_not_read(self, tmp_path: Path) -> None:
        class Kind:
            def __reduce__(self) -> tuple:
                return np.dtype, ("O8", False, True)

        class Array:
            def __reduce__(self) -> tuple:
                return np.ndarray, ((1,), Kind(), b"ABCDEFGH")

        key = ("ANN", (0, 0))
        content = {"fingerprint": "run", "marks": [(3, {key: [1]}, {})], "results": {key: [[Array()]]}}
        torch.save(content, tmp_path / "s.pt")
        state = PartialState(tmp_path / "s.pt", "run")
        assert state.done() == 0
        assert "s.pt: refused, and nothing of it was run: it asks for numpy" in state.problem

    def test_arrays_of_numbers_and_text_are_what_they_were(self, tmp_path: Path) -> None:
        state = PartialState(tmp_path / "s.pt", "run")
        stored = [np.arange(3), np.float32(0.5), np.array(["a", "bc"]), torch.ones(2), {"name": "x", "size": (1, 2)}]
        state.save(1, {("ANN", (0, 0)): [stored]}, {"ANN": 1.0})
        results, _ = PartialState(tmp_path / "s.pt", "run").load(1)
        (found,) = results["ANN", (0, 0)]
        assert np.array_equal(found[0], stored[0])
        assert found[1] == stored[1]
        assert np.array_equal(found[2], stored[2])
        assert torch.equal(found[3], stored[3])
        assert found[4] == stored[4]

    @pytest.mark.parametrize(
        "change",
        [
            {"marks": []},
            {"marks": [3]},
            {"marks": [(1, {}, {})]},
            {"marks": [(1, {"a": [5]}, {})]},
            {"marks": [(-1, {"a": [1]}, {})]},
            {"marks": [(1, {"a": [1]}, {"a": "long"})]},
            {"results": [1]},
            {"results": {"a": 1}},
            {"results": {"a": [1]}},
        ],
    )
    def test_another_layout_means_to_begin_again_and_says_so(self, tmp_path: Path, change: dict) -> None:
        content = {"fingerprint": "run", "marks": [(1, {"a": [1]}, {"a": 1.0})], "results": {"a": [[1]]}}
        torch.save(content, tmp_path / "s.pt")
        state = PartialState(tmp_path / "s.pt", "run")
        assert (state.done(), state.problem) == (1, "")
        torch.save({**content, **change}, tmp_path / "s.pt")
        assert state.done() == 0
        assert "holds no state of a test pass" in state.problem

    def test_a_failed_store_leaves_the_old_one(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        state = PartialState(tmp_path / "s.pt", "run")
        state.save(1, {"a": [[1]]}, {})

        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(torch, "save", full)
        with pytest.raises(OSError, match="No space left"):
            state.save(2, {"a": [[1, 2]]}, {})
        assert PartialState(tmp_path / "s.pt", "run").done() == 1
        assert [p.name for p in tmp_path.iterdir()] == ["s.pt"]


def test_a_part_is_hashable_and_names_itself() -> None:
    part = Part("dense", nn.Identity(), nn.Identity())
    assert {part: 1}[part] == 1
