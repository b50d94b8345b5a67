# Continuous control: a policy of stable-baselines3, 20 test episodes, its actor converted by every rate method and by
# shifted-threshold IF. Seeds: training 0, validation from 1,000,000, calibration from 500,000, test from 1,000.
default_scope = "snnbench"
default_hooks = dict(logger=None, checkpoint=None)
log_level = "INFO"
env_cfg = dict(cudnn_benchmark=False, mp_cfg=dict(mp_start_method="fork"), dist_cfg=dict(backend="gloo"))
randomness = dict(seed=0)
load_from = None
resume = False

model = dict(type="Policy", hidden=(256, 256))
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(type="Episodes", episodes=8, seed=500_000),
)
test_dataloader = dict(
    batch_size=20,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(type="Episodes", episodes=20, seed=1000),
)
test_evaluator = dict(type="AverageReturn")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(optimizer=dict(type="Adam", lr=3e-4))
train_cfg = dict(type="PolicyTrainLoop", algorithm="SAC")
bench = dict(
    task="control",
    split="test",
    metric="return",
    scope="dense",
    weights=None,
    calibration=dict(images=8, batch_size=8),
    profile_images=64,
    methods=[
        dict(label="shifted threshold", type="ShiftedThreshold", timesteps=[4, 6, 8, 16]),
        dict(label="signed IF", type="SignedIF", timesteps=[4, 8, 16, 32]),
        # balanced thresholds leave most channels room above the largest activation seen: an observation further off
        # than those of the calibration, which least squares clips, is what ends an episode
        dict(label="shifted threshold, balanced", type="ShiftedThreshold", timesteps=[4, 6, 8, 16], thresholds="ltb"),
        dict(label="signed IF, balanced", type="SignedIF", timesteps=[4, 8, 16, 32], thresholds="ltb"),
        dict(label="signed IF, membrane kept", type="SignedIF", timesteps=[4, 8, 16], keep_membrane=True),
        dict(label="IF", type="IF", timesteps=[16, 32, 64, 128]),
        dict(label="IF, membrane kept", type="IF", timesteps=[4, 16, 64], keep_membrane=True),
        dict(label="LTB", type="LocalThresholdBalancing", timesteps=[16, 32, 64, 128]),
    ],
)
