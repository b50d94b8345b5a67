"""torchvision's detectors in mmdet: the same boxes, scores and labels, in mmdet's numbering of COCO's classes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

pytest.importorskip("mmdet", reason="needs the bench extra")

import torchvision
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torchvision.models.detection.image_list import ImageList

from snnbench.networks.torchvision_detection import TorchvisionDetector
from tests.snnbench.fixtures import COCO_CLASSES


def names_of_91() -> list[str]:
    """COCO's names with gaps, as torchvision's weights list them."""
    found: list[str] = torchvision.models.get_model_weights("fcos_resnet50_fpn")["DEFAULT"].meta["categories"]
    return found


@pytest.mark.parametrize("name", ["retinanet_resnet50_fpn", "fcos_resnet50_fpn"])
def test_they_train_by_torchvisions_losses(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.get_model(name, weights=None, weights_backbone=None).train()
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    ours = TorchvisionDetector(name, weights=str(tmp_path / "weights.pth")).train()
    for layer in ours.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eps = 1e-5  # as in the network that is built without weights
    x, size = torch.rand(2, 3, 64, 96), (60, 90)
    boxes = torch.tensor([[4.0, 6.0, 40.0, 50.0], [30.0, 2.0, 80.0, 58.0]])
    names = names_of_91()
    numbers = torch.tensor([names.index("dog"), names.index("person")])
    theirs.transform.forward = lambda images, targets: (ImageList(x, [size] * 2), targets)
    expected = theirs([*x], [{"boxes": boxes, "labels": numbers}, {"boxes": boxes[:1], "labels": numbers[:1]}])
    labels = torch.tensor([COCO_CLASSES.index("dog"), COCO_CLASSES.index("person")])
    meta = dict(img_shape=size, batch_input_shape=(64, 96))
    samples = []
    for count in (2, 1):
        sample = DetDataSample(metainfo=meta)
        sample.gt_instances = InstanceData(bboxes=boxes[:count], labels=labels[:count])
        samples.append(sample)
    found = ours.loss(x, samples)
    assert sorted(found) == sorted(f"loss_{key}" for key in expected)
    for key, value in expected.items():
        torch.testing.assert_close(found[f"loss_{key}"], value)
        assert value > 0
    sum(found.values()).backward()
    assert all(p.grad is not None for p in ours.parameters())
    assert len({id(p) for p in ours.parameters()}) == len({id(p) for p in theirs.parameters()})


@pytest.mark.parametrize("name", ["retinanet_resnet50_fpn", "retinanet_resnet50_fpn_v2", "fcos_resnet50_fpn"])
def test_they_detect_what_torchvisions_networks_detect(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.get_model(name, weights=None, weights_backbone=None).eval()
    theirs.head.classification_head.cls_logits.bias.data.fill_(-1.0)  # many a box above the score threshold
    torch.nn.init.normal_(theirs.head.classification_head.cls_logits.weight, std=0.05)
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    if name == "retinanet_resnet50_fpn":  # as torchvision loads its own weights
        for layer in theirs.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.eps = torch.finfo(torch.float32).tiny  # 0, which PyTorch 2.11 refuses
    ours = TorchvisionDetector(name, weights=str(tmp_path / "weights.pth")).eval()
    ours.init_weights()  # which must leave them alone
    x, size = torch.rand(1, 3, 64, 96), (60, 90)
    meta = dict(img_shape=size, batch_input_shape=(64, 96), scale_factor=(0.5, 0.5))
    theirs.transform.forward = lambda images, targets: (ImageList(x, [size]), targets)  # resized and padded already
    theirs.transform.postprocess = lambda found, *_: found
    with torch.no_grad():
        (expected,) = theirs([x[0]])
        (found,) = ours.bbox_head.predict_by_feat(
            *ours.bbox_head(ours.extract_feat(x)), batch_img_metas=[meta], rescale=True
        )
    names = names_of_91()
    known = [i for i, label in enumerate(expected["labels"].tolist()) if names[label] in COCO_CLASSES]
    assert len(found.scores) == len(known) > 5
    torch.testing.assert_close(found.scores, expected["scores"][known])
    torch.testing.assert_close(found.bboxes, 2 * expected["boxes"][known])
    labels = [COCO_CLASSES.index(names[i]) for i in expected["labels"][known].tolist()]
    assert found.labels.tolist() == labels


def test_unknown_networks_and_other_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"name must be one of .*fcos_resnet50_fpn.*; got 'ssd300_vgg16'"):
        TorchvisionDetector("ssd300_vgg16")
    with pytest.raises(ValueError, match=r"weights names nowhere\.pth, which is no file"):
        TorchvisionDetector("fcos_resnet50_fpn", weights="nowhere.pth")
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    with pytest.raises(ValueError, match=r"list\.pth hold no state dictionary"):
        TorchvisionDetector("fcos_resnet50_fpn", weights=str(tmp_path / "list.pth"))
    torch.save({"other": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"are of another network than fcos_resnet50_fpn"):
        TorchvisionDetector("fcos_resnet50_fpn", weights=str(tmp_path / "other.pth"))
