"""RetinaNet on a narrow ResNet-18 from random weights: trains on BCCD within 20 minutes on two cores.

It learns from crops of 320x240 at 0.8 to 1.4 times that scale, and is run on 416x312: objects look larger in such crops
than in whole images (Touvron et al., arXiv 1906.06423), and platelets are small.
"""

_base_ = [
    "../../_base_/det_bccd.py",
    "../../_base_/det_adamw_1500.py",
    "../../_base_/det_methods.py",
    "../../_base_/runtime.py",
    "../../_base_/rows_two_cores.py",
]

model = dict(
    type="RetinaNet",
    data_preprocessor=dict(
        type="DetDataPreprocessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=16,
    ),
    backbone=dict(
        type="ResNet",
        depth=18,
        base_channels=32,
        num_stages=4,
        out_indices=(1, 2, 3),
        frozen_stages=-1,
        norm_cfg=dict(type="BN", requires_grad=True),
        norm_eval=False,
        style="pytorch",
        init_cfg=None,
    ),
    neck=dict(
        type="FPN",
        in_channels=[64, 128, 256],
        out_channels=64,
        start_level=0,
        num_outs=3,
        norm_cfg=dict(type="BN", requires_grad=True),
    ),
    bbox_head=dict(
        type="RetinaHead",
        num_classes=3,
        in_channels=64,
        stacked_convs=2,
        feat_channels=64,
        anchor_generator=dict(
            type="AnchorGenerator",
            octave_base_scale=3,
            scales_per_octave=3,
            ratios=[0.67, 1.0, 1.5],
            strides=[8, 16, 32],
        ),
        bbox_coder=dict(type="DeltaXYWHBBoxCoder", target_means=[0.0] * 4, target_stds=[0.1, 0.1, 0.2, 0.2]),
        loss_cls=dict(type="FocalLoss", use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(type="SmoothL1Loss", beta=0.11, loss_weight=1.0),
    ),
    train_cfg=dict(
        assigner=dict(type="MaxIoUAssigner", pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0, ignore_iof_thr=-1),
        sampler=dict(type="PseudoSampler"),
        allowed_border=-1,
        pos_weight=-1,
        debug=False,
    ),
    test_cfg=dict(
        nms_pre=1000, min_bbox_size=0, score_thr=0.05, nms=dict(type="nms", iou_threshold=0.5), max_per_img=100
    ),
)
channels_last = True
custom_hooks = [dict(type="EMAHook", momentum=0.002, update_buffers=True)]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(416, 312), keep_ratio=False),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
bench = dict(
    dataset="BCCD",
    architecture="RetinaNet ResNet-18, 32 channels",
    methods={{_base_.two_core_rows}},
    metric="mAP",
    scale=100.0,
)
