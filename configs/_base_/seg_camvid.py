# CamVid, 11 classes (void is 255), 367 / 101 / 233 images of 480x360; trained and run at 240x180, scored at full size.
default_scope = "mmseg"
dataset_type = "BaseSegDataset"
data_root = "dataset:camvid"
metainfo = dict(
    classes=(
        "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist",
    ),
    palette=[
        [128, 128, 128], [128, 0, 0], [192, 192, 128], [128, 64, 128], [0, 0, 192], [128, 128, 0],
        [192, 128, 128], [64, 64, 128], [64, 0, 128], [64, 64, 0], [0, 128, 192],
    ],
)  # fmt: skip
scale = (240, 180)
data_preprocessor = dict(
    type="SegDataPreProcessor",
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
    pad_val=0,
    seg_pad_val=255,
    size=(scale[1], scale[0]),
)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="RandomResize", scale=scale, ratio_range=(0.8, 2.0), keep_ratio=True),
    dict(type="RandomCrop", crop_size=(scale[1], scale[0]), cat_max_ratio=0.85),
    dict(type="RandomFlip", prob=0.5),
    # half of the test images were taken at dusk
    dict(type="PhotoMetricDistortion", brightness_delta=48, saturation_range=(0.3, 1.7)),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=scale, keep_ratio=False),
    dict(type="LoadAnnotations"),
    dict(type="PackSegInputs"),
]

train_dataset = dict(
    type=dataset_type,
    data_root=data_root,
    metainfo=metainfo,
    data_prefix=dict(img_path="img_dir/train", seg_map_path="ann_dir/train"),
    img_suffix=".jpg",
    seg_map_suffix=".png",
    pipeline=train_pipeline,
)
train_dataloader = dict(
    batch_size=8,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=train_dataset,
)
val_dataloader = dict(
    batch_size=1,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        metainfo=metainfo,
        data_prefix=dict(img_path="img_dir/val", seg_map_path="ann_dir/val"),
        img_suffix=".jpg",
        seg_map_suffix=".png",
        pipeline=test_pipeline,
    ),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        metainfo=metainfo,
        data_prefix=dict(img_path="img_dir/test", seg_map_path="ann_dir/test"),
        img_suffix=".jpg",
        seg_map_suffix=".png",
        pipeline=test_pipeline,
    ),
)
val_evaluator = dict(type="IoUMetric", iou_metrics=["mIoU"])
test_evaluator = dict(type="IoUMetric", iou_metrics=["mIoU"])
