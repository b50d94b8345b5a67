# COCO 2017 in its own 80 classes and background: the COCO segmentation of Fast-SNN.
_base_ = "./seg_coco_voc.py"
train_dataloader = dict(dataset=dict(classes="coco"))
val_dataloader = dict(dataset=dict(classes="coco"))
test_dataloader = dict(dataset=dict(classes="coco"))
