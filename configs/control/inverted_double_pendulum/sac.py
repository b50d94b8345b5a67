"""InvertedDoublePendulum, SAC with two ReLU layers of 64: trains in minutes on a processor."""

_base_ = "../../_base_/control.py"

model = dict(env="InvertedDoublePendulum-v5", hidden=(64, 64))
optim_wrapper = dict(optimizer=dict(lr=1e-3))
train_cfg = dict(
    steps=20_000,
    evaluate_every=500,
    evaluate_from=6000,
    validation=20,
    target=9300.0,
    checkpoint_every=5000,
    settings=dict(buffer_size=50_000),
)
bench = dict(architecture="SAC actor 64-64")
