"""HalfCheetah, TD3 with two ReLU layers of 256."""

_base_ = "./sac.py"

optim_wrapper = dict(optimizer=dict(lr=1e-3))
train_cfg = dict(algorithm="TD3")
bench = dict(architecture="TD3 actor 256-256")
