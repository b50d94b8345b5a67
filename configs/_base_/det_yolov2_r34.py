# YOLOv2-ResNet-34 of Fast-SNN: stem of stride 4, passthrough from stride 16.
_base_ = "./det_yolov2_tiny.py"
model = dict(
    backbone=dict(
        _delete_=True,
        type="StrideStemResNet",
        depth=34,
        out_indices=(2, 3),
        init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet34"),
    ),
    neck=dict(type="PassthroughNeck", in_channels=(256, 512), channels=1024, route_channels=128),
    bbox_head=dict(in_channels=1536),
)
