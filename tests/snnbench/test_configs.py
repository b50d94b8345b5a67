"""Every segmentation and detection config loads, its model builds and runs, its data loads, its rows make sense."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._pytree import tree_leaves

pytest.importorskip("mmdet", reason="needs the bench extra")
pytest.importorskip("mmseg", reason="needs the bench extra")

import mmdet
import mmseg
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.logging import MessageHub
from mmengine.registry import MODELS, DefaultScope, init_default_scope
from mmengine.runner import Runner

from snnbench.config import load_config
from snnbench.mmcv_ops import install as operators
from snnbench.processes import for_processor
from snnbench.results import slug
from snnbench.run import run_config
from snnbench.testing.model_parts import find_parts
from snnconv import methods
from tests.snnbench.fixtures import write_all

ROOT = Path(__file__).parents[2] / "configs"
CONFIGS = sorted(
    str(p.relative_to(ROOT)) for task in ("segmentation", "detection") for p in ROOT.glob(f"{task}/*/*.py")
)
INSTALLED = [
    (mmdet, "retinanet/retinanet_r18_fpn_1x_coco.py"),
    (mmdet, "retinanet/retinanet_r50_fpn_1x_coco.py"),
    (mmdet, "fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py"),
    (mmdet, "faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py"),
    (mmdet, "ssd/ssd300_coco.py"),
    (mmseg, "fcn/fcn_r50-d8_4xb4-20k_voc12aug-512x512.py"),
    (mmseg, "deeplabv3/deeplabv3_r18-d8_4xb2-80k_cityscapes-512x1024.py"),
    (mmseg, "pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py"),
]
# one config for each schedule, data set and kind of head
EXAMPLES = [
    "segmentation/camvid/deeplabv1_vgg9.py",
    "segmentation/camvid/fcn_r34.py",
    "segmentation/coco_voc/fcn_r18.py",
    "segmentation/voc2012/deeplabv1_vgg9.py",
    "detection/bccd/yolov2_tiny.py",
    "detection/voc/retinanet_r18.py",
    "detection/voc/yolov2_tiny_strided.py",
    "detection/coco/retinanet_r18.py",
    "detection/bccd/fcos_r18.py",
    "detection/bccd/faster_rcnn_r50.py",
    "segmentation/voc2012/torchvision_fcn_resnet50.py",
]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "runnable" in metafunc.fixturenames:
        metafunc.parametrize("runnable", CONFIGS if metafunc.config.getoption("--all-configs") else EXAMPLES)


@pytest.fixture(scope="module", autouse=True)
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """``SNNCONV_DATA`` names tiny copies of every data set."""
    operators.install()
    folder = write_all(tmp_path_factory.mktemp("data"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SNNCONV_DATA", str(folder))
        patch.setenv("SNNCONV_CACHE", str(folder / "cache"))
        yield folder


@pytest.fixture(autouse=True)
def _scope() -> Iterator[None]:
    """Configs set mmengine's default scope; leave none behind."""
    yield
    DefaultScope._instance_dict.clear()


LOADED: dict[str, Config] = {}
CHECKED: set[str] = set()  # data that one config shares with another needs one look


def load(name: str) -> Config:
    if name not in LOADED:
        LOADED[name] = load_config(ROOT / name)
    config = copy.deepcopy(LOADED[name])
    init_default_scope(config.default_scope)
    return config


def without_downloads(model: Any) -> Any:
    """The model's config with every source of pretrained weights taken out."""
    if isinstance(model, dict):
        for key in model:
            model[key] = None if key in ("pretrained", "init_cfg", "weights") else without_downloads(model[key])
    elif isinstance(model, (list, tuple)):
        return type(model)(without_downloads(item) for item in model)
    return model


def small(config: Config) -> Config:
    """Pictures of 64 pixels, loaded in this process, two a batch in training."""
    sizes = {"Resize": ("scale", (64, 64)), "RandomResize": ("scale", (96, 64)), "RandomCrop": ("crop_size", (64, 64))}
    sizes["Pad"] = ("size", (64, 64))

    def shrink(value: Any) -> None:
        if isinstance(value, dict):
            if value.get("type") in sizes and "transforms" not in value:
                key, size = sizes[value["type"]]
                value[key] = size
            if value.get("type") == "SegDataPreProcessor":
                value["size"] = (64, 64)
            for item in value.values():
                shrink(item)
        elif isinstance(value, (list, tuple)):
            for item in value:
                shrink(item)

    for name in ("model", "train_dataloader", "val_dataloader", "test_dataloader"):
        shrink(config[name])
    # mmseg does not pad in testing: one picture a batch there, as the configs say
    for name, count in (("train_dataloader", 2), ("val_dataloader", 1), ("test_dataloader", 1)):
        config[name].update(num_workers=0, persistent_workers=False, batch_size=count)
    return config


def built(config: Config, device: str) -> torch.nn.Module:
    with torch.device(device):
        return MODELS.build(without_downloads(config.model)).eval()


class TestOurs:
    @pytest.mark.parametrize("name", CONFIGS)
    def test_model_builds_and_its_dense_part_runs(self, name: str) -> None:
        config = load(name)
        # shapes only; QuantReLU looks at values when it is made
        device = "cpu" if "_quant" in name else "meta"
        part = find_parts(built(config, device), config.bench.scope)[0]
        maps = tree_leaves(part.module(torch.zeros(2, 3, 64, 64, device=device)))
        assert maps
        assert all(m.dim() == 4 and len(m) == 2 for m in maps)

    @pytest.mark.parametrize("name", CONFIGS)
    def test_data_loads(self, name: str) -> None:
        config = small(load(name))
        key = json.dumps(
            [config.train_dataloader, config.test_dataloader, config.model.data_preprocessor], sort_keys=True
        )
        if key in CHECKED:
            return
        CHECKED.add(key)
        preprocessor = MODELS.build(config.model.data_preprocessor)
        MessageHub.get_current_instance().update_info("iter", 0)  # a runner's count
        for loader, training in ((config.train_dataloader, True), (config.test_dataloader, False)):
            batch = preprocessor(next(iter(Runner.build_dataloader(loader))), training)
            assert batch["inputs"].shape[:2] == (2 if training else 1, 3)
            for sample in batch["data_samples"]:
                if config.bench.task == "segmentation":
                    labels = sample.gt_sem_seg.data.unique().tolist()
                    assert set(labels) <= {*range(_classes(config)), 255}
                    assert len(labels) > 1
                else:
                    assert all(0 <= label < _classes(config) for label in sample.gt_instances.labels)
                    assert training or len(sample.gt_instances) == 2

    @pytest.mark.parametrize("name", CONFIGS)
    def test_bench_says_all_that_a_run_needs(self, name: str) -> None:
        config = load(name)
        bench = config.bench
        assert bench.task in name
        assert {"dataset", "architecture", "metric", "scope", "calibration"} <= set(bench)
        labels = [row["label"] for row in bench.methods]
        assert len(set(labels)) == len(labels)
        for row in bench.methods:
            settings = {k: v for k, v in row.items() if k not in ("label", "type", "timesteps", "windows")}
            if row["type"] == "SpikingJelly":
                assert set(settings) <= {"recipe", "mode"}
                continue
            for steps in row["timesteps"]:
                getattr(methods, row["type"])(timesteps=steps, **settings)
        Evaluator(config.test_evaluator)

    @pytest.mark.parametrize("name", ["detection/voc/yolov2_r34.py", "detection/coco/yolov2_tiny_strided_quant7.py"])
    def test_yolov2_trains_at_sizes_of_320_to_608_pixels(self, name: str) -> None:
        config = small(load(name))
        (resize,) = config.model.data_preprocessor.batch_augments
        assert resize.interval == 10
        resize.interval = 1
        preprocessor = MODELS.build(config.model.data_preprocessor)
        batch = next(iter(Runner.build_dataloader(config.train_dataloader)))
        hub = MessageHub.get_instance("sizes")
        hub.update_info("iter", 0)
        whole = [sample.gt_instances.bboxes.tensor.clone() for sample in batch["data_samples"]]
        sides = set()
        for _ in range(8):
            found = preprocessor(copy.deepcopy(batch), True)
            side = found["inputs"].shape[-1]
            sides.add(side)
            for sample, boxes in zip(found["data_samples"], whole, strict=True):
                torch.testing.assert_close(sample.gt_instances.bboxes, boxes * side / 64)
        assert len(sides - {64}) > 2
        assert all(320 <= side <= 608 and side % 32 == 0 for side in sides - {64})

    def test_yolov2_averages_weights_and_shares_statistics_between_accelerators(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        config = load("detection/voc/yolov2_tiny_strided.py")
        assert [hook.type for hook in config.custom_hooks] == ["EMAHook"]
        config.launcher = "pytorch"
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        assert for_processor(copy.deepcopy(config)).sync_bn == "torch"
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        assert "sync_bn" not in for_processor(copy.deepcopy(config))

    def test_no_two_configs_write_the_same_results(self) -> None:
        seen: dict[tuple[str, str], str] = {}
        for name in CONFIGS:
            bench = load(name).bench
            key = slug(bench.dataset), slug(bench.architecture)
            assert key not in seen, f"{name} and {seen[key]} both write to {key}"
            seen[key] = name

    @pytest.mark.slow
    def test_runs_from_end_to_end(self, runnable: str, tmp_path: Path) -> None:
        """``snnconv bench`` trains, converts, tests and writes its result, on two pictures of 64 pixels."""
        name = runnable
        config = small(load(name))
        without_downloads(config.model)
        if config.bench.get("weights"):  # a network that comes trained: with weights of its own making here
            config.bench.weights = str(tmp_path / "weights.pth")
            torch.save(built(config, "cpu").state_dict(), config.bench.weights)
        elif "train_cfg" in config:
            iterations = config.train_cfg.get("type") == "IterBasedTrainLoop" or not config.train_cfg.get(
                "by_epoch", True
            )
            length = {"max_iters": 1, "val_interval": 10} if iterations else {"max_epochs": 1, "val_interval": 10}
            config.train_cfg.update(length)
        if config.bench.task == "detection":
            test_cfg = config.model.test_cfg
            test_cfg.get("rcnn", test_cfg).update(score_thr=0.0)
        row = dict(
            label="shifted threshold", type="ShiftedThreshold", timesteps=[2], correction="none", thresholds="max"
        )
        if "_quant" in name:
            row["thresholds"] = "trained"
        if name.endswith("_rate_norm.py"):
            row = dict(label="RNL", type="RateNorm", timesteps=[2])
        if config.train_dataloader.get("batch_sampler"):
            config.train_dataloader.batch_sampler.drop_last = True  # a picture alone is one value a channel at the top
        config.bench.update(methods=[row], calibration=dict(images=2))
        path = tmp_path / Path(name).name
        config.dump(path)
        files = run_config(path, out=tmp_path / "results", work_dir=tmp_path / "work", limit=2)
        record = json.loads(files[0].read_text())
        (point,) = record["points"]
        assert point["timesteps"] == 2
        assert config.bench.metric in point["metrics"]
        assert record["sites"]["spiking"] > 0
        assert files[0].parent.name == slug(config.bench.architecture)


class TestInstalled:
    @pytest.mark.parametrize(("package", "name"), INSTALLED, ids=[name for _, name in INSTALLED])
    def test_model_builds_and_its_dense_part_runs(self, package: Any, name: str) -> None:
        config = Config.fromfile(os.path.join(os.path.dirname(package.__file__), ".mim", "configs", name))
        init_default_scope(package.__name__)
        # SSD's L2Norm makes its weight on the CPU
        size, device = (300, "cpu") if "ssd" in name else (64, "meta")
        part = find_parts(built(config, device))[0]
        assert tree_leaves(part.module(torch.zeros(1, 3, size, size, device=device)))


def _classes(config: Config) -> int:
    """Classes of the model that a config describes."""
    model = config.model
    if model.type == "TorchvisionDetector":  # with the classes of its weights
        return 80
    if "num_classes" in model:
        return int(model.num_classes)
    head = model.get("decode_head") or model.get("bbox_head") or model.roi_head.bbox_head
    return int(head.num_classes)
