"""The benchmarks' own networks: boxes round trip, losses train, shapes and weights are what the papers say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

pytest.importorskip("mmdet", reason="needs the bench extra")
pytest.importorskip("mmseg", reason="needs the bench extra")

import torchvision
from mmdet.structures import DetDataSample
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope, init_default_scope
from mmengine.structures import InstanceData

from snnbench.networks.aspp import ParallelASPPHead
from snnbench.networks.cifar_residual import (
    CifarPreActResNet18,
    CifarPreActResNet34,
    CifarPreActResNet50,
    CifarPreActResNet101,
    CifarResNet34,
)
from snnbench.networks.classifiers import CifarVGG
from snnbench.networks.coco_masks import COCOMaskDataset, LoadCOCOMasks, draw
from snnbench.networks.resnet import StrideStemResNet
from snnbench.networks.strided import StridedAlexNet, StridedVGG11
from snnbench.networks.torchvision_segmentation import TorchvisionSegmentor
from snnbench.networks.vgg9 import VGG9
from snnbench.networks.yolov2 import PassthroughNeck, TinyDarknet, YOLOv2Head
from snnbench.networks.yolov2_boxes import Assignment, assign, decode, encode, split_map
from snnconv.activations import QuantReLU, RateNorm
from tests.snnbench.fixtures import COCO_CLASSES, scene, write_coco

ANCHORS = torch.tensor([[1.0, 1.0], [2.0, 3.0], [3.0, 1.5]])
TEST_CFG = dict(nms_pre=1000, score_thr=0.05, nms=dict(type="nms", iou_threshold=0.45), max_per_img=20)


@pytest.fixture(autouse=True)
def _scope() -> Iterator[None]:
    yield
    DefaultScope._instance_dict.clear()


def raw_for(target: Tensor, place: Assignment, height: int, width: int) -> Tensor:
    """Raw predictions whose places hold ``target``."""
    raw = torch.zeros(len(ANCHORS), height, width, 5)
    inside = target[:, :2].clamp(1e-6, 1 - 1e-6)
    raw[place.anchor, place.row, place.column, :2] = inside.logit()
    raw[place.anchor, place.row, place.column, 2:4] = target[:, 2:]
    return raw


class TestBoxes:
    @settings(max_examples=60)
    @given(st.lists(st.tuples(*[st.floats(0.01, 0.99)] * 2, *[st.floats(0.05, 1.0)] * 2), min_size=1, max_size=6))
    def test_decoding_inverts_encoding(self, described: list[tuple[float, ...]]) -> None:
        """Also for boxes that reach over the border and for several in one cell, of which one has the place."""
        height, width, stride = 4, 6, 32
        centre = torch.tensor(described)[:, :2] * torch.tensor([width, height]) * stride
        half = torch.tensor(described)[:, 2:] * torch.tensor([width, height]) * stride / 2
        boxes = torch.cat([centre - half, centre + half], dim=1)
        place = assign(boxes, ANCHORS, stride, height, width)
        raw = raw_for(encode(boxes, place, ANCHORS, stride), place, height, width)
        decoded = decode(raw, ANCHORS, stride)[place.anchor, place.row, place.column]
        torch.testing.assert_close(decoded, boxes[place.box], atol=0.05, rtol=1e-4)

    def test_each_place_has_one_box(self) -> None:
        boxes = torch.tensor([[0.0, 0, 30, 30], [1, 1, 31, 31], [64, 64, 96, 96]])
        place = assign(boxes, ANCHORS, 32, 3, 3)
        assert sorted(place.box.tolist()) == [1, 2]

    def test_the_anchor_of_the_same_shape_is_responsible(self) -> None:
        boxes = torch.cat([-ANCHORS / 2, ANCHORS / 2], dim=1) * 32 + 50
        assert assign(boxes, ANCHORS, 32, 4, 4).anchor.tolist() == [0, 1, 2]

    def test_a_box_without_area_has_no_place(self) -> None:
        assert len(assign(torch.tensor([[5.0, 5, 5, 9]]), ANCHORS, 32, 2, 2).box) == 0

    def test_a_centre_on_the_border_belongs_to_the_last_cell(self) -> None:
        place = assign(torch.tensor([[32.0, 32, 96, 96]]), ANCHORS, 32, 2, 2)
        assert (place.row.item(), place.column.item()) == (1, 1)

    def test_the_map_keeps_each_anchors_numbers_together(self) -> None:
        raw = torch.arange(2 * 3 * 7 * 4.0).view(2, 21, 2, 2)
        parts = split_map(raw, 3)
        assert torch.equal(parts[1, 2, 0, 1], raw[1, 14:21, 0, 1])


def tiny_yolo(act_cfg: Any = None) -> tuple[nn.Module, YOLOv2Head]:
    backbone = TinyDarknet("stride", (8, 16, 16, 32, 32, 32, 32), act_cfg=act_cfg)
    head = YOLOv2Head(3, 32, 32, anchors=ANCHORS.tolist(), test_cfg=ConfigDict(TEST_CFG), act_cfg=act_cfg)
    return backbone, head


def drawn(number: int = 3) -> tuple[Tensor, DetDataSample]:
    """One drawn picture, 96×64 scaled to 192×128, with its two boxes."""
    picture = scene(2 * (number // 2), 3)
    image = torch.from_numpy(np.array(picture.image())).permute(2, 0, 1).float()[None] / 128 - 1
    image = nn.functional.interpolate(image, scale_factor=2)
    sample = DetDataSample(metainfo=dict(img_shape=(128, 192), ori_shape=(64, 96), scale_factor=(2.0, 2.0)))
    boxes = torch.tensor([shape.box for shape in picture.shapes]).float() * 2
    sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.tensor([s.label for s in picture.shapes]))
    return image, sample


class TestYOLOv2:
    @pytest.mark.parametrize("act_cfg", [None, dict(type="RateNorm"), dict(type="QuantReLU", levels=7)])
    def test_every_weight_gets_a_gradient(self, act_cfg: Any) -> None:
        backbone, head = tiny_yolo(act_cfg)
        image, sample = drawn()
        sum(head.loss(backbone(image), [sample]).values()).backward()
        for name, parameter in [*backbone.named_parameters(), *head.named_parameters()]:
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name

    def test_overfits_one_picture(self) -> None:
        backbone, head = tiny_yolo()
        image, sample = drawn()
        optimizer = torch.optim.Adam([*backbone.parameters(), *head.parameters()], lr=3e-3)
        losses = []
        for _ in range(150):
            loss = sum(head.loss(backbone(image), [sample]).values())
            losses.append(float(loss))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert losses[-1] < 0.1 * losses[0]
        found = head.predict(backbone(image), [sample])[0]
        assert (found.scores > 0.5).sum() == 2
        boxes = torchvision.ops.box_iou(found.bboxes[:2], sample.gt_instances.bboxes)
        assert (boxes.amax(dim=0) > 0.7).all()
        assert set(found.labels[:2].tolist()) == set(sample.gt_instances.labels.tolist())
        original = head.predict(backbone(image), [sample], rescale=True)[0]
        torch.testing.assert_close(original.bboxes[:2], found.bboxes[:2] / 2)

    def test_a_perfect_prediction_costs_nothing(self) -> None:
        _, head = tiny_yolo()
        _, sample = drawn()
        truth = sample.gt_instances
        place = assign(truth.bboxes, ANCHORS, 32, 4, 6)
        raw = torch.zeros(1, 3, 4, 6, 8)
        raw[..., 4] = -20
        raw[0, ..., :5] += raw_for(encode(truth.bboxes, place, ANCHORS, 32), place, 4, 6)
        raw[0, place.anchor, place.row, place.column, 4] = 20
        raw[0, place.anchor, place.row, place.column, 5 + truth.labels[place.box]] = 30
        maps = raw.permute(0, 1, 4, 2, 3).reshape(1, 24, 4, 6)
        losses = head.loss_by_feat((maps,), [truth], [sample.metainfo])
        assert all(float(value) < 1e-6 for value in losses.values()), losses

    def test_a_picture_without_objects_only_costs_confidence(self) -> None:
        _, head = tiny_yolo()
        nothing = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
        maps = torch.randn(1, 24, 2, 2, requires_grad=True)
        losses = head.loss_by_feat((maps,), [nothing], [{}])
        assert float(losses["loss_noobject"].detach()) > 0
        assert all(float(v.detach()) == 0 for k, v in losses.items() if k != "loss_noobject")
        sum(losses.values()).backward()

    def test_confidence_over_an_ignored_object_is_free(self) -> None:
        _, head = tiny_yolo()
        maps = torch.zeros(1, 24, 2, 2)
        nothing = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
        ignored = InstanceData(bboxes=decode(torch.zeros(3, 2, 2, 4), ANCHORS, 32).view(-1, 4))
        assert float(head.loss_by_feat((maps,), [nothing], [{}], [ignored])["loss_noobject"]) == 0

    def test_small_boxes_weigh_up_to_twice_as_much(self) -> None:
        _, head = tiny_yolo()
        costs = []
        for size in (4.0, 64.0):
            truth = InstanceData(bboxes=torch.tensor([[0, 0, size, size]]), labels=torch.tensor([0]))
            place = assign(truth.bboxes, ANCHORS, 32, 2, 2)
            raw = raw_for(encode(truth.bboxes, place, ANCHORS, 32), place, 2, 2)
            raw[place.anchor, place.row, place.column, 2] += 1  # the same error for both
            maps = torch.cat([raw, torch.zeros(3, 2, 2, 3)], -1).permute(0, 3, 1, 2).reshape(1, 24, 2, 2)
            costs.append(float(head.loss_by_feat((maps,), [truth], [{}])["loss_coord"]))
        assert costs[0] == pytest.approx(2 - (4 / 64) ** 2, rel=1e-3)
        assert costs[1] == pytest.approx(1, rel=1e-3)

    @pytest.mark.parametrize("downsample", ["pool", "stride"])
    def test_tiny_darknet_has_stride_32(self, downsample: str) -> None:
        with torch.device("meta"):
            assert TinyDarknet(downsample)(torch.zeros(1, 3, 416, 416))[0].shape == (1, 1024, 13, 13)

    def test_the_pool_of_stride_one_looks_right_and_down(self) -> None:
        backbone = TinyDarknet("pool", (1, 1, 1, 1, 1, 1, 1))
        pad, pool = backbone.layers[11], backbone.layers[12]
        x = torch.tensor([[[[1.0, 2.0], [4.0, 3.0]]]])
        assert pool(pad(x)).tolist() == [[[[4, 3], [4, 3]]]]

    def test_the_passthrough_keeps_every_value(self) -> None:
        neck = PassthroughNeck((4, 8), 16, 2).eval()
        shallow = torch.rand(1, 4, 6, 6)
        moved = neck((shallow, torch.rand(1, 8, 3, 3)))[0][:, :8]
        assert torch.equal(moved.flatten().sort().values, neck.route(shallow).flatten().sort().values)

    def test_refuses_unknown_downsampling_by_name(self) -> None:
        with pytest.raises(ValueError, match="TinyDarknet: downsample must be 'pool' or 'stride', got 'mean'"):
            TinyDarknet("mean")


class TestSegmentation:
    def test_vgg9_has_output_stride_8(self) -> None:
        with torch.device("meta"):
            assert VGG9()(torch.zeros(1, 3, 513, 513))[0].shape == (1, 256, 65, 65)

    def test_resnet_takes_torchvisions_weights(self) -> None:
        with torch.device("meta"):
            ours, theirs = StrideStemResNet(34), torchvision.models.resnet34()
        weights = {k: v.shape for k, v in theirs.state_dict().items() if not k.startswith("fc.")}
        assert {k: v.shape for k, v in ours.state_dict().items()} == weights

    def test_resnet_without_its_stem_change_equals_torchvisions(self) -> None:
        ours, theirs = StrideStemResNet(18).eval(), torchvision.models.resnet18().eval()
        ours.load_state_dict(theirs.state_dict(), strict=False)
        theirs.conv1.stride, theirs.maxpool = (4, 4), nn.Identity()
        theirs.avgpool, theirs.fc = nn.Identity(), nn.Identity()
        x = torch.rand(1, 3, 64, 64)
        torch.testing.assert_close(ours(x)[0].flatten(1), theirs(x))

    @pytest.mark.parametrize(("strides", "expected"), [((1, 2, 2, 2), 2), ((1, 2, 2, 1), 4)])
    def test_resnets_output_stride_is_chosen(self, strides: tuple[int, ...], expected: int) -> None:
        with torch.device("meta"):
            assert StrideStemResNet(34, strides)(torch.zeros(1, 3, 64, 64))[0].shape[-1] == expected

    @pytest.mark.parametrize(("kind", "made"), [("RateNorm", RateNorm), ("QuantReLU", QuantReLU)])
    def test_trained_activations_are_one_module_a_site(self, kind: str, made: type) -> None:
        act_cfg = dict(type=kind) if kind == "RateNorm" else dict(type=kind, levels=3)
        sites = [
            (VGG9((4, 4, 4, 4, 4, 4, 4), act_cfg=act_cfg), 7),
            (StrideStemResNet(18, act_cfg=act_cfg), 17),
            (ParallelASPPHead(in_channels=8, channels=4, num_classes=2, act_cfg=act_cfg), 7),
        ]
        for network, count in sites:
            assert sum(isinstance(m, made) for m in network.modules()) == count
            assert not any(isinstance(m, nn.ReLU) for m in network.modules())

    @pytest.mark.parametrize("name", ["fcn_resnet50", "deeplabv3_mobilenet_v3_large"])
    def test_torchvision_networks_give_torchvisions_logits(self, name: str) -> None:
        torch.manual_seed(0)
        ours = TorchvisionSegmentor(name, test_cfg=dict(mode="whole")).eval()
        theirs = torchvision.models.get_model(name, weights_backbone=None, num_classes=21, aux_loss=True).eval()
        theirs.backbone.load_state_dict(ours.backbone.layers.state_dict())
        theirs.classifier.load_state_dict(ours.decode_head.classifier.state_dict())
        x = torch.rand(1, 3, 40, 56)
        with torch.no_grad():
            mine = ours.decode_head.predict_by_feat(ours.decode_head(ours.extract_feat(x)), [dict(img_shape=(40, 56))])
            torch.testing.assert_close(mine, theirs(x)["out"])

    def test_torchvision_weights_load_from_a_file(self, tmp_path: Path) -> None:
        path = tmp_path / "weights.pth"
        theirs = torchvision.models.get_model("fcn_resnet50", weights_backbone=None, num_classes=21, aux_loss=True)
        torch.save(theirs.state_dict(), path)
        ours = TorchvisionSegmentor("fcn_resnet50", weights=str(path))
        ours.init_weights()  # which must leave them alone
        torch.testing.assert_close(ours.decode_head.classifier.state_dict(), theirs.classifier.state_dict())

    def test_unknown_networks_and_files_are_named(self) -> None:
        with pytest.raises(ValueError, match=r"name must be one of .*fcn_resnet50.*; got 'unet'"):
            TorchvisionSegmentor("unet")
        with pytest.raises(ValueError, match=r"weights names nowhere\.pth, which is no file"):
            TorchvisionSegmentor("fcn_resnet50", weights="nowhere.pth")


class TestCOCOMasks:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        init_default_scope("mmseg")
        write_coco(tmp_path)
        return tmp_path

    def dataset(self, root: Path, **options: Any) -> COCOMaskDataset:
        return COCOMaskDataset(
            "annotations/instances_val2017.json",
            data_root=str(root),
            data_prefix=dict(img_path="val2017"),
            pipeline=[dict(type="LoadImageFromFile"), dict(type="LoadCOCOMasks")],
            **options,
        )

    @pytest.mark.parametrize(("classes", "count"), [("voc", 21), ("coco", 81)])
    def test_masks_hold_the_drawn_shapes(self, root: Path, classes: str, count: int) -> None:
        dataset = self.dataset(root, classes=classes)
        assert len(dataset.metainfo["classes"]) == count
        voc = dataset.metainfo["classes"] if classes == "voc" else None
        for number, item in zip((50, 51), dataset, strict=True):
            for shape in scene(number, 20).shapes:
                x1, y1, x2, y2 = shape.box
                inside = set(np.unique(item["gt_seg_map"][y1 + 1 : y2, x1 + 1 : x2]).tolist())
                coco = COCO_CLASSES[shape.label]
                expected = {voc.index(VOC_NAMES[coco]) if coco in VOC_NAMES else 0} if voc else {shape.label + 1}
                assert inside == expected
            assert item["gt_seg_map"].shape == item["img"].shape[:2]

    def test_images_with_little_to_learn_are_left_out(self, root: Path) -> None:
        areas = [sum((x2 + 1 - x1) * (y2 + 1 - y1) for x1, y1, x2, y2 in boxes(number)) for number in (50, 51)]
        kept = self.dataset(root, classes="coco", min_area=min(areas) + 2)
        assert [Path(item["img_path"]).stem for item in kept] == [f"{50 + areas.index(max(areas)):012d}"]
        with pytest.raises(ValueError, match=r"instances_val2017\.json has no image with more than 1000000 pixels"):
            self.dataset(root, classes="coco", min_area=10**6)

    def test_overlapping_instances_are_void(self) -> None:
        first = dict(label=3, segmentation=[[0, 0, 2, 0, 2, 2, 0, 2]])
        second = dict(label=5, segmentation={"size": [2, 3], "counts": [2, 4]})
        assert draw([first, second], 2, 3).tolist() == [[3, 255, 5], [3, 255, 5]]

    def test_unknown_classes_are_named(self, root: Path) -> None:
        with pytest.raises(ValueError, match="classes must be 'voc' or 'coco', got 'ade'"):
            self.dataset(root, classes="ade")

    def test_the_transform_is_registered(self) -> None:
        from mmseg.registry import TRANSFORMS

        assert TRANSFORMS.get("LoadCOCOMasks") is LoadCOCOMasks


def boxes(number: int) -> list[tuple[int, int, int, int]]:
    return [shape.box for shape in scene(number, 20).shapes]


VOC_NAMES = {
    "person": "person", "bicycle": "bicycle", "car": "car", "motorcycle": "motorbike", "airplane": "aeroplane",
    "bus": "bus", "train": "train", "boat": "boat", "bird": "bird", "cat": "cat", "dog": "dog", "horse": "horse",
    "sheep": "sheep", "cow": "cow",
}  # fmt: skip


class TestCifarNetworks:
    """Widths and depths by their numbers of parameters, summed from the papers' tables."""

    @pytest.mark.parametrize(("depth", "convolutions"), [(11, 8), (13, 10), (16, 13), (19, 16)])
    def test_vgg(self, depth: int, convolutions: int) -> None:
        network = CifarVGG(depth)
        assert sum(isinstance(m, nn.Conv2d) for m in network.modules()) == convolutions == depth - 3

    @pytest.mark.parametrize(
        ("kind", "blocks", "inside"),
        [
            (CifarResNet34, (3, 4, 6, 3), 2),
            (CifarPreActResNet18, (2, 2, 2, 2), 2),
            (CifarPreActResNet34, (3, 4, 6, 3), 2),
            (CifarPreActResNet50, (3, 4, 6, 3), 3),
            (CifarPreActResNet101, (3, 4, 23, 3), 3),
        ],
    )
    def test_residual_networks(self, kind: Any, blocks: tuple[int, ...], inside: int) -> None:
        width, stem = 4 if inside == 3 else 1, 1
        with torch.device("meta"):
            network = kind()
            assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
        projections = 4 if inside == 3 else 3  # the first stage of bottlenecks widens, too
        assert sum(isinstance(m, nn.Conv2d) for m in network.modules()) == sum(blocks) * inside + projections + stem
        assert network.head[-1].in_features == 512 * width
        assert len(network.blocks) == sum(blocks)

    def test_shortcuts_carry_the_sum_or_its_activation(self) -> None:
        x = torch.randn(2, 64, 8, 8)
        for shortcut in ("sum", "activation"):
            torch.manual_seed(0)
            block = CifarPreActResNet18(shortcut=shortcut).blocks[0].eval()  # type: ignore[arg-type]
            with torch.no_grad():
                y = torch.relu(block.bn1(x))
                branch = block.conv2(torch.relu(block.bn2(block.conv1(y))))
                expected = branch + (x if shortcut == "sum" else y)
                torch.testing.assert_close(block(x), expected)
        with pytest.raises(ValueError, match=r"shortcut must be one of \('sum', 'activation'\), got 'none'"):
            CifarPreActResNet18(shortcut="none")  # type: ignore[arg-type]

    @pytest.mark.parametrize(("kind", "layers", "side"), [(StridedAlexNet, 7, 4), (StridedVGG11, 11, 2)])
    def test_fast_snns_networks_have_strides_and_no_pooling(self, kind: Any, layers: int, side: int) -> None:
        network = kind(100)
        weights = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
        assert len(weights) == layers
        assert weights[-1].out_features == 100
        first = next(m for m in weights if isinstance(m, nn.Linear))
        assert first.in_features == side * side * weights[weights.index(first) - 1].out_channels
        assert not any("Pool" in type(m).__name__ for m in network.modules())
