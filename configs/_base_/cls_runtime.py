# What every classification run shares: registries, log, checkpoints, seed.
default_scope = "snnbench"
custom_imports = dict(
    imports=[
        "snnbench.networks.classifiers",
        "snnbench.baselines.spikingjelly",
    ],
    allow_failed_imports=False,
)
default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=100),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(
        type="CheckpointHook", interval=1, max_keep_ckpts=1
    ),  # the last epoch; none is picked on the test set
    sampler_seed=dict(type="DistSamplerSeedHook"),
)
test_cfg = dict(type="TestLoop")
log_level = "INFO"
env_cfg = dict(cudnn_benchmark=True, mp_cfg=dict(mp_start_method="fork"), dist_cfg=dict(backend="gloo"))
randomness = dict(seed=0)
load_from = None
resume = False
