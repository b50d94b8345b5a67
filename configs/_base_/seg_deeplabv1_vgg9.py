# DeepLabv1-VGG9 of Fast-SNN: layers 1 to 7 in the backbone, layer 8 (dilation 12) and the classifier in the head.
model = dict(
    type="EncoderDecoder",
    backbone=dict(type="VGG9"),
    decode_head=dict(
        type="FCNHead",
        in_channels=256,
        in_index=0,
        channels=1024,
        num_convs=1,
        kernel_size=3,
        dilation=12,
        concat_input=False,
        dropout_ratio=0.0,
        num_classes=21,
        norm_cfg=dict(type="BN", requires_grad=True),
        align_corners=True,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode="whole"),
)
