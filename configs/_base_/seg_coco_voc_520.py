# COCO 2017 in VOC classes tested at torchvision's size: the short side is 520.
_base_ = "./seg_coco_voc.py"
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(2080, 520), keep_ratio=True),
    dict(type="LoadCOCOMasks"),
    dict(type="PackSegInputs"),
]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
