"""torchvision's fcos_resnet50_fpn with torchvision's weights, COCO 2017."""

_base_ = ["../../_base_/det_coco.py", "../../_base_/det_methods.py", "../../_base_/runtime.py"]
model = dict(
    type="TorchvisionDetector",
    name="fcos_resnet50_fpn",
    weights="DEFAULT",
    data_preprocessor={{_base_.data_preprocessor}},
)
bench = dict(
    dataset="COCO 2017",
    split="val2017",
    architecture="FCOS ResNet-50-FPN (torchvision)",
    metric="bbox_mAP",
    weights="model",
)
