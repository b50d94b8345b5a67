"""Video: files and clips, data sets, damaged files, torchvision's networks, a run of the harness."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

pytest.importorskip("mmengine")
pytest.importorskip("av", reason="needs the video extra")
pytest.importorskip("torchvision")

import torchvision
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope

import snnconv
from snnbench import results
from snnbench.config import load_config
from snnbench.data import clips as clips_module
from snnbench.data.clip_datasets import MovingDigits, VideoFolder
from snnbench.data.clips import ClipError, VideoWriter, clip_indices, read_clips, write_video
from snnbench.data.image_datasets import SKIPPED
from snnbench.data.moving_digits import DIRECTIONS, draw_clip
from snnbench.data.roots import DataError, DataRootError
from snnbench.registry import DATASETS, MODELS
from snnbench.run import run_config
from snnbench.tasks.video import ClipFlip, ClipPreprocessor, ClipTopK, PretrainedClip, VideoClassifier
from snnbench.testing.calibration_data import CalibrationData
from snnconv import limits, methods

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs/video").glob("*/*.py"))
NETWORKS = ("r3d_18", "mc3_18", "r2plus1d_18", "s3d")


def moving_square(frames: int, start: int, step: int, size: int = 32) -> np.ndarray:
    clip = np.zeros((frames, size, size, 3), np.uint8)
    for t in range(frames):
        clip[t, 8:16, start + step * t : start + step * t + 8] = 200
    return clip


def place(clip: torch.Tensor) -> list[float]:
    """Column of the centre of light of every frame ``[T, H, W, 3]``."""
    light = clip.float().sum((1, 3))
    return ((light * torch.arange(light.shape[1])).sum(1) / light.sum(1)).tolist()


def damaged(path: Path) -> None:
    """A video whose second half is lost."""
    write_video(path, moving_square(8, 0, 2), 8)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


class TestFiles:
    def test_what_was_written_is_read(self, tmp_path: Path) -> None:
        clip = moving_square(8, 2, 2)
        write_video(tmp_path / "a.mp4", clip, 8)
        (found,) = read_clips(tmp_path / "a.mp4", frames=8)
        assert found.shape == clip.shape
        assert (found.float() - torch.from_numpy(clip).float()).abs().mean() < 4
        assert place(found) == pytest.approx([5.5 + 2 * t for t in range(8)], abs=0.3)

    @pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no way to take processors away here")
    def test_the_number_of_processors_changes_no_byte(self, tmp_path: Path) -> None:
        given = os.sched_getaffinity(0)
        try:
            for name, processors in (("one", {min(given)}), ("all", given)):
                os.sched_setaffinity(0, processors)
                write_video(tmp_path / name, moving_square(8, 2, 2), 8)
        finally:
            os.sched_setaffinity(0, given)
        assert (tmp_path / "one").read_bytes() == (tmp_path / "all").read_bytes()

    def test_frames_are_those_asked_for(self, tmp_path: Path) -> None:
        write_video(tmp_path / "a.mp4", moving_square(12, 0, 2), 24)
        early, late = read_clips(tmp_path / "a.mp4", frames=3, clips=2, rate=12.0)
        assert place(early) == pytest.approx([3.5, 7.5, 11.5], abs=0.3)
        assert place(late) == pytest.approx([15.5, 19.5, 23.5], abs=0.3)

    def test_start_moves_through_the_video(self, tmp_path: Path) -> None:
        write_video(tmp_path / "a.mp4", moving_square(12, 0, 2), 24)
        places = [place(read_clips(tmp_path / "a.mp4", frames=2, start=s)[0])[0] for s in (0.0, 0.5, 1.0)]
        assert places[0] == pytest.approx(3.5, abs=0.3)
        assert places[2] == pytest.approx(23.5, abs=0.3)
        assert places[0] < places[1] < places[2]

    def test_indices_agree_with_torchvision(self) -> None:
        """... at a rate that is no whole part of the video's: ⌊k · native / rate⌋."""
        assert clip_indices(300, 25.0, frames=5, rate=15.0) == [[0, 1, 3, 5, 6]]
        assert all(max(c) < 300 for c in clip_indices(300, 25.0, frames=16, clips=5, rate=15.0))

    def test_a_damaged_file_is_named(self, tmp_path: Path) -> None:
        damaged(tmp_path / "half.mp4")
        with pytest.raises(ClipError, match=r"half\.mp4"):
            read_clips(tmp_path / "half.mp4", frames=8)
        (tmp_path / "text.mp4").write_text("no video")
        with pytest.raises(ClipError, match=r"text\.mp4 is damaged"):
            read_clips(tmp_path / "text.mp4", frames=8)

    @pytest.mark.parametrize("suffix", ["avi", "mkv", "mov"])
    def test_other_containers(self, suffix: str, tmp_path: Path) -> None:
        import av

        with av.open(str(tmp_path / f"a.{suffix}"), "w") as container:
            stream = container.add_stream("mpeg4", rate=10, options={"bf": "2"})
            stream.width = stream.height = 32
            for frame in moving_square(12, 0, 2):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())
        early, late = read_clips(tmp_path / f"a.{suffix}", frames=2, clips=2)
        assert place(early) == pytest.approx([3.5, 5.5], abs=0.5)
        assert place(late) == pytest.approx([23.5, 25.5], abs=0.5)

    def test_frames_that_are_lost_are_damage(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_video(tmp_path / "a.mp4", moving_square(8, 0, 2), 8)
        monkeypatch.setattr("snnbench.data.clips.clip_indices", lambda count, *_: [[0, count + 1]])
        (found,) = read_clips(tmp_path / "a.mp4", frames=2)  # a packet without a frame at the end
        assert place(found)[1] == pytest.approx(17.5, abs=0.3)
        with pytest.raises(ClipError, match="8 of 20 frames can be decoded"):
            clips_module._decoded(tmp_path / "a.mp4", 20, {15})

    def test_odd_sizes_and_empty_videos_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="even size"):
            write_video(tmp_path / "a.mp4", np.zeros((1, 3, 4, 3), np.uint8), 8)
        writer = VideoWriter(tmp_path / "b.mp4", 8)
        with pytest.raises(ValueError, match="at least one frame"):
            writer.finish()
        assert list(tmp_path.iterdir()) == []

    def test_a_frame_that_lasts_for_years_takes_no_list_of_as_many(self) -> None:
        assert clip_indices(100, 1e-7, frames=3, clips=2, rate=15.0) == [[0, 0, 0], [99, 99, 99]]

    def test_huge_frames_are_refused_before_they_are_decoded(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_video(tmp_path / "a.mp4", [np.zeros((16, 16, 3), np.uint8)] * 4, 4)
        assert read_clips(tmp_path / "a.mp4", frames=2)[0].shape == (2, 16, 16, 3)
        monkeypatch.setattr(limits, "PIXELS", 255)
        with pytest.raises(ClipError, match=r"a\.mp4 has 256 pixels a frame, more than snnconv\.limits\.PIXELS = 255"):
            read_clips(tmp_path / "a.mp4", frames=2)

    def test_a_file_that_lists_addresses_opens_none(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            address = f"http://127.0.0.1:{server.getsockname()[1]}/1.ts"
            lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:4", "#EXTINF:4,", address, "#EXT-X-ENDLIST", ""]
            (tmp_path / "a.mp4").write_text("\n".join(lines))
            with pytest.raises(ClipError, match=r"a\.mp4"):
                read_clips(tmp_path / "a.mp4", frames=2)
            server.settimeout(0.2)
            with pytest.raises(TimeoutError):
                server.accept()


class TestMovingDigits:
    @pytest.mark.parametrize("direction", DIRECTIONS)
    def test_a_digit_moves_where_its_class_says(self, direction: str) -> None:
        image = np.zeros((8, 8))
        image[2:6, 2:6] = 16
        clip = draw_clip(image, direction, np.random.default_rng(0))
        centres = np.array([np.argwhere(frame[..., 0]).mean(0) for frame in clip])
        moved = centres[-1] - centres[0]
        rows, columns = DIRECTIONS[direction]
        assert abs(moved @ (columns, rows)) < 1e-9  # not across
        assert 7 <= moved @ (rows, columns) <= 14

    def test_train_and_test_share_no_image(self) -> None:
        pytest.importorskip("sklearn")
        train, test = MovingDigits("train"), MovingDigits("test")
        numbers = [{path.stem for path, _ in split.videos} for split in (train, test)]
        assert len(numbers[0]) == 1347
        assert len(numbers[1]) == 450
        assert not numbers[0] & numbers[1]
        assert len(train.metainfo["classes"]) == 40
        assert test[3]["inputs"].shape == (1, 3, 8, 32, 32)


class TestFolders:
    def test_damaged_videos_are_skipped_counted_and_named(self, tmp_path: Path) -> None:
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            write_video(tmp_path / name / "good.mp4", moving_square(8, 0, 2), 8)
        damaged(tmp_path / "b" / "bad.mp4")
        dataset = VideoFolder(str(tmp_path), frames=8)
        batch = pseudo_collate([dataset[i] for i in range(3)])
        assert sorted(int(label) for label in batch["data_samples"]) == [SKIPPED, 0, 1]
        metric = ClipTopK(ks=(1,))
        metric.process(
            batch, [{"pred_scores": torch.tensor([0.9, 0.1]), "gt_label": label} for label in batch["data_samples"]]
        )
        assert metric.compute_metrics(metric.results) == {"top1": 50.0, "skipped": 1}
        assert metric.notes == ["1 videos could not be decoded and do not count: b/bad.mp4"]
        with pytest.raises(ClipError, match=r"bad\.mp4"):
            [VideoFolder(str(tmp_path), frames=8, skip_broken=False)[i] for i in range(3)]
        assert all(int(s["data_samples"]) != SKIPPED for s in CalibrationData(dataset, images=3).samples)

    def test_kinetics_as_it_is_given_out(self, tmp_path: Path) -> None:
        (tmp_path / "val").mkdir()
        (tmp_path / "annotations").mkdir()
        write_video(tmp_path / "val" / "ab_c-d_000001_000011.mp4", moving_square(8, 0, 2), 8)
        with pytest.raises(DataError, match=r"annotations/val\.csv"):
            VideoFolder(str(tmp_path / "val"), classes="kinetics400")
        table = "label,youtube_id,time_start,time_end,split\nair drumming,ab_c-d,1,11,val\n"
        (tmp_path / "annotations" / "val.csv").write_text(table)
        dataset = VideoFolder(str(tmp_path / "val"), classes="kinetics400")
        assert dataset.metainfo["classes"][int(dataset[0]["data_samples"])] == "air drumming"
        assert len(dataset.metainfo["classes"]) == 400

    def test_a_list_of_files(self, tmp_path: Path) -> None:
        for name in ("a", "b"):
            (tmp_path / "videos" / name).mkdir(parents=True)
            write_video(tmp_path / "videos" / name / "x.avi.mp4", moving_square(8, 0, 2), 8)
        (tmp_path / "list.txt").write_text("b/x.avi.mp4 2\n")
        dataset = VideoFolder(str(tmp_path / "videos"), files=str(tmp_path / "list.txt"), frames=8)
        assert len(dataset) == 1
        assert int(dataset[0]["data_samples"]) == 1

    def test_class_folders_with_underscores(self, tmp_path: Path) -> None:
        (tmp_path / "air_drumming").mkdir()
        write_video(tmp_path / "air_drumming" / "x.mp4", moving_square(8, 0, 2), 8)
        assert VideoFolder(str(tmp_path), classes="kinetics400").videos[0][1] == 1
        (tmp_path / "no such thing").mkdir()
        write_video(tmp_path / "no such thing" / "x.mp4", moving_square(8, 0, 2), 8)
        with pytest.raises(DataError, match="no such thing is no class"):
            VideoFolder(str(tmp_path), classes="kinetics400")

    def test_missing_data_says_where_to_put_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SNNCONV_DATA", str(tmp_path))
        monkeypatch.setenv("SNNCONV_CACHE", str(tmp_path / "cache"))
        monkeypatch.chdir(ROOT)
        with pytest.raises(DataRootError, match=r"put kinetics400 or kinetics400\.zip in .*kinetics-dataset"):
            load_config("configs/video/kinetics400/r3d_18.py")
        with pytest.raises(DataRootError, match=r"put ucf101 .*UCF101"):
            load_config("configs/video/ucf101/r3d_18.py")

    def test_not_one_video_can_be_decoded(self, tmp_path: Path) -> None:
        (tmp_path / "a").mkdir()
        damaged(tmp_path / "a" / "bad.mp4")
        with pytest.raises(DataError, match="not one video can be decoded"):
            VideoFolder(str(tmp_path), frames=8)[0]

    def test_a_folder_without_videos(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="holds no videos"):
            VideoFolder(str(tmp_path))


class TestModel:
    def test_clips_of_a_video_are_averaged(self) -> None:
        network = nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(3, 4))
        model = VideoClassifier(network).eval()
        clips = torch.rand(6, 3, 2, 4, 4)
        samples = model(clips, torch.tensor([1, 2]), mode="predict")
        expected = network(clips).softmax(1).reshape(2, 3, 4).mean(1)
        torch.testing.assert_close(torch.stack([s.pred_scores for s in samples]), expected)

    def test_preprocessor_joins_clips_of_all_videos(self) -> None:
        data = [{"inputs": torch.full((2, 3, 4, 8, 8), 255, dtype=torch.uint8), "data_samples": 1, "path": "p"}] * 3
        out = ClipPreprocessor(mean=[0.5] * 3, std=[0.25] * 3, channels_last=True)(pseudo_collate(data))
        assert out["inputs"].shape == (6, 3, 4, 8, 8)
        assert out["inputs"].is_contiguous(memory_format=torch.channels_last_3d)
        assert float(out["inputs"].max()) == 2.0
        assert "path" not in out

    @pytest.mark.parametrize("name", NETWORKS)
    def test_the_transform_is_torchvisions(self, name: str) -> None:
        frames = torch.randint(0, 256, (2, 3, 270, 300), dtype=torch.uint8)
        transform = PretrainedClip(name)
        preset = torchvision.models.get_model_weights(name).DEFAULT.transforms()
        mine = ClipPreprocessor(transform.mean, transform.std)(
            {"inputs": [transform(frames).transpose(0, 1)], "data_samples": [0]}
        )
        torch.testing.assert_close(mine["inputs"][0], preset(frames))

    def test_a_flip_mirrors(self) -> None:
        clip = torch.arange(4.0).reshape(1, 1, 1, 4)
        found = {tuple(ClipFlip()(clip).flatten().tolist()) for _ in range(40)}
        assert found == {(0.0, 1.0, 2.0, 3.0), (3.0, 2.0, 1.0, 0.0)}


class TestConversion:
    def test_batch_norm_folds_and_synapses_are_counted(self) -> None:
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv3d(2, 4, 3, padding=1, bias=False), nn.BatchNorm3d(4), nn.ReLU(), nn.MaxPool3d(2),
            nn.Conv3d(4, 3, (3, 1, 3), (1, 2, 1), 1), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2),
        )  # fmt: skip
        x = torch.randn(4, 2, 4, 6, 6)
        model(x)  # statistics of the normalisation
        model.eval()
        snn = snnconv.convert(model, methods.IF(timesteps=8), calibration=x, progress=False)
        assert [s.channels for s in snn.report.spiking] == [4, 3]
        spikes: dict[str, torch.Tensor] = {}
        snn.run(x[:1], observe=spikes.__setitem__)
        first, second = ((v != 0).float() for v in spikes.values())
        reached = F.conv3d(first.flatten(0, 1), torch.ones(3, 4, 3, 1, 3), None, (1, 2, 1), 1).sum()
        profile = snnconv.profile(model, snn, x[:1])
        assert profile.sops == float(reached) + 2 * float(second.sum())
        assert profile.snn_macs == float(
            F.conv3d(torch.ones(1, 2, 4, 6, 6), torch.ones(4, 2, 3, 3, 3), padding=1).sum()
        )

    @pytest.mark.parametrize("name", [NETWORKS[0], *(pytest.param(n, marks=pytest.mark.slow) for n in NETWORKS[1:])])
    def test_every_site_of_torchvisions_networks_is_reported(self, name: str) -> None:
        torch.manual_seed(0)
        model = torchvision.models.get_model(name, num_classes=5).eval()
        clip = torch.randn(2, 3, 16, 32, 32) if name == "s3d" else torch.randn(2, 3, 4, 16, 16)
        if name == "s3d":
            model.avgpool = nn.AvgPool3d((2, 1, 1), 1)  # as it is, it needs 224 pixels
        calls = []
        for module in model.modules():
            if isinstance(module, nn.ReLU):
                module.register_forward_hook(lambda module, inputs, output: calls.append(output.shape[1]))
        expected = model(clip).detach()
        snn = snnconv.convert(model, methods.ShiftedThreshold(timesteps=6), calibration=clip, progress=False)
        assert snn.report.path == "graph"
        assert [s.channels for s in snn.report.spiking] == calls[: len(snn.report.spiking)]
        assert len(snn.report.spiking) == {"r3d_18": 17, "mc3_18": 17, "r2plus1d_18": 34, "s3d": 77}[name]
        assert not [a for a in snn.report.analog if a.activation]
        assert float((snn(clip) - expected).norm() / expected.norm()) < 0.1


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Kinetics and UCF101 of a video or two."""
    for split in ("train", "val"):
        folder = tmp_path / "kinetics400" / split / "abseiling"
        folder.mkdir(parents=True)
        write_video(folder / "x.mp4", moving_square(8, 0, 2), 8)
    (tmp_path / "kinetics400" / "s_kinetics400.txt").write_text("abseiling/x.mp4\n")
    lists = tmp_path / "ucf101" / "ucfTrainTestlist"
    lists.mkdir(parents=True)
    for name in ("Archery", "Biking"):
        folder = tmp_path / "ucf101" / "UCF-101" / name
        folder.mkdir(parents=True)
        write_video(folder / "v_g01_c01.mp4", moving_square(8, 0, 2), 8)
    (lists / "trainlist01.txt").write_text("Archery/v_g01_c01.mp4 1\nBiking/v_g01_c01.mp4 2\n")
    (lists / "testlist01.txt").write_text("Biking/v_g01_c01.mp4\n")
    monkeypatch.setenv("SNNCONV_DATA", str(tmp_path))
    monkeypatch.chdir(ROOT)
    return tmp_path


class TestConfigs:
    @pytest.mark.parametrize("path", CONFIGS, ids=lambda p: f"{p.parent.name}/{p.stem}")
    def test_a_config_builds_and_its_data_loads(self, path: Path, data: Path) -> None:
        if "digits" in str(path):
            pytest.importorskip("sklearn")
        config = load_config(path)
        init_default_scope("snnbench")
        if config.model.network.get("weights"):
            config.model.network.weights = None
        with torch.device("meta"):
            model = MODELS.build(config.model)
        dataset = config.test_dataloader.dataset
        sample = DATASETS.build(dataset)[0]
        clips = sample["inputs"]
        assert clips.shape[:2] == (dataset.get("clips", 1), 3)
        assert clips.shape[2] == dataset.get("frames", 8)
        if "pretrained" not in str(config.bench.weights) and config.bench.weights == "model":
            preset = PretrainedClip(config.model.network.name)
            assert tuple(config.model.data_preprocessor.mean) == preset.mean
            assert tuple(config.model.data_preprocessor.std) == preset.std
            assert list(clips.shape[-2:]) == preset.size
        assert model(torch.zeros(clips.shape[:1] + clips.shape[1:], device="meta")).shape[1] in (40, 101, 400)
        for row in config.bench.methods:
            settings = {k: v for k, v in row.items() if k not in ("label", "type", "timesteps")}
            for steps in row["timesteps"]:
                getattr(methods, row["type"])(timesteps=steps, **settings)

    def test_a_run_trains_converts_and_names_damaged_videos(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for split, count in (("train", 8), ("test", 3)):
            for label, step in (("left", -1), ("right", 1)):
                folder = tmp_path / split / label
                folder.mkdir(parents=True)
                for k in range(count):
                    write_video(folder / f"{k}.mp4", moving_square(8, 8 + k + (step < 0) * 7, step), 8)
        damaged(tmp_path / "test" / "left" / "bad.mp4")
        text = f"""
_base_ = "{ROOT}/configs/_base_/moving_digits.py"
model = dict(network=dict(num_classes=2, widths=(4, 4, 4)))
folder = dict(_delete_=True, type="VideoFolder", frames=8)
train_dataloader = dict(batch_size=8, dataset=dict(root="{tmp_path}/train", **folder))
test_dataloader = dict(batch_size=4, dataset=dict(root="{tmp_path}/test", **folder))
val_dataloader = test_dataloader
train_cfg = dict(max_epochs=2, val_interval=2)
bench = dict(dataset="squares", architecture="tiny", calibration=dict(images=8), methods=[
    dict(label="signed IF", type="SignedIF", timesteps=[4]),
    dict(label="shifted", type="ShiftedThreshold", timesteps=[4])])
"""
        config = tmp_path / "config.py"
        config.write_text(text)
        monkeypatch.chdir(ROOT)
        files = run_config(config, out=tmp_path / "out", work_dir=tmp_path / "work")
        for path in files:
            record = results.read(path)
            assert record["task"] == "video"
            assert record["points"][0]["metrics"]["skipped"] == 1
            assert record["points"][0]["sops"] > 0
            assert record["sites"] == {"spiking": 7, "analog": record["sites"]["analog"]}
            assert any("left/bad.mp4" in note for note in record["notes"])


def test_configs_are_found() -> None:
    assert len(CONFIGS) == 9
    assert isinstance(Config.fromfile(CONFIGS[0]), Config)
