"""Every config of the papers trains for two steps and is converted, on pictures of its own making."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

pytest.importorskip("mmengine")
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope

import snnconv
from benchmarks import papers
from snnbench import catalogue
from snnbench.config import load_config
from snnbench.registry import TRANSFORMS
from snnbench.testing.model_parts import find_parts
from snnconv import activations, methods
from tests.snnbench.test_classification import built

TASKS = {name: path.parts[-3] for name, path in catalogue.names().items()}
CONFIGS = sorted({name for key in papers.PAPERS for row in papers.ROWS[key] for name in row.configs})
CLASSIFICATION = [name for name in CONFIGS if TASKS[name] == "classification"]

pytestmark = pytest.mark.slow


def images(size: int, count: int = 2) -> Tensor:
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8)


def converted(network: nn.Module, row: dict[str, Any], x: Tensor) -> Any:
    """The network converted as the row says, in few steps."""
    kept = {key: value for key, value in row.items() if key not in ("label", "type", "timesteps", "finetune")}
    if "max_batches" in kept:
        kept["max_batches"] = 2
    if row["type"] == "SRP":
        kept["pre_timesteps"] = 2
    method = getattr(methods, row["type"])(timesteps=min(*row["timesteps"], 4), **kept)
    return snnconv.convert(network.eval(), method, calibration=x, progress=False)


def two_steps(model: Any, config: Config, data: dict[str, Any]) -> None:
    """Two steps of the config's optimiser: losses are numbers, and weights move."""
    MessageHub.get_current_instance().update_info("iter", 0)  # a runner's count
    optimiser = build_optim_wrapper(model, config.optim_wrapper)
    rates = {id(p): group["lr"] for group in optimiser.optimizer.param_groups for p in group["params"]}
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for _ in range(2):
        losses = model.train().train_step(dict(data), optimiser)
        assert all(bool(torch.isfinite(torch.as_tensor(value)).all()) for value in losses.values()), losses
    fixed = [name for name, p in model.named_parameters() if rates.get(id(p)) and torch.equal(p, before[name])]
    assert len(fixed) < len(before) / 2, fixed


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_a_classifier_trains_two_steps_and_is_converted(name: str) -> None:
    config = Config.fromfile(str(catalogue.find(name)))
    init_default_scope(config.default_scope)
    if config.model.network.get("weights"):
        config.model.network.weights = None
    large = config.bench.dataset == "ImageNet"
    model = built(config)
    x = images(64 if large else 32)
    if config.get("train_cfg") and config.train_cfg.type != "RateScaleLoop":
        batch, labels = x, torch.tensor([0, 1])
        for transform in config.train_dataloader.dataset.pipeline if not large else ():
            batch, labels = TRANSFORMS.build(transform)(batch, labels, torch.Generator().manual_seed(0))
        two_steps(model, config, {"inputs": batch, "data_samples": labels})
    inputs = model.data_preprocessor({"inputs": x})["inputs"]
    network = model.network
    if config.get("train_cfg") and config.train_cfg.type == "RateScaleLoop":
        network.train()(inputs)  # rate norm layers that have seen data, as those of the first stage
        network, report = snnconv.train_rate_scale(
            network.eval(), [inputs] * 2, [inputs], tolerance=100, progress=False
        )
        assert report.chosen == 2
    row = next(r for r in config.bench.methods if r["type"] != "SpikingJelly")
    if name.endswith("_rate_norm"):
        assert any(isinstance(m, activations.RateNorm) for m in network.modules())
    snn = converted(network, row, inputs)
    out = snn(inputs)
    assert out.shape == (2, 1000 if large else 100 if "100" in config.bench.dataset else 10)
    assert bool(torch.isfinite(out).all())
    assert snn.report.spiking


MAPS = [name for name in CONFIGS if TASKS[name] in ("detection", "segmentation") and "_quant" in name]
MAPS += ["coco/torchvision_retinanet_r50", "coco/torchvision_fcos_r50"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Tiny copies of the data sets."""
    pytest.importorskip("mmdet", reason="needs the bench extra")
    from tests.snnbench.fixtures import write_all

    return write_all(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize("name", MAPS)
def test_a_detector_or_segmentor_trains_two_steps_and_is_converted(
    name: str, folder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmengine.runner import Runner

    from tests.snnbench.test_configs import built as built_maps
    from tests.snnbench.test_configs import small

    monkeypatch.setenv("SNNCONV_DATA", str(folder))
    monkeypatch.setenv("SNNCONV_CACHE", str(folder / "cache"))
    config = small(load_config(catalogue.find(name)))
    init_default_scope(config.default_scope)
    model = built_maps(config, "cpu")
    trains = config.get("train_cfg") is not None
    batch = next(iter(Runner.build_dataloader(config.train_dataloader if trains else config.test_dataloader)))
    if trains:
        two_steps(model, config, batch)
    part = find_parts(model.eval(), config.bench.scope)[0]
    x = model.data_preprocessor(batch, trains)["inputs"].float()  # in training it pads to one size
    row = next(r for r in config.bench.methods if r["type"] == "ShiftedThreshold")
    snn = converted(part.module, row, x)
    maps = tree_leaves(snn(x))
    assert [m.shape for m in maps] == [m.shape for m in tree_leaves(part.module(x))]
    assert all(bool(torch.isfinite(m).all()) for m in maps)
