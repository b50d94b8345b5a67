# Tiny YOLOv2 with ReLU and max-pooling; anchors of 416x416 images in cells of 32 pixels, k-means on Pascal VOC.
model = dict(
    type="SingleStageDetector",
    backbone=dict(type="TinyDarknet", downsample="pool"),
    bbox_head=dict(
        type="YOLOv2Head",
        num_classes=20,
        in_channels=1024,
        feat_channels=1024,
        anchors=[[1.19, 1.98], [2.79, 4.59], [4.53, 8.92], [8.06, 5.29], [10.32, 10.65]],
    ),
    test_cfg=dict(nms_pre=1000, score_thr=0.001, nms=dict(type="nms", iou_threshold=0.5), max_per_img=100),
)
