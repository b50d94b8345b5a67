# Pascal VOC at YOLOv2's size, with the augmentation of SSD; in training batches of 320 to 608 pixels
# (arXiv 1612.08242).
_base_ = "./det_voc.py"
data_preprocessor = dict(
    batch_augments=[dict(type="BatchSyncRandomResize", random_size_range=(320, 608), interval=10, size_divisor=32)]
)
dataset_type = "VOCDataset"
data_root = "dataset:VOCdevkit"
scale = (416, 416)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="PhotoMetricDistortion"),
    dict(type="Expand", mean=[123.675, 116.28, 103.53], to_rgb=True, ratio_range=(1, 4)),
    dict(type="MinIoURandomCrop", min_ious=(0.1, 0.3, 0.5, 0.7, 0.9), min_crop_size=0.3),
    dict(type="Resize", scale=scale, keep_ratio=False),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=scale, keep_ratio=False),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
]
train_datasets = [
    dict(
        type=dataset_type,
        data_root=data_root,
        ann_file="VOC2007/ImageSets/Main/trainval.txt",
        data_prefix=dict(sub_data_root="VOC2007/"),
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline=train_pipeline,
    ),
    dict(
        type=dataset_type,
        data_root=data_root,
        ann_file="VOC2012/ImageSets/Main/trainval.txt",
        data_prefix=dict(sub_data_root="VOC2012/"),
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline=train_pipeline,
    ),
]
train_dataloader = dict(dataset=dict(datasets=train_datasets))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
