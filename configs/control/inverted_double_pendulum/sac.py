"""InvertedDoublePendulum, SAC with two ReLU layers of 64: trains in minutes on a processor."""

_base_ = "../../_base_/control.py"

model = dict(env="InvertedDoublePendulum-v5", hidden=(64, 64))
optim_wrapper = dict(optimizer=dict(lr=1e-3))
train_cfg = dict(
    steps=20_000,
    episode_steps=100,  # the hard part is the beginning
    evaluate_every=1000,
    evaluate_from=6000,
    validation=40,
    target=9300.0,
    checkpoint_every=5000,
    settings=dict(buffer_size=50_000),
)
bench = dict(
    architecture="SAC actor 64-64",
    calibration=dict(images=64, batch_size=64, dataset=dict(type="Episodes", episodes=64, seed=500_000, steps=100)),
)
