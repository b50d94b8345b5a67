"""Hopper, SAC with two ReLU layers of 256."""

_base_ = "../../_base_/control.py"

model = dict(env="Hopper-v5")
optim_wrapper = dict(optimizer=dict(lr=7e-4))
train_cfg = dict(
    steps=1_000_000,
    evaluate_every=5000,
    checkpoint_every=20_000,
    settings=dict(buffer_size=300_000, learning_starts=5000),
)
bench = dict(architecture="SAC actor 256-256")
