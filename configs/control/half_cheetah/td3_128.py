"""HalfCheetah, TD3 with two ReLU layers of 128: a step takes half the time of SAC's on a processor."""

_base_ = "./sac.py"

model = dict(hidden=(128, 128))
optim_wrapper = dict(optimizer=dict(lr=1e-3))
train_cfg = dict(algorithm="TD3", steps=300_000)
bench = dict(architecture="TD3 actor 128-128")
