# Fast-SNN (arXiv 2305.19868): 2-bit activations (3 levels), and the rows of a network trained with them. A config puts
# ``act_cfg`` in its network and ``methods`` in its bench.
act_cfg = dict(type="QuantReLU", levels=3)
methods = [
    dict(label="shifted threshold, trained", type="ShiftedThreshold", timesteps=[2], thresholds="trained"),
    dict(label="signed IF, trained", type="SignedIF", timesteps=[3], thresholds="trained"),
    dict(label="SRP, trained", type="SRP", timesteps=[3], pre_timesteps=4, thresholds="trained"),
]
