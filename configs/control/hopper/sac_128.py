"""Hopper, SAC with two ReLU layers of 128: half the time a step of `sac.py` on a processor."""

_base_ = "./sac.py"

model = dict(hidden=(128, 128))
optim_wrapper = dict(optimizer=dict(lr=1e-3))
train_cfg = dict(steps=300_000, target=2500.0)
bench = dict(architecture="SAC actor 128-128")
