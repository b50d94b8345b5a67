"""InvertedDoublePendulum, TD3 with two ReLU layers of 64."""

_base_ = "./sac.py"

train_cfg = dict(algorithm="TD3", steps=30_000)
bench = dict(architecture="TD3 actor 64-64")
