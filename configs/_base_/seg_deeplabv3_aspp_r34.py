# DeepLabv3-ResNet-34+ASPP of Fast-SNN: stem of stride 4, output stride 16, no image-level branch.
model = dict(
    type="EncoderDecoder",
    backbone=dict(
        type="StrideStemResNet",
        depth=34,
        strides=(1, 2, 2, 1),
        init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet34"),
    ),
    decode_head=dict(
        type="ParallelASPPHead",
        in_channels=512,
        in_index=0,
        channels=256,
        dilations=(1, 6, 12, 18, 24),
        dropout_ratio=0.0,
        num_classes=21,
        align_corners=True,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode="whole"),
)
