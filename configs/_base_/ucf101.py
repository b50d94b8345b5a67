# UCF101, split 1: class folders in UCF-101/, lists of files in ucfTrainTestlist/. Fine-tunes a network of Kinetics.
_base_ = "./vid_runtime.py"

epochs = 15
data_root = "dataset:ucf101/UCF-101"
lists = "dataset:ucf101/ucfTrainTestlist"
model = dict(
    type="VideoClassifier",
    network=dict(type="TorchvisionModel", weights="DEFAULT", num_classes=101),
    data_preprocessor=dict(
        type="ClipPreprocessor", mean=(0.43216, 0.394666, 0.37645), std=(0.22803, 0.22145, 0.216989), channels_last=True
    ),
)
train_dataloader = dict(
    batch_size=16,
    num_workers=4,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        type="VideoFolder",
        root=data_root,
        files=f"{lists}/trainlist01.txt",
        frames=16,
        clips="random",
        rate=15.0,
        pipeline=[dict(type="ClipRandomCrop", resize=(128, 171), size=(112, 112)), dict(type="ClipFlip")],
    ),
)
test_dataloader = dict(
    batch_size=4,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="VideoFolder", root=data_root, files=f"{lists}/testlist01.txt", frames=16, clips=5, rate=15.0, pipeline=[]
    ),
)
val_dataloader = test_dataloader
val_evaluator = dict(type="ClipTopK")
val_cfg = dict(type="ValLoop")
optim_wrapper = dict(
    type="AutocastOptimWrapper",
    dtype="auto",
    optimizer=dict(type="SGD", lr=0.01, momentum=0.9, weight_decay=1e-4),
    paramwise_cfg=dict(norm_decay_mult=0.0),
)
param_scheduler = [dict(type="CosineAnnealingLR", begin=0, end=epochs, T_max=epochs, convert_to_iter_based=True)]
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=epochs, val_interval=5)
bench = dict(dataset="UCF101", split="test 1", calibration=dict(images=64, batch_size=2), profile_images=1)
