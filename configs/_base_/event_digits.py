# scikit-learn's digits as recordings of an event camera (a simulated saccade): a frame a step, membranes go on.
_base_ = ["./cls_runtime.py"]

custom_imports = dict(imports=["snnbench.networks.events"])
epochs = 15
steps = 32
model = dict(
    type="EventClassifier",
    network=dict(type="FrameNetwork", size=16),
    data_preprocessor=dict(type="EventPreprocessor", gain=4.0),
    label_smoothing=0.1,
)
train_dataloader = dict(  # the mean frame of each recording
    batch_size=64,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(type="EventDigits", split="train", steps=steps, accumulate=True),
)
test_dataloader = dict(
    batch_size=50,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(type="EventDigits", split="test", steps=steps),
)
val_dataloader = test_dataloader
val_evaluator = dict(type="TopK")
val_cfg = dict(type="ValLoop")
test_evaluator = dict(type="TopK")
optim_wrapper = dict(
    type="AutocastOptimWrapper", dtype="float32", optimizer=dict(type="AdamW", lr=4e-3, weight_decay=1e-2)
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.05, begin=0, end=3, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", begin=3, end=epochs, T_max=epochs - 3, convert_to_iter_based=True),
]
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=epochs, val_interval=epochs)
bench = dict(
    task="classification",
    dataset="event digits",
    split="test",
    metric="top1",
    scope="dense",
    weights=None,
    input="sequence",  # each step reads a frame of the recording
    # single frames: thresholds for the strongest moment, so that no neuron lags behind
    calibration=dict(images=256, dataset=dict(type="EventDigits", split="train", steps=steps)),
    methods=[
        dict(label="signed IF", type="SignedIF", timesteps=[16, 24, 32]),
        dict(label="IF", type="IF", timesteps=[16, 24, 32]),
    ],
)
