"""Detection transformers: one function from the image to what the queries say, converted, and put in its place."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

import snnconv
from snnconv import methods

pytest.importorskip("mmdet")

from snnbench.mmcv_ops import install as operators
from snnbench.testing.model_parts import find_parts, replaced

ATTENTION = {"embed_dims": 32, "num_heads": 2, "dropout": 0.0, "batch_first": True}
FORWARD = {"embed_dims": 32, "feedforward_channels": 64, "ffn_drop": 0.0, "act_cfg": {"type": "ReLU", "inplace": True}}
DETR = {
    "type": "DETR",
    "num_queries": 10,
    "backbone": {
        "type": "ResNet",
        "depth": 18,
        "base_channels": 8,
        "num_stages": 4,
        "out_indices": (3,),
        "frozen_stages": -1,
        "norm_cfg": {"type": "BN", "requires_grad": True},
        "style": "pytorch",
    },
    "neck": {
        "type": "ChannelMapper",
        "in_channels": [64],
        "kernel_size": 1,
        "out_channels": 32,
        "act_cfg": None,
        "norm_cfg": None,
        "num_outs": 1,
    },
    "encoder": {"num_layers": 1, "layer_cfg": {"self_attn_cfg": ATTENTION, "ffn_cfg": FORWARD}},
    "decoder": {
        "num_layers": 2,
        "layer_cfg": {"self_attn_cfg": ATTENTION, "cross_attn_cfg": ATTENTION, "ffn_cfg": FORWARD},
        "return_intermediate": True,
    },
    "positional_encoding": {"num_feats": 16, "normalize": True},
    "bbox_head": {
        "type": "DETRHead",
        "num_classes": 3,
        "embed_dims": 32,
        "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": False, "loss_weight": 1.0, "class_weight": 1.0},
    },
    "test_cfg": {"max_per_img": 10},
}
X = torch.rand(4, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def detector() -> nn.Module:
    operators.install()
    from mmdet.registry import MODELS
    from mmengine.registry import init_default_scope

    init_default_scope("mmdet")
    torch.manual_seed(0)
    return MODELS.build(copy.deepcopy(DETR)).eval()


def samples(count: int, height: int = 64) -> list[Any]:
    from mmdet.structures import DetDataSample

    metainfo = {
        "img_shape": (height, 96),
        "batch_input_shape": (64, 96),
        "ori_shape": (128, 192),
        "scale_factor": (2, 2),
    }
    return [DetDataSample(metainfo=metainfo) for _ in range(count)]


def boxes(model: nn.Module) -> list[torch.Tensor]:
    with torch.no_grad():
        return [found.pred_instances.bboxes for found in model.predict(X, samples(len(X)))]


def test_one_function_of_the_image_in_the_place_of_all_before_the_boxes_changes_nothing(detector: nn.Module) -> None:
    (part,) = find_parts(detector)
    before = boxes(detector)
    with torch.no_grad():
        said = part.module(X)
    assert [tuple(value.shape) for value in said] == [(4, 1, 10, 4), (4, 1, 10, 4)]
    with replaced({part: lambda inputs: said}):
        inside = boxes(detector)
    after = boxes(detector)
    assert all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(before, inside, after, strict=True))
    assert not {"extract_feat", "forward_transformer"} & {*vars(detector)}
    assert "predict" not in vars(detector.bbox_head)


def test_a_converted_one_finds_the_boxes_of_its_source(detector: nn.Module) -> None:
    (part,) = find_parts(detector)
    snn = snnconv.convert(part.module, methods.ShiftedThreshold(12, thresholds="max"), X, progress=False)
    assert sum(".ffn" in site.name for site in snn.report.spiking) == 3  # the ReLUs of its transformer
    with replaced({part: snn}):
        found = boxes(detector)
    for one, other in zip(boxes(detector), found, strict=True):
        assert (one.sort(0).values - other.sort(0).values).abs().max() < 2  # pixels of 192


def test_images_of_several_sizes_are_refused_by_name(detector: nn.Module) -> None:
    (part,) = find_parts(detector)
    with (
        replaced({part: lambda inputs: inputs}),
        torch.no_grad(),
        pytest.raises(ValueError, match=r"an image of \(48, 96\) in a batch of \(64, 96\): .* a converted DETR"),
    ):
        detector.predict(X, samples(len(X), height=48))
